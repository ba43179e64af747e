"""One action after the other, and a reset before all that wait.

Whoever clicks faster than the stage can act gets an answer to every click.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Refused", "Turns"]

_MOST: Final = 30  # that wait


class Refused(Exception):
    """What was asked cannot be done now; the text is a sentence for the one who asked."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is being done."""

    id: int
    name: str


class Turns:
    """`changed` is called when another action begins, with None when none does."""

    def __init__(self, changed: Callable[[Turn | None], None]) -> None:
        self._changed = changed
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._era = 0
        self._waiting = 0
        self._resetting: asyncio.Task[str] | None = None

    def number(self) -> int:
        """A new id for an action."""
        return next(self._numbers)

    async def take(self, number: int, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Do `work` when everything before it is done. Raises what it raises, and `Refused`."""
        era = self._era
        if self._waiting >= _MOST:
            raise Refused("Too much was clicked at once. Wait a moment, or reset.")
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            if era != self._era:
                raise Refused("The stage was reset before this could be done.")
            self._changed(Turn(number, name))
            return await work()
        finally:
            self._changed(None)
            self._lock.release()

    async def reset(self, number: int, work: Callable[[], Awaitable[str]]) -> str:
        """Do `work` next; what waits is thrown away. Several at once are one."""
        if self._resetting is None:
            self._era += 1
            self._resetting = asyncio.create_task(self.take(number, "reset", work))
            self._resetting.add_done_callback(self._over)
        # Whoever asks and goes away must not end it.
        return await asyncio.shield(self._resetting)

    def _over(self, task: asyncio.Task[str]) -> None:
        self._resetting = None
        if not task.cancelled():
            task.exception()
