"""Runs `chatlab …` and notes where its main thread spends CPU time, for `profile.py`.

A timer interrupts it, a thousand times a second while it works, and each time the functions that
are at work are written down with the CPU time since the last one. It needs POSIX signals, but
neither root nor another program; what was seen is judged elsewhere.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["INTERVAL", "main", "sampling"]

INTERVAL = 0.001  # seconds of the clock between two looks at a server that works
REST = 0.05  # and at one that waits
IDLE = 0.0002  # seconds of CPU time between two looks, below which it waits: a look wakes the loop
DEPTH = 40  # functions of a stack that are kept, innermost first
MOST = 120_000  # looks that are kept: two minutes of them


class Notes:
    """What was seen: for each look the clock, the CPU time since the look before, and a stack.

    Stacks are numbered, since a busy server is in few different ones.
    """

    def __init__(self) -> None:
        self.looks: list[tuple[float, float, int]] = []
        self.stacks: dict[tuple[str, ...], int] = {}
        self._spent = time.thread_time()

    def look(self, _signal: int, frame: FrameType | None) -> None:
        """The timer's signal handler; it sets the timer again."""
        spent = time.thread_time() - self._spent
        signal.setitimer(signal.ITIMER_REAL, INTERVAL if spent > IDLE else REST)
        stack: list[str] = []
        while frame is not None and len(stack) < DEPTH:
            code = frame.f_code
            stack.append(f"{code.co_filename}:{code.co_qualname}")
            frame = frame.f_back
        number = self.stacks.setdefault(tuple(stack), len(self.stacks))
        if len(self.looks) < MOST:
            self.looks.append((time.monotonic(), spent, number))
        # Its own work is nobody's.
        self._spent = time.thread_time()


@contextmanager
def sampling(file: Path) -> Iterator[None]:
    """Look at the calling thread, which must be the main one, and write `file` at the end.

    Raises `RuntimeError` where the system has no such timer.
    """
    if not hasattr(signal, "setitimer"):
        raise RuntimeError("this system has no timer for it: use Linux, macOS or WSL2")
    notes = Notes()
    before = signal.signal(signal.SIGALRM, notes.look)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        found = {"stacks": [list(stack) for stack in notes.stacks], "looks": notes.looks}
        file.write_text(json.dumps(found), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run `chatlab` with the arguments after the first, which names the file for the notes."""
    # uvloop's functions are not Python's: asyncio's own can be seen at work.
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    from chatlab.cli import main as chatlab

    with sampling(Path(arguments[0])):
        return chatlab(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
