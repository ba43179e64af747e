"""Who is that: issuing and verifying tokens, and what a session may do with its token.

A token is a JWT (RFC 7519) signed with a shared secret. The algorithm, the issuer and the
audience are the server's choice, never the token's own.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import jwt
import jwt.types
import msgspec

from chatlab.errors import AuthenticationRequired, InvalidToken, TokenExpired
from chatlab.settings import Settings

__all__ = ["Claims", "Tokens", "may_join", "token_of"]

MAX_TOKEN: Final = 8 * 1024
"""Characters; a longer token is refused unread, since verifying 900 KB takes 150 ms."""

LEEWAY: Final = 5.0
"""Seconds of clock difference allowed for `iat` and `nbf`; none for `exp`."""

_YEAR_9999: Final = 253_402_300_799
PRIVATE: Final = "private-"

Moment = Annotated[float, msgspec.Meta(ge=0, le=_YEAR_9999)]
UserId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Claims(msgspec.Struct, frozen=True):
    """What chatlab reads of a token; other claims are ignored. Times are POSIX seconds."""

    sub: UserId
    exp: Moment
    iat: Moment
    iss: str
    aud: str | list[str]
    nbf: Moment | None = None
    name: str | None = None
    rooms: list[str] | None = None


def token_of(auth: Any) -> Any:
    """The token in a handshake's `auth`, whatever the client sent as that.

    Raises `AuthenticationRequired` when there is none. It need not be a string: `verify` looks.
    """
    token = auth.get("token") if isinstance(auth, dict) else None
    if token is None or token == "":
        raise AuthenticationRequired
    return token


class Tokens:
    """Signs with the first secret of `settings`, verifies with all of them."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = settings.secrets
        self._algorithm = settings.jwt_algorithm
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience

    def issue(
        self,
        user: str,
        *,
        ttl: float = 900.0,
        name: str | None = None,
        rooms: Sequence[str] | None = None,
    ) -> str:
        """A token for `user` that lasts `ttl` seconds; `rooms` are the private ones (globs)."""
        now = time.time()
        claims: dict[str, Any] = {
            "sub": user,
            "iat": int(now),
            "exp": math.ceil((now + ttl) * 1000) / 1000,
            "iss": self._issuer,
            "aud": self._audience,
        }
        if name is not None:
            claims["name"] = name
        if rooms is not None:
            claims["rooms"] = list(rooms)
        return jwt.encode(claims, self._secrets[0], algorithm=self._algorithm)

    def verify(self, token: Any) -> Claims:
        """The claims of a token that is ours and in force.

        Raises `TokenExpired` for one that was, `InvalidToken` for anything else, whatever is
        wrong with it: the caller learns no more than that.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            raise InvalidToken
        claims = self._claims(token)
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if claims.iss != self._issuer or self._audience not in audiences:
            raise InvalidToken
        now = time.time()
        if claims.iat > now + LEEWAY or (claims.nbf or 0) > now + LEEWAY:
            raise InvalidToken
        if claims.exp <= now:
            raise TokenExpired
        return claims

    def _claims(self, token: str) -> Claims:
        for secret in self._secrets:
            try:
                # PyJWT checks the signature; the claims are checked here, by declared shapes: it
                # takes a token without `exp` or `aud`, "123" for a number, and gives `exp` leeway.
                payload = jwt.decode(
                    token,
                    secret,
                    algorithms=[self._algorithm],
                    options=_SIGNATURE_ONLY,
                )
                claims = msgspec.convert(payload, Claims, strict=True)
                claims.sub.encode()  # half a surrogate pair is no name
            except jwt.InvalidSignatureError:
                continue
            except Exception as error:
                # Fail closed: a token that breaks the parser is an invalid token.
                raise InvalidToken from error
            return claims
        raise InvalidToken


_SIGNATURE_ONLY: Final[jwt.types.Options] = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def may_join(claims: Claims, room: str) -> bool:
    """The default policy: everybody may enter a room, but a private one by the token's `rooms`.

    A room is private when its name begins with `private-`; an entry is its name or a glob.
    """
    if not room.startswith(PRIVATE):
        return True
    return any(fnmatch.fnmatchcase(room, entry) for entry in claims.rooms or ())
