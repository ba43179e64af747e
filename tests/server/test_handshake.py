"""Who gets in: each refusal of the contract with its message, code and retry."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from socketio.async_manager import AsyncManager

from chatlab.errors import Banned, ConnectionRefused, Unavailable
from chatlab.storage.base import User
from tests.server.peer import SECRET, Running, running
from tests.waiting import PATIENCE_S, until


async def to_everybody(run: Running, event: str, payload: Any) -> None:
    """python-socketio's own broadcast, which the server's manager refuses to the application."""
    manager = run.server.transport.manager
    await AsyncManager.emit(manager, event, payload, namespace="/")


def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    # Made when the tests are collected: a whole run has to fit in.
    now = time.time()
    claims = {
        "sub": "alice",
        "iat": now,
        "exp": now + 7200,
        "iss": "chatlab",
        "aud": "chatlab",
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(claims, secret, algorithm=algorithm)


def unsigned() -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"sub": "alice", "exp": time.time() + 60, "iss": "chatlab", "aud": "chatlab"}
    return f"{part({'alg': 'none'})}.{part(claims)}."


NO_TOKEN = ("Authentication required", "authentication_required")
INVALID = ("Invalid token", "invalid_token")
EXPIRED = ("Invalid token", "token_expired")


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ({}, NO_TOKEN),
        ({"token": None}, NO_TOKEN),
        ({"token": ""}, NO_TOKEN),
        ({"Token": "x"}, NO_TOKEN),
        ([signed()], NO_TOKEN),
        (signed(), NO_TOKEN),
        ({"token": 42}, INVALID),
        ({"token": [signed()]}, INVALID),
        ({"token": "not a token"}, INVALID),
        ({"token": "a.b.c"}, INVALID),
        ({"token": unsigned()}, INVALID),
        ({"token": signed(secret="another secret, as long as the first one")}, INVALID),
        ({"token": signed(algorithm="HS384", secret=SECRET + SECRET)}, INVALID),
        ({"token": signed(iss="elsewhere")}, INVALID),
        ({"token": signed(aud="another service")}, INVALID),
        ({"token": signed(aud=["another", "service"])}, INVALID),
        ({"token": signed(sub=...)}, INVALID),
        ({"token": signed(sub="")}, INVALID),
        ({"token": signed(exp=...)}, INVALID),
        ({"token": signed(iat=...)}, INVALID),
        ({"token": signed(iss=...)}, INVALID),
        ({"token": signed(aud=...)}, INVALID),
        ({"token": signed(exp="9999999999")}, INVALID),
        ({"token": signed(exp=1e300)}, INVALID),
        ({"token": signed(exp=True)}, INVALID),
        ({"token": signed(nbf=time.time() + 3600)}, INVALID),
        ({"token": signed(iat=time.time() + 3600)}, INVALID),
        ({"token": signed(rooms="private-*")}, INVALID),
        ({"token": signed(padding="x" * 9000)}, INVALID),
        ({"token": signed(exp=time.time() - 0.01)}, EXPIRED),
        ({"token": signed(exp=time.time() - 1000)}, EXPIRED),
        ({"token": signed(exp=time.time() - 1000, aud="another")}, INVALID),
    ],
)
async def test_a_handshake_without_a_good_token_is_refused_by_code(
    chat: Running, auth: Any, expected: tuple[str, str]
) -> None:
    peer = await chat.attempt(auth)
    message, code = expected
    assert peer.refusal == {"message": message, "data": {"code": code, "retry": False}}


async def test_no_auth_at_all_is_refused(chat: Running) -> None:
    async with chat.raw() as raw:
        answer = await raw.connect(None)
    assert answer.startswith("44")
    assert json.loads(answer[2:])["data"]["code"] == "authentication_required"


@pytest.mark.parametrize(
    "token",
    [
        signed(),
        signed(nbf=time.time() + 3, iat=time.time() + 3),
        signed(aud=["another", "chatlab"]),
        signed(name="Alice", rooms=["private-a"], admin=True),
    ],
)
async def test_a_good_token_gets_in(chat: Running, token: str) -> None:
    peer = await chat.attempt({"token": token})
    assert peer.refusal is None
    assert peer.sio.connected


async def test_either_of_two_secrets_verifies_and_the_first_signs() -> None:
    old, new = "the old secret which was long enough", "the new secret which is long enough"
    async with running(jwt_secret=f"{new},{old}") as run:
        assert (await run.attempt({"token": signed(secret=old)})).refusal is None
        assert (await run.attempt({"token": signed(secret=new)})).refusal is None
        jwt.decode(run.token("alice"), new, algorithms=["HS256"], audience="chatlab")


async def test_a_stranger_to_the_directory_is_refused(tmp_path: Any) -> None:
    async with running(dev=False, storage=f"sqlite:///{tmp_path}/chat.db") as run:
        peer = await run.attempt({"token": run.token("alice")})
        assert peer.refusal == {
            "message": "User not found",
            "data": {"code": "user_not_found", "retry": False},
        }
        await run.server.directory.put(User("alice", "Alice"))
        assert (await run.attempt({"token": run.token("alice")})).refusal is None


async def test_a_banned_user_is_refused(chat: Running) -> None:
    await chat.server.directory.put(User("alice", "Alice", banned=True))
    peer = await chat.attempt({"token": chat.token("alice")})
    assert peer.refusal == {
        "message": "User is banned",
        "data": {"code": "banned", "retry": False},
    }


async def test_a_directory_that_is_away_is_unavailable_and_worth_a_retry(chat: Running) -> None:
    async def away(_user: str) -> User | None:
        raise Unavailable

    chat.server.directory.get = away  # type: ignore[method-assign]
    peer = await chat.attempt({"token": chat.token("alice")})
    assert peer.refusal == {
        "message": "Server unavailable",
        "data": {"code": "unavailable", "retry": True},
    }


async def test_a_directory_that_hangs_is_unavailable() -> None:
    async with running(storage_timeout=0.05) as run:
        forever = asyncio.Event()

        async def hang(_user: str) -> User | None:
            await forever.wait()
            return None

        run.server.directory.get = hang  # type: ignore[method-assign]
        peer = await run.attempt({"token": run.token("alice")})
        assert peer.refusal["data"] == {"code": "unavailable", "retry": True}
        forever.set()


@pytest.mark.parametrize("crash", [KeyError("token"), asyncio.CancelledError(), SystemExit(1)])
async def test_a_middleware_that_crashes_refuses_and_the_socket_hears_nothing(
    crash: BaseException,
) -> None:
    def prepare(server: Any) -> None:
        @server.use
        async def crash_for_mallory(handshake: Any, proceed: Any) -> None:
            if handshake.state["claims"].sub == "mallory":
                raise crash
            await proceed()

    async with running(prepare=prepare) as run:
        async with run.raw() as raw:
            answer = await raw.connect(run.token("mallory"))
            assert answer == (
                '44{"message":"Server error","data":{"code":"server_error","retry":true}}'
            )
            # Even an emit that names no room does not reach it.
            await to_everybody(run, "secret", {"for": "members"})
            alice = await run.connect("alice")
            await to_everybody(run, "secret", {"for": "members"})
            await alice.got("secret")
            with pytest.raises(TimeoutError):
                await raw.frame(timeout=0.1)
        await until(lambda: len(run.server.sessions) == 1)


async def test_a_middleware_that_forgets_to_proceed_lets_nobody_in() -> None:
    def prepare(server: Any) -> None:
        @server.use
        async def forgetful(handshake: Any, proceed: Any) -> None:
            pass

    async with running(prepare=prepare) as run:
        peer = await run.attempt({"token": run.token("alice")})
        assert peer.refusal["data"]["code"] == "server_error"
        assert len(run.server.sessions) == 0


async def test_middlewares_run_in_order_and_may_refuse_with_a_code_of_the_contract() -> None:
    seen: list[str] = []

    def prepare(server: Any) -> None:
        @server.use
        async def first(handshake: Any, proceed: Any) -> None:
            seen.append("first in")
            await proceed()
            seen.append("first out")

        @server.use
        async def second(handshake: Any, proceed: Any) -> None:
            seen.append(handshake.state["claims"].sub)
            if handshake.state["claims"].sub == "mallory":
                raise Banned
            await proceed()

    async with running(prepare=prepare) as run:
        await run.connect("alice")
        assert seen == ["first in", "alice", "first out"]
        peer = await run.attempt({"token": run.token("mallory")})
        assert peer.refusal["data"]["code"] == "banned"


async def test_a_refusal_after_proceeding_gives_the_connection_back() -> None:
    def prepare(server: Any) -> None:
        @server.use
        async def too_late(handshake: Any, proceed: Any) -> None:
            await proceed()
            raise ConnectionRefused("Come back tomorrow")

    async with running(prepare=prepare) as run:
        peer = await run.attempt({"token": run.token("alice")})
        assert peer.refusal["message"] == "Come back tomorrow"
        assert not run.server.admission.caps.users


async def test_before_it_is_accepted_a_socket_receives_nothing() -> None:
    gate = asyncio.Event()

    def prepare(server: Any) -> None:
        @server.use
        async def slow(handshake: Any, proceed: Any) -> None:
            if handshake.state["claims"].sub == "slow":
                await gate.wait()
            await proceed()

    async with running(prepare=prepare) as run:
        alice = await run.connect("alice")
        async with run.raw() as raw:
            await raw.send("40" + json.dumps({"token": run.token("slow")}))
            await to_everybody(run, "to-everybody", 1)
            await alice.got("to-everybody")
            gate.set()
            assert (await raw.frame()).startswith("40{")


async def test_a_socket_that_never_connects_is_closed() -> None:
    async with running(connect_timeout=0.1) as run, run.raw() as raw:
        await raw.closed(timeout=PATIENCE_S)


async def test_a_refused_socket_may_try_again_and_is_closed_if_it_does_not() -> None:
    async with running(connect_timeout=1.5) as run:
        async with run.raw() as raw:
            assert (await raw.connect("nonsense")).startswith("44")
            assert (await raw.connect(run.token("alice"))).startswith("40")
        async with run.raw() as raw:
            assert (await raw.connect("nonsense")).startswith("44")
            await raw.closed(timeout=PATIENCE_S)


async def test_another_namespace_is_refused(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.send("40/admin," + json.dumps({"token": chat.token("alice")}))
        assert await raw.frame() == '44/admin,{"message":"Invalid namespace"}'


async def test_a_user_has_so_many_connections_and_no_more() -> None:
    async with running(max_connections_per_user=2) as run:
        first = await run.connect("alice")
        await run.connect("alice")
        third = await run.attempt({"token": run.token("alice")})
        data = third.refusal["data"]
        assert third.refusal["message"] == "Too many connections"
        assert (data["code"], data["retry"]) == ("too_many_connections", True)
        assert data["retryAfter"] > 0
        await run.connect("bob")
        await first.sio.disconnect()
        await until(lambda: run.server.admission.caps.users["alice"] == 1)
        await run.connect("alice")


async def test_an_address_may_be_capped_too() -> None:
    async with running(max_connections_per_address=1) as run:
        await run.connect("alice")
        bob = await run.attempt({"token": run.token("bob")})
        assert bob.refusal["data"]["code"] == "too_many_connections"


async def test_sockets_that_have_not_connected_are_bounded() -> None:
    async with running(max_unauthenticated=2) as run:
        async with run.raw(), run.raw():
            url = run.url + "/socket.io/?EIO=4&transport=polling"
            async with run.http.get(url) as answer:
                assert answer.status == 503
