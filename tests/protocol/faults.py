"""The table of the stock classes' faults, and what its scenarios share.

The scenarios are in faults_engineio.py and faults_socketio.py; test_stock_faults.py plays them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.protocol.suite_server import StockSuite
from tests.protocol.wire import WAIT, Line
from tests.protocol.world import World
from tests.waiting import PATIENCE_S, until

MOMENT = 0.25  # seconds for what is not expected to come

Scenario = Callable[[World], Awaitable[bool]]


@dataclass(frozen=True)
class Fault:
    """`scenario` tells whether the fault is there."""

    scenario: Scenario
    mended_by: str
    limits: dict[str, Any]
    strict_limits: dict[str, Any]


class Table(list[Fault]):
    """Faults in the order in which they stand in their file."""

    def mended_by(
        self, where: str, *, only_strict: dict[str, Any] | None = None, **limits: Any
    ) -> Callable[[Scenario], Scenario]:
        """Add a scenario. `where` is the override; `limits` are for both servers."""

        def add(scenario: Scenario) -> Scenario:
            limits.setdefault("ping_interval", 60.0)
            self.append(Fault(scenario, where, limits, only_strict or {}))
            return scenario

        return add


def patience(world: World) -> float:
    """Seconds to wait for what only ours does: no longer than needed where it will not come."""
    return MOMENT if _is_stock(world) else WAIT


async def comes(world: World, condition: Callable[[], object]) -> bool:
    """Whether a fault comes to pass: the stock classes have all the time that they need."""
    return await _within(PATIENCE_S if _is_stock(world) else MOMENT, condition)


async def mended(world: World, condition: Callable[[], object]) -> bool:
    """Whether what only ours does comes to pass."""
    return await _within(patience(world), condition)


async def _within(seconds: float, condition: Callable[[], object]) -> bool:
    with suppress(TimeoutError):
        return bool(await until(condition, timeout=seconds))
    return False


def _is_stock(world: World) -> bool:
    return isinstance(world.suite, StockSuite)


async def silent(world: World, line: Line) -> bool:
    """Whether nothing comes for a while."""
    try:
        await asyncio.wait_for(line.reader.read(1), patience(world))
    except TimeoutError:
        return True
    return False


@contextmanager
def counted_tasks() -> Iterator[list[str]]:
    """The tasks that are made meanwhile."""
    loop, made = asyncio.get_running_loop(), []

    def count(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        made.append(str(work))
        return asyncio.Task(work, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(count)
    try:
        yield made
    finally:
        loop.set_task_factory(before)
