"""Starts the server under test as a child process and asks it what is left of a script.

It is used by the tests and by the long form alike; what the server does is in `server.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from chatlab.server.auth import Tokens
from chatlab.settings import Settings
from tests.fuzz.play import play
from tests.fuzz.script import Script
from tests.fuzz.server import SECRET

__all__ = ["Target"]

T = TypeVar("T")

ROOT = Path(__file__).absolute().parents[2]


class Target:
    """A child process with a server of a kind: `chat` or `suite`. `options` are its settings."""

    def __init__(
        self, kind: str, *, debug: bool = False, uvloop: bool = False, **options: Any
    ) -> None:
        self.kind = kind
        self._played = 0
        self._tokens = Tokens(Settings(jwt_secret=SECRET))
        ours = ("CHATLAB_TEST_RUN",)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ours or not name.startswith("CHATLAB_")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", json.dumps([kind, options, debug, uvloop])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self.complaints: list[str] = []
        self._runner = asyncio.Runner()
        self.port = int(self._read())

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._runner.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server under test has ended"
        return line

    def ask(self, command: str, *arguments: Any) -> Any:
        """One of the commands of `server.py`; complaints are collected on the way."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._read())
        self.complaints += told["complaints"]
        return told["answer"]

    def token(self, user: str) -> str:
        """A valid token of a user, "" where there are no users."""
        return self._tokens.issue(user) if self.kind == "chat" else ""

    def warm_up(self, times: int = 3) -> None:
        """Serve somebody, and take what is there afterwards for what may be there."""
        for _ in range(times):
            self.play(())
        assert not self.complaints, self.complaints
        self.ask("remember")
        self.check(())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a client of one's own."""
        return self._runner.run(work)

    def play(self, script: Script, *, tidy: bool = True) -> list[str]:
        """Play a script; returns what clients could see of a fault."""
        self._played += 1
        return self.run(play(self.port, self.token, script, number=self._played, tidy=tidy))

    def check(self, script: Script, *, settle: float = 5.0, tidy: bool = True) -> None:
        """Play a script. Raises `AssertionError` for every fault, complaint and residue."""
        faults = self.play(script, tidy=tidy)
        if tidy:
            faults += self.left(settle)
        faults += self.complained()
        assert not faults, "\n".join(faults)

    def forgive(self) -> None:
        """Take what is left behind for given, so that the next script is judged by itself."""
        self.ask("remember")
        self.complaints.clear()

    def left(self, settle: float) -> list[str]:
        """What is still there `settle` seconds after the last client has left."""
        left = self.ask("settled", settle)
        return [f"left behind: {left}"] if left else []

    def complained(self) -> list[str]:
        """What the server has complained of since this was asked."""
        self.ask("lines")
        complaints, self.complaints = self.complaints, []
        return complaints
