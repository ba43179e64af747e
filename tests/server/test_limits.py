"""Rate limits: what a bucket admits, and who shares one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab.errors import RateLimited, TooManyConnections
from chatlab.server.limits import ConnectionCaps, TokenBucket, UserBuckets
from chatlab.settings import Rate
from tests.server.peer import Running, running
from tests.waiting import until

steps = st.lists(st.floats(min_value=0.0, max_value=5.0), max_size=200)


@given(steps, st.floats(min_value=0.1, max_value=100.0), st.integers(1, 50))
def test_no_stretch_of_time_admits_more_than_burst_and_inflow(
    waits: list[float], rate: float, burst: int
) -> None:
    now, taken = 0.0, []
    bucket = TokenBucket(Rate(rate, burst), now)
    for wait in waits:
        now += wait
        if bucket.take(now) == 0.0:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            admitted = last - first + 1
            assert admitted <= burst + rate * (taken[last] - start) + 1e-6


@given(steps, st.floats(min_value=0.1, max_value=100.0), st.integers(1, 50))
def test_waiting_as_long_as_told_is_enough(waits: list[float], rate: float, burst: int) -> None:
    now = 0.0
    bucket = TokenBucket(Rate(rate, burst), now)
    for wait in waits:
        now += wait
        told = bucket.take(now)
        if told:
            now += told + 1e-6
            assert bucket.take(now) == 0.0


@given(st.lists(st.floats(min_value=-5.0, max_value=5.0), max_size=100))
def test_a_clock_that_steps_back_gives_nothing_away(waits: list[float]) -> None:
    now, forward, taken = 0.0, 0.0, 0
    bucket = TokenBucket(Rate(1.0, 5), now)
    for wait in waits:
        now += wait
        forward += max(0.0, wait)
        taken += bucket.take(now) == 0.0
    assert taken <= 5 + forward + 1e-6


def test_a_user_is_forgotten_once_their_bucket_is_full_again() -> None:
    buckets = UserBuckets(Rate(10.0, 20))
    for number in range(100):
        buckets.spend(f"user-{number}", 0.0)
    for _ in range(19):
        buckets.spend("user-0", 0.0)
    buckets.sweep(1.0)
    assert len(buckets) == 1
    with pytest.raises(RateLimited):
        for _ in range(11):
            buckets.spend("user-0", 1.0)
    buckets.sweep(100.0)
    assert len(buckets) == 0


def test_the_number_of_buckets_is_bounded_by_who_was_active_lately() -> None:
    buckets = UserBuckets(Rate(10.0, 20))
    for number in range(10_000):
        buckets.spend(f"user-{number}", number / 100)
    assert len(buckets) <= 2 * UserBuckets.SWEEP_EVERY


def test_connections_are_counted_in_and_out() -> None:
    caps = ConnectionCaps.of(2, 3)
    caps.take("alice", "a")
    caps.take("alice", "a")
    with pytest.raises(TooManyConnections):
        caps.take("alice", "b")
    caps.take("bob", "a")
    with pytest.raises(TooManyConnections):
        caps.take("carol", "a")
    for user in ("alice", "alice", "bob"):
        caps.release(user, "a")
    assert not caps.users
    assert not caps.addresses


async def test_a_socket_has_a_burst_and_then_a_rate(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    began = time.monotonic()
    answers = [await alice.say(f"{number}") for number in range(200)]
    admitted = [answer["ok"] for answer in answers]
    assert admitted[:20] == [True] * 20
    assert sum(admitted) <= 20 + 10 * (time.monotonic() - began)


async def test_joins_have_a_bucket_of_their_own(chat: Running) -> None:
    alice = await chat.connect("alice")
    rooms = [f"room-{number}" for number in range(50)]
    assert all([(await alice.join(room))["ok"] for room in rooms])
    assert (await alice.say("hello", "room-0"))["ok"]


async def test_more_sockets_do_not_evade_the_users_limit() -> None:
    async with running(user_burst=10, user_rate=0.001) as run:
        peers = [await run.connect("alice") for _ in range(5)]
        for peer in peers:
            await peer.join()
        admitted = [(await peer.say("x"))["ok"] for peer in peers for _ in range(4)]
        assert sum(admitted) == 10
        bob = await run.connect("bob")
        await bob.join()
        assert (await bob.say("x"))["ok"]


async def test_reconnecting_does_not_refill_the_users_bucket() -> None:
    async with running(user_burst=3, user_rate=0.001) as run:
        admitted = 0
        for _ in range(4):
            alice = await run.connect("alice")
            await alice.join()
            admitted += sum([(await alice.say("x"))["ok"] for _ in range(3)])
            await alice.sio.disconnect()
            await until(lambda: len(run.server.sessions) == 0)
        assert admitted == 3


async def test_invalid_events_cost_the_socket_but_not_the_user() -> None:
    async with running(rate_burst=5, rate=0.001, user_burst=3, user_rate=0.001) as run:
        alice = await run.connect("alice")
        codes = [(await alice.call("send-message", {}))["code"] for _ in range(6)]
        assert codes == ["invalid_payload"] * 5 + ["rate_limited"]
        other = await run.connect("alice")
        await other.join()
        assert [(await other.say("x"))["ok"] for _ in range(3)] == [True] * 3


async def test_no_limits_raises_every_cap() -> None:
    async with running(no_limits=True) as run:
        peers = [await run.connect("alice") for _ in range(30)]
        await peers[0].join()
        assert all([(await peers[0].say(f"{number}"))["ok"] for number in range(100)])
