"""Notices that the machine stood still: a pause makes a good server look as if it broke a promise.

A laptop that sleeps, a busy host, a virtual machine that is moved: time passes for nobody, and then
every clock has run out at once.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

__all__ = ["Pauses"]

_TICK: Final = 0.05  # seconds between two looks at the clock
_PAUSE: Final = 0.2  # seconds by which a look is late: from here on it counts as a pause


class Pauses:
    """Looks at the clock inside its `async with` block, to see when this process did not run."""

    def __init__(self) -> None:
        self._looked = self._paused = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looked = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._note()

    def _note(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked > _TICK + _PAUSE:
            self._paused = now
        self._looked = now

    def since(self, began: float) -> bool:
        """Whether a pause has ended after `began`, a time of the loop's."""
        self._note()
        return self._paused > began
