"""`chatlab serve` as a real process, for what only a process can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatlab.server.auth import Tokens
from chatlab.settings import Settings
from tests.server.peer import SECRET

ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of a child, with no setting of the machine's in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATLAB_")}
    return {**kept, "CHATLAB_JWT_SECRET": SECRET, "PYTHONPATH": str(ROOT), **more}


def chatlab(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `chatlab …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "chatlab", *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Child:
    """A serving process. `errors` is what it wrote to stderr, once it has ended."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatlab", "serve", "--port", "0", *arguments],
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = ""
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first.startswith("listening on http://"):
            self.end()
            raise AssertionError(f"it did not start: {first!r} {self.errors}")
        self.url = first.removeprefix("listening on ").strip()

    def token(self, user: str) -> str:
        return Tokens(Settings(jwt_secret=SECRET)).issue(user)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, *, within: float = 10.0) -> int:
        """Wait for the process to end by itself; returns its exit code."""
        try:
            _, errors = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self.errors += errors
        return self.process.returncode


@contextmanager
def child(*arguments: str, **more: str) -> Iterator[Child]:
    """A serving process that is gone afterwards."""
    running = Child(*arguments, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.end()
        for stream in (running.process.stdout, running.process.stderr):
            if stream is not None:
                stream.close()
