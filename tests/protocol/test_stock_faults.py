"""The faults for which chatlab.transport replaces the libraries' classes, one scenario each.

Each is played against python-socketio's own classes (5.18.1 with python-engineio 4.15.1), which
have the fault, and against ours, which has not. When the first of a pair fails, the library was
repaired, and what `mended_by` names may go.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import socketio

from tests.protocol.peers import (
    ENGINE,
    SOCKET,
    Gone,
    Polling,
    Socket,
    ask,
    connected,
    session,
    target,
)
from tests.protocol.suite_server import StockSuite
from tests.protocol.test_bounds import reading_nothing
from tests.protocol.wire import WAIT, Line, Refused, WebSocket, chunked, head
from tests.protocol.world import World, stock, strict
from tests.server.peer import until


@dataclass(frozen=True)
class Fault:
    """`scenario` tells whether the fault is there."""

    scenario: Callable[[World], Awaitable[bool]]
    mended_by: str
    limits: dict[str, Any]
    strict_limits: dict[str, Any]


FAULTS: list[Fault] = []


def mended_by(where: str, *, only_strict: dict[str, Any] | None = None, **limits: Any) -> Any:
    """Add a scenario to the table. `where` is the override; `limits` are for both servers."""

    def add(scenario: Any) -> Any:
        limits.setdefault("ping_interval", 60.0)
        FAULTS.append(Fault(scenario, where, limits, only_strict or {}))
        return scenario

    return add


def patience(world: World) -> float:
    """Seconds to wait for what only ours does: no longer than needed where it will not come."""
    return 0.25 if isinstance(world.suite, StockSuite) else WAIT


async def silent(world: World, line: Line) -> bool:
    """Whether nothing comes for a while."""
    try:
        await asyncio.wait_for(line.reader.read(1), patience(world))
    except TimeoutError:
        return True
    return False


@contextmanager
def counted_tasks() -> Iterator[list[str]]:
    """The tasks that are made meanwhile."""
    loop, made = asyncio.get_running_loop(), []

    def count(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        made.append(str(work))
        return asyncio.Task(work, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(count)
    try:
        yield made
    finally:
        loop.set_task_factory(before)


# --- Engine.IO: the handshake ---------------------------------------------------------------------


@mended_by("engine.StrictEngine._open", ping_interval=0.3)
async def a_ping_interval_below_a_second_is_announced_as_zero(world: World) -> bool:
    return (await Polling.open(world)).handshake["pingInterval"] == 0


@mended_by("engine.StrictEngine._respond")
async def a_request_without_a_transport_opens_a_polling_session(world: World) -> bool:
    return (await ask(world, "GET", f"{SOCKET}?EIO=4")).status == 200


@mended_by("engine.StrictEngine.attach")
async def another_method_is_answered_405_where_the_protocol_says_400(world: World) -> bool:
    return (await ask(world, "PUT", target(SOCKET, "polling"))).status == 405


@mended_by("engine.StrictEngine.handle_request", only_strict={"allow_origin": lambda *_: False})
async def a_foreign_origin_is_let_in_by_a_header_that_anybody_can_send(world: World) -> bool:
    headers = {
        "Origin": "http://evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
    }
    return (await ask(world, "GET", target(SOCKET, "polling"), **headers)).status == 200


@mended_by("server.Handshake")
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


@mended_by("frame.opening")
async def a_websocket_handshake_that_fails_leaves_its_session_behind(world: World) -> bool:
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    line = await world.line()
    answer = await line.request("GET", target(SOCKET, "websocket"), headers=headers)
    assert answer.status in (400, 426)
    return bool(world.sessions())


# --- Engine.IO: polling ---------------------------------------------------------------------------


@mended_by("engine.StrictEngine._continue")
async def a_post_is_answered_in_capitals(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("4hello")).text == "OK"


@mended_by("session.Session.receive_body")
async def a_malformed_body_is_answered_200_and_the_session_survives(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("abc")).status == 200 and (await peer.post("4hello")).status == 200


@mended_by("session.Session._handle")
async def broken_base64_is_taken_for_bytes(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    return (await peer.post("b!!!")).status == 200


@mended_by("session.Session.poll")
async def a_second_poll_on_a_session_waits_beside_the_first(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    lines = [await world.line(), await world.line()]
    for line in lines:
        await line.send(head("GET", peer.url))
    return await silent(world, lines[1])


@mended_by("session.Session.poll")
async def a_poll_that_waits_is_not_released_by_a_close(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    line = await world.line()
    await line.send(head("GET", peer.url))
    await asyncio.sleep(0.05)
    await peer.post("1")
    return await silent(world, line)


@mended_by("engine.StrictEngine._continue")
async def more_than_sixteen_packets_in_a_body_are_all_lost_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    answer = await peer.post("\x1e".join(f'42["message",{number}]' for number in range(40)))
    return answer.status == 200 and not world.suite.events


@mended_by("engine._read")
async def a_body_in_two_segments_is_cut_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    body = b'42["message","' + b"x" * 3000 + b'"]'
    line = await world.line()
    await line.send(head("POST", peer.url, body) + body[:100])
    await asyncio.sleep(0.05)
    await line.send(body[100:])
    answer = await line.answer()
    return answer.status == 200 and not world.suite.events


@mended_by("engine._read")
async def a_chunked_body_is_cut_and_answered_200(world: World) -> bool:
    peer = await connected(world, "polling")
    assert isinstance(peer, Polling)
    line = await world.line()
    await line.send(head("POST", peer.url, b"", [("Transfer-Encoding", "chunked")]))
    await line.send(chunked(b'42["message",', b'"in chunks"]'))
    answer = await line.answer()
    return answer.status == 200 and not world.suite.events


@mended_by("engine._read", max_http_buffer_size=10_000)
async def a_body_over_the_limit_is_never_answered(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    line = await world.line()
    await line.send(head("POST", peer.url, b"x" * 20_000) + b"4" + b"x" * 5000)
    return await silent(world, line)


@mended_by("session.POLL_PACKETS")
async def a_poll_holds_more_packets_than_the_librarys_own_client_takes(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    for _ in range(3):
        await peer.send(*(f"4{number}" for number in range(10)))
    return len(await peer.poll()) > 16


# --- Engine.IO: websocket and upgrade -------------------------------------------------------------


@mended_by("engine.StrictEngine._upgrade")
async def a_second_websocket_on_a_session_is_refused_by_http(world: World) -> bool:
    peer = await Socket.open(world, ENGINE)
    try:
        await WebSocket.open(world, target(ENGINE, "websocket", peer.sid))
    except Refused:
        return True
    return False


@mended_by("session.Session.carry_on")
async def a_noop_of_polling_is_sent_after_the_upgrade(world: World) -> bool:
    peer = await Polling.open(world, ENGINE)
    ws = await WebSocket.open(world, target(ENGINE, "websocket", peer.sid))
    await ws.send("2probe")
    assert await ws.message() == "3probe"
    await ws.send("5", "4hello")
    return await ws.message() == "6"


@mended_by("websocket.WebSocket.open", max_http_buffer_size=10_000)
async def a_message_that_is_as_long_as_the_limit_is_refused(world: World) -> bool:
    peer = await Socket.open(world, ENGINE)
    await peer.send("4" + "x" * 9_999)
    with suppress(Gone):
        return await peer.packet() != "4" + "x" * 9_999
    return True


@mended_by("frame.opening")
async def compression_cannot_be_switched_off(world: World) -> bool:
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    return (await Socket.open(world, ENGINE, headers=offer)).ws.agreed is not None


@mended_by("session.Session.received")
async def garbage_ends_the_connection_but_not_the_presence(world: World) -> bool:
    peer = await connected(world)
    assert isinstance(peer, Socket)
    await peer.send("zzz")
    await peer.ended()
    with suppress(TimeoutError):
        await until(lambda: world.suite.closed, timeout=patience(world))
    return not world.suite.closed


@mended_by("session.Session.flush", only_strict={"max_unread": 100_000})
async def what_a_client_does_not_read_is_kept_without_bound(world: World) -> bool:
    await reading_nothing(world, "websocket")
    (sid,) = world.suite.opened
    for _ in range(100):
        await world.transport.emit("news", "x" * 100_000, to=sid)
        await asyncio.sleep(0)
    return not world.suite.closed


@mended_by("websocket.WebSocket")
async def an_idle_websocket_costs_tasks(world: World) -> bool:
    with counted_tasks() as tasks:
        for _ in range(5):
            await Socket.open(world, ENGINE)
    # asyncio's server makes no task to accept; aiohttp makes one for each connection.
    return len(tasks) > 5


# --- Socket.IO: who gets in -----------------------------------------------------------------------


@mended_by("server.StrictServer._connect")
async def an_unknown_namespace_is_refused_in_other_words_than_the_protocols(world: World) -> bool:
    peer = await session(world, "websocket")
    await peer.send("40/random")
    return await peer.packet() != '44/random,{"message":"Invalid namespace"}'


@mended_by("server.StrictServer._decide")
async def a_crash_while_connecting_leaves_a_socket_that_hears_every_broadcast(world: World) -> bool:
    async def crash(_: Any) -> None:
        raise KeyError("token")

    world.suite.connecting = crash
    peer = await session(world, "websocket")
    await peer.send("40")
    await asyncio.sleep(0.05)
    await world.transport.emit("secret", "for members")
    try:
        async with asyncio.timeout(WAIT):
            return await peer.packet() == '42["secret","for members"]'
    except (Gone, TimeoutError):
        return False


@mended_by("server.StrictServer._decide")
async def a_socket_that_is_still_decided_on_hears_every_broadcast(world: World) -> bool:
    gate, asked = asyncio.Event(), asyncio.Event()

    async def slowly(_: Any) -> None:
        asked.set()
        await gate.wait()

    world.suite.connecting = slowly
    peer = await session(world, "websocket")
    await peer.send("40")
    await asked.wait()
    await world.transport.emit("secret", "for members")
    gate.set()
    return await peer.packet() == '42["secret","for members"]'


@mended_by("server.StrictServer._expect_connect", only_strict={"connect_timeout": 0.05})
async def a_socket_that_never_connects_stays(world: World) -> bool:
    peer = await session(world, "websocket")
    try:
        async with asyncio.timeout(patience(world)):
            await peer.packet()
    except TimeoutError:
        return True
    except Gone:
        pass
    return False


# --- Socket.IO: packets ---------------------------------------------------------------------------


async def _goes_on(world: World, *packets: str | bytes) -> bool:
    """Whether a socket can send these and then be served as if nothing were."""
    peer = await connected(world)
    await peer.send(*packets, '42["message","and on"]')
    try:
        async with asyncio.timeout(WAIT):
            while await peer.packet() != '42["message-back","and on"]':
                pass
    except (Gone, TimeoutError):
        return False
    return True


@mended_by("packet._check_event")
async def a_client_can_run_the_servers_own_handler_of_disconnect(world: World) -> bool:
    peer = await connected(world)
    await peer.send('42["disconnect","x"]', '42["message","still here"]')
    with suppress(Gone):
        return (
            await peer.packet() == '42["message-back","still here"]' and len(world.suite.closed) > 0
        )
    return False


@mended_by("packet._check_event")
async def an_event_that_is_no_list_keeps_its_socket_and_costs_a_traceback(world: World) -> bool:
    return await _goes_on(world, "42{}")


@mended_by("packet._check_event")
async def an_event_whose_name_is_no_string_keeps_its_socket(world: World) -> bool:
    return await _goes_on(world, "42[{}]")


@mended_by("packet.Packet.parse")
async def an_ack_id_may_be_written_in_any_digits_of_unicode(world: World) -> bool:
    peer = await connected(world)
    await peer.send('42\N{FULLWIDTH DIGIT SEVEN}["message-with-ack",1]')
    with suppress(Gone):
        return await peer.packet() == "437[1]"
    return False


@mended_by("server.StrictServer._dispatch")
async def an_event_that_claims_999999_attachments_is_waited_for(world: World) -> bool:
    peer = await connected(world)
    await peer.send('45999999-["message",{"_placeholder":true,"num":0}]', *(b"x",) * 300)
    try:
        async with asyncio.timeout(patience(world)):
            await peer.packet()
    except TimeoutError:
        return True
    except (Gone, ConnectionError):
        pass
    return False


@mended_by("packet.Packet.attach")
async def a_placeholder_counts_from_the_end(world: World) -> bool:
    peer = await connected(world)
    await peer.send('451-["message",{"_placeholder":true,"num":-1}]', b"data")
    with suppress(Gone):
        return str(await peer.packet()).startswith("451-")
    return False


@mended_by("server.StrictServer._dispatch")
async def an_event_before_connect_is_passed_over(world: World) -> bool:
    peer = await session(world, "websocket")
    await peer.send('42["message",1]', "40")
    with suppress(Gone):
        return str(await peer.packet()).startswith("40{")
    return False


@mended_by("server.StrictServer._received")
async def events_of_one_socket_overtake_each_other(world: World) -> bool:
    gate = asyncio.Event()

    async def wait(_name: str, args: list[Any]) -> None:
        if args == [1]:
            await gate.wait()

    world.suite.handling = wait
    peer = await connected(world)
    await peer.send('42["message",1]', '42["message",2]')
    await asyncio.sleep(0.05)
    overtaken = world.suite.events == [("message", [2])]
    gate.set()
    return overtaken


@mended_by("server.StrictServer._received")
async def an_event_costs_tasks(world: World) -> bool:
    peer = await connected(world)
    with counted_tasks() as tasks:
        for number in range(10):
            await peer.send(f'42["message",{number}]')
            await peer.packet()
    return len(tasks) >= 10


# --- Socket.IO: what the server sends -------------------------------------------------------------


@mended_by("frame.polled")
async def bytes_for_polling_and_websocket_clients_in_one_emit_go_wrong(world: World) -> bool:
    peers = [await connected(world, way) for way in ("polling", "websocket", "polling")]
    for sid in world.suite.opened:
        await world.transport.enter_room(sid, "everybody")
    await world.transport.emit("picture", b"\x00\xff", to="everybody")
    for peer in peers:
        try:
            async with asyncio.timeout(WAIT):
                got = [await peer.packet(), await peer.packet()]
        except (Gone, TimeoutError):
            return True
        if got != ['451-["picture",{"_placeholder":true,"num":0}]', b"\x00\xff"]:
            return True
    return False


@mended_by("manager.StrictManager.emit")
async def an_emit_costs_a_task_for_each_recipient(world: World) -> bool:
    peers = [await connected(world) for _ in range(5)]
    with counted_tasks() as tasks:
        await world.transport.emit("news", 1)
        for peer in peers:
            assert await peer.packet() == '42["news",1]'
    return len(tasks) >= 5


class _Walked(dict[Any, Any]):
    walks = 0

    def copy(self) -> dict[Any, Any]:
        self.walks += 1
        return super().copy()

    def __iter__(self) -> Iterator[Any]:
        self.walks += 1
        return super().__iter__()

    def items(self) -> Any:
        self.walks += 1
        return super().items()


@mended_by("manager.StrictManager.basic_disconnect")
async def a_socket_that_leaves_walks_through_every_room(world: World) -> bool:
    peer = await connected(world)
    rooms = world.transport.manager.rooms["/"] = _Walked(world.transport.manager.rooms["/"])
    await peer.send("41")
    await until(lambda: world.suite.closed)
    await asyncio.sleep(0.05)
    return rooms.walks > 0


@mended_by("manager.StrictManager.emit")
async def a_question_to_a_client_that_leaves_waits_to_its_timeout(world: World) -> bool:
    peer = await connected(world)
    (sid,) = world.suite.opened
    asking = asyncio.create_task(world.transport.call("question", to=sid, timeout=0.25))
    await asyncio.sleep(0.05)
    await peer.send("41")
    try:
        await asking
    except socketio.exceptions.TimeoutError:
        return True
    except ValueError:  # it may not be asked
        pass
    return False


@mended_by("engine.StrictEngine.close_all")
async def a_server_that_shuts_down_leaves_its_clients_connected_and_deaf(world: World) -> bool:
    peer = await connected(world)
    assert isinstance(peer, Socket)
    await world.suite.close()
    return await silent(world, peer.ws.line)


# --- the table ------------------------------------------------------------------------------------

every_fault = pytest.mark.parametrize(
    "fault", FAULTS, ids=[fault.scenario.__name__ for fault in FAULTS]
)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # The stock classes write a traceback for most of this.
    caplog.set_level(logging.CRITICAL)


@every_fault
async def test_the_stock_classes_have_the_fault(fault: Fault) -> None:
    async with stock(**fault.limits) as world:
        assert await fault.scenario(world), f"repaired upstream: {fault.mended_by} may go"


@every_fault
async def test_ours_has_not(fault: Fault) -> None:
    async with strict(**{**fault.limits, **fault.strict_limits}) as world:
        assert not await fault.scenario(world), f"{fault.mended_by} does not mend it any more"


@every_fault
def test_what_mends_it_is_there(fault: Fault) -> None:
    module, *names = fault.mended_by.split(".")
    found: Any = importlib.import_module(f"chatlab.transport.{module}")
    for name in names:
        found = getattr(found, name)
