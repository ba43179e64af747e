"""Logs of every kind, opened, with a feed that is recorded, and closed when the test is over."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.storage.rooms import Rooms


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
async def rooms(kind: str, database: Path) -> AsyncIterator[Rooms]:
    """A log of either kind."""
    async with Rooms(kind, database) as rooms:
        yield rooms


@pytest.fixture
async def stored(database: Path) -> AsyncIterator[Rooms]:
    """A log in a file."""
    async with Rooms("sqlite", database) as rooms:
        yield rooms


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [one.name for one in set(threading.enumerate()) - before if "sqlite" in one.name]
    assert not left
