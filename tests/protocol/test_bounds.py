"""What one client can make the server hold: bytes that it does not read, and no more than that.

Sizes of frames are in test_frames.py, of bodies in test_polling.py, attachments in
test_attachments.py, sockets without a CONNECT in test_connect.py.
"""

from __future__ import annotations

import pytest

from tests.protocol.peers import Gone, Polling, Socket, Way, connected, every_way
from tests.protocol.wire import WebSocket
from tests.protocol.world import World, strict
from tests.server.peer import until

KB = 1024


async def reading_nothing(world: World, way: Way) -> None:
    """A client that is connected and reads no more."""
    if way == "websocket":
        peer = await Socket.open(world, buffer=4 * KB)
        await peer.send("40")
    else:
        polling = await Polling.open(world)
        await polling.send("40")
        if way == "upgrade":
            ws = await WebSocket.open(
                world, f"/socket.io/?EIO=4&transport=websocket&sid={polling.sid}", buffer=4 * KB
            )
            await ws.send("2probe")
            assert await ws.message() == "3probe"
            await ws.send("5")
    await until(lambda: world.suite.opened)


@every_way
async def test_a_client_that_does_not_read_is_dropped_and_the_reason_told(way: Way) -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        await reading_nothing(world, way)
        (sid,) = world.suite.opened
        pushed = 0

        def one_more() -> bool:
            nonlocal pushed
            if not world.suite.closed:
                world.transport.push_event(sid, "news", "x" * 10 * KB)
                pushed += 1
            return bool(world.suite.closed)

        await until(one_more, timeout=20)
        assert world.suite.closed == [(sid, "slow reader")]
        # What the system's own buffers take comes on top.
        assert pushed < 2000
        await until(lambda: not world.sessions())


@every_way
async def test_a_burst_within_one_turn_of_the_loop_is_noticed_at_its_end(way: Way) -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        await reading_nothing(world, way)
        (sid,) = world.suite.opened
        for _ in range(20):
            world.transport.push_event(sid, "news", "x" * 1000 * KB)
        await until(lambda: world.suite.closed)
        assert world.suite.closed == [(sid, "slow reader")]


async def test_binary_messages_count_as_well() -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        await reading_nothing(world, "polling")
        (sid,) = world.suite.opened
        for _ in range(10):
            world.transport.push_event(sid, "picture", b"x" * 10 * KB)
        await until(lambda: world.suite.closed == [(sid, "slow reader")])


@every_way
async def test_one_that_reads_gets_many_times_the_bound(way: Way) -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        peer = await connected(world, way)
        (sid,) = world.suite.opened
        for number in range(100):
            world.transport.push_event(sid, "news", number, "x" * 10 * KB)
            assert str(await peer.packet()).startswith(f'42["news",{number},')


async def test_a_slow_reader_holds_up_nobody_else() -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        await reading_nothing(world, "websocket")
        slow = world.suite.opened[0]
        peer = await connected(world)
        other = world.suite.opened[1]
        for number in range(200):
            world.transport.push_event(slow, "news", "x" * 10 * KB)
            world.transport.push_event(other, "news", number)
            assert await peer.packet() == f'42["news",{number}]'
        assert world.suite.closed in ([], [(slow, "slow reader")])


async def test_a_client_that_only_sends_is_read_no_further_than_it_is_answered() -> None:
    async with strict(max_unread=64 * KB, ping_interval=60.0) as world:
        peer = await Socket.open(world, buffer=4 * KB)
        await peer.send("40")
        with pytest.raises((Gone, ConnectionError, TimeoutError)):
            for _ in range(5000):
                await peer.send('42["message","' + "x" * 10 * KB + '"]')
        await until(lambda: world.suite.closed)
        assert world.suite.closed == [(world.suite.opened[0], "slow reader")]
