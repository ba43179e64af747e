"""Checks of exercise 02: who gets in, and what happens when deciding fails.

Each probe runs the learner's code in a server of its own and knocks at it over a real socket. When
a session ends is checked in `ex02_expiry.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.clients import Refused, raw_client
from chatlab.lab.exercises.ex02_expiry import PATIENCE, ends_when_the_token_does
from chatlab.lab.tokens import mint

__all__ = ["ends_when_the_token_does", "lets_in_who_has_a_token", "refuses_whatever_goes_wrong"]

NO_ANSWER = "neither accepted nor refused: the handler raised something else, and the socket stays"


# -- task 1 ----------------------------------------------------------------------------------------


@check("only a valid token opens the door, and the session knows whose it is", task=1, lesson="02")
async def lets_in_who_has_a_token(add_handshake: Callable[[Any, str], Any]) -> None:
    """`add_handshake(sio, secret)` registers a connect handler."""
    secret = secrets.token_hex(32)
    sio = _server()
    add_handshake(sio, secret)
    expect(
        "connect" in sio.handlers.get("/", {}),
        "the server has no connect handler — write `connect` under `@sio.event`",
    )
    async with background(sio, name="check 02") as server:
        await _knows_everybody(server, secret)
        for what, (token, remedy) in _bad_tokens(secret).items():
            refusal = await _knock(server, {"token": token})
            expect(refusal, f"{what} got in — {remedy}")
            expect(
                getattr(refusal, "code", None) in ("invalid_token", "token_expired"),
                f"{what} was refused without the code `invalid_token` — raise "
                '`ConnectionRefusedError("Invalid token", {"code": "invalid_token"})`',
            )


async def _knows_everybody(server: Server, secret: str) -> None:
    # Somebody without a token comes first: that the door is open says more than what is behind it.
    expect(
        await _knock(server, {"token": "no token"}),
        "a client whose token is only a word got in — raise `ConnectionRefusedError` "
        "where the token is not valid",
    )
    alice_knows = {"token": mint("alice", secret=secret), "user": "bob", "name": "bob"}
    try:
        async with (
            raw_client(server, name="alice", auth=alice_knows, timeout=PATIENCE) as alice,
            raw_client(server, name="bob", auth={"token": mint("bob", secret=secret)}) as bob,
        ):
            for client in (alice, bob):
                user = await client.call("whoami", timeout=PATIENCE)
                if user is None:
                    advice(
                        "the session does not say who it is — "
                        '`await sio.save_session(sid, {"user": …})`'
                    )
                expect(
                    user == client.name,
                    f"the session of {client.name} says `{user}` — the user is the `sub` of "
                    "the token that this socket brought",
                )
    except Refused as refusal:
        advice(f"a valid token was refused ({refusal.message}) — its `aud` and `iss` are `chatlab`")
    except socketio.exceptions.ConnectionError:
        advice(f"a valid token was {NO_ANSWER} — look at the session and at `sub`")


def _bad_tokens(secret: str) -> dict[str, tuple[str, str]]:
    """By what is wrong with it: a token, and what to do against it."""

    def token(**how: Any) -> str:
        return mint("alice", **{"secret": secret, **how})

    required = '`options={"require": [...]}` names the claims that must be there'
    return {
        "a token signed with another secret": (
            token(secret=secrets.token_hex(32)),
            "verify the signature: `jwt.decode(token, secret, …)`, and no `verify_signature`",
        ),
        "a token signed with HS512": (
            token(algorithm="HS512"),
            '`algorithms=["HS256"]` is your choice, never what the token\'s header says',
        ),
        "an expired token": (token(ttl=-60), "leave the check of `exp` on"),
        "a token without `exp`": (token(claims={"exp": None}), required),
        "a token for another service": (
            token(audience="billing"),
            'give `jwt.decode` the audience: `audience="chatlab"`',
        ),
        "a token without `aud`": (token(claims={"aud": None}), 'say `audience="chatlab"`'),
        "a token of another issuer": (token(issuer="else"), 'say `issuer="chatlab"`'),
        "a token without `sub`": (token(claims={"sub": None}), required),
    }


# -- task 2 ----------------------------------------------------------------------------------------

INNERMOST = "no answer from db-7.internal, user root"


@check("whatever goes wrong while deciding, the answer is no", task=2, lesson="02")
async def refuses_whatever_goes_wrong(fail_closed: Callable[[Any], Any]) -> None:
    """`fail_closed(connect)` gives a connect handler that refuses when `connect` breaks."""
    for error in (KeyError("token"), TypeError("list"), ValueError(INNERMOST), OSError("away")):
        await _breaks(fail_closed, error)

    async def banned(sid: str, environ: Any, auth: Any) -> None:
        data = {"code": "banned", "retry": False}
        raise socketio.exceptions.ConnectionRefusedError("User is banned", data)

    refusal = await _decided_by(fail_closed, banned)
    expect(refusal, "a client that `connect` had refused got in — raise its refusal again")
    expect(
        (refusal.message, refusal.code) == ("User is banned", "banned"),
        f"the refusal `banned` became `{refusal.code or refusal.message}` — let a "
        "`ConnectionRefusedError` pass as it is",
    )

    async def returns_false(sid: str, environ: Any, auth: Any) -> bool:
        return False

    expect(
        await _decided_by(fail_closed, returns_false),
        "a `connect` that returned False, which means no, let the client in — "
        "return what `connect` returns",
    )

    seen: list[Any] = []

    async def accepts(sid: str, environ: Any, auth: Any) -> None:
        seen.extend((sid, environ, auth))

    refusal = await _decided_by(fail_closed, accepts)
    expect(seen[2:] == [{"token": "t"}], "`connect` did not get its `auth` — pass all three on")
    expect(not refusal, "a client whom `connect` accepts was refused — only errors mean no")


async def _breaks(fail_closed: Callable[[Any], Any], error: Exception) -> None:
    async def breaks(sid: str, environ: Any, auth: Any) -> None:
        raise error

    name = type(error).__name__
    refusal = await _decided_by(fail_closed, breaks)
    expect(refusal, f"a `{name}` while deciding let the client in — raise a refusal instead")
    told = f"{refusal.message} {refusal.data}"
    expect(
        str(error) not in told,
        "the client was told the text of the exception — it may hold anything: say "
        "`Server error` and no more",
    )
    expect(
        refusal.code == "server_error",
        f"after a `{name}` the client was told the code `{refusal.code}` — raise "
        '`ConnectionRefusedError("Server error", {"code": "server_error", "retry": True})`',
    )
    expect(
        isinstance(refusal.data, dict) and refusal.data.get("retry") is True,
        "the client was not told that it may try again — an error of the server passes: "
        '`"retry": True`',
    )


async def _decided_by(fail_closed: Callable[[Any], Any], connect: Any) -> Any:
    """None when the client got in, else the refusal; ends the check where there is no answer."""
    sio = _server()
    handler = written(fail_closed(connect), "fail_closed")
    expect(callable(handler), "`fail_closed` gives back no handler — return the inner function")
    sio.on("connect", handler)
    async with background(sio, name="check 02") as server:
        return await _knock(server, {"token": "t"})


# -- shared ----------------------------------------------------------------------------------------


def _server() -> Any:
    sio = socketio.AsyncServer(async_mode="aiohttp")

    async def whoami(sid: str) -> Any:
        session = await sio.get_session(sid)
        return session.get("user") if isinstance(session, dict) else None

    sio.on("whoami", whoami)
    return sio


async def _knock(server: Server, auth: Any) -> Refused | None:
    """None when the client got in, else the refusal; ends the check where there is no answer."""
    try:
        async with raw_client(server, name="somebody", auth=auth, timeout=PATIENCE):
            return None
    except Refused as refusal:
        return refusal
    except socketio.exceptions.ConnectionError:
        failed = [line.strip() for line in str(server.logs()).splitlines() if "Error:" in line]
        raised = f" (`{failed[-1]}`)" if failed else ""
        advice(f"a client was {NO_ANSWER}{raised} — turn it into a refusal")
