"""Makes the tokens of a run, good ones and such as a server must refuse.

With the server's secret every kind can be made; with a command of the user's only what it makes.
"""

from __future__ import annotations

import base64
import hmac
import json
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from chatlab.grade.evidence import Redactor
from chatlab.grade.promise import NotJudged

__all__ = [
    "KINDS",
    "CommandTokens",
    "SecretTokens",
    "TokenError",
    "Tokens",
    "altered",
    "command_of",
    "unsigned",
]

KINDS: Final[Mapping[str, str]] = {
    "good": "a token that the server takes",
    "expired": "like a good one, but its time is over: TTL is negative",
    "no-exp": "without `exp`",
    "no-iat": "without `iat`",
    "no-sub": "without the user's id",
    "no-iss": "without `iss`",
    "no-aud": "without `aud`",
    "other-issuer": "another `iss`",
    "other-audience": "another `aud`",
    "other-algorithm": "signed with the same secret by another algorithm than the server's",
    "not-yet": "valid in an hour: `nbf`",
    "from-the-future": "`iat` in an hour",
    "other-secret": "signed with another secret",
    "number-sub": "the user's id is a number",
    "long": "over 8 KB, otherwise good",
}
"""The kinds of token that trials ask for, by what distinguishes them."""

_OTHER: Final = {"HS256": "HS512", "HS384": "HS256", "HS512": "HS256"}
_PATIENCE: Final = 20.0  # seconds for a token command


class TokenError(Exception):
    """The token command failed to make even a good token; the text says how."""


class Tokens(Protocol):
    """What makes tokens."""

    def make(
        self, user: str, *, kind: str = "good", ttl: float = 900.0, rooms: Sequence[str] = ()
    ) -> str:
        """A token of that kind for `user`. Raises `NotJudged` where it cannot be made.

        `ttl` is in seconds; `rooms` are the private rooms that it opens.
        """
        ...


@dataclass(frozen=True, slots=True)
class SecretTokens:
    """Tokens signed here with the server's secret.

    `claims` says which further names the server reads: `{"userId": "sub"}` puts what `sub` holds
    into `userId` too.
    """

    secret: str
    redact: Redactor
    issuer: str = "chatlab"
    audience: str = "chatlab"
    algorithm: str = "HS256"
    claims: Mapping[str, str] | None = None

    def make(
        self, user: str, *, kind: str = "good", ttl: float = 900.0, rooms: Sequence[str] = ()
    ) -> str:
        """See `Tokens`."""
        now = time.time()
        claims: dict[str, Any] = {
            "sub": user,
            "name": user,
            "iat": int(now),
            "exp": now + ttl,
            "iss": self.issuer,
            "aud": self.audience,
        }
        if rooms:
            claims["rooms"] = list(rooms)
        secret, algorithm = self.secret, self.algorithm
        if kind.startswith("no-"):
            del claims[kind.removeprefix("no-")]
        changes: dict[str, dict[str, Any]] = {
            "expired": {"iat": int(now) - 3600, "exp": now - 60},
            "other-issuer": {"iss": "somebody-else"},
            "other-audience": {"aud": "another-service"},
            "not-yet": {"nbf": now + 3600, "exp": now + 7200},
            "from-the-future": {"iat": int(now) + 3600, "exp": now + 7200},
            "number-sub": {"sub": 12345},
            "long": {"padding": "x" * 9000},
        }
        claims |= changes.get(kind, {})
        if kind == "other-algorithm":
            algorithm = _OTHER[algorithm]
        elif kind == "other-secret":
            secret = "-".join(["grade", "signs", "this", "with", "another", "secret", "entirely"])
        for theirs, ours in (self.claims or {}).items():
            if ours in claims:
                claims[theirs] = claims[ours]
        token = _signed(claims, secret, algorithm)
        self.redact.hide(token, "<token>")
        return token


@dataclass(frozen=True, slots=True)
class CommandTokens:
    """Tokens printed by a command of the user's: `COMMAND USER TTL KIND [ROOM …]`."""

    command: Sequence[str]
    redact: Redactor

    def make(
        self, user: str, *, kind: str = "good", ttl: float = 900.0, rooms: Sequence[str] = ()
    ) -> str:
        """See `Tokens`. Raises `TokenError` where not even a good one is made."""
        try:
            done = subprocess.run(
                [*self.command, user, f"{ttl:g}", kind, *rooms],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TokenError(f"the token command cannot be run: {error}") from None
        token = done.stdout.strip()
        if done.returncode or not token:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            if kind == "good" and not rooms:
                raise TokenError(f"the token command made no token: {last}")
            what = "that opens a private room" if rooms else f"of the kind `{kind}`"
            raise NotJudged(f"the token command makes no token {what}")
        self.redact.hide(token, "<token>")
        return token


def command_of(text: str) -> list[str]:
    """A command as its words. Raises `ValueError` for an open quote."""
    return shlex.split(text)


def altered(token: str) -> str:
    """The same token with another user's claims under the old signature."""
    head, body, signature = token.split(".")
    claims = json.loads(_decoded(body))
    for name, value in claims.items():
        if isinstance(value, str) and name not in ("iss", "aud"):
            claims[name] = value + "x"
    return ".".join([head, _encoded(json.dumps(claims).encode()), signature])


def unsigned(token: str) -> str:
    """The same claims with `alg: none` and no signature."""
    _, body, _ = token.split(".")
    head = _encoded(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    return f"{head}.{body}."


def _signed(claims: dict[str, Any], secret: str, algorithm: str) -> str:
    # By hand (RFC 7515): a library refuses, or warns, to sign what a server must refuse.
    head = {"alg": algorithm, "typ": "JWT"}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
    return f"{signed}.{_encoded(hmac.digest(secret.encode(), signed.encode(), digest))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
