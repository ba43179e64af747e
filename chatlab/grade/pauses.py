"""Notices that the machine stood still: a pause makes a good server look as if it broke a promise.

A laptop that sleeps, a busy host, a virtual machine that is moved: time passes for nobody, and then
every clock has run out at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

__all__ = ["Pauses", "noticed_pauses"]

_TICK: Final = 0.05  # seconds between two looks at the clock
_PAUSE: Final = 0.2  # seconds by which a look is late: from here on it counts as a pause


@contextlib.asynccontextmanager
async def noticed_pauses() -> AsyncIterator[Pauses]:
    """Look at the clock inside the `async with` block, to see when this process did not run."""
    pauses = Pauses()
    looking = asyncio.create_task(pauses.look())
    try:
        yield pauses
    finally:
        looking.cancel()
        await asyncio.wait({looking})


class Pauses:
    """When this process last did not run. Made by `noticed_pauses`."""

    def __init__(self) -> None:
        self._looked, self._paused = asyncio.get_running_loop().time(), 0.0

    async def look(self) -> None:
        """Look at the clock, for ever."""
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
