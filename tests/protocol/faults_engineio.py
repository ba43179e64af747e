"""Faults of python-engineio's classes (4.15.1): the handshake, polling, websockets, the upgrade."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import pytest

from tests.protocol.faults import Table, mended, silent
from tests.protocol.peers import ENGINE, SOCKET, Gone, Polling, Socket, ask, connected, target
from tests.protocol.test_bounds import reading_nothing
from tests.protocol.wire import Line, Refused, WebSocket, chunked, head
from tests.protocol.world import World
from tests.waiting import until

FAULTS = Table()


async def begin(world: World, line: Line, request: bytes) -> None:
    """Send it, or its first part, and wait until the server is about it."""
    before = world.requests
    await line.send(request)
    await until(lambda: world.requests > before)


# --- Engine.IO: the handshake ---------------------------------------------------------------------


@FAULTS.mended_by("engine.StrictEngine._open", ping_interval=0.3)
async def a_ping_interval_below_a_second_is_announced_as_zero(world: World) -> bool:
    return bool((await Polling.open(world)).handshake["pingInterval"] == 0)


@FAULTS.mended_by("engine.StrictEngine._respond")
async def a_request_without_a_transport_opens_a_polling_session(world: World) -> bool:
    return (await ask(world, "GET", f"{SOCKET}?EIO=4")).status == 200


@FAULTS.mended_by("engine.StrictEngine.attach")
async def another_method_is_answered_405_where_the_protocol_says_400(world: World) -> bool:
    return (await ask(world, "PUT", target(SOCKET, "polling"))).status == 405


@FAULTS.mended_by(
    "engine.StrictEngine.handle_request", only_strict={"allow_origin": lambda *_: False}
)
async def a_foreign_origin_is_let_in_by_a_header_that_anybody_can_send(world: World) -> bool:
    headers = {
        "Origin": "http://evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
    }
    return (await ask(world, "GET", target(SOCKET, "polling"), **headers)).status == 200


@FAULTS.mended_by("server.Handshake")
async def every_client_seems_to_come_from_this_machine(world: World) -> bool:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has all of 127.0.0.0/8")
    elsewhere = ("127.0.0.2", 0)
    line = Line(*await asyncio.open_connection("127.0.0.1", world.port, local_addr=elsewhere))
    peer = Polling(world, SOCKET, await line.request("GET", target(SOCKET, "polling")))
    await line.request("POST", peer.url, b"40")
    await line.request("GET", peer.url)
    await line.close()
    return world.suite.addresses == ["127.0.0.1"]


@FAULTS.mended_by("frame.opening")
async def a_websocket_handshake_that_fails_leaves_its_session_behind(world: World) -> bool:
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    line = await world.line()
    answer = await line.request("GET", target(SOCKET, "websocket"), headers=headers)
    assert answer.status in (400, 426)
    return bool(world.sessions())


# --- Engine.IO: polling ---------------------------------------------------------------------------


@FAULTS.mended_by("engine.StrictEngine._continue")
async def a_post_is_answered_in_capitals(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("4hello")).text == "OK"


@FAULTS.mended_by("session.Session.receive_body")
async def a_malformed_body_is_answered_200_and_the_session_survives(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("abc")).status == 200 and (await peer.post("4hello")).status == 200


@FAULTS.mended_by("session.Session._handle")
async def broken_base64_is_taken_for_bytes(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("b!!!")).status == 200


@FAULTS.mended_by("session.Session.poll")
async def a_second_poll_on_a_session_waits_beside_the_first(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    lines = [await world.line(), await world.line()]
    for line in lines:
        await begin(world, line, head("GET", peer.url))
    return await silent(world, lines[1])


@FAULTS.mended_by("session.Session.poll")
async def a_poll_that_waits_is_not_released_by_a_close(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    line = await world.line()
    await begin(world, line, head("GET", peer.url))
    await peer.post("1")
    return await silent(world, line)


@FAULTS.mended_by("engine.StrictEngine._continue")
async def more_than_sixteen_packets_in_a_body_are_all_lost_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    answer = await peer.post("\x1e".join(f'42["message",{number}]' for number in range(40)))
    return answer.status == 200 and not world.suite.events


@FAULTS.mended_by("engine._read")
async def a_body_in_two_segments_is_cut_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    body = b'42["message","' + b"x" * 3000 + b'"]'
    line = await world.line()
    await begin(world, line, head("POST", peer.url, body) + body[:100])
    await line.send(body[100:])
    answer = await line.answer()
    return answer.status == 200 and not world.suite.events


@FAULTS.mended_by("engine._read")
async def a_chunked_body_is_cut_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    line = await world.line()
    await line.send(head("POST", peer.url, b"", [("Transfer-Encoding", "chunked")]))
    await line.send(chunked(b'42["message",', b'"in chunks"]'))
    answer = await line.answer()
    return answer.status == 200 and not world.suite.events


@FAULTS.mended_by("engine._read", max_http_buffer_size=10_000)
async def a_body_over_the_limit_is_never_answered(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    line = await world.line()
    await line.send(head("POST", peer.url, b"x" * 20_000) + b"4" + b"x" * 5000)
    return await silent(world, line)


@FAULTS.mended_by("session.POLL_PACKETS")
async def a_poll_holds_more_packets_than_the_librarys_own_client_takes(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    for _ in range(3):
        await peer.send(*(f"4{number}" for number in range(10)))
    return len(await peer.poll()) > 16


# --- Engine.IO: websocket and upgrade -------------------------------------------------------------


@FAULTS.mended_by("engine.StrictEngine._upgrade")
async def a_second_websocket_on_a_session_is_refused_by_http(world: World) -> bool:
    peer = await Socket.open(world, ENGINE)
    try:
        await WebSocket.open(world, target(ENGINE, "websocket", peer.sid))
    except Refused:
        return True
    return False


@FAULTS.mended_by("session.Session.carry_on")
async def a_noop_of_polling_is_sent_after_the_upgrade(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    ws = await WebSocket.open(world, target(ENGINE, "websocket", peer.sid))
    await ws.send("2probe")
    assert await ws.message() == "3probe"
    await ws.send("5", "4hello")
    return await ws.message() == "6"


@FAULTS.mended_by("websocket.WebSocket.open", max_http_buffer_size=10_000)
async def a_message_that_is_as_long_as_the_limit_is_refused(world: World) -> bool:
    peer = await Socket.open(world, ENGINE)
    await peer.send("4" + "x" * 9_999)
    with suppress(Gone):
        return await peer.packet() != "4" + "x" * 9_999
    return True


@FAULTS.mended_by("frame.opening")
async def compression_cannot_be_switched_off(world: World) -> bool:
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    return (await Socket.open(world, ENGINE, headers=offer)).ws.agreed is not None


@FAULTS.mended_by("session.Session.received")
async def garbage_ends_the_connection_but_not_the_presence(world: World) -> bool:
    peer = await connected(world)
    assert isinstance(peer, Socket)
    await peer.send("zzz")
    await peer.ended()
    return not await mended(world, lambda: world.suite.closed)


@FAULTS.mended_by("session.Session.flush", only_strict={"max_unread": 100_000})
async def what_a_client_does_not_read_is_kept_without_bound(world: World) -> bool:
    await reading_nothing(world, "websocket")
    (sid,) = world.suite.opened
    for _ in range(100):
        await world.transport.emit("news", "x" * 100_000, to=sid)
        await asyncio.sleep(0)
    return not world.suite.closed


@FAULTS.mended_by("websocket.WebSocket")
async def an_idle_websocket_keeps_tasks(world: World) -> bool:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        await Socket.open(world, ENGINE)
    # Those that accepted the connections end.
    return not await mended(world, lambda: len(asyncio.all_tasks()) - before < 5)
