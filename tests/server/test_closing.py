"""What closes a socket, how each kind of close is done, and that presence ends with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from chatlab.errors import Unavailable
from chatlab.server import ChatServer
from chatlab.server.middleware import Proceed
from chatlab.storage.base import User
from chatlab.transport import Handshake
from tests.server.peer import Running, running
from tests.waiting import PATIENCE_S, until

JOIN = '420["join-room","general"]'


@pytest.mark.parametrize(
    "frame",
    [
        "zzz",
        "",
        "\N{GRINNING FACE}",
        "4",
        "4[[[",
        "4\N{GRINNING FACE}",
        "42",
        "42{}",
        "42[]",
        "42[5]",
        "42[null]",
        "42[{}]",
        '42["unfinished"',
        "42" + "[" * 5000,
        '42["connect",{}]',
        '42["disconnect","x"]',
        '42["disconnecting"]',
        '42["connect_error",{}]',
        '42["newListener",{}]',
        '42["removeListener",{}]',
        '40{"token":"again"}',
        '44{"message":"no"}',
        '451-["file",{"_placeholder":true,"num":0}]',
        '45999999-["file"]',
        '461-0["file"]',
        "49",
        "43[]",
        '42/admin,["who",{}]',
        '42123456789012345678["who",{}]',
        "0{}",
        "2probe",
        "5",
        "6",
        "7",
    ],
)
async def test_a_packet_that_breaks_the_protocol_closes_the_socket_at_once(
    chat: Running, frame: str
) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.send(JOIN)
        assert (await raw.ack(0))["ok"]
        await raw.send(frame)
        assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]
        await raw.closed()


async def test_a_binary_frame_closes_the_socket(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.ws.send_bytes(b"binary")
        await raw.closed()


async def test_an_event_before_connect_closes_the_socket(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.send('420["who",{"room":"general"}]')
        await raw.closed()


async def test_a_frame_over_64_kilobytes_is_refused_with_1009(chat: Running) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.send(JOIN)
        await raw.ack(0)
        await raw.send('421["send-message",{"text":"' + "x" * 70_000 + '"}]')
        assert await raw.closed() == 1009
    await bob.got("user-left")
    assert bob.of("new-message") == []


@pytest.mark.parametrize("size", [65_535, 65_536])
async def test_a_frame_of_64_kilobytes_is_read(chat: Running, size: int) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        head, tail = '421["who",{"room":"', '"}]'
        await raw.send(head + "x" * (size - len(head) - len(tail)) + tail)
        assert (await raw.ack(1))["code"] == "invalid_room"


async def test_a_body_over_64_kilobytes_is_refused_with_413(chat: Running) -> None:
    url = chat.url + "/socket.io/?EIO=4&transport=polling"
    async with chat.http.get(url) as answer:
        sid = (await answer.text()).split('"sid":"')[1].split('"')[0]
    async with chat.http.post(f"{url}&sid={sid}", data="4" + "x" * 70_000) as answer:
        assert answer.status == 413
    async with chat.http.get(f"{url}&sid={sid}") as answer:
        assert answer.status == 400


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with running(max_unread=65_536, ping_interval=300) as run:
        async with run.raw() as raw:
            await raw.connect(run.token("slow"))
            await raw.send('420["join-room",{"room":"general"}]')
            await raw.ack(0)
            raw.ws._reader._protocol.pause_reading()  # the bytes stay in the system's buffers
            for _ in range(5000):
                if not len(run.server.sessions):
                    break
                await run.server.log.append("general", "bob", "x" * 4000, None, "test")
                await asyncio.sleep(0)
            await until(lambda: not len(run.server.sessions))
            raw.ws._response.connection.transport.abort()


async def test_a_client_that_stops_answering_pings_is_dropped() -> None:
    async with running(ping_interval=0.1, ping_timeout=1.0) as run:
        bob = await run.connect("bob")
        await bob.join()
        async with run.raw() as raw:
            await raw.connect(run.token("alice"))
            await raw.send(JOIN)
            await bob.got("user-joined")
            assert await bob.got("user-left")


async def test_a_token_that_ends_is_announced_and_then_closes_the_transport(
    chat: Running,
) -> None:
    async with chat.raw() as raw:
        expires = time.time() + 2.0
        assert (await raw.connect(chat.token("alice", ttl=2.0))).startswith("40")
        assert (await raw.frame()).startswith('42["token-expiring",{"expiresAt":"20')
        assert await raw.frame() == '42["token-expired"]'
        assert time.time() >= expires
        with pytest.raises(ConnectionError):  # no DISCONNECT: the official client returns
            await raw.frame()


async def test_a_refreshed_token_goes_on(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice", ttl=2.0, rooms=["private-a", "private-b"]))
        await raw.send('420["join-room","private-a"]')
        await raw.send('421["join-room","private-b"]')
        assert (await raw.ack(1))["ok"]
        fresh = chat.token("alice", ttl=60, rooms=["private-b"])
        for token, code in [
            (chat.token("bob"), "forbidden"),
            (chat.token("alice", ttl=-1), "token_expired"),
            ("nonsense", "invalid_token"),
        ]:
            await raw.send(f'422["refresh-token",{{"token":"{token}"}}]')
            assert (await raw.ack(2))["code"] == code
        await raw.send(f'423["refresh-token",{{"token":"{fresh}"}}]')
        assert (await raw.ack(3))["expiresAt"].endswith("Z")
        await raw.send('424["who",{"room":"private-a"}]')
        assert (await raw.ack(4))["code"] == "not_in_room"
        await raw.send('425["who",{"room":"private-b"}]')
        assert (await raw.ack(5))["ok"]
        with pytest.raises(TimeoutError):
            await raw.frame(timeout=2.1)


async def test_a_banned_user_may_not_refresh(chat: Running) -> None:
    alice = await chat.connect("alice")
    chat.server.directory.changed = lambda: None
    await chat.server.directory.put(User("alice", "Alice", banned=True))
    answer = await alice.call("refresh-token", {"token": chat.token("alice")})
    assert answer["code"] == "banned"


async def test_a_ban_sends_disconnect_to_every_socket_of_the_user(chat: Running) -> None:
    bob, laptop = await chat.connect("bob"), await chat.connect("alice")
    await bob.join()
    await laptop.join()
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await chat.server.directory.put(User("alice", "Alice", banned=True))
        assert await raw.frame() == '42["banned"]'
        assert await raw.frame() == "41"
    await asyncio.wait_for(laptop.gone.wait(), PATIENCE_S)
    assert laptop.of("banned") == [None]
    assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_leaving_politely_ends_presence_at_once(chat: Running, transports: list[str]) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    alice = await chat.connect("alice", transports=transports)
    await alice.join()
    await alice.sio.disconnect()
    assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]


async def test_a_cut_connection_ends_presence_at_once(chat: Running) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.send(JOIN)
        await raw.ack(0)
        raw.ws._response.connection.transport.abort()
        assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]


async def test_after_a_disconnect_of_either_side_nothing_more_is_sent(chat: Running) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    token = chat.token("alice")
    for left, leave in enumerate(("client", "server"), start=1):
        async with chat.raw() as raw:
            await raw.connect(token)
            await raw.send(JOIN)
            await raw.ack(0)
            if leave == "client":
                await raw.send("41")
            else:
                await chat.server.directory.put(User("alice", "Alice", banned=True))
                assert await raw.frame() == '42["banned"]'
                assert await raw.frame() == "41"
            await bob.got("user-left", left)
            with pytest.raises(ConnectionError):  # whoever left opens another session
                await raw.connect(token)
    async with chat.raw() as raw:
        assert '"code":"banned"' in await raw.connect(token)


async def test_a_ban_that_comes_while_a_socket_is_decided_on_holds() -> None:
    gate, reached = asyncio.Event(), asyncio.Event()

    def prepare(server: ChatServer) -> None:
        @server.use
        async def slow(handshake: Handshake, proceed: Proceed) -> None:
            reached.set()  # the directory has been asked already
            await gate.wait()
            await proceed()

    async with running(prepare=prepare) as run, run.raw() as raw:
        connecting = asyncio.create_task(raw.connect(run.token("alice")))
        await reached.wait()
        await run.server.directory.put(User("alice", "Alice", banned=True))
        gate.set()
        assert (await connecting).startswith("40")
        assert await raw.frame() == '42["banned"]'
        assert await raw.frame() == "41"


async def test_a_ban_waits_for_a_directory_that_is_away(chat: Running) -> None:
    alice = await chat.connect("alice")
    real, asked = chat.server.directory.banned, 0

    async def away_once(users: Sequence[str]) -> set[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable
        return await real(users)

    chat.server.directory.banned = away_once  # type: ignore[method-assign]
    await chat.server.directory.put(User("alice", "Alice", banned=True))
    await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
    assert alice.of("banned") == [None]
