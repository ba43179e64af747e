"""The transport with the suites' handlers, in the test's own loop; nothing may be left of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocol.suite_server import SERVER, TIMINGS
from tests.protocol.world import World, strict


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The strict transport with the suites' timings."""
    async with strict(**TIMINGS, connect_timeout=SERVER["connect_timeout"]) as world:
        yield world


@pytest.fixture
async def calm() -> AsyncIterator[World]:
    """The same, in which nothing is due within a test."""
    async with strict() as world:
        yield world
