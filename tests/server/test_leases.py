"""One user's rate over several servers: leased tokens, in order, and what happens without Redis."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import RateLimited
from chatlab.lab import valkey
from chatlab.server import leases
from chatlab.server.leases import LeasedBuckets
from chatlab.settings import Rate
from chatlab.storage.redis_buckets import RedisBuckets
from tests.storage.nodes import Server, connected, some_prefix
from tests.waiting import PATIENCE_S, until

RATE = Rate(20.0, 40)
STANDING = Rate(0.001, 40)
"""Nothing flows in while a test looks."""


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(persist=False, name="valkey-leases")
    yield store
    store.stop()


@pytest.fixture(autouse=True)
def no_pause_is_an_outage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Redis is not broken on purpose, a busy machine must not look as if it were."""
    if "broken" not in request.fixturenames:
        monkeypatch.setattr(leases, "SILENCE", PATIENCE_S)


class Counted(RedisBuckets):
    """The shared buckets, what was asked of them, and a gate that holds the answers back."""

    def __init__(self, server: Server, rate: Rate) -> None:
        super().__init__(server.nodes, server.names, rate)
        self.asked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, user: str, wanted: int) -> tuple[int, float]:
        self.asked.append(wanted)
        await self.gate.wait()
        return await super().take(user, wanted)


class One(LeasedBuckets):
    """One server's leases."""

    def __init__(self, server: Server, rate: Rate) -> None:
        self.shared = Counted(server, rate)
        super().__init__(self.shared, rate)

    def try_to_spend(self, user: str = "alice") -> Future[None] | RateLimited | None:
        try:
            return self.spend(user, asyncio.get_running_loop().time())
        except RateLimited as error:
            return error

    async def admitted(self, count: int, user: str = "alice") -> list[bool]:
        """Whether each of so many events, sent at once, was admitted."""
        asked = [self.try_to_spend(user) for _ in range(count)]
        waiting = [one for one in asked if isinstance(one, asyncio.Future)]
        await asyncio.gather(*waiting, return_exceptions=True)
        return [
            one is None or (isinstance(one, asyncio.Future) and one.exception() is None)
            for one in asked
        ]

    def held(self, user: str = "alice") -> int:
        return self._leases[user].tokens if user in self._leases else 0

    async def settled(self) -> None:
        await until(lambda: not self._tasks)


@pytest.fixture
async def server(store) -> AsyncIterator[Server]:
    async with connected(store.url, some_prefix(), stalled_after=PATIENCE_S) as server:
        yield server


async def test_the_first_event_waits_for_a_lease_and_the_next_ones_do_not(server):
    one = One(server, STANDING)
    first = one.try_to_spend()
    assert isinstance(first, asyncio.Future)
    assert await first is None
    assert [one.try_to_spend() for _ in range(9)] == [None] * 9
    assert one.shared.asked == [10]
    await one.close()


async def test_a_lease_is_renewed_before_it_is_spent(server):
    one = One(server, STANDING)
    await one.try_to_spend()
    for _ in range(30):
        assert one.try_to_spend() is None
        await one.settled()
    assert len(one.shared.asked) <= 6


async def test_a_burst_gets_the_bucket_and_the_rest_is_told_when_to_come_back(server):
    one = One(server, STANDING)
    assert await one.admitted(60) == [True] * 40 + [False] * 20
    refused = one.try_to_spend()
    assert isinstance(refused, RateLimited)
    assert 900 < refused.retry_after <= 1000
    asked = len(one.shared.asked)
    assert await one.admitted(50) == [False] * 50
    assert len(one.shared.asked) == asked  # it is known that there are none: nobody is asked


async def test_events_of_a_user_are_admitted_in_the_order_in_which_they_came(server):
    one = One(server, STANDING)
    one.shared.gate.clear()
    order: list[int] = []
    for number in range(25):
        future = one.try_to_spend()
        future.add_done_callback(lambda _, number=number: order.append(number))
        if number == 4:
            await asyncio.sleep(0)  # the lease has been asked for; the others come behind it
    one.shared.gate.set()
    await until(lambda: len(order) == 25)
    assert order == list(range(25))
    assert one.shared.asked == [10, 15]


async def test_somebody_who_stopped_waiting_costs_no_token(server):
    one = One(server, STANDING)
    one.shared.gate.clear()
    waiting = [one.try_to_spend() for _ in range(3)]
    waiting[1].cancel()
    one.shared.gate.set()
    await waiting[2]
    assert one.held() == 8


async def test_users_do_not_share_a_bucket(server):
    one = One(server, STANDING)
    assert await one.admitted(41, "alice") == [True] * 40 + [False]
    assert await one.admitted(41, "bob") == [True] * 40 + [False]


async def test_two_servers_share_the_bucket(store):
    prefix = some_prefix()
    async with (
        connected(store.url, prefix, stalled_after=PATIENCE_S) as a,
        connected(store.url, prefix, stalled_after=PATIENCE_S) as b,
    ):
        one, other = One(a, STANDING), One(b, STANDING)
        got = await asyncio.gather(one.admitted(40), other.admitted(40))
        await one.settled()
        await other.settled()
        assert 40 - 20 <= sum(map(sum, got)) <= 40
        assert sum(map(sum, got)) + one.held() + other.held() == 40


async def test_who_was_idle_gets_ahead_by_one_lease_a_server_at_most(store):
    rate, prefix = Rate(100.0, 40), some_prefix()
    async with (
        connected(store.url, prefix, stalled_after=PATIENCE_S) as a,
        connected(store.url, prefix, stalled_after=PATIENCE_S) as b,
    ):
        servers = [One(a, rate), One(b, rate)]
        for one in servers:
            await one.admitted(1)
            await one.settled()
            assert one.held() <= 10
        key = a.names.bucket("alice")

        async def full() -> bool:
            return not await a.nodes.command(key, "EXISTS", key)

        await until(full)
        started = asyncio.get_running_loop().time()
        got = await asyncio.gather(*(one.admitted(100) for one in servers))
        elapsed = asyncio.get_running_loop().time() - started
        assert sum(map(sum, got)) <= 40 + 2 * 10 + elapsed * rate.per_second + 1


async def test_over_time_the_rate_is_what_flows_in(server):
    rate = Rate(200.0, 20)
    one = One(server, rate)
    loop = asyncio.get_running_loop()
    started, admitted = loop.time(), 0
    while loop.time() - started < 0.5:
        asked = one.try_to_spend()
        if isinstance(asked, asyncio.Future):
            admitted += (await asyncio.gather(asked, return_exceptions=True)) == [None]
        else:
            admitted += asked is None
        await asyncio.sleep(0)
    elapsed = loop.time() - started
    assert 20 < admitted <= 20 + elapsed * rate.per_second + 1
    await one.close()


async def test_users_with_nothing_to_remember_are_forgotten(server):
    one = One(server, Rate(1.0, 40))
    one.SWEEP_EVERY = one._sweep_at = 50
    for number in range(200):
        await one.admitted(1, f"user{number}")
    now = asyncio.get_running_loop().time()
    one.sweep(now)
    assert len(one) == 200
    one.sweep(now + 40.1)
    assert len(one) == 0
    one.shared.gate.clear()
    waiting = one.try_to_spend()
    one.sweep(now + 3600)
    assert len(one) == 1
    one.shared.gate.set()
    await waiting


async def test_a_lease_larger_than_the_bucket_is_cut_to_it(server):
    one = One(server, Rate(0.001, 3))
    assert await one.admitted(5) == [True] * 3 + [False] * 2


async def test_closing_ends_every_wait(server):
    one = One(server, STANDING)
    one.shared.gate.clear()
    waiting = [one.try_to_spend() for _ in range(3)]
    await asyncio.sleep(0)
    await one.close()
    assert all(future.done() for future in waiting)
    assert not one._tasks


# --- without Redis -----------------------------------------------------------------------------


@pytest.fixture
def broken() -> Iterator[object]:
    store = valkey(persist=False, name="valkey-leases-away")
    yield store
    store.stop()


async def test_without_redis_the_same_rate_holds_on_each_server_and_it_says_so(broken):
    async with connected(broken.url, "t") as server:
        one = One(server, STANDING)
        broken.kill()
        await until(lambda: not server.nodes.up)
        assert not one.local
        assert await one.admitted(45) == [True] * 40 + [False] * 5
        assert one.local
        assert isinstance(one.try_to_spend(), RateLimited)
        broken.restart()
        await until(lambda: server.nodes.up)

        def answered() -> bool:
            one.try_to_spend()
            return not one.local

        await until(answered)
        await one.settled()
        assert one.held() > 0
        await one.close()


async def test_a_redis_that_is_silent_holds_an_event_up_for_a_quarter_of_a_second(broken):
    async with connected(broken.url, "t", stalled_after=5.0) as server:
        one = One(server, STANDING)
        broken.freeze()
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await one.admitted(3) == [True] * 3
        assert 0.2 < loop.time() - started < 4.0  # and not for as long as Redis is waited for
        assert one.local
        assert [one.try_to_spend() for _ in range(3)] == [None] * 3  # nobody waits for it again
        one.back()  # another node of a cluster, say
        assert await one.admitted(3) == [True] * 3
        assert loop.time() - started < 4.0
        assert one.local
        broken.thaw()
        one.back()
        assert not one.local
        assert await one.admitted(1) == [True]
        await one.close()


async def test_a_redis_that_answers_late_is_there_again(broken):
    async with connected(broken.url, "t", stalled_after=PATIENCE_S) as server:
        one = One(server, STANDING)
        broken.freeze()
        assert await one.admitted(1) == [True]
        assert one.local
        broken.thaw()
        await until(lambda: not one.local)
        assert one.held() == 10  # what it gave is not lost
        await one.close()


@pytest.mark.parametrize("passes", [0, 1, 5])
async def test_a_pause_of_the_server_is_no_silence_of_redis(broken, passes):
    async with connected(broken.url, "t", stalled_after=PATIENCE_S) as server:
        one = One(server, STANDING)
        waiting = one.try_to_spend()
        for _ in range(passes):
            await asyncio.sleep(0)
        time.sleep(leases.SILENCE + 0.1)
        assert await waiting is None
        assert not one.local
        assert one.held() == 9
        await one.close()


async def test_an_outage_of_redis_costs_one_attempt_at_a_time(broken):
    async with connected(broken.url, "t") as server:
        one = One(server, Rate(1e6, 10**6))
        broken.kill()
        await until(lambda: not server.nodes.up)
        await one.admitted(1)
        one.shared.asked.clear()
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - started < 0.3:
            for number in range(10):
                one.try_to_spend(f"user{number}")
            await asyncio.sleep(0)
        assert len(one.shared.asked) <= 4
        await one.close()
