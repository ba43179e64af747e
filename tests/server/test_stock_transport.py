"""The chat on the stock classes: its contract holds, as far as it is the application's to keep."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chatlab.lab import valkey
from chatlab.lab.valkey import Valkey
from chatlab.server import ChatServer
from chatlab.server.stock import StockServer
from chatlab.settings import Settings
from chatlab.storage.base import User
from tests.server.child import child
from tests.server.peer import SECRET, Running, running
from tests.test_js_client import HERE, browser, token
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.timeout(60)

every_transport = pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="+".join)


def remembers(run: Running) -> list[str]:
    """Which registries of a stock server still hold somebody."""
    server, stock = run.server, run.server.transport
    assert isinstance(stock, StockServer)
    held = {
        "sessions": len(server.sessions),
        "rooms": len(server.rooms),
        "inboxes": len(server.inboxes),
        "users": len(server.admission.caps.users),
        "answers": len(stock._asked),
        "reasons": len(stock._reasons),
        "engine": len(stock.sio.eio.sockets),
        "manager": len(stock.sio.manager.rooms),
    }
    return [name for name, count in held.items() if count]


@asynccontextmanager
async def stock(**given: Any) -> AsyncIterator[Running]:
    """A server on the stock transport; when everybody has left it remembers nobody."""
    # A poll that waits is not ended when its client leaves: only the next ping's time ends it.
    short = {"ping_interval": 1.0, "ping_timeout": 1.0}
    settings = {"dev": True, "jwt_secret": SECRET, "transport": "stock", **short, **given}
    server = ChatServer(Settings(**settings))
    runner = web.AppRunner(server.app(), handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as http:
            run = Running(server, f"http://127.0.0.1:{runner.addresses[0][1]}", http)
            try:
                yield run
            finally:
                for peer in run.peers:
                    await peer.sio.disconnect()
        await until(lambda: not remembers(run), what="nobody is remembered")
    finally:
        await runner.cleanup()


@pytest.fixture
async def chat() -> AsyncIterator[Running]:
    async with stock() as run:
        yield run


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with valkey(name="stock transport tests") as one:
        yield one


@every_transport
async def test_members_join_and_hear_one_another_and_the_sender_its_ack(
    chat: Running, transports: list[str]
) -> None:
    alice = await chat.connect("alice", transports=transports)
    bob = await chat.connect("bob", transports=transports)
    assert (await alice.join())["users"] == ["alice"]
    assert (await bob.join())["users"] == ["alice", "bob"]
    assert await alice.got("user-joined") == [{"user": "bob", "room": "general"}]
    ack = await alice.say("  Hello!  ")
    assert (ack["ok"], ack["seq"], ack["duplicate"]) == (True, 1, False)
    (message,) = await bob.got("new-message")
    assert (message["id"], message["user"], message["text"]) == (ack["id"], "alice", "Hello!")
    assert (await alice.call("typing", {"room": "general", "typing": True}))["ok"]
    assert await bob.got("typing") == [{"room": "general", "user": "alice", "typing": True}]
    assert (await bob.call("mark-read", {"room": "general", "seq": 1}))["ok"]
    assert (await alice.got("receipts"))[0]["users"] == {"bob": {"delivered": 1, "read": 1}}
    assert alice.of("new-message") == alice.of("typing") == []
    assert (await bob.call("leave-room", "general"))["ok"]
    assert await alice.got("user-left") == [{"user": "bob", "room": "general"}]


async def test_what_is_wrong_is_answered_with_the_codes_of_the_contract(chat: Running) -> None:
    alice = await chat.connect("alice")
    assert (await alice.say("too early"))["code"] == "not_in_room"
    await alice.join()
    assert (await alice.say(" "))["code"] == "empty_message"
    assert (await alice.call("send-message", {"text": 5}))["field"] == "text"
    assert (await alice.call("join-room", "private-club"))["code"] == "forbidden"
    assert (await alice.call("nonsense", {}))["code"] == "unknown_event"


async def test_a_retry_with_the_same_key_is_answered_with_the_first_message(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    await alice.join()
    await bob.join()
    first = await alice.say("once", "general", key="k")
    again = await alice.say("once", "general", key="k")
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    await alice.say("another")
    assert [message["text"] for message in await bob.got("new-message", 2)] == ["once", "another"]


async def test_a_room_hears_every_message_in_the_order_of_the_log() -> None:
    async with stock(no_limits=True) as chat:
        peers = [await chat.connect(f"user-{number}") for number in range(5)]
        for peer in peers:
            await peer.join()
        sends = [peer.say(str(number)) for number in range(20) for peer in peers]
        acks = await asyncio.gather(*sends)
        assert sorted(ack["seq"] for ack in acks) == list(range(1, 101))
        for peer in peers:
            seqs = [message["seq"] for message in await peer.got("new-message", 80)]
            assert seqs == sorted(seqs)


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (None, "authentication_required"),
        ({}, "authentication_required"),
        ("text", "authentication_required"),
        ({"token": "nonsense"}, "invalid_token"),
    ],
)
async def test_a_refusal_says_why(chat: Running, auth: Any, code: str) -> None:
    peer = await chat.attempt(auth)
    assert peer.refusal["data"] == {"code": code, "retry": False}
    assert not len(chat.server.sessions)


async def test_a_flood_is_rate_limited(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    began = time.monotonic()
    answers = await asyncio.gather(*[alice.say(str(number)) for number in range(30)])
    limited = [answer for answer in answers if not answer["ok"]]
    assert 10 - 10 * (time.monotonic() - began) <= len(limited) <= 10
    assert limited
    assert {answer["code"] for answer in limited} == {"rate_limited"}
    assert all(answer["retryAfter"] > 0 for answer in limited)


async def test_too_many_connections_are_refused_and_counted_out_when_they_end() -> None:
    async with stock(max_connections_per_user=1) as chat:
        first = await chat.connect("alice")
        second = await chat.attempt({"token": chat.token("alice")})
        assert second.refusal["data"]["code"] == "too_many_connections"
        await first.sio.disconnect()
        await until(lambda: not len(chat.server.sessions))
        await chat.connect("alice")


async def test_a_ban_says_so_and_disconnects(chat: Running) -> None:
    mallory = await chat.connect("mallory")
    await chat.server.directory.put(User("mallory", "Mallory", banned=True))
    await asyncio.wait_for(mallory.gone.wait(), PATIENCE_S)
    assert mallory.of("banned") == [None]
    again = await chat.attempt({"token": chat.token("mallory")})
    assert again.refusal["data"]["code"] == "banned"


async def test_an_expired_token_is_told_and_closes_the_transport(chat: Running) -> None:
    alice = await chat.connect("alice", ttl=0.5)
    await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
    assert [name for name, _ in alice.events] == ["token-expiring", "token-expired"]


async def test_closing_answers_what_is_in_hand_says_so_and_closes_the_transports() -> None:
    async with stock(shutdown_grace=0.2) as chat, chat.raw() as raw:
        started = asyncio.Event()

        @chat.server.use_event
        async def hang(event: Any, proceed: Any) -> Any:
            if event.name == "who":
                started.set()
                await asyncio.sleep(30)
            return await proceed()

        alice = await chat.connect("alice")
        await raw.connect(chat.token("bob"))
        await raw.send('421["join-room","general"]')
        assert (await raw.ack(1))["ok"]
        await raw.send('422["who",{"room":"general"}]')
        await started.wait()
        await chat.server.shut_down()
        assert await raw.frame() == '42["closing"]'
        assert (await raw.ack(2))["code"] == "closing"
        assert await raw.frame() == "1"
        await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
        assert alice.of("closing") == [None]


async def test_a_client_that_runs_the_disconnect_handler_itself_is_answered_no_more(
    chat: Running,
) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("mallory"))
        await raw.send('42["disconnect","x"]')
        await until(lambda: not len(chat.server.sessions))
        await raw.send('420["who",{"room":"general"}]')
        while not (frame := await raw.frame()).startswith("430"):
            pass
        assert frame == "430[]"


async def test_messages_and_receipts_pass_between_a_stock_server_and_a_strict_one(
    store: Valkey,
) -> None:
    storage = f"{store.url}?prefix={secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(stock(storage=storage))
        two = await stack.enter_async_context(running(storage=storage))
        alice, bob = await one.connect("alice"), await two.connect("bob")
        await alice.join()
        assert (await bob.join())["count"] == 2
        first, second = await alice.say("from stock"), await bob.say("from strict")
        assert (first["seq"], second["seq"]) == (1, 2)
        assert [m["text"] for m in await bob.got("new-message")] == ["from stock"]
        assert [m["text"] for m in await alice.got("new-message")] == ["from strict"]
        assert (await bob.call("mark-read", {"room": "general", "seq": 1}))["ok"]
        assert (await alice.got("receipts"))[0]["users"] == {"bob": {"delivered": 1, "read": 1}}


@pytest.mark.skipif(not HERE, reason="no Node or no `npm ci` in tests/js")
@pytest.mark.parametrize(
    "transports",
    [["polling"], ["websocket"], ["polling", "websocket"]],
    ids="+".join,
)
async def test_the_official_client_chats_and_sees_the_server_close(transports: list[str]) -> None:
    with child("--dev", "--transport", "stock") as server:
        async with (
            browser(server.url, token("alice"), transports) as alice,
            browser(server.url, token("bob"), transports) as bob,
        ):
            for client in (alice, bob):
                await client.got("connect")
                assert (await client.emit("join-room", "general"))["ok"]
            ack = await alice.emit("send-message", {"text": "Hello!"})
            assert (await bob.got("new-message"))["payload"]["id"] == ack["id"]
            server.process.terminate()
            if transports == ["websocket"]:  # polling may bring it in one body with the close
                await alice.got("closing")
            assert (await alice.got("disconnect"))["reason"] != "io server disconnect"
        assert server.end() == 0
    assert "this is the stock transport, for comparison" in server.errors


def test_the_server_says_at_start_what_it_does_not_promise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        ChatServer(Settings(dev=True))
        assert not caplog.records
        ChatServer(Settings(dev=True, transport="stock"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "slow readers" in caplog.text
