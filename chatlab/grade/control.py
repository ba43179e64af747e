"""What cannot be caused from outside: bans, deaths of servers, storage that is away.

A command of the user's does it, so that any server can be graded; without one the promises that
need it are not judged.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from chatlab.grade.evidence import Trace
from chatlab.grade.promise import NotJudged

__all__ = ["COMMANDS", "Control"]

COMMANDS: Final[Mapping[str, str]] = {
    "ban": "ban USER: the server's directory says that the user is banned, from now on",
    "unban": "unban USER: the ban is taken back",
    "kill": "kill N: server N ends at once, as by SIGKILL (0 is URL, 1 the first --also, …)",
    "stop": "stop N: server N is asked to finish, as by SIGTERM; does not wait for its end",
    "start": "start N: server N runs again at its address; returns when it accepts",
    "stop-storage": "stop-storage: what the server keeps messages in cannot be reached any more",
    "start-storage": "start-storage: it can be reached again, with what it held",
}
"""The commands that promises may call, each with what it must have done when it returns."""

_PATIENCE: Final = 30.0  # seconds for one command
_CANNOT: Final = 3


class Control:
    """Runs `COMMAND WORD …`. Exit code 0: done; 3: this cannot be done here; else: it failed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        # One command at a time: what it acts on is the user's, and shared.
        self._turn = asyncio.Lock()
        self.cannot: set[str] = set()

    async def run(self, trace: Trace, *words: str) -> None:
        """Run it. Raises `NotJudged` where it cannot be done, or fails."""
        trace.remark("control " + " ".join(words))
        if words[0] in self.cannot:
            raise NotJudged(f"--control cannot {words[0]}")
        async with self._turn:
            code, said = await asyncio.to_thread(self._run, words)
        if code == _CANNOT:
            self.cannot.add(words[0])
            raise NotJudged(f"--control cannot {words[0]}")
        if code:
            raise NotJudged(f"--control {words[0]} failed: {said}")

    def _run(self, words: Sequence[str]) -> tuple[int, str]:
        try:
            done = subprocess.run(
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return 1, str(error)
        return done.returncode, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
