"""What is published in a room reaches the other servers that follow it, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import Unavailable
from chatlab.lab import valkey
from chatlab.storage.redis_events import RedisEvents
from tests.storage.nodes import Server, connected, some_prefix
from tests.waiting import until


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(name="valkey-events")
    yield store
    store.stop()


class Ears(RedisEvents):
    """The events of one server, and what it heard."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.nodes, server.names)
        self.nodes = server.nodes
        self.record: list[tuple[str, bytes]] = []
        self.heard = lambda room, message: self.record.append((room, message))


@pytest.fixture
async def pair(store) -> AsyncIterator[tuple[Ears, Ears]]:
    prefix = some_prefix()
    async with connected(store.url, prefix) as one, connected(store.url, prefix) as other:
        yield Ears(one), Ears(other)


async def test_another_server_hears_and_oneself_does_not(pair):
    here, there = pair
    await here.follow("general")
    await there.follow("general")
    here.publish("general", b"typing")
    there.publish("general", b"and back")
    await until(lambda: bool(here.record and there.record))
    assert there.record == [("general", b"typing")]
    assert here.record == [("general", b"and back")]


async def test_what_is_published_once_following_is_confirmed_is_never_missed(pair):
    here, there = pair
    rooms = [f"room {number}" for number in range(100)]
    for room in rooms:
        await there.follow(room)
        here.publish(room, b"first")
    await until(lambda: len(there.record) == len(rooms))
    assert [room for room, _ in there.record] == rooms


async def test_only_rooms_that_are_followed_are_heard(pair):
    here, there = pair
    await there.follow("a")
    await there.follow("b")
    there.unfollow("a")
    await there.follow("a}{")
    for room in ("a", "other", "a}{", "b"):
        here.publish(room, room.encode())
    await until(lambda: len(there.record) == 2)
    assert there.record == [("a}{", b"a}{"), ("b", b"b")]
    assert len(there) == 2


async def test_following_twice_is_following_once(pair):
    here, there = pair
    await asyncio.gather(*(there.follow("general") for _ in range(5)))
    here.publish("general", b"once")
    here.publish("general", b"end")
    await until(lambda: (len(there.record)) >= 2)
    assert there.record == [("general", b"once"), ("general", b"end")]
    there.unfollow("general")
    there.unfollow("general")
    assert len(there) == 0


async def test_any_bytes_arrive_as_they_are_and_an_empty_message_too(pair):
    here, there = pair
    await there.follow("general")
    here.publish("general", b"\0\xff" * 50)
    here.publish("general", b"")
    await until(lambda: len(there.record) == 2)
    assert [message for _, message in there.record] == [b"\0\xff" * 50, b""]


async def test_a_message_too_short_to_be_one_is_dropped(pair):
    here, there = pair
    await there.follow("general")
    channel = there._names.events("general")
    here.nodes.publish(channel, b"junk")
    here.publish("general", b"end")
    await until(lambda: bool(there.record))
    assert there.record == [("general", b"end")]


async def test_a_room_that_utf8_cannot_hold_is_refused_and_harms_nobody(pair):
    here, there = pair
    with pytest.raises(Unavailable):
        await there.follow("\ud800")
    here.publish("\ud800", b"x")
    await there.follow("general")
    here.publish("general", b"still here")
    await until(lambda: bool(there.record))


async def test_unfollowing_ends_a_wait_for_confirmation(pair):
    _, there = pair
    waiting = asyncio.ensure_future(there.follow("general"))
    await asyncio.sleep(0)
    there.unfollow("general")
    with pytest.raises(Unavailable):
        await waiting


async def test_rooms_are_heard_again_after_an_outage_and_what_was_said_in_it_is_gone():
    store = valkey(name="valkey-events-away")
    try:
        async with connected(store.url, "t") as one, connected(store.url, "t") as other:
            here, there = Ears(one), Ears(other)
            await there.follow("general")
            store.kill()
            await until(lambda: not one.nodes.up and not other.nodes.up)
            here.publish("general", b"lost")
            with pytest.raises(Unavailable):
                await there.follow("new")
            assert len(there) == 1
            store.restart()
            await until(lambda: one.nodes.up and other.nodes.up)
            here.publish("general", b"heard")
            await until(lambda: bool(there.record))
            assert there.record == [("general", b"heard")]
    finally:
        store.stop()
