"""Raw frames are budgeted by user: whoever sends too many is read more slowly, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from chatlab.server.frames import FrameBudget
from chatlab.settings import Rate
from tests.server.peer import Raw, Running, running
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def budget(rate: Rate, clock: Clock) -> FrameBudget:
    """A budget whose sids are `user/socket`."""
    return FrameBudget(rate, lambda sid: sid.split("/")[0], clock=clock)


def test_all_sockets_of_a_user_draw_on_one_budget() -> None:
    clock = Clock()
    frames = budget(Rate(10.0, 100), clock)
    assert frames.allowance("alice/1", 60) == 0.0
    assert frames.allowance("alice/2", 40) == 0.0
    assert frames.allowance("alice/3", 20) == pytest.approx(2.0)
    assert frames.allowance("bob/1", 100) == 0.0
    clock.now += 2.0
    assert frames.allowance("alice/3", 20) == 0.0
    assert frames.allowance("alice/1", 1) == pytest.approx(0.1)


def test_asking_in_vain_takes_nothing() -> None:
    clock = Clock()
    frames = budget(Rate(10.0, 100), clock)
    frames.allowance("alice/1", 100)
    waits = [frames.allowance("alice/1", 50) for _ in range(100)]
    assert waits == [pytest.approx(5.0)] * 100
    clock.now += waits[0]
    assert frames.allowance("alice/1", 50) == 0.0


def test_more_than_the_burst_is_had_when_the_bucket_is_full() -> None:
    clock = Clock()
    frames = budget(Rate(10.0, 5), clock)
    assert frames.allowance("alice/1", 64) == 0.0
    wait = frames.allowance("alice/1", 64)
    assert wait == pytest.approx(6.4)
    clock.now += wait
    assert frames.allowance("alice/1", 64) == 0.0


def test_who_has_not_sent_lately_is_forgotten() -> None:
    clock = Clock()
    frames = budget(Rate(10.0, 100), clock)
    for number in range(5 * FrameBudget.SWEEP_EVERY):
        frames.allowance(f"user-{number}/1", 10)
        clock.now += 0.01
    assert len(frames) < 2 * FrameBudget.SWEEP_EVERY


def test_a_socket_that_is_gone_waits_for_nothing() -> None:
    assert FrameBudget(Rate(1.0, 1), lambda sid: None).allowance("x", 10**6) == 0.0


WHO = '421["who",{"room":"general"}]'


async def flood(run: Running, raw: Raw, user: str, frames: int) -> None:
    await raw.connect(run.token(user))
    for _ in range(frames):
        await raw.send("3")  # a pong: no event, so no other limit counts it


async def test_a_user_who_floods_over_several_sockets_is_not_read_and_others_are() -> None:
    # Nothing flows in: what is used up stays used up.
    async with running(user_frame_rate=0.001, user_frame_burst=200) as run:
        async with run.raw() as one, run.raw() as two, run.raw() as other:
            for raw in (one, two):
                await flood(run, raw, "mallory", 300)
            # What came in one read is handled; nothing is read after it.
            used_up = run.server.transport.eio.sockets.values()
            await until(lambda: sum(session.credit < 0 for session in used_up) == 2)
            for raw in (one, two):
                await raw.send(WHO)
            await flood(run, other, "bob", 100)
            await other.send(WHO)
            assert (await other.ack(1))["code"] == "not_in_room"
            for raw in (one, two):
                with pytest.raises(asyncio.TimeoutError):
                    await raw.ws.receive(timeout=0.1)
            for session in run.server.sessions:
                await run.server.transport.close_transport(session.sid, "enough")


async def test_who_floods_no_more_is_read_on_without_loss() -> None:
    async with running(user_frame_rate=2_000.0, user_frame_burst=100) as run:
        async with run.raw() as raw:
            await flood(run, raw, "alice", 1_000)
            await raw.send(WHO)
            assert (await raw.ack(1))["code"] == "not_in_room"
