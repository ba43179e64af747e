"""The log and the directory in dictionaries: for development, tests and benchmarks.

It is also the plain reference of what every other backend must do; nothing in it outlives the
process.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from chatlab.errors import InvalidPayload
from chatlab.protocol import Message, timestamp
from chatlab.storage.base import (
    KEY_MESSAGES,
    NEWEST_BYTES,
    Appended,
    Cursor,
    Delivery,
    Feed,
    Page,
    Snapshot,
    User,
    check_encodable,
    encodable,
    fail,
    history_lost,
    json_size,
    key_reused,
    room_epoch,
)

__all__ = ["MemoryDirectory", "MemoryLog"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Room:
    """`messages` holds the newest ones by `seq`; older ones were dropped."""

    seq: int = 0
    messages: dict[int, Message] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        return self.seq - len(self.messages) + 1


@dataclass(slots=True)
class _Keyed:
    """A message that had a key: the how manieth of its user in the room it was, and until when."""

    message: Message
    number: int
    expires: float


@dataclass(slots=True)
class _Keys:
    """The keys of one user in one room, and their order of arrival."""

    found: dict[str, _Keyed] = field(default_factory=dict)
    order: deque[str] = field(default_factory=deque)

    def forget(self, number: int, now: float) -> None:
        """Drop what is older than the user's message `number` or has expired."""
        while self.order:
            oldest = self.found[self.order[0]]
            if oldest.number > number and oldest.expires > now:
                break
            del self.found[self.order.popleft()]


class MemoryLog:
    """A `RoomLog` that lives as long as the process.

    `history` is in messages a room, `key_ttl` in seconds, `key_messages` as in `KEY_MESSAGES`;
    `clock` gives POSIX seconds.
    """

    name = "memory"

    def __init__(
        self,
        *,
        history: int = 10_000,
        key_ttl: float = 86_400.0,
        key_messages: int = KEY_MESSAGES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.feed: Feed = lambda room, deliveries: None
        self.renewed: Callable[[str], None] = lambda room: None
        self.healthy = True
        self._history = history
        self._key_ttl = key_ttl
        self._key_messages = key_messages
        self._clock = clock
        self._token = secrets.token_hex(8)
        self._ids = itertools.count(1)
        self._rooms: dict[str, _Room] = {}
        # By the time of the last key, so that those who never come back are forgotten first.
        self._keys: OrderedDict[tuple[str, str], _Keys] = OrderedDict()

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> asyncio.Future[Appended]:
        """See `RoomLog.append`; the future is done when it is returned."""
        future: asyncio.Future[Appended] = asyncio.Future()
        plain = key is None and text.isascii() and room.isascii() and user.isascii()
        if not (plain or encodable(room, user, text, key)):
            return fail(future, InvalidPayload("Not valid Unicode", field="payload"))
        now = self._clock()
        earlier = None if key is None else self._remembered(room, user, key, now)
        if earlier is not None:
            if earlier.text != text:
                return fail(future, key_reused())
            future.set_result(Appended(earlier, True))
            return future
        message = self._store(room, user, text, key, now)
        try:
            self.feed(room, (Delivery(message, origin),))
        except Exception:
            _log.exception("the feed of room %r failed", room)
        future.set_result(Appended(message, False))
        return future

    def _store(self, room: str, user: str, text: str, key: str | None, now: float) -> Message:
        kept = self._rooms.get(room)
        if kept is None:
            kept = self._rooms[room] = _Room()
        kept.seq = seq = kept.seq + 1
        named = f"{self._token}{next(self._ids):016x}"
        message = Message(named, seq, room, user, text, timestamp(now))
        kept.messages[seq] = message
        kept.messages.pop(seq - self._history, None)
        kept.sent[user] = sent = kept.sent.get(user, 0) + 1
        if key is not None:
            keys = self._keys.setdefault((room, user), _Keys())
            self._keys.move_to_end((room, user))
            keys.found[key] = _Keyed(message, sent, now + self._key_ttl)
            keys.order.append(key)
            keys.forget(sent - self._key_messages, now)
        return message

    def _remembered(self, room: str, user: str, key: str, now: float) -> Message | None:
        self._forget_the_absent(now)
        keys = self._keys.get((room, user))
        if keys is None:
            return None
        keys.forget(self._rooms[room].sent[user] - self._key_messages, now)
        keyed = keys.found.get(key)
        return keyed.message if keyed else None

    def _forget_the_absent(self, now: float) -> None:
        while self._keys:
            keys = next(iter(self._keys.values()))
            if keys.order and keys.found[keys.order[-1]].expires > now:
                return
            self._keys.popitem(last=False)

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
        check_encodable(room, user)
        kept = self._rooms.get(room) or _Room()
        current = room_epoch(self._token, room)
        lost = history_lost(
            after=after, epoch=epoch, seq=kept.seq, oldest=kept.oldest, current_epoch=current
        )
        if after is None or lost:
            messages = _downwards(kept, kept.seq, newest, NEWEST_BYTES)
            more = bool(messages) and messages[0].seq > kept.oldest
        else:
            messages = _upwards(kept, after + 1, limit, max_bytes)
            more = bool(messages) and messages[-1].seq < kept.seq
        cursor = kept.cursors.get(user, Cursor())
        return Snapshot(kept.seq, current, messages, more, lost, cursor)

    async def page(
        self, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """See `RoomLog.page`."""
        check_encodable(room)
        kept = self._rooms.get(room) or _Room()
        if after is not None:
            messages = _upwards(kept, after + 1, limit, max_bytes)
            more = bool(messages) and messages[-1].seq < kept.seq
        else:
            last = kept.seq if before is None else min(before - 1, kept.seq)
            messages = _downwards(kept, last, limit, max_bytes)
            more = bool(messages) and messages[0].seq > kept.oldest
        return Page(messages, more, room_epoch(self._token, room))

    async def mark(
        self, room: str, user: str, *, delivered: int, read: int
    ) -> tuple[Cursor, Cursor]:
        """See `RoomLog.mark`."""
        check_encodable(room, user)
        kept = self._rooms.get(room) or _Room()
        if max(delivered, read) > kept.seq:
            raise InvalidPayload(f"The newest message of this room is {kept.seq}", field="seq")
        before = kept.cursors.get(user, Cursor())
        after = Cursor(max(before.delivered, delivered, read), max(before.read, read))
        if after != before:
            kept.cursors[user] = after
        return before, after

    async def follow(self, room: str) -> None:
        """The feed carries every room."""

    async def unfollow(self, room: str) -> None:
        """The feed carries every room."""


def _upwards(room: _Room, first: int, limit: int, max_bytes: int) -> list[Message]:
    first = max(first, room.oldest)
    return _within(room, range(first, min(room.seq, first + limit - 1) + 1), max_bytes)


def _downwards(room: _Room, last: int, limit: int, max_bytes: int) -> list[Message]:
    first = max(room.oldest, last - limit + 1)
    return _within(room, range(last, first - 1, -1), max_bytes)[::-1]


def _within(room: _Room, seqs: Iterable[int], max_bytes: int) -> list[Message]:
    messages: list[Message] = []
    for seq in seqs:
        message = room.messages[seq]
        max_bytes -= json_size(message.text)
        if messages and max_bytes < 0:
            break
        messages.append(message)
    return messages


class MemoryDirectory:
    """A `UserDirectory` that lives as long as the process."""

    def __init__(self, users: Iterable[User] = ()) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._users = {user.id: user for user in users}

    async def get(self, user: str) -> User | None:
        """The user, or None."""
        return self._users.get(user)

    async def banned(self, users: Sequence[str]) -> set[str]:
        """Those of `users` who are banned."""
        return {user for user in users if (found := self._users.get(user)) and found.banned}

    async def put(self, user: User) -> None:
        """Add or change a user. Raises `ValueError` where UTF-8 cannot hold it."""
        if not encodable(user.id, user.name):
            raise ValueError("a user's id and name must be valid Unicode")
        self._users[user.id] = user
        self.changed()

    async def list(self) -> list[User]:
        """Everybody, by id."""
        return sorted(self._users.values(), key=lambda user: user.id)
