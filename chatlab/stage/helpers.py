"""Runs the flooding user and the quiet one as processes, and hands on what they say.

What they do is in `load.py`; here they are started, read and ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from chatlab.lab.process import Process

__all__ = ["Helper"]

_SCRIPT = Path(__file__).with_name("load.py")


class _Lines(Process):
    """A process whose lines are read one by one."""

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken


class Helper:
    """One of the two, `what`, talking to the server at an address. Its methods block."""

    def __init__(self, what: Literal["flood", "probe"], name: str) -> None:
        self.what = what
        self._name = name
        self._process: _Lines | None = None

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.running

    def start(self, url: str, token: str) -> None:
        """Let it talk to the server at `url`; the one before it ends."""
        self.stop()
        self._process = _Lines(
            [self.what, url],
            name=self._name,
            command=[sys.executable, "-P", str(_SCRIPT)],
            env={"STAGE_TOKEN": token},
            ready=None,
        )

    def stop(self) -> None:
        """End it. May be repeated."""
        if self._process is not None:
            with contextlib.suppress(RuntimeError, OSError):
                self._process.kill()  # it has nothing to finish
            self._process.stop()
            self._process = None

    def read(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Hand on what it has said since the last call."""
        process = self._process
        for line in process.take() if process is not None else ():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a traceback, say
            if isinstance(said, dict):
                take(said)
