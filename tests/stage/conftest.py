"""One stage for all tests, put back to its start before each that finds it otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from chatlab.lab.balancer import find_balancer
from chatlab.lab.valkey import find_valkey
from tests.stage.running import Demo, OnStage, demo


def _here() -> bool:
    try:
        find_balancer("caddy")
        find_valkey()
    except RuntimeError:
        return False
    return True


needs_parts = pytest.mark.skipif(not _here(), reason="this machine has no Caddy or no Valkey")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(needs_parts)


@pytest.fixture(scope="session")
def running() -> Iterator[Demo]:
    with demo("--host", "127.0.0.1") as found:
        yield found


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def stage(running: Demo, http: aiohttp.ClientSession) -> AsyncIterator[OnStage]:
    """The stage as at its start."""
    on = await OnStage(running, http).enter()
    try:
        await on.do("record")
        if not on.as_new():
            await on.do("reset")
        await on.until(lambda: on.state["busy"] is None and on.as_new())
        on.messages.clear()
        yield on
    finally:
        await on.leave()
