"""The distributed log: the rooms of any number of servers, in one Redis, Valkey or a cluster.

This is the part that the server calls. An append is one atomic script; what it stores reaches every
server that hosts the room through the room's channel, and redis_feed.py sees to it that each is
passed on once and in order.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from chatlab.errors import InvalidPayload, Unavailable
from chatlab.protocol import Message, timestamp
from chatlab.storage.base import (
    KEY_MESSAGES,
    NEWEST_BYTES,
    Appended,
    Cursor,
    Feed,
    Page,
    Snapshot,
    check_encodable,
    fail,
    json_size,
    key_reused,
    text_digest,
)
from chatlab.storage.redis_durability import durability
from chatlab.storage.redis_feed import Belief, Entry, RedisFeed, Stretch, message_of
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Node, Nodes
from chatlab.storage.redis_scripts import APPEND, MARK, READ
from chatlab.storage.redis_url import Location

__all__ = ["RedisLog"]

log = logging.getLogger(__name__)

START_PATIENCE: Final = 5.0  # seconds in which Redis has to answer when the server starts
MOST_IN_A_SCRIPT: Final = 128  # messages; Redis does nothing else while a script runs
MOST_WAITING: Final = 100_000  # appends that are not stored yet
CATCH_UP: Final = 200  # messages read at a time
CATCH_UP_BYTES: Final = 1_000_000


@dataclass(slots=True, eq=False)
class _Append:
    """A message on its way into Redis."""

    user: str
    text: str
    key: str | None
    origin: str
    id: str
    future: Future[Appended]


@dataclass(slots=True, eq=False)
class _Outbox:
    """The appends of one room: one script at a time, so that nothing overtakes."""

    waiting: deque[_Append] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class _Read(NamedTuple):
    """The reply of READ."""

    epoch: str
    seq: int
    kept: int
    lost: bool
    delivered: int
    read: int
    mode: str
    entries: list[Entry]


_appended = msgspec.msgpack.Decoder(tuple[str, list[list[int | str | bool]]])
_read_reply = msgspec.msgpack.Decoder(_Read)
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
        self._history = history
        self._key_ttl = int(key_ttl * 1000)
        self._key_messages = key_messages
        self._clock = clock
        self._outboxes: dict[str, _Outbox] = {}
        self._waiting = 0
        self._followed = RedisFeed(self.nodes, self.names, self._stretch)
        self._followed.renewed = lambda room: self.renewed(room)
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

    @property
    def followed(self) -> int:
        """How many rooms are followed."""
        return len(self._followed)

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
        tasks = [outbox.task for outbox in self._outboxes.values() if outbox.task]
        try:
            if tasks and self.healthy:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await self._followed.close()
            await self.nodes.close()

    # --- appending ---------------------------------------------------------------------------

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Future[Appended]:
        """See `RoomLog.append`. The feed may have the message before the future is done, or after.

        `Unavailable` leaves open whether it was stored: Redis may have run the script, or may yet.
        """
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        try:
            check_encodable(room, user, text, key)
        except InvalidPayload as error:
            return fail(future, error)
        if self._waiting >= MOST_WAITING or not self._can_store(room):
            return fail(future, Unavailable())
        outbox = self._outboxes.get(room)
        if outbox is None:
            outbox = self._outboxes[room] = _Outbox()
            outbox.task = asyncio.get_running_loop().create_task(self._send(room, outbox))
        outbox.waiting.append(_Append(user, text, key, origin, secrets.token_hex(16), future))
        self._waiting += 1
        return future

    def _can_store(self, room: str) -> bool:
        try:
            return self.nodes.of(self.names.log(room)).writes.up
        except Unavailable:
            return False

    async def _send(self, room: str, outbox: _Outbox) -> None:
        """Store what waits, in order, until nothing does."""
        try:
            while outbox.waiting:
                count = min(len(outbox.waiting), MOST_IN_A_SCRIPT)
                batch = [outbox.waiting.popleft() for _ in range(count)]
                self._waiting -= count
                await self._store(room, batch)
                if not self._can_store(room):  # those behind must not wait for an outage to end
                    self._give_up(outbox)
        finally:
            self._give_up(outbox)
            del self._outboxes[room]

    def _give_up(self, outbox: _Outbox) -> None:
        self._waiting -= len(outbox.waiting)
        for append in outbox.waiting:
            fail(append.future, Unavailable())
        outbox.waiting.clear()

    async def _store(self, room: str, batch: list[_Append]) -> None:
        users: dict[str, int] = {}
        messages: list[str | bytes | int] = []
        for append in batch:
            which = users.setdefault(append.user, len(users))
            digest = text_digest(append.text) if append.key is not None else ""
            messages += (which, append.user, append.text, digest, append.key or "")
            messages += (append.id, append.origin)
        names = self.names
        keys = [names.meta(room), names.log(room)]
        for user in users:
            keys += (names.keys(room, user), names.key_order(room, user))
        try:
            reply = await self.nodes.store(
                APPEND,
                keys,
                self.nodes.publish_command,
                names.feed(room),
                "" if self._clock is None else int(self._clock() * 1000),
                self._history,
                self._key_ttl,
                self._key_messages,
                secrets.token_hex(8),
                *self._followed.belief(room),
                *messages,
            )
        except BaseException as error:
            for append in batch:
                fail(append.future, Unavailable())
            if not isinstance(error, Unavailable):
                raise
            return
        self._stored(room, batch, reply)

    def _stored(self, room: str, batch: list[_Append], reply: bytes) -> None:
        epoch, results = _appended.decode(reply)
        newest = 0
        for append, (seq, *rest) in zip(batch, results, strict=True):
            if append.future.done():
                pass
            elif not rest:
                fail(append.future, key_reused())
            else:
                id_, at, duplicate = rest
                time = timestamp(int(at) / 1000)
                message = Message(str(id_), int(seq), room, append.user, append.text, time)
                append.future.set_result(Appended(message, bool(duplicate)))
            newest = max(newest, int(seq))
        self._followed.seen(room, epoch, newest)

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
        reply = await self._read(
            "join",
            room,
            user=user,
            after=after,
            epoch=epoch,
            newest=newest,
            limit=limit,
            max_bytes=max_bytes,
        )
        up = reply.mode == "up"
        messages = _within(room, reply.entries, max_bytes if up else NEWEST_BYTES)
        if not up:
            messages.reverse()
        cursor = Cursor(min(reply.delivered, reply.seq), min(reply.read, reply.seq))
        more = _more(messages, reply, upwards=up)
        return Snapshot(reply.seq, reply.epoch, messages, more, reply.lost, cursor)

    async def page(
        self, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """See `RoomLog.page`."""
        check_encodable(room)
        mode = "down" if after is None else "up"
        reply = await self._read(
            mode, room, after=after, before=before, limit=limit, max_bytes=max_bytes
        )
        messages = _within(room, reply.entries, max_bytes)
        if mode == "down":
            messages.reverse()
        return Page(messages, _more(messages, reply, upwards=mode == "up"), reply.epoch)

    async def _stretch(self, room: str, after: int | None, belief: Belief) -> Stretch:
        reply = await self._read(
            "down" if after is None else "up",
            room,
            after=after,
            limit=1 if after is None else CATCH_UP,
            max_bytes=CATCH_UP_BYTES,
            belief=belief,
        )
        return Stretch(reply.epoch, reply.seq, reply.entries)

    async def _read(
        self,
        mode: str,
        room: str,
        *,
        user: str = "",
        after: int | None = None,
        before: int | None = None,
        epoch: str | None = None,
        newest: int = 0,
        limit: int,
        max_bytes: int,
        belief: Belief | None = None,
    ) -> _Read:
        names = self.names
        reply = await self.nodes.run(
            READ,
            [names.meta(room), names.log(room), names.cursors(room)],
            mode,
            secrets.token_hex(8),
            *(self._followed.belief(room) if belief is None else belief),
            user,
            "" if after is None else after,
            epoch or "",
            newest,
            limit,
            max_bytes,
            NEWEST_BYTES,
            "" if before is None else before,
        )
        decoded = _read_reply.decode(reply)
        if belief is None:
            self._followed.seen(room, decoded.epoch, decoded.seq)
        return decoded

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


def _within(room: str, entries: list[Entry], max_bytes: int) -> list[Message]:
    """The first of `entries` whose texts fit into `max_bytes` as JSON, but always one."""
    messages: list[Message] = []
    for entry in entries:
        max_bytes -= json_size(entry.text)
        if messages and max_bytes < 0:
            break
        messages.append(message_of(room, entry))
    return messages


def _more(messages: list[Message], reply: _Read, *, upwards: bool) -> bool:
    if not messages:
        return False
    if upwards:
        return messages[-1].seq < reply.seq
    return messages[0].seq > reply.seq - reply.kept + 1
