"""What the stage does all the time: tell its state when it changed, and the charts each second.

It notices, too, what has ended by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from chatlab.stage.told import title

if TYPE_CHECKING:
    from chatlab.stage.stage import Stage

__all__ = ["Pulse"]

_TICK: Final = 0.05  # seconds between two states at least
_IDLE: Final = 0.25  # seconds between two looks at the parts
_POINTS: Final = 120  # seconds of the charts


class Pulse:
    """Of one stage. Set `dirty` when something in its state has changed."""

    def __init__(self, stage: Stage) -> None:
        self.dirty = asyncio.Event()
        self.points: deque[dict[str, Any]] = deque(maxlen=_POINTS)
        self._stage = stage

    async def states(self) -> None:
        """Until cancelled: the state, whenever it is another."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE):
                    await self.dirty.wait()
            self._look()
            if self.dirty.is_set():
                self.flush()
            await asyncio.sleep(_TICK)

    def flush(self) -> None:
        """Tell the state now."""
        self.dirty.clear()
        self._stage.tell(self._stage.state())

    def _look(self) -> None:
        stage = self._stage
        if stage.flood_ends is not None and time.monotonic() > stage.flood_ends:
            stage.spawn(stage.end_flood())
            stage.flood_ends = None
            stage.notice("info", "The flood is over: its time was up.")
        if not stage.ready:
            return
        for name, process in stage.world.parts.items():
            if not (process.running or name in stage.in_hand or name in stage.ended):
                stage.ended[name] = "ended by itself"
                stage.notice("bad", f"{title(name)} has ended by itself ({process.returncode}).")

    async def seconds(self) -> None:
        """Until cancelled: a point of the charts each second."""
        while True:
            await asyncio.sleep(1.0)
            point = self._stage.watch.point(self._stage.began)
            self.points.append(point)
            self._stage.tell({"type": "chart", "points": [point]})
            if self._stage.flood.running:
                self.dirty.set()
