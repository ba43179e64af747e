"""From polling to a websocket, at every point where something else may happen meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from chatlab.transport import Handshake
from tests.protocol.peers import (
    ENGINE,
    SEPARATOR,
    SOCKET,
    Polling,
    Socket,
    ask,
    both_endpoints,
    connect,
    connected,
    target,
)
from tests.protocol.test_polling import waiting
from tests.protocol.wire import CLOSE, Refused, WebSocket, frame, whole
from tests.protocol.world import Gate, World, strict
from tests.waiting import until


async def probing(world: World, peer: Polling) -> WebSocket:
    """A websocket for this session whose probe has been answered."""
    ws = await WebSocket.open(world, target(peer.path, "websocket", peer.sid))
    await ws.send("2probe")
    assert await ws.message() == "3probe"
    return ws


async def turned_away(world: World, peer: Polling) -> None:
    """A websocket for this session is closed, without a word."""
    ws = await WebSocket.open(world, target(peer.path, "websocket", peer.sid))
    await ws.send("2probe")
    answer = await ws.frame()
    assert answer is None or answer.opcode == CLOSE


@both_endpoints
async def test_the_poll_that_waits_is_released_and_the_websocket_takes_over(
    calm: World, path: str
) -> None:
    peer = await Polling.open(calm, path)
    line = await waiting(calm, peer)
    ws = await probing(calm, peer)
    assert (await line.answer()).text == "6"
    await ws.send("5")
    if path == ENGINE:
        await ws.send("4hello")
        assert await ws.message() == "4hello"
    else:
        assert await connect(Socket(ws, peer.handshake))


async def test_a_poll_that_begins_during_the_upgrade_is_answered_with_noop(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    ws = await probing(calm, peer)
    assert (await peer.get()).text == "6"
    await ws.send("5", "4hello")
    assert await ws.message() == "4hello"


@both_endpoints
async def test_after_the_upgrade_http_requests_are_refused_and_change_nothing(
    calm: World, path: str
) -> None:
    peer = await Polling.open(calm, path)
    ws = await probing(calm, peer)
    await ws.send("5")
    await until(lambda: calm.sessions()[peer.sid].upgraded)
    assert (await peer.get()).status == 400
    assert (await peer.post("4hello")).status == 400
    if path == ENGINE:
        await ws.send("4hello")
        assert await ws.message() == "4hello"
    else:
        assert await connect(Socket(ws, peer.handshake))


@both_endpoints
async def test_after_the_upgrade_another_websocket_is_closed_and_changes_nothing(
    calm: World, path: str
) -> None:
    peer = await Polling.open(calm, path)
    ws = await probing(calm, peer)
    await ws.send("5")
    await until(lambda: calm.sessions()[peer.sid].upgraded)
    await turned_away(calm, peer)
    if path == ENGINE:
        await ws.send("4hello")
        assert await ws.message() == "4hello"
    else:
        assert await connect(Socket(ws, peer.handshake))


async def test_a_second_websocket_during_the_upgrade_is_closed(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    ws = await probing(calm, peer)
    await turned_away(calm, peer)
    await ws.send("5", "4hello")
    assert await ws.message() == "4hello"


async def test_a_second_websocket_for_a_session_that_began_as_one_is_closed(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    ws = await WebSocket.open(calm, target(ENGINE, "websocket", peer.sid))
    answer = await ws.frame()
    assert answer is None or answer.opcode == CLOSE
    await peer.send("4hello")
    assert await peer.packet() == "4hello"


async def test_the_upgrade_and_the_first_messages_may_come_in_one_segment(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    ws = await probing(calm, peer)
    await ws.line.send(whole("5") + whole("4one") + whole("4two"))
    assert [await ws.message(), await ws.message()] == ["4one", "4two"]


async def test_what_is_sent_during_the_upgrade_arrives_once_and_in_order(calm: World) -> None:
    peer = await Polling.open(calm)
    sid = await connect(peer)
    sent = iter(range(1000))

    def say(count: int = 3) -> None:
        for _ in range(count):
            calm.transport.push_event(sid, "tick", next(sent))

    received: list[str | bytes | None] = []
    say()
    ws = await WebSocket.open(calm, target(SOCKET, "websocket", peer.sid))
    say()
    received += await peer.poll()
    line = await waiting(calm, peer)
    await ws.send("2probe")
    assert await ws.message() == "3probe"
    say()
    received += (await line.answer()).text.split(SEPARATOR)
    say()
    received += await peer.poll()
    say()
    await ws.send("5")
    say()
    until_last = next(sent)
    calm.transport.push_event(sid, "tick", until_last)
    while received[-1] != f'42["tick",{until_last}]':
        received.append(await ws.message())
    ticks = [packet for packet in received if packet != "6"]
    assert ticks == [f'42["tick",{number}]' for number in range(until_last + 1)]


async def test_what_the_client_posts_before_the_upgrade_comes_before_what_it_sends_after(
    calm: World,
) -> None:
    peer = await Polling.open(calm)
    await connect(peer)
    await peer.send('42["message",1]')
    ws = await probing(calm, peer)
    await peer.send('42["message",2]')
    await ws.send("5", '42["message",3]')
    got: list[str | bytes | None] = []
    while len(got) < 3:
        got.append(await ws.message())
    assert got == [f'42["message-back",{number}]' for number in (1, 2, 3)]
    assert calm.suite.events == [("message", [number]) for number in (1, 2, 3)]


async def test_the_probe_may_come_while_a_connect_is_still_decided_on(calm: World) -> None:
    # The official client posts its CONNECT and opens the websocket at once.
    gate = asyncio.Event()

    async def slowly(_handshake: Handshake) -> None:
        await gate.wait()

    calm.suite.connecting = slowly
    peer = await Polling.open(calm)
    posting = asyncio.create_task(peer.send("40"))
    await until(lambda: calm.transport.pending_connects)
    ws = await probing(calm, peer)
    assert (await peer.get()).text == "6"
    gate.set()
    await posting
    await ws.send("5")
    assert str(await ws.message()).startswith("40{")


async def test_no_websocket_overtakes_a_body_that_is_still_being_handled(calm: World) -> None:
    gate = Gate(calm)
    peer = await Polling.open(calm)
    await connect(peer)
    posting = asyncio.create_task(peer.send('42["message",1]', '42["message",2]'))
    await gate.reached.wait()
    ws = await probing(calm, peer)
    await ws.send("5", '42["message",3]')
    answer = await ws.frame()  # refused: the session goes on by polling
    assert answer is None or answer.opcode == CLOSE
    gate.open()
    await posting
    got = [packet for packet in [await peer.packet() for _ in range(2)] if packet != "6"]
    while len(got) < 2:
        got.append(await peer.packet())
    assert got == ['42["message-back",1]', '42["message-back",2]']
    upgraded = await peer.upgraded()
    await upgraded.send('42["message",3]')
    assert await upgraded.packet() == '42["message-back",3]'


LOST = {
    "before its probe": [],
    "after another word than the probe": ["4hello"],
    "after a binary probe": [b"2probe"],
    "after its probe": ["2probe"],
    "after another word than the upgrade": ["2probe", "4hello"],
    "after a second probe": ["2probe", "2probe"],
    "after a binary upgrade": ["2probe", b"5"],
}


@pytest.mark.parametrize("said", LOST.values(), ids=LOST)
async def test_an_upgrade_that_fails_leaves_the_session_polling_and_another_may_succeed(
    calm: World, said: list[str | bytes]
) -> None:
    peer = await Polling.open(calm, ENGINE)
    ws = await WebSocket.open(calm, target(ENGINE, "websocket", peer.sid))
    for number, message in enumerate(said):
        await ws.send(message)
        if message == "2probe" and number == 0:
            assert await ws.message() == "3probe"
    if len(said) == 2 or (said and said[0] != "2probe"):
        answer = await ws.frame()  # the server gives it up
        assert answer is None or answer.opcode == CLOSE
    ws.line.abort()
    await until(lambda: not calm.sessions()[peer.sid].upgrading)
    await peer.send("4still polling")
    while (packet := await peer.packet()) == "6":
        pass
    assert packet == "4still polling"
    again = await peer.upgraded()
    await again.send("4upgraded")
    assert await again.packet() == "4upgraded"


async def test_what_was_sent_during_an_upgrade_that_failed_arrives_by_polling(calm: World) -> None:
    peer = await Polling.open(calm)
    sid = await connect(peer)
    ws = await probing(calm, peer)
    calm.transport.push_event(sid, "tick", 1)
    await ws.line.send(frame(CLOSE, b""))
    await until(lambda: not calm.sessions()[peer.sid].upgrading)
    calm.transport.push_event(sid, "tick", 2)
    got = [packet for packet in [await peer.packet(), await peer.packet()] if packet != "6"]
    while len(got) < 2:
        got.append(await peer.packet())
    assert got == ['42["tick",1]', '42["tick",2]']


async def test_a_probe_that_is_never_followed_by_the_upgrade_is_given_up() -> None:
    async with strict(ping_interval=0.3, ping_timeout=0.3) as world:
        peer = await Polling.open(world, ENGINE)
        ws = await probing(world, peer)
        # Nobody polls and nobody answers pings: the session ends, and with it the websocket.
        await until(lambda: not world.sessions())
        while (answer := await ws.frame()) is not None:
            assert answer.opcode == CLOSE


async def test_a_session_that_ends_during_its_upgrade_takes_the_websocket_with_it(
    calm: World,
) -> None:
    peer = await Polling.open(calm, ENGINE)
    ws = await probing(calm, peer)
    assert (await peer.post("1")).status == 200
    await ws.send("5")
    answer = await ws.frame()
    assert answer is None or answer.opcode == CLOSE
    assert not calm.sessions()


async def test_the_heartbeat_goes_on_over_the_upgrade() -> None:
    async with strict(ping_interval=0.1, ping_timeout=2.0) as world:
        peer = await Polling.open(world, ENGINE)
        ws = await probing(world, peer)
        await asyncio.sleep(0.15)  # the ping is due while neither transport is the session's
        await ws.send("5")
        for _ in range(2):
            assert await ws.message() == "2"
            await ws.send("3")


async def test_both_namespaces_stay_connected_over_an_upgrade(calm: World) -> None:
    polling = await connected(calm, "polling")
    assert isinstance(polling, Polling)
    await connect(polling, "/custom")
    peer = await polling.upgraded()
    await peer.send('42["message","main"]', '42/custom,["message","custom"]')
    assert await peer.packet() == '42["message-back","main"]'
    assert await peer.packet() == '42/custom,["message-back","custom"]'


async def test_an_upgraded_session_ends_with_its_websocket(calm: World) -> None:
    peer = await connected(calm, "upgrade")
    assert isinstance(peer, Socket)
    peer.ws.line.abort()
    await until(lambda: calm.suite.closed)
    assert calm.suite.closed == [(calm.suite.opened[0], "transport close")]
    assert (await ask(calm, "GET", target(SOCKET, "polling", peer.sid))).status == 400


async def test_upgrades_may_be_switched_off() -> None:
    async with strict(allow_upgrades=False) as world:
        peer = await Polling.open(world)
        assert peer.handshake["upgrades"] == []
        with pytest.raises(Refused) as refused:
            await WebSocket.open(world, target(SOCKET, "websocket", peer.sid))
        assert refused.value.answer.status == 400
        await connect(peer)
