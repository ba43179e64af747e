"""How sessions end, from either side: what the client still gets, and what the application is told.

tests/server/test_closing.py holds when the chat closes; here is what each kind of close does on
each transport.
"""

from __future__ import annotations

import pytest

from tests.protocol.peers import (
    ENGINE,
    SOCKET,
    Gone,
    Polling,
    Socket,
    Way,
    both_endpoints,
    connect,
    connected,
    every_way,
    session,
)
from tests.protocol.test_polling import waiting
from tests.protocol.wire import CLOSE
from tests.protocol.world import World, strict
from tests.waiting import until


@both_endpoints
async def test_a_close_over_polling_releases_the_poll_that_waits_and_ends_the_session(
    calm: World, path: str
) -> None:
    peer = await Polling.open(calm, path)
    line = await waiting(calm, peer)
    assert (await peer.post("1")).status == 200
    answer = await line.answer()
    assert (answer.status, answer.text) == (200, "6")
    assert (await peer.get()).status == 400


@both_endpoints
@pytest.mark.parametrize("way", ["websocket", "upgrade"])
async def test_a_close_packet_over_a_websocket_closes_it(calm: World, path: str, way: Way) -> None:
    peer = await session(calm, way, path)
    await peer.send("1")
    await peer.ended()
    await until(lambda: not calm.sessions())


async def test_nothing_after_a_close_packet_is_handled(calm: World) -> None:
    for way in ("polling", "websocket"):
        peer = await connected(calm, way)
        await peer.send("1", '42["message","too late"]')
    await until(lambda: len(calm.suite.closed) == 2)
    assert calm.suite.events == []


@every_way
async def test_the_application_hears_why_a_client_left(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await peer.send("1")
    await until(lambda: calm.suite.closed)
    assert calm.suite.closed == [(calm.suite.opened[0], "client disconnect")]
    peer = await connected(calm, way)
    await peer.send("41")
    await until(lambda: len(calm.suite.closed) == 2)
    assert calm.suite.closed[1] == (calm.suite.opened[1], "client disconnect")
    peer = await connected(calm, "websocket")
    assert isinstance(peer, Socket)
    peer.ws.line.abort()
    await until(lambda: len(calm.suite.closed) == 3)
    assert calm.suite.closed[2] == (calm.suite.opened[2], "transport close")


@every_way
async def test_a_transport_close_comes_after_what_was_sent_and_says_no_disconnect(
    calm: World, way: Way
) -> None:
    peer = await connected(calm, way)
    sid = calm.suite.opened[0]
    for number in range(3):
        calm.transport.push_event(sid, "last words", number)
    await calm.transport.close_transport(sid, "enough")
    await until(lambda: calm.suite.closed == [(sid, "enough")])
    assert [await peer.packet() for _ in range(3)] == [
        f'42["last words",{number}]' for number in range(3)
    ]
    with pytest.raises(Gone) as gone:
        await peer.packet()
    assert gone.value.packet == ("1" if isinstance(peer, Polling) else None)
    await until(lambda: not calm.sessions())


async def test_a_transport_close_answers_a_poll_that_waits(calm: World) -> None:
    peer = await connected(calm, "polling")
    assert isinstance(peer, Polling)
    line = await waiting(calm, peer)
    await calm.transport.close_transport(calm.suite.opened[0], "enough")
    answer = await line.answer()
    assert (answer.status, answer.text) == (200, "1")
    assert (await peer.get()).status == 400


@both_endpoints
@pytest.mark.parametrize(("client_closes", "last"), [(True, "6"), (False, "1")])
async def test_a_client_between_two_polls_still_gets_the_last_packet_and_then_a_400(
    calm: World, path: str, client_closes: bool, last: str
) -> None:
    peer = await Polling.open(calm, path)
    [session] = calm.sessions().values()
    if client_closes:
        assert (await peer.post("1")).status == 200
    else:
        session.ended("enough")
    assert not calm.sessions()
    assert (await peer.post("2")).status == 400
    answer = await peer.get()
    assert (answer.status, answer.text) == (200, last)
    assert (await peer.get()).status == 400


@every_way
async def test_a_kick_is_a_disconnect_packet_and_leaves_the_transport(
    calm: World, way: Way
) -> None:
    peer = await connected(calm, way)
    sid = calm.suite.opened[0]
    calm.transport.push_event(sid, "banned")
    await calm.transport.kick(sid, "banned")
    assert [await peer.packet(), await peer.packet()] == ['42["banned"]', "41"]
    assert calm.suite.closed == [(sid, "banned")]
    await connect(peer)


async def test_a_kick_names_its_namespace_and_leaves_the_other_one(calm: World) -> None:
    peer = await connected(calm)
    await connect(peer, "/custom")
    await calm.transport.kick(calm.suite.opened[1], "banned")
    assert await peer.packet() == "41/custom,"
    await peer.send('42["message","still here"]')
    assert await peer.packet() == '42["message-back","still here"]'


async def test_what_is_pushed_to_one_who_has_left_goes_nowhere(calm: World) -> None:
    peer = await connected(calm)
    sid = calm.suite.opened[0]
    await peer.send("1")
    await until(lambda: calm.suite.closed)
    calm.transport.push_event(sid, "hello?")
    calm.transport.push_ack(sid, 1, "hello?")
    await calm.transport.close_transport(sid, "again")
    await calm.transport.kick(sid, "again")
    calm.transport.push_event("nobody", "hello?")
    assert len(calm.suite.closed) == 1


async def test_a_client_that_is_gone_before_its_first_byte_leaves_nothing(calm: World) -> None:
    for sent in (
        b"",
        b"GET ",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n",
    ):
        line = await calm.line()
        await line.send(sent)
        line.abort()
    assert not calm.sessions()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_client_that_leaves_with_the_handshake_is_forgotten(transport: str) -> None:
    async with strict(connect_timeout=1.5) as world:
        other = await connected(world)
        for _ in range(10):
            line = await world.line()
            headers = (
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            )
            await line.send(
                f"GET {SOCKET}?EIO=4&transport={transport} HTTP/1.1\r\nHost: x\r\n"
                f"{headers if transport == 'websocket' else ''}\r\n".encode()
            )
            line.abort()
        await other.send('42["message","fine"]')
        assert await other.packet() == '42["message-back","fine"]'
        await until(lambda: len(world.sessions()) == 1)


async def test_the_server_closes_the_connection_after_its_close_frame(calm: World) -> None:
    peer = await connected(calm)
    assert isinstance(peer, Socket)
    await calm.transport.close_transport(calm.suite.opened[0], "enough")
    frame = await peer.ws.frame()
    assert frame is not None
    assert frame.opcode == CLOSE
    assert await peer.ws.frame() is None  # although this client does not answer the close


async def test_a_closed_websocket_that_the_client_does_not_close_is_given_up(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.send("abc")
    while await peer.ws.frame() is not None:
        pass
    assert not calm.sessions()
