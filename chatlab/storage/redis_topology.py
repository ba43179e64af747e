"""What every kind of Redis has in common: nodes, each of which has some of the keys.

A single server is here; the master that Sentinel names is in redis_sentinel.py, and a cluster in
redis_cluster.py.
"""

from __future__ import annotations

from collections.abc import Callable

from redis.exceptions import ResponseError

from chatlab.storage.redis_connect import Connect, connect_to
from chatlab.storage.redis_url import Location

__all__ = ["Single", "Topology"]


class Topology:
    """Knows the nodes, and tells of them through the functions that it is given.

    `found` gets the name of a node and how to connect to it; `gone` that of one which has no keys
    any more; `relocated` that of one which is at another address by now, and a word on it;
    `changed` is called when keys may belong to other nodes, or have been looked up again.
    `troubled` tells whether a node is away. `reason` says why no node is known.
    """

    sharded = False

    def __init__(self, location: Location) -> None:
        self.found: Callable[[str, Connect], object] = lambda name, connect: None
        self.gone: Callable[[str], object] = lambda name: None
        self.relocated: Callable[[str, str], object] = lambda name, why: None
        self.changed: Callable[[], object] = lambda: None
        self.troubled: Callable[[], bool] = lambda: False
        self.reason: object = None
        self.location = location

    async def open(self) -> None:
        """Find the nodes. Returns when they are known."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go."""

    def node_of(self, name: str) -> str:
        """The name of the node that has a key or channel; an empty one where none is known."""
        return self.location.shown

    def look(self) -> None:
        """Find out soon whether the nodes are still where they were."""

    def moved(self, error: ResponseError) -> bool:
        """Whether Redis has refused a command because its keys are elsewhere, or on their way.

        Such a command has not run, and may be sent again.
        """
        return False


class Single(Topology):
    """One server."""

    async def open(self) -> None:
        """There is nothing to find."""
        self.found(self.location.shown, lambda: connect_to(self.location.options))
