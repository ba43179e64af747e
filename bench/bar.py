"""A progress bar on stderr for a run of many minutes; lines instead where that is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Bar"]

_WIDTH = 24


class Bar:
    """`total` is the estimated work in seconds; what remains is scaled by what it took so far."""

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total = max(total, 1e-9)
        self._done = 0.0
        self._begun = time.monotonic()
        self._live = self._stream.isatty()

    def show(self, what: str) -> None:
        """Say what is being done now."""
        if not self._live:
            return
        part = min(1.0, self._done / self._total)
        blocks = round(part * _WIDTH)
        bar = "█" * blocks + "░" * (_WIDTH - blocks)
        self._write(f"\r{bar} {part:4.0%}  {what}{self._left(part)}\x1b[K")

    def _left(self, part: float) -> str:
        took = time.monotonic() - self._begun
        left = took / part * (1 - part) if part > 0.03 else self._total
        return f", about {max(1, round(left / 60))} min left"

    def step(self, seconds: float) -> None:
        """So much of the estimated work is done."""
        self._done += seconds

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._write(("\r\x1b[K" if self._live else "") + text + "\n")

    def end(self) -> None:
        """Remove the bar."""
        if self._live:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
