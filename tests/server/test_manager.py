"""Events to a room reach its members on every server, and nothing else reaches anybody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import socketio
from aiohttp import web

from chatlab.lab import valkey
from chatlab.server.manager import RoomManager
from chatlab.storage.redis_events import RedisEvents
from chatlab.storage.shared import Events
from chatlab.transport import Handshake, StrictServer
from tests.storage.nodes import Server, connected, some_prefix
from tests.waiting import until


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(persist=False, name="valkey-manager")
    yield store
    store.stop()


class One:
    """A Socket.IO server whose manager is a `RoomManager`, and its clients."""

    def __init__(self, events: Events | None) -> None:
        self.manager = RoomManager(events)
        self.told: list[tuple[str, str, Any]] = []
        self.manager.told = lambda room, kind, data: self.told.append((room, kind, data))
        self.events = events
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.transport = StrictServer(
            accept=self._accept,
            opened=lambda sid, _handshake: self.opened.append(sid),
            arrived=lambda sid, name, args, ack_id: None,
            closed=self._closed,
            connect_timeout=5.0,
            max_attachments=0,
            max_unauthenticated=10,
            ping_interval=25.0,
            ping_timeout=20.0,
            max_http_buffer_size=65_536,
            max_unread=1_048_576,
            compression=False,
            allow_origin=lambda request, origin: True,
            transports=["websocket"],
            client_manager=self.manager,
        )

    async def _accept(self, _handshake: Handshake) -> None:
        return None

    async def _closed(self, sid: str, _reason: str) -> None:
        self.closed.append(sid)

    async def emit(self, name: str, data: Any, room: str = "room:general", **more: Any) -> None:
        await self.transport.emit(name, data, room=room, **more)


class Client:
    """A client in a room, and what it got."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.got: list[tuple[Any, ...]] = []
        self.sio.on("*", self._event)
        self.sid = ""

    async def _event(self, name: str, *args: Any) -> None:
        self.got.append((name, *args))


@contextlib.asynccontextmanager
async def serving(events: Events | None) -> AsyncIterator[tuple[One, Any]]:
    """A server, and a function that connects a client and lets it into rooms."""
    one = One(events)
    app = web.Application()
    app.router.add_route("*", "/socket.io/", one.transport.eio.handle_request)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    clients: list[Client] = []

    async def connect(*rooms: str) -> Client:
        client = Client()
        clients.append(client)
        known = len(one.opened)
        await client.sio.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
        client.sid = one.opened[known]
        for room in rooms:
            await one.transport.enter_room(client.sid, f"room:{room}")
            if one.events is not None:
                await one.events.follow(room)
        return client

    try:
        yield one, connect
    finally:
        for client in clients:
            await client.sio.disconnect()
        await one.transport.eio.close_all(within=0.3)
        await runner.cleanup()


@contextlib.asynccontextmanager
async def two_servers(url: str) -> AsyncIterator[list[Any]]:
    prefix = some_prefix()
    async with contextlib.AsyncExitStack() as stack:
        made: list[Any] = []
        for _ in range(2):
            server: Server = await stack.enter_async_context(connected(url, prefix))
            events = RedisEvents(server.nodes, server.names)
            made += await stack.enter_async_context(serving(events))
            made[-2].nodes = server.nodes
        yield made


@pytest.fixture
async def two(store) -> AsyncIterator[list[Any]]:
    async with two_servers(store.url) as two:
        yield two


async def test_an_event_reaches_the_members_on_every_server_and_nobody_else(two):
    here, connect_here, there, connect_there = two
    alice, bob = await connect_here("general"), await connect_there("general")
    carol, dave = await connect_there("other"), await connect_there()
    await here.emit("typing", {"user": "ünïcødé"})
    await there.emit("typing", ("several", 1, None))
    await here.emit("typing", None)
    await here.emit("end", None, room="room:other")
    await until(lambda: len(bob.got) == 3 and len(alice.got) == 3 and bool(carol.got))
    expected = [("typing", {"user": "ünïcødé"}), ("typing", "several", 1, None), ("typing",)]
    assert sorted(bob.got, key=len) == sorted(alice.got, key=len) == sorted(expected, key=len)
    assert carol.got == [("end",)]
    assert dave.got == []


async def test_who_is_to_be_left_out_is_left_out_on_every_server(two):
    here, connect_here, _, connect_there = two
    alice, bob, carol = (
        await connect_here("general"),
        await connect_there("general"),
        await connect_there("general"),
    )
    await here.emit("a", 1, skip_sid=alice.sid)
    await here.emit("b", 2, skip_sid=[alice.sid, bob.sid])
    await here.emit("end", None)
    await until(lambda: all(("end",) in client.got for client in (alice, bob, carol)))
    assert alice.got == [("end",)]
    assert bob.got == [("a", 1), ("end",)]
    assert carol.got == [("a", 1), ("b", 2), ("end",)]


async def test_structs_go_out_as_they_do_from_here(two):
    class Payload(msgspec.Struct):
        room: str

    here, connect_here, _, connect_there = two
    alice, bob = await connect_here("general"), await connect_there("general")
    await here.emit("x", Payload("general"))
    await until(lambda: bool(alice.got and bob.got))
    assert alice.got == bob.got == [("x", {"room": "general"})]


@pytest.mark.parametrize("room", [None, "", "general", "user:alice"])
async def test_an_event_without_a_room_is_refused_instead_of_reaching_everybody(two, room):
    here, connect_here, _, connect_there = two
    alice, bob = await connect_here("general"), await connect_there("general")
    with pytest.raises(ValueError, match="must name a room"):
        await here.transport.emit("secret", 1, room=room)
    with pytest.raises(ValueError, match="must name a room"):
        await here.transport.emit("secret", 1, to=alice.sid)
    await here.emit("end", None)
    await until(lambda: bool(alice.got and bob.got))
    assert alice.got == bob.got == [("end",)]


async def test_callbacks_and_other_namespaces_are_refused(two):
    here, *_ = two
    with pytest.raises(ValueError, match="acks"):
        await here.emit("x", 1, callback=lambda: None)
    with pytest.raises(ValueError, match="namespace"):
        await here.emit("x", 1, namespace="/admin")


async def test_servers_tell_one_another_things(two):
    here, connect_here, there, connect_there = two
    await connect_here("general")
    bob = await connect_there("general")
    here.manager.tell("general", "receipts", {"alice": {"read": 2}})
    here.manager.tell("elsewhere", "receipts", 1)
    await here.emit("end", None)
    await until(lambda: bool(bob.got))
    assert there.told == [("general", "receipts", {"alice": {"read": 2}})]
    assert here.told == []


async def test_junk_is_dropped_and_logged_once(two, caplog):
    here, _, there, connect_there = two
    bob = await connect_there("general")
    junk = [
        b"",
        b"\xc1",
        b"hello",
        b"\x91" * 5_000,
        msgspec.msgpack.encode(["emit", 5, []]),
        msgspec.msgpack.encode(["emit", "2[]"]),
        msgspec.msgpack.encode(["emit", "41", []]),
        msgspec.msgpack.encode(["tell", 1, 2]),
        msgspec.msgpack.encode(["steal", "2[]", []]),
        msgspec.msgpack.encode({"method": "disconnect", "sid": bob.sid}),
        b"\x93\xa4emit\xa2\xff\xfe\x90",
    ]
    with caplog.at_level(logging.WARNING):
        for payload in junk:
            here.events.publish("general", payload)
        await here.emit("end", None)
        await until(lambda: bool(bob.got))
    assert bob.got == [("end",)]
    assert there.manager.unread == len(junk)
    assert len([one for one in caplog.records if "cannot be read" in one.message]) == 1
    assert there.told == []


async def test_no_task_is_started_for_a_recipient(two):
    here, connect_here, _, _ = two
    clients = [await connect_here("general") for _ in range(5)]
    before = asyncio.all_tasks()
    emitting = here.emit("x", 1)
    with pytest.raises(StopIteration):
        emitting.send(None)  # it is through without having waited for anything
    assert asyncio.all_tasks() == before
    await until(lambda: all(client.got for client in clients))


async def test_a_socket_of_another_server_is_not_touched(two):
    here, connect_here, there, connect_there = two
    await connect_here("general")
    bob = await connect_there("general")
    with pytest.raises(ValueError, match="not connected to this server"):
        await here.transport.enter_room(bob.sid, "room:secret")
    await here.transport.leave_room(bob.sid, "room:general")
    await here.transport.disconnect(bob.sid)
    with pytest.raises(ValueError, match="cannot be closed"):
        await here.transport.close_room("room:general")
    await here.emit("end", None)
    await until(lambda: bool(bob.got))
    assert there.closed == []
    assert bob.sio.connected


async def test_a_socket_that_is_gone_is_in_no_room(two):
    here, connect_here, _, _ = two
    alice = await connect_here("general", "other")
    await here.transport.leave_room(alice.sid, "room:other")
    assert here.manager.get_rooms(alice.sid, "/") == [alice.sid, "room:general"]
    await alice.sio.disconnect()
    await until(lambda: here.closed == [alice.sid])
    assert here.manager.rooms == {}
    await here.transport.leave_room(alice.sid, "room:general")
    await here.emit("x", 1)


async def test_while_redis_is_away_members_here_still_hear_and_nobody_waits():
    store = valkey(persist=False, name="valkey-manager-away")
    try:
        async with two_servers(store.url) as (here, connect_here, there, connect_there):
            alice, bob = await connect_here("general"), await connect_there("general")
            store.kill()
            await until(lambda: not here.nodes.up and not there.nodes.up)
            await here.emit("lost", None)
            here.manager.tell("general", "lost", None)
            await until(lambda: bool(alice.got))
            store.restart()
            await until(lambda: here.nodes.up and there.nodes.up)
            await here.emit("heard", None)
            await until(lambda: bool(bob.got))
            assert bob.got == [("heard",)]
            assert there.told == []
    finally:
        store.stop()


async def test_one_server_alone_needs_no_redis():
    async with serving(None) as (one, connect):
        alice, bob = await connect("general"), await connect("general")
        await one.emit("x", 1, skip_sid=alice.sid)
        one.manager.tell("general", "receipts", 1)
        await until(lambda: bool(bob.got))
        assert alice.got == []
        with pytest.raises(ValueError, match="must name a room"):
            await one.transport.emit("x", 1)
