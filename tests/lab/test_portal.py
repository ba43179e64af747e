"""Blocking functions are awaited, threads that are late are waited for, and nothing is left."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from chatlab.lab.portal import LoopThread, in_thread, turned
from tests.waiting import PATIENCE_S


async def test_what_a_blocking_function_gives_or_raises_is_passed_on() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


@pytest.mark.parametrize("fails", [False, True])
def test_a_function_that_ends_after_its_callers_loop_ends_quietly(fails: bool) -> None:
    loop_is_closed = threading.Event()
    workers: list[threading.Thread] = []

    def late() -> int:
        workers.append(threading.current_thread())
        loop_is_closed.wait()
        return 1 // (0 if fails else 1)

    async def gives_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(late)
        while not workers:
            await asyncio.sleep(0)

    asyncio.run(gives_up())
    loop_is_closed.set()
    workers[0].join()  # an exception of a thread fails a test here


async def test_a_late_loop_is_waited_for_until_what_it_had_to_do_is_done() -> None:
    thread = LoopThread("late")
    done: list[int] = []

    async def work() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        done.append(1)

    try:
        thread.loop.call_soon_threadsafe(time.sleep, 0.2)
        asyncio.run_coroutine_threadsafe(work(), thread.loop)
        await turned(PATIENCE_S)
        assert done == [1]
    finally:
        thread.close()


async def test_a_loop_that_is_blocked_is_not_waited_for_any_longer() -> None:
    thread, free = LoopThread("stuck"), threading.Event()
    try:
        thread.loop.call_soon_threadsafe(free.wait)
        await turned(0.05)
    finally:
        free.set()
        thread.close()
