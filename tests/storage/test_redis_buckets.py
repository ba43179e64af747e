"""Token buckets that all servers share: exact, by Redis's clock, and gone when they are full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import InvalidPayload, Unavailable
from chatlab.lab import valkey
from chatlab.settings import Rate
from chatlab.storage.redis_buckets import RedisBuckets
from tests.storage.nodes import Server, connected, some_prefix
from tests.storage.rooms import Clock
from tests.waiting import until

RATE = Rate(20.0, 40)


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(name="valkey-buckets")
    yield store
    store.stop()


@pytest.fixture
async def server(store) -> AsyncIterator[Server]:
    async with connected(store.url, some_prefix()) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buckets(server, clock) -> RedisBuckets:
    return RedisBuckets(server.nodes, server.names, RATE, clock=clock)


async def test_a_new_bucket_holds_the_burst_and_refills_at_the_rate(buckets, clock):
    assert await buckets.take("alice", 30) == (30, 0.0)
    assert await buckets.take("alice", 30) == (10, pytest.approx(0.05))
    assert await buckets.take("alice", 1) == (0, pytest.approx(0.05))
    clock.now += 0.03
    assert await buckets.take("alice", 1) == (0, pytest.approx(0.02, abs=1e-5))
    clock.now += 0.03
    assert await buckets.take("alice", 1) == (1, 0.0)
    clock.now += 0.5
    assert (await buckets.take("alice", 40))[0] == 10
    clock.now += 3600
    assert (await buckets.take("alice", 100))[0] == 40


async def test_each_user_has_a_bucket_of_their_own(buckets):
    for user in ("alice", "bob", "}{", "nul\0", "ünïcødé", ""):
        assert await buckets.take(user, 40) == (40, 0.0)
    with pytest.raises(InvalidPayload):
        await buckets.take("\ud800", 1)


async def test_a_clock_that_steps_back_gives_and_takes_nothing(buckets, clock):
    await buckets.take("alice", 40)
    clock.now -= 3600
    assert (await buckets.take("alice", 1))[0] == 0
    clock.now += 0.05
    assert (await buckets.take("alice", 1))[0] == 1


async def test_any_number_of_servers_at_once_get_the_burst_and_no_more(store):
    rate, prefix = Rate(0.001, 10), some_prefix()
    async with connected(store.url, prefix) as one, connected(store.url, prefix) as other:
        both = [RedisBuckets(each.nodes, each.names, rate) for each in (one, other)]
        got = await asyncio.gather(*(both[at % 2].take("alice", 1) for at in range(200)))
        assert sum(taken for taken, _ in got) == 10
        assert all(900 < wait <= 1000 for taken, wait in got if not taken)


async def test_the_key_goes_when_the_bucket_is_full_again(server):
    buckets = RedisBuckets(server.nodes, server.names, Rate(100.0, 5))
    key = server.names.bucket("alice")
    assert await buckets.take("alice", 5) == (5, 0.0)
    assert 0 < await server.nodes.command(key, "PTTL", key) <= 50

    async def gone() -> bool:
        return not await server.nodes.command(key, "EXISTS", key)

    await until(gone)
    assert await buckets.take("alice", 5) == (5, 0.0)


async def test_caps_raised_for_a_benchmark_never_trip(server):
    buckets = RedisBuckets(server.nodes, server.names, Rate(1e9, 10**9))
    for _ in range(3):
        assert await buckets.take("alice", 10_000) == (10_000, 0.0)


async def test_a_redis_that_is_away_is_unavailable():
    store = valkey(persist=False, name="valkey-buckets-away")
    try:
        async with connected(store.url, "t") as server:
            buckets = RedisBuckets(server.nodes, server.names, RATE)
            store.kill()
            with pytest.raises(Unavailable):
                await buckets.take("alice", 1)
    finally:
        store.stop()
