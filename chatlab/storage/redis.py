"""The distributed log: the rooms of any number of servers, in one Redis, Valkey or a cluster.

This is the part that the server calls. An append is one atomic script; what it stores reaches every
server that hosts the room through the room's channel, and redis_feed.py sees to it that each is
passed on once and in order.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from typing import Final

import msgspec

from chatlab.errors import InvalidPayload
from chatlab.storage.base import (
    KEY_MESSAGES,
    Appended,
    Cursor,
    Feed,
    Page,
    Snapshot,
    check_encodable,
    fail,
)
from chatlab.storage.redis_durability import durability
from chatlab.storage.redis_feed import RedisFeed
from chatlab.storage.redis_history import RedisHistory
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Node, Nodes
from chatlab.storage.redis_outbox import Outboxes
from chatlab.storage.redis_scripts import MARK
from chatlab.storage.redis_url import Location

__all__ = ["RedisLog"]

log = logging.getLogger(__name__)

START_PATIENCE: Final = 15.0
"""Seconds in which Redis has to answer when the server starts: longer than a restart of its own,
so that what is started together comes up together."""

_marked = msgspec.msgpack.Decoder(list[int])


class RedisLog:
    """A `RoomLog` in the Redis at `location`.

    `history` is in messages a room, `key_ttl` in seconds. Redis that is silent for `stalled_after`
    seconds is away. `clock` gives POSIX seconds; without one Redis's own clock is used, which is
    the same for all servers.
    """

    name = "redis"

    def __init__(
        self,
        location: Location,
        *,
        history: int = 10_000,
        key_ttl: float = 86_400.0,
        key_messages: int = KEY_MESSAGES,
        stalled_after: float = 2.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.renewed: Callable[[str], None] = lambda room: None
        self.back: Callable[[], None] = lambda: None
        self.names = Names(location.prefix, location.database)
        self.nodes = Nodes(location, stalled_after=stalled_after)
        self._reads = RedisHistory(self.nodes, self.names)
        self._followed = RedisFeed(self.nodes, self.names, self._reads.stretch)
        self._followed.renewed = lambda room: self.renewed(room)
        self._outboxes = Outboxes(
            self.nodes,
            self.names,
            history=history,
            key_ttl=key_ttl,
            key_messages=key_messages,
            clock=clock,
        )
        for part in (self._reads, self._outboxes):
            part.belief, part.seen = self._followed.belief, self._followed.seen
        self.nodes.lost = self._followed.doubt
        self.nodes.back = self._is_back
        self.nodes.moved = self._has_moved

    @property
    def feed(self) -> Feed:
        """See `RoomLog.feed`."""
        return self._followed.feed

    @feed.setter
    def feed(self, feed: Feed) -> None:
        self._followed.feed = feed

    @property
    def healthy(self) -> bool:
        """Whether Redis answers and is heard. Of a cluster one node is enough: if every server
        called itself unhealthy for one that is away, a balancer would send nobody anywhere."""
        return any(node.up for node in self.nodes.all())

    async def open(self) -> None:
        """Connect. Raises `SettingsError` where Redis cannot be used."""
        await self.nodes.open(patience=START_PATIENCE)
        for warning in await durability(self.nodes):
            log.warning(warning)

    def _is_back(self, node: Node) -> None:
        self._followed.catch_up(node)
        self.back()

    def _has_moved(self, channel: str) -> None:
        """Another node has the channel by now; what was published in between was not heard."""
        if channel == self.names.user_changes:
            self.back()
        else:
            self._followed.look_again(channel)

    async def close(self) -> None:
        """Store what was appended, as long as Redis is there, then let go of it."""
        try:
            await self._outboxes.close(store=self.healthy)
        finally:
            await self._followed.close()
            await self.nodes.close()

    # --- appending ---------------------------------------------------------------------------

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Future[Appended]:
        """See `RoomLog.append`. The feed may have the message before the future is done, or after.

        `Unavailable` leaves open whether it was stored: Redis may have run the script, or may yet.
        """
        try:
            check_encodable(room, user, text, key)
        except InvalidPayload as error:
            return fail(asyncio.get_running_loop().create_future(), error)
        return self._outboxes.put(room, user, text, key, origin)

    # --- reading -----------------------------------------------------------------------------

    async def snapshot(
        self,
        room: str,
        user: str,
        *,
        after: int | None,
        epoch: str | None,
        newest: int,
        limit: int,
        max_bytes: int,
    ) -> Snapshot:
        """See `RoomLog.snapshot`."""
        check_encodable(room, user, epoch)
        return await self._reads.snapshot(
            room, user, after=after, epoch=epoch, newest=newest, limit=limit, max_bytes=max_bytes
        )

    async def page(
        self, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """See `RoomLog.page`."""
        check_encodable(room)
        return await self._reads.page(
            room, after=after, before=before, limit=limit, max_bytes=max_bytes
        )

    async def mark(
        self, room: str, user: str, *, delivered: int, read: int
    ) -> tuple[Cursor, Cursor]:
        """See `RoomLog.mark`."""
        check_encodable(room, user)
        keys = [self.names.meta(room), self.names.cursors(room)]
        moved = _marked.decode(await self.nodes.run(MARK, keys, user, delivered, read))
        if len(moved) == 1:
            raise InvalidPayload(f"The newest message of this room is {moved[0]}", field="seq")
        return Cursor(moved[0], moved[1]), Cursor(moved[2], moved[3])

    # --- following ---------------------------------------------------------------------------

    async def follow(self, room: str) -> None:
        """See `RoomLog.follow`. Returns when nothing stored from now on can be missed."""
        check_encodable(room)
        await self._followed.follow(room)

    async def unfollow(self, room: str) -> None:
        """See `RoomLog.unfollow`."""
        self._followed.unfollow(room)
