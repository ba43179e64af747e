"""Faults of python-socketio's classes (5.18.1): who gets in, packets, what the server sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import socketio

from tests.protocol.faults import Table, comes, counted_tasks, patience, silent
from tests.protocol.peers import Gone, Socket, connected, session
from tests.protocol.wire import WAIT
from tests.protocol.world import Gate, World
from tests.waiting import until

FAULTS = Table()

# --- Socket.IO: who gets in -----------------------------------------------------------------------


@FAULTS.mended_by("server.StrictServer._connect")
async def an_unknown_namespace_is_refused_in_other_words_than_the_protocols(world: World) -> bool:
    peer = await session(world, "websocket")
    await peer.send("40/random")
    return await peer.packet() != '44/random,{"message":"Invalid namespace"}'


@FAULTS.mended_by("server.StrictServer._decide")
async def a_crash_while_connecting_leaves_a_socket_that_hears_every_broadcast(world: World) -> bool:
    asked = asyncio.Event()

    async def crash(_: Any) -> None:
        asked.set()
        raise KeyError("token")

    world.suite.connecting = crash
    peer = await session(world, "websocket")
    await peer.send("40")
    await asked.wait()
    await world.transport.emit("secret", "for members")
    try:
        async with asyncio.timeout(WAIT):
            return await peer.packet() == '42["secret","for members"]'
    except (Gone, TimeoutError):
        return False


@FAULTS.mended_by("server.StrictServer._decide")
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


@FAULTS.mended_by("server.StrictServer._expect_connect", only_strict={"connect_timeout": 0.05})
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


@FAULTS.mended_by("packet._check_event")
async def a_client_can_run_the_servers_own_handler_of_disconnect(world: World) -> bool:
    peer = await connected(world)
    await peer.send('42["disconnect","x"]', '42["message","still here"]')
    with suppress(Gone):
        return (
            await peer.packet() == '42["message-back","still here"]' and len(world.suite.closed) > 0
        )
    return False


@FAULTS.mended_by("packet._check_event")
async def an_event_that_is_no_list_keeps_its_socket_and_costs_a_traceback(world: World) -> bool:
    return await _goes_on(world, "42{}")


@FAULTS.mended_by("packet._check_event")
async def an_event_whose_name_is_no_string_keeps_its_socket(world: World) -> bool:
    return await _goes_on(world, "42[{}]")


@FAULTS.mended_by("packet.Packet.parse")
async def an_ack_id_may_be_written_in_any_digits_of_unicode(world: World) -> bool:
    peer = await connected(world)
    await peer.send('42\N{FULLWIDTH DIGIT SEVEN}["message-with-ack",1]')
    with suppress(Gone):
        return await peer.packet() == "437[1]"
    return False


@FAULTS.mended_by("server.StrictServer._dispatch")
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


@FAULTS.mended_by("packet.Packet.attach")
async def a_placeholder_counts_from_the_end(world: World) -> bool:
    peer = await connected(world)
    await peer.send('451-["message",{"_placeholder":true,"num":-1}]', b"data")
    with suppress(Gone):
        return str(await peer.packet()).startswith("451-")
    return False


@FAULTS.mended_by("server.StrictServer._dispatch")
async def an_event_before_connect_is_passed_over(world: World) -> bool:
    peer = await session(world, "websocket")
    await peer.send('42["message",1]', "40")
    with suppress(Gone):
        return str(await peer.packet()).startswith("40{")
    return False


@FAULTS.mended_by("server.StrictServer._received")
async def events_of_one_socket_overtake_each_other(world: World) -> bool:
    gate = Gate(world)
    peer = await connected(world)
    await peer.send('42["message",1]', '42["message",2]')
    overtaken = await comes(world, lambda: world.suite.events == [("message", [2])])
    gate.open()
    return overtaken


@FAULTS.mended_by("server.StrictServer._received")
async def an_event_costs_tasks(world: World) -> bool:
    peer = await connected(world)
    with counted_tasks() as tasks:
        for number in range(10):
            await peer.send(f'42["message",{number}]')
            await peer.packet()
    return len(tasks) >= 10


# --- Socket.IO: what the server sends -------------------------------------------------------------


@FAULTS.mended_by("frame.polled")
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


@FAULTS.mended_by("manager.StrictManager.emit")
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


@FAULTS.mended_by("manager.StrictManager.basic_disconnect")
async def a_socket_that_leaves_walks_through_every_room(world: World) -> bool:
    peer = await connected(world)
    rooms = world.transport.manager.rooms["/"] = _Walked(world.transport.manager.rooms["/"])
    await peer.send("41")
    await until(lambda: world.suite.closed)
    return await comes(world, lambda: rooms.walks)


@FAULTS.mended_by("manager.StrictManager.emit")
async def a_question_to_a_client_that_leaves_waits_to_its_timeout(world: World) -> bool:
    peer = await connected(world)
    (sid,) = world.suite.opened
    question = world.transport.call("question", to=sid, timeout=patience(world))
    asking = asyncio.create_task(question)
    await until(lambda: asking.done() or world.transport.manager.callbacks)
    await peer.send("41")
    try:
        await asking
    except socketio.exceptions.TimeoutError:
        return True
    except ValueError:  # it may not be asked
        pass
    return False


@FAULTS.mended_by("engine.StrictEngine.close_all")
async def a_server_that_shuts_down_leaves_its_clients_connected_and_deaf(world: World) -> bool:
    peer = await connected(world)
    assert isinstance(peer, Socket)
    await world.suite.close()
    return await silent(world, peer.ws.line)
