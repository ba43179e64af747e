"""Presence, users, events and buckets spread over the nodes of a real Redis Cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.settings import Rate
from chatlab.storage.base import User
from chatlab.storage.redis_buckets import RedisBuckets
from chatlab.storage.redis_events import RedisEvents
from chatlab.storage.redis_presence import RedisPresence
from chatlab.storage.redis_users import RedisDirectory, UserStore
from tests.storage.nodes import Server, connected, some_prefix
from tests.storage.redis_servers import RedisCluster
from tests.waiting import until

ROOMS = [f"room {number}" for number in range(12)] + ["a}b{c", "{}", "ñandú"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.stop()


class One:
    """What one server keeps in the cluster beside the log, and what it was told."""

    def __init__(self, server: Server) -> None:
        self.nodes = server.nodes
        self.presence = RedisPresence(server.nodes, server.names, ttl=30.0)
        self.users = RedisDirectory(server.nodes, server.names)
        self.events = RedisEvents(server.nodes, server.names)
        self.buckets = RedisBuckets(server.nodes, server.names, Rate(0.001, 10))
        self.changes = 0
        self.heard: list[str] = []
        self.left: list[tuple[str, str]] = []
        self.users.changed = self._changed
        self.events.heard = lambda room, _message: self.heard.append(room)
        self.presence.changed = self._presence_changed
        server.on_back(self._back)

    def _back(self) -> None:
        self.users.back()
        self.presence.back()

    def _changed(self) -> None:
        self.changes += 1

    def _presence_changed(self, room: str, user: str, *, here: bool) -> None:
        if not here:
            self.left.append((room, user))


@pytest.fixture
async def pair(cluster) -> AsyncIterator[tuple[One, One]]:
    prefix, url = some_prefix(), cluster.url
    async with contextlib.AsyncExitStack() as stack:
        both = []
        for _ in range(2):
            both.append(One(await stack.enter_async_context(connected(url, prefix))))
            stack.push_async_callback(both[-1].presence.close)
        yield both[0], both[1]


async def enter_everything(one: One, user: str) -> None:
    await asyncio.gather(*(one.presence.enter(room, user) for room in ROOMS))
    await asyncio.gather(*(one.events.follow(room) for room in ROOMS))


async def everybody(one: One) -> set[str]:
    seen = [await one.presence.who(room, 10) for room in ROOMS]
    return {" ".join(sorted(users)) for users, _ in seen}


async def test_everything_finds_its_node(pair):
    one, two = pair
    await enter_everything(one, "alice")
    await enter_everything(two, "bob")
    assert await everybody(one) == {"alice bob"}
    for room in ROOMS:
        one.events.publish(room, b"x")
    await until(lambda: sorted(two.heard) == sorted(ROOMS))
    assert one.heard == []
    await until(lambda: two.changes > 0)
    before = two.changes
    await one.users.put(User("bob", "Bob", banned=True))
    await until(lambda: two.changes > before)
    assert await two.users.banned(["alice", "bob"]) == {"bob"}
    for user in ROOMS:
        assert (await one.buckets.take(user, 20))[0] == 10
        assert (await two.buckets.take(user, 20))[0] == 0
    await one.presence.close()
    assert await everybody(two) == {"bob"}


async def test_the_command_line_reaches_the_users_of_a_cluster(cluster):
    with UserStore(f"{cluster.url}?prefix={some_prefix()}") as users:
        users.put(User("bob", "Bob"))
        assert users.set_banned("bob", True) == User("bob", "Bob", banned=True)
        assert users.list() == [User("bob", "Bob", banned=True)]


async def test_a_master_that_dies_takes_nobody_out_of_a_room(pair, cluster):
    one, two = pair
    await enter_everything(one, "alice")
    await enter_everything(two, "bob")
    await one.users.put(User("bob", "Bob"))
    master, _ = await asyncio.to_thread(cluster.pair)
    master.kill()
    await until(lambda: not one.nodes.up and not two.nodes.up)
    one.presence.leave(ROOMS[0], "alice")
    await until(lambda: one.nodes.up and two.nodes.up)
    one.changes = two.changes = 0
    await until(lambda: (ROOMS[0], "alice") in one.left)
    await asyncio.gather(one.presence.enter(ROOMS[0], "alice"))
    assert await everybody(two) == {"alice bob"}
    assert one.left + two.left == [(ROOMS[0], "alice")]
    one.heard.clear()
    for room in ROOMS:
        two.events.publish(room, b"x")
    await until(lambda: sorted(one.heard) == sorted(ROOMS))
    await two.users.put(User("bob", "Bob", banned=True))
    await until(lambda: one.changes > 0 and two.changes > 0)
    assert await one.users.banned(["bob"]) == {"bob"}
    assert one.changes < 10  # and nobody calls for ever that something has changed
