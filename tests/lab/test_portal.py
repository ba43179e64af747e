"""A blocking function is awaited, and whoever stops waiting leaves no trouble behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from chatlab.lab.portal import in_thread


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
