"""Which Redis has what: one server, the master that Sentinel names, or the nodes of a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import ResponseError

from chatlab.storage.redis_link import Connect
from chatlab.storage.redis_url import Location

__all__ = ["Topology", "connect_to", "topology_of"]


class Topology(Protocol):
    """Knows the nodes. `reason` says why none is known."""

    sharded: bool
    reason: object

    async def open(self, found: Callable[[str, Connect], Any], patience: float) -> None:
        """Find the nodes and tell `found` of each."""

    async def close(self) -> None:
        """Let go."""

    def node_of(self, name: str) -> str:
        """The name of the node that has a key or channel."""

    async def moved(self, error: ResponseError) -> bool:
        """Whether the error says that keys belong to another node, which is known now."""


def topology_of(location: Location) -> Topology:
    """The topology that a location calls for."""
    return _Single(location)


async def connect_to(options: dict[str, Any]) -> AbstractConnection:
    """A connection that answers. Raises RedisError or OSError.

    redis-py's own timeouts and repetitions are off: what was sent and not answered must not be sent
    again, and how long to wait is the link's to say.
    """
    kind = options.get("connection_class", Connection)
    rest = {name: value for name, value in options.items() if name != "connection_class"}
    connection: AbstractConnection = kind(
        **rest, protocol=2, socket_timeout=None, socket_connect_timeout=None, driver_info=None
    )
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("PING", check_health=False)
        await connection.read_response(timeout=math.inf)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


class _Single:
    """One server."""

    sharded = False

    def __init__(self, location: Location) -> None:
        self.reason: object = None
        self._location = location

    async def open(self, found: Callable[[str, Connect], Any], patience: float) -> None:
        found(self._location.shown, lambda: connect_to(self._location.options))

    async def close(self) -> None:
        """Nothing to let go of."""

    def node_of(self, name: str) -> str:
        return self._location.shown

    async def moved(self, error: ResponseError) -> bool:
        return False
