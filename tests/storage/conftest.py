"""Logs of every kind, opened, with a feed that is recorded, and closed when the test is over."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chatlab.lab import valkey
from tests.storage.rooms import Rooms


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey for all tests of this folder that do not harm it. Each uses a prefix of its own."""
    with valkey(name="storage tests") as store:
        yield store.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def store(kind: str, database: Path, request: pytest.FixtureRequest) -> Path | str:
    """Where a log of this kind keeps its messages: a file's path, or an address."""
    if kind != "redis":
        return database
    return f"{request.getfixturevalue('valkey_url')}?prefix={secrets.token_hex(6)}"


@pytest.fixture
async def rooms(kind: str, store: Path | str) -> AsyncIterator[Rooms]:
    """A log of every kind."""
    async with Rooms(kind, store) as rooms:
        if kind == "redis":
            await rooms.log.follow("general")
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
