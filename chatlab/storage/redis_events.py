"""What is not stored, on its way to the other servers of a room: through Redis, at most once.

Each room has a channel, and a server hears only the rooms that it hosts. What is published while
Redis is away is gone; what has to arrive belongs in the room's log.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Future
from collections.abc import Callable
from typing import Final

from chatlab.errors import Unavailable
from chatlab.storage.base import encodable
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes

__all__ = ["RedisEvents"]

_ID_BYTES: Final = 8


class RedisEvents:
    """An `Events` over Redis's pub/sub. A message begins with the id of the server that sent it,
    which does not hear it itself."""

    def __init__(self, nodes: Nodes, names: Names) -> None:
        self.heard: Callable[[str, bytes], None] = lambda room, message: None
        self._nodes = nodes
        self._names = names
        self._id = secrets.token_bytes(_ID_BYTES)
        self._followed: dict[str, Future[None]] = {}

    def __len__(self) -> int:
        """How many rooms are followed."""
        return len(self._followed)

    def publish(self, room: str, message: bytes) -> None:
        """See `Events.publish`. Raises nothing, and does not wait."""
        if encodable(room):
            self._nodes.publish(self._names.events(room), self._id + message)

    async def follow(self, room: str) -> None:
        """See `Events.follow`. A room that is followed is heard again by itself when Redis is back;
        one that could not be is not followed."""
        confirmed = self._followed.get(room)
        if confirmed is None:
            if not encodable(room):
                raise Unavailable
            channel = self._names.events(room)
            if not self._nodes.of(channel).ears.up:
                raise Unavailable
            confirmed = self._nodes.subscribe(channel, lambda message: self._take(room, message))
            self._followed[room] = confirmed
        await asyncio.shield(confirmed)

    def unfollow(self, room: str) -> None:
        """See `Events.unfollow`."""
        if self._followed.pop(room, None) is not None:
            self._nodes.unsubscribe(self._names.events(room))

    def _take(self, room: str, message: bytes) -> None:
        if len(message) >= _ID_BYTES and message[:_ID_BYTES] != self._id:
            self.heard(room, message[_ID_BYTES:])
