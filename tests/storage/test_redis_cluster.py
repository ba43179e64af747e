"""Rooms spread over the nodes of a real Redis Cluster, while nodes die and slots move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.crc import key_slot

from chatlab.errors import SettingsError, Unavailable
from tests.storage.nodes import some_prefix
from tests.storage.redis_servers import NODE_TIMEOUT_MS, RedisCluster, follows, is_master, run
from tests.storage.rooms import Rooms, seqs
from tests.waiting import PATIENCE_S, until, wait_until

pytestmark = pytest.mark.timeout(60)

AWKWARD = ["a}b{c", "{}", "}{", "{general}", "ñandú 🐦", "a b/c?d%7D", "x" * 128]


@pytest.fixture(scope="module")
def hasty_cluster() -> Iterator[RedisCluster]:
    """Its nodes take one that is silent for half a second for dead."""
    cluster = RedisCluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(hasty_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """Its nodes do not take a pause of the machine for death."""
    hasty_cluster.configure("cluster-node-timeout", int(PATIENCE_S * 1_000))
    yield hasty_cluster
    hasty_cluster.configure("cluster-node-timeout", NODE_TIMEOUT_MS)


class Server(Rooms):
    """A server's log in the cluster, and the rooms that it was told have got another history."""

    def __init__(self, cluster: RedisCluster, prefix: str, stalled_after: float) -> None:
        self.renewed: list[str] = []
        address = f"{cluster.url}?prefix={prefix}"
        super().__init__("redis", address, stalled_after=stalled_after, clock=None)
        self.log.renewed = self.renewed.append

    async def follow(self, rooms: list[str]) -> None:
        for room in rooms:
            await self.log.follow(room)

    def slot(self, room: str) -> int:
        return key_slot(self.log.names.log(room).encode())


@asynccontextmanager
async def two_servers(
    cluster: RedisCluster, *, stalled_after: float = PATIENCE_S
) -> AsyncIterator[tuple[Server, Server]]:
    prefix = some_prefix()
    async with (
        Server(cluster, prefix, stalled_after) as one,
        Server(cluster, prefix, stalled_after) as two,
    ):
        yield one, two


class Load:
    """Sends to rooms from servers, each message with the same key until it is stored."""

    def __init__(
        self,
        servers: tuple[Server, ...],
        rooms: list[str],
        name: str = "",
        *,
        acked: dict[str, list[str]] | None = None,
    ) -> None:
        self.servers, self.rooms, self.name = servers, rooms, name
        self.acked = acked if acked is not None else {room: [] for room in rooms}
        self.refused = 0
        self._stop = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._send(server, room)) for server in servers for room in rooms
        ]

    async def _send(self, server: Server, room: str) -> None:
        number = 0
        while not self._stop.is_set():
            text = f"{self.name}.{self.servers.index(server)}.{number}"
            try:
                await server.send(text, room=room, key=text)
            except Unavailable:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            self.acked[room].append(text)
            number += 1
            await asyncio.sleep(0.002)

    async def more(self, count: int = 20) -> None:
        """Returns when every room has got so many more."""
        goals = {room: len(acked) + count for room, acked in self.acked.items()}
        await until(lambda: all(len(self.acked[room]) >= goals[room] for room in self.rooms))

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def verdict(self) -> None:
        """Stored once each what was acked, and every server was shown that in the same order."""
        for room in self.rooms:
            stored = await self.servers[0].everything(room)
            texts = [message.text for message in stored]
            assert seqs(stored) == list(range(1, len(stored) + 1))
            assert len(set(texts)) == len(texts)
            assert set(self.acked[room]) == set(texts)
            for server in self.servers:
                fed = server.fed[room]
                await until(lambda fed=fed, stored=stored: len(fed) >= len(stored))
                assert [delivery.message.text for delivery in fed] == texts


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def spread(server: Server, cluster: RedisCluster, each: int = 2) -> list[str]:
    """Rooms, so many on each master."""
    rooms: dict[int, list[str]] = {}
    for number in range(1_000):
        room = f"room {number}}}{{"
        rooms.setdefault(cluster.owner(server.slot(room)).port, []).append(room)
        if len(rooms) == 3 and all(len(some) >= each for some in rooms.values()):
            break
    return [room for some in rooms.values() for room in some[:each]]


# --- rooms on all nodes ------------------------------------------------------------------------


async def test_rooms_of_any_name_on_any_node_are_stored_heard_and_read(cluster):
    async with two_servers(cluster) as (one, two):
        rooms = AWKWARD + spread(one, cluster)
        await two.follow(rooms)
        for room in rooms:
            for number in range(3):
                await one.send(f"{room} {number}", room=room)
        for room in rooms:
            await until(lambda room=room: len(two.fed[room]) == 3)
            texts = [f"{room} {number}" for number in range(3)]
            assert [one.message.text for one in two.fed[room]] == texts
            assert [m.text for m in (await two.join(room)).messages] == texts
        ports = {cluster.owner(one.slot(room)).port for room in rooms}
        assert len(ports) == 3


async def test_a_room_is_only_heard_from_the_node_that_has_it(cluster):
    async with two_servers(cluster) as (one, two):
        rooms = spread(one, cluster)
        await two.follow(rooms)
        for node in two.log.nodes.all():
            owned = [r for r in rooms if f":{cluster.owner(two.slot(r)).port}" in node.name]
            assert node.ears.subscribed == [two.log.names.feed(room) for room in owned]
            for room in owned:
                await one.send(room=room)
                await until(lambda room=room: bool(two.fed[room]))
            assert node.ears.heard == len(owned)


async def test_one_address_is_enough_to_find_all_nodes(cluster):
    for node in cluster.nodes:
        only = f"redis+cluster://127.0.0.1:{node.port}?prefix={some_prefix()}"
        async with Rooms("redis", only, clock=None) as rooms:
            assert len(list(rooms.log.nodes.all())) == 3


async def test_a_cluster_that_does_not_answer_is_named_with_a_reason():
    rooms = Rooms("redis", "redis+cluster://alice:secret@127.0.0.1:1", clock=None)
    with pytest.raises(SettingsError, match="Connect call failed") as refused:
        await rooms.log.nodes.open(patience=0.3)
    assert "redis+cluster://127.0.0.1:1 " in str(refused.value)
    assert "secret" not in str(refused.value)


# --- slots that move ---------------------------------------------------------------------------


async def migrate(cluster: RedisCluster, slot: int, *, at_once: bool) -> None:
    """Move a slot to the next master, under the hands of those who use it."""
    source = cluster.owner(slot)
    others = [one for one in cluster.nodes if is_master(one) and one != source]
    target = others[0]
    if at_once:  # atomic, as Valkey 9 does it
        run(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.id(target))
        await in_thread(lambda: wait_until(lambda: cluster.owner(slot) is target))
        return
    run(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id(source))
    run(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id(target))
    while keys := run(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        run(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        await asyncio.sleep(0.02)  # others find the slot torn
    for node in (target, source, *others):
        run(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id(target))
    await in_thread(lambda: wait_until(cluster.well))


@pytest.mark.parametrize("at_once", [True, False], ids=["atomically", "key by key"])
async def test_a_slot_moves_under_load_and_nothing_is_lost_doubled_or_reordered(cluster, at_once):
    async with two_servers(cluster) as (one, two):
        rooms = spread(one, cluster, each=1)
        for server in (one, two):
            await server.follow(rooms)
        load = Load((one, two), rooms)
        await load.more()
        slot = one.slot(rooms[0])
        for _ in range(2):  # there, and on
            await migrate(cluster, slot, at_once=at_once)
            await load.more()
        await load.stop()
        await load.verdict()
        assert one.renewed == two.renewed == []
        assert load.refused == 0


async def test_what_is_published_while_a_channel_changes_its_node_is_read_from_the_stream(cluster):
    async with two_servers(cluster) as (one, two):
        (room, *_) = spread(one, cluster, each=1)
        await two.follow([room])
        await one.send("before", room=room)
        await until(lambda: len(two.fed[room]) == 1)
        await migrate(cluster, one.slot(room), at_once=True)
        await one.send("after", room=room)
        await asyncio.wait_for(until(lambda: len(two.fed[room]) == 2), 5.0)


async def test_a_room_that_is_entered_when_its_slot_has_just_moved_is_heard(cluster):
    async with two_servers(cluster) as (one, two):
        (room, *_) = spread(one, cluster, each=1)
        await migrate(cluster, one.slot(room), at_once=True)
        await two.follow([room])  # on the node that had it, as far as is known
        await one.send("hello", room=room)
        await asyncio.wait_for(until(lambda: len(two.fed[room]) == 1), 5.0)
        home = two.log.nodes.of(two.log.names.feed(room))
        assert home.name.endswith(f":{cluster.owner(one.slot(room)).port}")


# --- nodes that die ----------------------------------------------------------------------------


async def test_a_master_dies_its_replica_takes_over_and_its_rooms_go_on(hasty_cluster):
    cluster = hasty_cluster
    async with two_servers(cluster) as (one, two):
        rooms = spread(one, cluster)
        for server in (one, two):
            await server.follow(rooms)
        before = Load((one, two), rooms, "before")
        await before.more()
        await before.stop()
        master, replica = await in_thread(cluster.pair)
        assert {cluster.owner(one.slot(room)) for room in rooms} >= {master}
        master.kill()
        after = Load((one, two), rooms, "after", acked=before.acked)
        await until(lambda: not one.log.nodes.up and not two.log.nodes.up)
        await in_thread(lambda: wait_until(lambda: is_master(replica)))
        await until(lambda: one.log.nodes.up and two.log.nodes.up)
        await after.more()
        await after.stop()
        await after.verdict()
        assert one.renewed == two.renewed == []


async def test_acked_messages_that_a_promoted_replica_does_not_have_are_reported_lost(
    hasty_cluster,
):
    cluster = hasty_cluster
    async with two_servers(cluster) as (one, two):
        master, replica = await in_thread(cluster.pair)
        room = next(
            room for room in spread(one, cluster, each=1) if cluster.owner(one.slot(room)) == master
        )
        await one.follow([room])
        await two.follow([room])
        await one.send("replicated", room=room)
        await in_thread(lambda: wait_until(lambda: follows(replica, master)))
        replica.freeze()
        run(master, "CLIENT", "KILL", "TYPE", "replica")
        await one.send("not replicated", room=room)
        await until(lambda: len(two.fed[room]) == 2)
        master.kill()
        replica.thaw()
        await until(lambda: one.renewed == [room] and two.renewed == [room])
        await until(lambda: one.log.nodes.up)
        assert (await one.send("in the new epoch", room=room)).message.seq == 2
        await until(lambda: two.fed[room][-1].message.text == "in the new epoch")


async def test_a_master_that_hands_over_while_it_is_alive_is_left_at_once(hasty_cluster):
    cluster = hasty_cluster
    async with two_servers(cluster) as (one, two):
        master, replica = await in_thread(cluster.pair)
        rooms = spread(one, cluster)
        for server in (one, two):
            await server.follow(rooms)
        load = Load((one, two), rooms)
        await load.more()
        run(replica, "CLUSTER", "FAILOVER")
        await in_thread(lambda: wait_until(lambda: is_master(replica)))
        await load.more()
        await load.stop()
        await load.verdict()
        assert one.renewed == two.renewed == []
        for server in (one, two):
            names = [node.name for node in server.log.nodes.all()]
            assert f"127.0.0.1:{replica.port}" in names
            assert f"127.0.0.1:{master.port}" not in names


async def test_while_one_master_is_away_the_rooms_of_others_are_unavailable_or_served(
    hasty_cluster,
):
    cluster = hasty_cluster
    async with two_servers(cluster, stalled_after=0.5) as (one, _):
        rooms = spread(one, cluster, each=1)
        master, _ = await in_thread(cluster.pair)
        dead = [room for room in rooms if cluster.owner(one.slot(room)) == master]
        await one.follow(rooms)
        master.freeze()
        loop = asyncio.get_running_loop()
        for room in rooms:
            began = loop.time()
            try:
                await one.send(room=room)
            except Unavailable:
                assert loop.time() - began < 10.0
            else:
                assert room not in dead
        await until(lambda: one.log.nodes.up)  # the replica has taken over
        master.thaw()
        for room in rooms:
            await one.send(room=room)
