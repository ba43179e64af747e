"""What one client can make the server hold and do: unread bytes, packets, frames, attempts.

Sizes of frames are in test_frames.py, of bodies in test_polling.py, attachments in
test_attachments.py.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.protocol.peers import (
    SOCKET,
    Gone,
    Peer,
    Polling,
    Socket,
    Way,
    ask,
    connect,
    connected,
    every_way,
    session,
    target,
)
from tests.protocol.wire import Refused, WebSocket
from tests.protocol.world import World, strict
from tests.waiting import until

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
    async with strict(max_unread=64 * KB) as world:
        await reading_nothing(world, way)
        (sid,) = world.suite.opened
        pushed = 0

        def one_more() -> bool:
            nonlocal pushed
            if not world.suite.closed:
                world.transport.push_event(sid, "news", "x" * 60 * KB)
                pushed += 60 * KB
            return bool(world.suite.closed)

        await until(one_more, timeout=20)
        assert world.suite.closed == [(sid, "slow reader")]
        # What the system's own buffers take comes on top.
        assert pushed < 20_000 * KB
        await until(lambda: not world.sessions())


@every_way
async def test_a_burst_within_one_turn_of_the_loop_is_noticed_at_its_end(way: Way) -> None:
    async with strict(max_unread=64 * KB) as world:
        await reading_nothing(world, way)
        (sid,) = world.suite.opened
        for _ in range(20):
            world.transport.push_event(sid, "news", "x" * 1000 * KB)
        await until(lambda: world.suite.closed)
        assert world.suite.closed == [(sid, "slow reader")]


async def test_binary_messages_count_as_well() -> None:
    async with strict(max_unread=64 * KB) as world:
        await reading_nothing(world, "polling")
        (sid,) = world.suite.opened
        for _ in range(10):
            world.transport.push_event(sid, "picture", b"x" * 10 * KB)
        await until(lambda: world.suite.closed == [(sid, "slow reader")])


@every_way
async def test_one_that_reads_gets_many_times_the_bound(way: Way) -> None:
    async with strict(max_unread=64 * KB) as world:
        peer = await connected(world, way)
        (sid,) = world.suite.opened
        for number in range(100):
            world.transport.push_event(sid, "news", number, "x" * 10 * KB)
            assert str(await peer.packet()).startswith(f'42["news",{number},')


async def test_a_slow_reader_holds_up_nobody_else() -> None:
    async with strict(max_unread=64 * KB) as world:
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
    async with strict(max_unread=64 * KB) as world:
        peer = await Socket.open(world, buffer=4 * KB)
        await peer.send("40")
        with pytest.raises((Gone, ConnectionError, TimeoutError)):
            for _ in range(5000):
                await peer.send('42["message","' + "x" * 10 * KB + '"]')
        await until(lambda: world.suite.closed)
        assert world.suite.closed == [(world.suite.opened[0], "slow reader")]


@pytest.mark.parametrize("way", ["polling", "websocket"])
async def test_more_packets_in_a_body_than_allowed_are_refused_and_none_is_handled(
    way: Way,
) -> None:
    async with strict(max_payload_packets=5) as world:
        peer = await connected(world, way)
        await peer.send(*(f'42["message",{number}]' for number in range(5)))
        assert [await peer.packet() for _ in range(5)] == [
            f'42["message-back",{number}]' for number in range(5)
        ]
        packets = [f'42["message",{number}]' for number in range(6)]
        if way == "websocket":  # which has no bodies
            await peer.send(*packets)
            assert await peer.packet() == '42["message-back",0]'
        else:
            with pytest.raises(Gone):
                await peer.send(*packets)
            assert len(world.suite.events) == 5


class Budget:
    """What a user may send: nothing more, until `pays` is set."""

    def __init__(self) -> None:
        self.pays = True
        self.asked: list[tuple[str, int]] = []

    def __call__(self, sid: str, frames: int) -> float:
        self.asked.append((sid, frames))
        return 0.0 if self.pays else 0.01


@every_way
async def test_one_who_has_spent_the_budget_is_not_read_and_loses_nothing(way: Way) -> None:
    budget = Budget()
    async with strict(allowance=budget) as world:
        peer = await connected(world, way)
        budget.pays = False
        sending = asyncio.create_task(_send_all(peer, 0, 400))
        await until(lambda: budget.asked)
        heard = len(world.suite.events)
        assert heard < 400
        other = await connected(world)
        await other.send('42["message","others are read"]')
        assert await other.packet() == '42["message-back","others are read"]'
        before = len(budget.asked)
        await until(lambda: len(budget.asked) > before + 2)
        assert len(world.suite.events) == heard + 1
        budget.pays = True
        assert [await peer.packet() for _ in range(400)] == [f"43{n}[]" for n in range(400)]
        await sending
        assert {sid for sid, _ in budget.asked} == {world.suite.opened[0]}
        assert all(frames > 0 for _, frames in budget.asked)


async def _send_all(peer: Peer, first: int, last: int) -> None:
    for start in range(first, last, 20):
        await peer.send(*(f'42{n}["message-with-ack"]' for n in range(start, start + 20)))
        await asyncio.sleep(0)


async def test_a_long_frame_costs_more_of_the_budget_than_a_short_one() -> None:
    budget = Budget()
    async with strict(allowance=budget) as world:
        peer = await connected(world)
        for number in range(10):
            await peer.send(f'42["message",{number}]')
            await peer.packet()
        assert budget.asked == []
        for _ in range(2):
            await peer.send('42["message","' + "x" * 500_000 + '"]')
            await peer.packet()
        await until(lambda: budget.asked)


@every_way
async def test_one_that_goes_on_and_on_without_a_connect_is_closed(way: Way) -> None:
    async with strict(connect_timeout=60.0) as world:
        peer = await session(world, way)
        with pytest.raises((Gone, ConnectionError)):
            for _ in range(100):
                await peer.send(*("3",) * 10)
            await peer.packet()
        await until(lambda: not world.sessions())


@every_way
async def test_one_whose_connects_are_refused_again_and_again_is_closed(way: Way) -> None:
    async with strict(connect_timeout=60.0) as world:
        peer = await session(world, way)
        refused = 0
        with pytest.raises((Gone, ConnectionError)):
            for _ in range(100):
                await peer.send("40/random")
                assert str(await peer.packet()).startswith("44/random")
                refused += 1
        assert 1 < refused < 50
        await until(lambda: not world.sessions())


async def test_sockets_without_a_connect_are_bounded_and_the_next_are_told_to_wait() -> None:
    async with strict(max_unauthenticated=2, connect_timeout=60.0) as world:
        first = await Polling.open(world)
        second = await Socket.open(world)
        answer = await ask(world, "GET", target(SOCKET, "polling"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        with pytest.raises(Refused) as refused:
            await Socket.open(world)
        assert refused.value.answer.status == 503
        await connect(first)
        third = await Polling.open(world)  # one has connected: there is room again
        await second.close()
        await until(lambda: len(world.sessions()) == 2)
        await Polling.open(world)
        await connect(third)


async def test_sockets_without_a_connect_are_bounded_for_each_address() -> None:
    async with strict(
        max_unauthenticated_per_address=2,
        address_of=lambda request: request.headers.get("X-Client", "nobody"),
        ping_interval=60.0,
    ) as world:

        async def knock(client: str) -> int:
            headers = {"X-Client": client}
            return (await ask(world, "GET", target(SOCKET, "polling"), **headers)).status

        assert [await knock("one") for _ in range(3)] == [200, 200, 503]
        assert [await knock("two") for _ in range(3)] == [200, 200, 503]


async def test_a_server_that_accepts_nobody_new_serves_those_it_has(calm: World) -> None:
    peer = await connected(calm)
    calm.transport.accepting = False
    assert (await ask(calm, "GET", target(SOCKET, "polling"))).status == 503
    await peer.send('42["message","still here"]')
    assert await peer.packet() == '42["message-back","still here"]'
