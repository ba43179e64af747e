"""One timer for every deadline, and futures that tell at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from chatlab.server.deadlines import Deadlines
from chatlab.storage.promise import Promise
from tests.waiting import until


@dataclass(eq=False)
class Thing:
    name: str
    done: bool = False


async def test_what_is_not_done_in_time_is_told_in_the_order_of_its_time() -> None:
    deadlines, told = Deadlines(), list[str]()
    now = asyncio.get_running_loop().time()
    for name, seconds in [("late", 0.03), ("early", 0.01), ("middle", 0.02)]:
        deadlines.add(now + seconds, Thing(name), lambda thing: told.append(thing.name))
    await until(lambda: len(told) == 3)
    assert told == ["early", "middle", "late"]


async def test_what_is_done_is_forgotten_and_not_told() -> None:
    deadlines, told = Deadlines(), list[str]()
    now = asyncio.get_running_loop().time()
    for _ in range(1_000):
        deadlines.add(now + 60, Thing("done", done=True), lambda thing: told.append(thing.name))
    assert len(deadlines._waiting) == 1
    deadlines.add(now, Thing("hangs"), lambda thing: told.append(thing.name))
    await until(lambda: told == ["hangs"])


async def test_what_is_over_already_is_told_in_the_next_pass() -> None:
    deadlines, told = Deadlines(), list[str]()
    deadlines.add(0.0, Thing("over"), lambda thing: told.append(thing.name))
    assert told == []
    await until(lambda: told == ["over"])


def set_result(promise: Promise[int]) -> None:
    promise.set_result(1)


def set_exception(promise: Promise[int]) -> None:
    promise.set_exception(ValueError())
    promise.exception()


def cancel(promise: Promise[int]) -> None:
    promise.cancel()


@pytest.mark.parametrize("complete", [set_result, set_exception, cancel])
async def test_a_promise_tells_before_the_loop_goes_on(complete: Any) -> None:
    promise, told = Promise[int](), list[bool]()
    promise.then(lambda done: told.append(done.done()))
    complete(promise)
    assert told == [True]


async def test_a_promise_is_awaited_like_any_future() -> None:
    promise = Promise[int]()
    asyncio.get_running_loop().call_soon(promise.set_result, 7)
    assert await promise == 7
