"""Broken on purpose: tokens that should be refused and are not, and how refusals are worded."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec

from chatlab.errors import (
    AuthenticationRequired,
    InvalidToken,
    TokenExpired,
    UserNotFound,
)
from chatlab.server import admission, auth
from chatlab.server.auth import Claims
from tests.grade.broken import SECRET, breaks

verify = auth.Tokens.verify
USERS = ("alice", "bob", "carol", "dave")


def guest(name: str = "guest") -> Claims:
    now = time.time()
    return Claims(sub=name, exp=now + 900, iat=now, iss="chatlab", aud="chatlab")


def raw(token: str) -> dict[str, Any]:
    """The claims of a token that nobody has verified."""
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def forgiving(mend: Callable[[Any, str, Exception], Claims]) -> None:
    """A token that is refused gets another chance."""

    def lenient(self: Any, token: Any) -> Claims:
        try:
            return verify(self, token)
        except InvalidToken as refusal:
            return mend(self, token, refusal)

    auth.Tokens.verify = lenient


@breaks("admits")
def nobody_is_let_in() -> None:
    def refuse(self: Any, token: Any) -> Claims:
        if isinstance(token, str) and token.count(".") == 2:
            raise InvalidToken
        return verify(self, token)

    auth.Tokens.verify = refuse


@breaks("no-token-refused")
def no_token_is_a_guest() -> None:
    token_of = auth.token_of

    def anything(given: Any) -> Any:
        try:
            return token_of(given)
        except AuthenticationRequired:
            return auth.jwt.encode(msgspec.to_builtins(guest()), SECRET)

    admission.token_of = anything


@breaks("garbage-refused")
def garbage_is_a_guest() -> None:
    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if isinstance(token, str) and len(token) < 20:
            return guest()
        raise refusal

    forgiving(mend)


@breaks("forged-refused")
def signatures_are_not_verified() -> None:
    auth._SIGNATURE_ONLY["verify_signature"] = False


@breaks("unsigned-refused")
def alg_none_is_taken() -> None:
    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if isinstance(token, str) and token.endswith("."):
            return msgspec.convert(raw(token), Claims)
        raise refusal

    forgiving(mend)


@breaks("expired-refused")
def exp_is_not_looked_at() -> None:
    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if isinstance(refusal, TokenExpired):
            return msgspec.structs.replace(self._claims(token), exp=time.time() + 900)
        raise refusal

    forgiving(mend)


@breaks("unknown-user-refused", dev=False, users=USERS)
def an_unknown_user_is_an_invalid_token() -> None:
    UserNotFound.sentence = "Invalid token"


@breaks("code-required")
def no_token_has_another_code() -> None:
    AuthenticationRequired.code = "unauthorized"


@breaks("code-invalid")
def an_invalid_token_has_another_code() -> None:
    InvalidToken.code = "unauthorized"


@breaks("code-expired")
def an_expired_token_is_only_invalid() -> None:
    TokenExpired.code = "invalid_token"


@breaks("code-unknown-user", dev=False, users=USERS)
def an_unknown_user_has_another_code() -> None:
    UserNotFound.code = "invalid_token"


@breaks("token-is-text")
def a_token_that_is_no_text_is_a_crash() -> None:
    def crash(self: Any, token: Any) -> Claims:
        if not isinstance(token, str):
            raise TypeError("a token is text")
        return verify(self, token)

    auth.Tokens.verify = crash


def filled(**defaults: Any) -> None:
    """Claims that a token lacks are made up."""

    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if not isinstance(token, str):
            raise refusal
        try:
            payload = jwt.decode(token, SECRET, algorithms=["HS256"], options=auth._SIGNATURE_ONLY)
        except jwt.PyJWTError:
            raise refusal from None
        if set(payload) >= set(defaults):
            raise refusal
        return msgspec.convert({**defaults, **payload}, Claims)

    forgiving(mend)


@breaks("claims-required")
def a_token_may_live_for_ever() -> None:
    filled(exp=time.time() + 10_000)


@breaks("issuer-and-audience")
def any_audience_will_do() -> None:
    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if not isinstance(token, str) or isinstance(refusal, TokenExpired):
            raise refusal
        claims = self._claims(token)
        if claims.iat > time.time() + 5 or (claims.nbf or 0) > time.time() or len(token) > 8192:
            raise refusal
        return claims

    forgiving(mend)


@breaks("algorithm-fixed")
def the_tokens_header_names_the_algorithm() -> None:
    def claims(self: Any, token: str) -> Claims:
        try:
            named = jwt.get_unverified_header(token)["alg"]
            options = auth._SIGNATURE_ONLY
            payload = jwt.decode(token, SECRET, algorithms=[named], options=options)
            if not payload.get("aud") or named == "none":
                raise InvalidToken
            return msgspec.convert(payload, Claims, strict=True)
        except Exception as error:
            raise InvalidToken from error

    auth.Tokens._claims = claims


@breaks("not-before")
def tokens_from_the_future_are_taken() -> None:
    auth.LEEWAY = math.inf


@breaks("subject-is-text")
def a_number_is_a_user() -> None:
    def mend(self: Any, token: Any, refusal: Exception) -> Claims:
        if isinstance(token, str) and token.count(".") == 2 and len(token) < 8192:
            try:
                payload = raw(token)
            except ValueError:
                raise refusal from None
            if isinstance(payload.get("sub"), int):
                return msgspec.convert({**payload, "sub": str(payload["sub"])}, Claims)
        raise refusal

    forgiving(mend)


@breaks("long-token-refused")
def tokens_of_any_length_are_read() -> None:
    auth.MAX_TOKEN = 10**6
