"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server.peer import Running, running


@pytest.fixture
async def chat() -> AsyncIterator[Running]:
    """A development server with messages in memory."""
    async with running() as run:
        yield run
