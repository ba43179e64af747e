"""A step of the lessons' own server as a learner starts it: `python step1.py --port 0`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatlab.lab import RawClient, raw_client

STEPS = Path(__file__).resolve().parents[2] / "notebooks" / "steps"


@pytest.fixture
def run_step() -> Iterator[Callable[..., str]]:
    """A function that starts a step in a process of its own and returns its address."""
    running: list[subprocess.Popen[str]] = []

    def run(name: str, *options: str, **environment: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(STEPS / f"{name}.py"), "--port", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", line)
            if found:
                return found[1]
        raise AssertionError(f"{name} ended, with {process.wait(5)}, before it listened")

    yield run
    for process in running:
        process.terminate()
    stuck = [process for process in running if not has_ended(process)]
    for process in running:
        assert process.stdout is not None
        process.stdout.close()
    assert not stuck, "a step did not end when it was told to"


def has_ended(process: subprocess.Popen[str]) -> bool:
    """Wait for a process that was told to end; one that does not is killed."""
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


@pytest.fixture
async def join() -> AsyncIterator[Callable[..., Any]]:
    """A coroutine function that connects a client and closes it when the test is over."""
    clients: list[RawClient] = []

    async def connect(url: str, name: str, auth: Any = None) -> RawClient:
        client = await raw_client(url, name=name, auth={"name": name} if auth is None else auth)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.aclose()
