"""The two interfaces behind the server: the rooms' log and the user directory.

The log is the truth about a room: what it stored has a `seq`, and members are served only from
its feed. How a backend batches, commits and publishes is its own business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatlab.protocol import Message

__all__ = [
    "Appended",
    "Cursor",
    "Delivery",
    "Feed",
    "Page",
    "RoomLog",
    "Snapshot",
    "User",
    "UserDirectory",
    "history_lost",
]


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append: the stored message, and whether an earlier one had its key."""

    message: Message
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored message on its way to members; `origin` is what the appender gave."""

    message: Message
    origin: str


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of history in rising `seq`; `more` when there is more in the asked direction."""

    messages: list[Message]
    more: bool
    epoch: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a user has got in a room: everything up to these `seq`s."""

    delivered: int = 0
    read: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a join is answered with, read in one step. `seq` is the room's newest (0 when empty)."""

    seq: int
    epoch: str
    messages: list[Message]
    more: bool
    lost: bool
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class User:
    """An entry of the directory."""

    id: str
    name: str
    banned: bool = False


Feed = Callable[[str, Sequence[Delivery]], None]
"""Called on the server's loop with a room and its next messages, in `seq` order, without gap."""


class RoomLog(Protocol):
    """Stores each room's messages in order.

    Every method but `close` may raise `Unavailable`; the server bounds the wait. A backend never
    blocks the loop.
    """

    name: str
    """What the log is, without secrets, for /healthz and logs: `sqlite`, `memory`."""

    healthy: bool
    """False while the backend is known to be away: then appends fail at once."""

    feed: Feed
    """Set by the server before `open`."""

    async def open(self) -> None:
        """Make ready. Raises `SettingsError` with a sentence when the store cannot be used."""

    async def close(self) -> None:
        """Store what was appended, then let go of everything."""

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Awaitable[Appended]:
        """Store a message as one atomic step, and publish it to the room's feed.

        Calls are stored in the order in which they are made, whether or not they are awaited. A
        `key` that this user used in this room before (24 hours, or their last 10,000 messages
        there) answers with the earlier message; with another text it raises `InvalidPayload`
        (field `key`). The message is durable when the awaitable is done, and the feed has it
        before the awaitable's callbacks run.
        """

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
        """What a joining user is told: see `history_lost` for when `lost` is true.

        With `after` and nothing lost: the messages from `after` + 1, at most `limit` of them and
        `max_bytes` of text (one message is always given), `more` when there are newer ones. Else
        the `newest` last ones, `more` when there are older ones.
        """

    async def page(
        self,
        room: str,
        *,
        after: int | None,
        before: int | None,
        limit: int,
        max_bytes: int,
    ) -> Page:
        """History: upwards from `after` + 1, or the last ones below `before`, or the newest."""

    async def mark(
        self, room: str, user: str, *, delivered: int, read: int
    ) -> tuple[Cursor, Cursor]:
        """Move a user's cursor forward, never back, and return it (before, after).

        Raises `InvalidPayload` (field `seq`) above the room's newest message.
        """

    async def follow(self, room: str) -> None:
        """Have the feed carry this room. An embedded log carries every room anyway."""

    async def unfollow(self, room: str) -> None:
        """The last local member has left."""


class UserDirectory(Protocol):
    """Who exists and who is banned."""

    changed: Callable[[], None]
    """Set by the server; called on its loop, within a second, when a user was changed by anybody."""

    async def get(self, user: str) -> User | None:
        """The user, or None. Raises `Unavailable` when the directory cannot be reached."""

    async def banned(self, users: Sequence[str]) -> set[str]:
        """Those of `users` who are banned."""

    async def put(self, user: User) -> None:
        """Add or change a user."""

    async def list(self) -> list[User]:
        """Everybody, by id."""


def history_lost(
    *, after: int | None, epoch: str | None, seq: int, oldest: int, current_epoch: str
) -> bool:
    """Whether a client that has everything up to `after` of `epoch` cannot be caught up.

    `oldest` is the `seq` of the oldest message still kept, `seq` + 1 when none is.
    """
    if epoch is not None and epoch != current_epoch:
        return True
    return after is not None and (after > seq or after + 1 < oldest)
