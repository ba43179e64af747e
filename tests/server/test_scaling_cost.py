"""What a server reads from Redis grows with its own rooms, not with the cluster: counted."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest
import redis.asyncio
import socketio

from chatlab.lab import valkey
from tests.server.peer import Running, running
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)

ROOMS = 8
MESSAGES = 5  # in each room


@pytest.fixture(scope="module")
def address():
    with valkey(name="cost tests", persist=False) as store:
        yield store.url


async def heard_by_each(address: str, servers: int, *, hosts_of_a_room: int) -> list[int]:
    """How many published messages each server parsed, while every room got its messages."""
    async with AsyncExitStack() as stack:
        where = f"{address}?prefix={secrets.token_hex(6)}"
        found: list[Running] = [
            await stack.enter_async_context(running(storage=where)) for _ in range(servers)
        ]
        members = []
        for room in range(ROOMS):
            for offset in range(hosts_of_a_room):
                peer = await found[(room + offset) % servers].connect(f"user-{room}-{offset}")
                await peer.join(f"room-{room}")
                members.append((peer, f"room-{room}"))
        for server in found:
            await settled(server)
        before = [heard(server) for server in found]
        for _ in range(MESSAGES):
            senders = members[::hosts_of_a_room]
            await asyncio.gather(*[peer.say("hello", room) for peer, room in senders])
        expected = ROOMS * MESSAGES * hosts_of_a_room
        await until(
            lambda: sum(heard(s) - b for s, b in zip(found, before, strict=True)) >= expected
        )
        return [heard(server) - first for server, first in zip(found, before, strict=True)]


def heard(server: Running) -> int:
    return sum(node.ears.heard for node in server.server.log.nodes.all())


async def settled(server: Running) -> None:
    """Wait until nothing is on its way any more: what Redis was told of joins has come back."""
    (node,) = server.server.log.nodes.all()
    last = -1
    while last != node.ears.heard:
        last = node.ears.heard
        marker = asyncio.get_running_loop().create_future()
        channel = f"marker-{secrets.token_hex(4)}"
        await server.server.log.nodes.subscribe(
            channel, lambda _message, marker=marker: marker.done() or marker.set_result(None)
        )
        server.server.log.nodes.publish(channel, b"")
        await marker
        server.server.log.nodes.unsubscribe(channel)
        last += 1


@pytest.mark.parametrize("servers", [1, 2, 4, 8])
async def test_with_rooms_spread_over_servers_each_parses_its_share(address, servers):
    counts = await heard_by_each(address, servers, hosts_of_a_room=1)
    assert counts == [ROOMS * MESSAGES // servers] * servers


async def test_with_every_room_on_every_server_each_parses_everything(address):
    counts = await heard_by_each(address, 4, hosts_of_a_room=4)
    assert counts == [ROOMS * MESSAGES] * 4


class Counting(socketio.AsyncRedisManager):
    """python-socketio's manager as it is, with a count of what it is given to parse."""

    def __init__(self, url: str, channel: str) -> None:
        super().__init__(url, channel=channel)
        self.parsed = 0

    async def _listen(self):
        async for message in super()._listen():
            self.parsed += 1
            yield message


@pytest.mark.parametrize("servers", [1, 2, 4, 8])
async def test_with_the_stock_manager_every_server_parses_everything(address, servers):
    channel = secrets.token_hex(6)
    managers = [Counting(address, channel) for _ in range(servers)]
    found = [socketio.AsyncServer(client_manager=one, async_mode="aiohttp") for one in managers]
    try:
        for one in managers:
            one.initialize()
        await all_listen(address, channel, servers)
        before = [one.parsed for one in managers]
        for _ in range(MESSAGES):
            for room in range(ROOMS):
                await found[room % servers].emit("new-message", {}, room=f"room-{room}")
        await until(
            lambda: all(
                one.parsed - b >= ROOMS * MESSAGES for one, b in zip(managers, before, strict=True)
            )
        )
        assert [one.parsed - b for one, b in zip(managers, before, strict=True)] == [
            ROOMS * MESSAGES
        ] * servers
    finally:
        for one in managers:
            one.thread.cancel()
        await asyncio.gather(*[one.thread for one in managers], return_exceptions=True)
        for one in managers:
            await one.pubsub.aclose()
            await one.redis.aclose()


async def all_listen(address: str, channel: str, servers: int) -> None:
    """Wait until Redis knows them: a stock manager does not say when it is subscribed."""
    async with redis.asyncio.from_url(address) as client:
        while dict(await client.pubsub_numsub(channel))[channel.encode()] < servers:
            await asyncio.sleep(0.005)
