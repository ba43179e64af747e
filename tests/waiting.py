"""Waiting until something has come to pass: no test sleeps for as long as that might take."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")

# Seconds. What takes so long is broken; a busy machine is not yet a reason to fail.
PATIENCE_S = 30.0


async def until(
    condition: Callable[[], Value | Awaitable[Value]],
    *,
    what: str = "it",
    timeout: float = PATIENCE_S,
) -> Value:
    """Wait until `condition()` is true, and return what it gave.

    It may be a coroutine function. Raises `TimeoutError` after `timeout` seconds, also where the
    condition itself takes as long; what the condition raises is passed on.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.005)
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(f"{what} did not come to pass within {timeout:g} s") from None


def wait_until(
    condition: Callable[[], Value], *, what: str = "it", timeout: float = PATIENCE_S
) -> Value:
    """The same, of threads and processes, where no event loop is to go on meanwhile."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come to pass within {timeout:g} s")
        time.sleep(0.005)
    return value
