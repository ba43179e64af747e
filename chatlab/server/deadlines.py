"""By when something must have happened, for any number of things, with one timer of the loop.

What is done in time, which is nearly everything, costs a place in a heap and no timer of its own.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Deadlines"]


class Awaited(Protocol):
    """Something that has happened once it is `done`."""

    done: bool


class Deadlines:
    """Calls back for what is not `done` when its time has come, and forgets what is."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Awaited, Callable[[Any], None]]] = []
        self._added = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when: float, awaited: Awaited, expired: Callable[[Any], None]) -> None:
        """Call `expired(awaited)` at `when` (the loop's clock) unless it is done by then."""
        waiting = self._waiting
        while waiting and waiting[0][2].done:
            heapq.heappop(waiting)
        self._added += 1  # two of the same time: the earlier one first
        heapq.heappush(waiting, (when, self._added, awaited, expired))
        if self._timer is None or when < self._timer.when():
            self._set_timer(when)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        waiting = self._waiting
        now = asyncio.get_running_loop().time()
        while waiting and (waiting[0][2].done or waiting[0][0] <= now):
            _, _, awaited, expired = heapq.heappop(waiting)
            if not awaited.done:
                expired(awaited)
        self._timer = None
        if waiting:
            self._set_timer(waiting[0][0])
