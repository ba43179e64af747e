"""A real Valkey that a whole file of tests shares, and what one server has in it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_url import locate
from tests.waiting import PATIENCE_S


@dataclass
class Server:
    """One server's connections to the store, and the names that its cluster uses."""

    nodes: Nodes
    names: Names

    def on_back(self, back: Callable[[], None]) -> None:
        """Call `back` now and whenever the store has come back."""
        self.nodes.back = lambda node: back()
        back()


def some_prefix() -> str:
    """A prefix of a test's own, so that tests on one store do not meet."""
    return "t" + secrets.token_hex(4)


@contextlib.asynccontextmanager
async def connected(url: str, prefix: str, *, stalled_after: float = 5.0) -> AsyncIterator[Server]:
    location = locate(f"{url}?prefix={prefix}")
    nodes = Nodes(location, stalled_after=stalled_after)
    await nodes.open(patience=PATIENCE_S)
    try:
        yield Server(nodes, Names(location.prefix, location.database))
    finally:
        await nodes.close()
