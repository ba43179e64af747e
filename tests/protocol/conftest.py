"""The transport with the suites' handlers, in the test's own loop; nothing may be left of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocol.world import World, strict


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The strict transport with the suites' timings."""
    async with strict() as world:
        yield world


@pytest.fixture
async def calm() -> AsyncIterator[World]:
    """The same without pings within a test."""
    async with strict(ping_interval=60.0) as world:
        yield world
