"""Reading a room from Redis: what a join is answered with, pages of history, what was missed.

Every read says in which epoch the room is and how far it has got, in the same step as it reads.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from chatlab.protocol import Message, timestamp
from chatlab.storage.base import NEWEST_BYTES, Cursor, Page, Snapshot, json_size
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_scripts import READ

__all__ = ["Belief", "Entry", "RedisHistory", "Stretch", "message_of"]

CATCH_UP: Final = 200  # messages read at a time
CATCH_UP_BYTES: Final = 1_000_000


class Entry(NamedTuple):
    """A message as the scripts hand it out; `at` in milliseconds."""

    seq: int
    id: str
    user: str
    text: str
    at: int
    origin: str


class Belief(NamedTuple):
    """What a server takes for granted of a room; an empty `epoch` is nothing."""

    epoch: str = ""
    seq: int = 0
    id: str = ""


class Stretch(NamedTuple):
    """Messages from the stream, and where the room stands."""

    epoch: str
    seq: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class _Ask:
    """What READ is asked for; see there."""

    mode: str
    limit: int
    max_bytes: int
    after: int | None = None
    before: int | None = None
    user: str = ""
    epoch: str | None = None
    newest: int = 0

    def arguments(self) -> tuple[str | int, ...]:
        """In READ's order, after what the server believes."""
        after = "" if self.after is None else self.after
        before = "" if self.before is None else self.before
        epoch = "" if self.epoch is None else f":{self.epoch}"
        sizes = (self.newest, self.limit, self.max_bytes, NEWEST_BYTES)
        return (self.user, after, epoch, *sizes, before)


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

    @property
    def upwards(self) -> bool:
        """Whether the entries are in rising `seq`."""
        return self.mode == "up"

    def messages(self, room: str, max_bytes: int) -> list[Message]:
        """As many as fit into `max_bytes` of text as JSON, but one in any case; rising."""
        messages: list[Message] = []
        for entry in self.entries:
            max_bytes -= json_size(entry.text)
            if messages and max_bytes < 0:
                break
            messages.append(message_of(room, entry))
        return messages if self.upwards else messages[::-1]

    def more(self, messages: list[Message]) -> bool:
        """Whether there is more beyond `messages` in the direction that was read."""
        if not messages:
            return False
        if self.upwards:
            return messages[-1].seq < self.seq
        return messages[0].seq > self.seq - self.kept + 1


_decode = msgspec.msgpack.Decoder(_Read).decode


class RedisHistory:
    """Reads rooms. `belief(room)` is what to have checked; `seen(room, epoch, seq)` is told where
    the room was found to be."""

    def __init__(self, nodes: Nodes, names: Names) -> None:
        self.belief: Callable[[str], Belief] = lambda room: Belief()
        self.seen: Callable[[str, str, int], None] = lambda room, epoch, seq: None
        self._nodes = nodes
        self._names = names

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
        ask = _Ask("join", limit, max_bytes, after=after, user=user, epoch=epoch, newest=newest)
        reply = await self._look(room, ask)
        messages = reply.messages(room, max_bytes if reply.upwards else NEWEST_BYTES)
        # Cursors may be newer than a log that has come back with less than it had.
        cursor = Cursor(min(reply.delivered, reply.seq), min(reply.read, reply.seq))
        more = reply.more(messages)
        return Snapshot(reply.seq, reply.epoch, messages, more, reply.lost, cursor)

    async def page(
        self, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """See `RoomLog.page`."""
        mode = "down" if after is None else "up"
        ask = _Ask(mode, limit, max_bytes, after=after, before=before)
        reply = await self._look(room, ask)
        messages = reply.messages(room, max_bytes)
        return Page(messages, reply.more(messages), reply.epoch)

    async def stretch(self, room: str, after: int | None, belief: Belief) -> Stretch:
        """What follows `after`, a part at a time; without it, the newest message alone."""
        if after is None:
            ask = _Ask("down", 1, CATCH_UP_BYTES)
        else:
            ask = _Ask("up", CATCH_UP, CATCH_UP_BYTES, after=after)
        reply = await self._read(room, belief, ask)
        return Stretch(reply.epoch, reply.seq, reply.entries)

    async def _look(self, room: str, ask: _Ask) -> _Read:
        reply = await self._read(room, self.belief(room), ask)
        self.seen(room, reply.epoch, reply.seq)
        return reply

    async def _read(self, room: str, belief: Belief, ask: _Ask) -> _Read:
        names = self._names
        keys = [names.meta(room), names.log(room), names.cursors(room)]
        candidate = secrets.token_hex(8)
        reply = await self._nodes.run(READ, keys, ask.mode, candidate, *belief, *ask.arguments())
        return _decode(reply)


def message_of(room: str, entry: Entry) -> Message:
    """The wire's message."""
    return Message(entry.id, entry.seq, room, entry.user, entry.text, timestamp(entry.at / 1000))
