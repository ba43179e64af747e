"""The level Contract, authentication: the code of each refusal, and what a token must hold."""

from __future__ import annotations

import asyncio
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import must, must_refuse
from chatlab.grade.promise import AUTHENTICATION, Level, NotJudged, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
INVALID = "Invalid token"
_MOST = 20  # connections of one user


@promise(
    "code-required",
    AUTHENTICATION,
    _CONTRACT,
    "Without a token: `data` is `{code: authentication_required, retry: false}`.",
    users=0,
    needs=("no-token-refused",),
)
async def code_required(target: Target) -> None:
    attempts: tuple[Any, ...] = (None, {})
    for auth in attempts:
        client = await target.knock(auth)
        _must_tell(client, "a client without a token", "authentication_required")


@promise(
    "code-invalid",
    AUTHENTICATION,
    _CONTRACT,
    "With what is no token of this server: `data` is `{code: invalid_token, retry: false}`.",
    users=0,
    needs=("garbage-refused",),
)
async def code_invalid(target: Target) -> None:
    client = await target.knock({"token": "garbage"})
    _must_tell(client, "a client with garbage for a token", "invalid_token")


@promise(
    "code-expired",
    AUTHENTICATION,
    _CONTRACT,
    "With an expired token: `data` is `{code: token_expired, retry: false}`.",
    users=1,
    needs=("expired-refused",),
)
async def code_expired(target: Target) -> None:
    client = await target.knock({"token": await target.token(kind="expired", ttl=-60)})
    _must_tell(client, "an expired token", "token_expired")


@promise(
    "code-unknown-user",
    AUTHENTICATION,
    _CONTRACT,
    "With a user whom the directory does not have: `data` is `{code: user_not_found, retry: "
    "false}`.",
    users=0,
    needs=("unknown-user-refused",),
)
async def code_unknown_user(target: Target) -> None:
    client = await target.knock({"token": await target.token(user_id=target.nobody())})
    if client.accepted is not None:
        raise NotJudged("the server admits any user whom a valid token names")
    _must_tell(client, "a user who does not exist", "user_not_found")


@promise(
    "token-is-text",
    AUTHENTICATION,
    _CONTRACT,
    "A token that is not a string is refused: `Invalid token`.",
    users=0,
)
async def token_is_text(target: Target) -> None:
    for token in (5, True, ["token"], {"token": "token"}):
        client = await target.knock({"token": token})
        must_refuse(client, f"the token {token!r}", message=INVALID)


@promise(
    "claims-required",
    AUTHENTICATION,
    _CONTRACT,
    "`sub`, `exp`, `iat`, `iss` and `aud` are required: a token without one is refused.",
    users=1,
    needs=("admits",),
)
async def claims_required(target: Target) -> None:
    await _must_all_be_refused(target, "no-sub", "no-exp", "no-iat", "no-iss", "no-aud")


@promise(
    "issuer-and-audience",
    AUTHENTICATION,
    _CONTRACT,
    "A token of another issuer, or made for another audience, is refused.",
    users=1,
    needs=("admits",),
)
async def issuer_and_audience(target: Target) -> None:
    await _must_all_be_refused(target, "other-issuer", "other-audience")


@promise(
    "algorithm-fixed",
    AUTHENTICATION,
    _CONTRACT,
    "The algorithm is the server's choice, never the token's own header's.",
    users=1,
    needs=("admits",),
)
async def algorithm_fixed(target: Target) -> None:
    await _must_all_be_refused(target, "other-algorithm")


@promise(
    "not-before",
    AUTHENTICATION,
    _CONTRACT,
    "A token that is not valid yet, or was issued in the future, is refused.",
    users=1,
    needs=("admits",),
)
async def not_before(target: Target) -> None:
    await _must_all_be_refused(target, "not-yet", "from-the-future")


@promise(
    "subject-is-text",
    AUTHENTICATION,
    _CONTRACT,
    "`sub`, the user's id, is a string: a token with a number there is refused.",
    users=1,
    needs=("admits",),
)
async def subject_is_text(target: Target) -> None:
    await _must_all_be_refused(target, "number-sub")


@promise(
    "long-token-refused",
    AUTHENTICATION,
    _CONTRACT,
    "A token over 8 KB is refused unread.",
    users=1,
    needs=("admits",),
)
async def long_token_refused(target: Target) -> None:
    await _must_all_be_refused(target, "long")


@promise(
    "connections-per-user",
    AUTHENTICATION,
    _CONTRACT,
    "A user has 20 connections at most; the next is refused: `Too many connections`, "
    "`too_many_connections`, `retryAfter`.",
    users=1,
    needs=("admits",),
    floods=True,
)
async def connections_per_user(target: Target) -> None:
    auth = {"token": await target.token()}
    for _ in range(_MOST):
        client = await target.knock(auth)
        must(client.accepted is not None, f"one of the first {_MOST} connections was refused")
    client = await target.knock(auth)
    what = f"connection {_MOST + 1} of one user"
    refusal = must_refuse(client, what, message="Too many connections")
    data = refusal.get("data")
    code = data.get("code") if isinstance(data, dict) else None
    must(code == "too_many_connections", f"the refusal's code is {code!r}")
    after = data.get("retryAfter") if isinstance(data, dict) else None
    must(isinstance(after, int | float) and after > 0, f"`retryAfter` is {after!r}")


@promise(
    "ban-refuses",
    AUTHENTICATION,
    _CONTRACT,
    "Whom the directory calls banned is refused: `User is banned`, `banned`.",
    users=1,
    needs=("admits",),
    control=("ban", "unban"),
)
async def ban_refuses(target: Target) -> None:
    user = target.users[0]
    await target.control("ban", user)
    try:
        client = await target.knock({"token": await target.token()})
        must_refuse(client, "a banned user", message="User is banned")
        _must_tell(client, "a banned user", "banned")
    finally:
        await target.control("unban", user)
    client = await target.knock({"token": await target.token()})
    must(client.accepted is not None, "a user whose ban was taken back is still refused")


@promise(
    "ban-closes",
    AUTHENTICATION,
    _CONTRACT,
    "A ban closes every socket of the user within a second: `banned`, then DISCONNECT.",
    users=2,
    needs=("admits",),
    control=("ban", "unban"),
)
async def ban_closes(target: Target) -> None:
    sockets = [await target.enter(0), await target.enter(0)]
    other = await target.enter(1)
    await must_be_banned(target, sockets)
    must(other.closing is None, "somebody else's socket was closed, too")


async def must_be_banned(target: Target, sockets: list[Client]) -> None:
    """Ban the first user, and see all these sockets ended as a ban does; take the ban back."""
    user = target.users[0]
    await target.control("ban", user)
    # A second by the contract; the rest is for a busy machine, and for the command's own end.
    patience = 0.6 * target.timeout

    async def end_of(client: Client) -> bool | None:
        return await client.wait(lambda: client.dismissed or bool(client.closing) or None, patience)

    try:
        ends = await asyncio.gather(*(end_of(client) for client in sockets))
    finally:
        await target.control("unban", user)
    for client, end in zip(sockets, ends, strict=True):
        if end is None and client.closing is None:
            raise Silent(f"{client.name}, who was banned, is still connected")
        must(client.of("banned"), f"{client.name} was closed without being told `banned`")
        must(client.dismissed, f"{client.name} was closed without a DISCONNECT, and will return")


async def _must_all_be_refused(target: Target, *kinds: str) -> None:
    missing: NotJudged | None = None
    judged = False
    for kind in kinds:
        try:
            token = await target.token(kind=kind)
        except NotJudged as error:
            missing = error
            continue
        client = await target.knock({"token": token})
        must_refuse(client, f"a token of the kind `{kind}`", message=INVALID)
        judged = True
    if missing is not None and not judged:
        raise missing


def _must_tell(client: Client, what: str, code: str, retry: bool = False) -> None:
    refusal = must_refuse(client, what)
    data: Any = refusal.get("data")
    must(isinstance(data, dict), f"the refusal of {what} has no `data`")
    given = {name: data.get(name) for name in ("code", "retry")}
    must(given == {"code": code, "retry": retry}, f"the refusal of {what} says {given}")
