"""The two interfaces behind the server: the rooms' log and the user directory.

The log is the truth about a room: what it stored has a `seq`, and members are served only from
its feed. How a backend batches, commits and publishes is its own business.
"""

from __future__ import annotations

import contextlib
import hashlib
from asyncio import CancelledError, Future, Task
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import msgspec

from chatlab.errors import InvalidPayload
from chatlab.protocol import Message

__all__ = [
    "KEY_MESSAGES",
    "NEWEST_BYTES",
    "Appended",
    "Cursor",
    "Delivery",
    "Feed",
    "Page",
    "RoomLog",
    "Snapshot",
    "User",
    "UserDirectory",
    "cancelled",
    "check_encodable",
    "encodable",
    "fail",
    "history_lost",
    "json_size",
    "key_reused",
    "room_epoch",
    "text_digest",
]

T = TypeVar("T")

KEY_MESSAGES: Final = 10_000
"""A key is forgotten when its user has stored this many newer messages in the room."""

NEWEST_BYTES: Final = 900_000
"""The most that a join without `after` carries. The contract's fifty messages fit at their longest
(50 x 4,000 code points x 4 bytes); fifty made of control characters, six bytes each in JSON, are
cut, because their 1.2 MB would pass what a client may leave unread and cost it its connection."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What became of an append: the stored message, and whether an earlier one had its key."""

    message: Message
    duplicate: bool


class Delivery(msgspec.Struct, frozen=True, gc=False):
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
    blocks the loop. Sizes in bytes are those of the text as JSON, as it goes out to clients.
    """

    name: str
    """What the log is, without secrets, for /healthz and logs: `sqlite`, `memory`."""

    @property
    def healthy(self) -> bool:
        """False while the backend is known to be away: then appends fail at once."""

    feed: Feed
    """Set by the server before `open`."""

    renewed: Callable[[str], None]
    """Set by the server; called on its loop with a followed room that has got another epoch, or
    whose history no longer reaches back to what the feed last brought: its members must join
    again, to be told what they lost."""

    async def open(self) -> None:
        """Make ready. Raises `SettingsError` with a sentence when the store cannot be used."""

    async def close(self) -> None:
        """Store what was appended, then let go of everything."""

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Future[Appended]:
        """Store a message as one atomic step, and publish it to the room's feed.

        Calls are stored in the order in which they are made, whether or not they are awaited. A
        `key` that this user used in this room before (24 hours, or their last 10,000 messages
        there) answers with the earlier message; with another text it raises `InvalidPayload`
        (field `key`). The message is durable when the future is done. The feed may have it before
        that, or after. The call itself raises nothing: what went wrong is in the
        future, which may be done already. Cancelling the future does not take the message back.
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
        the `newest` last ones within `NEWEST_BYTES`, `more` when there are older ones.

        The feed may carry a message that the snapshot holds before this returns or after it.
        Whoever keeps what the feed brings from before the call on, and of that and of all that
        follows only what has a `seq` above the snapshot's, misses nothing and has nothing twice.
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
        """History: upwards from `after` + 1, or the last ones below `before`, or the newest.

        At most `limit` messages and `max_bytes`, but always one where there is one. `more` when
        there are newer ones (with `after`) or older ones (otherwise).
        """

    async def mark(
        self, room: str, user: str, *, delivered: int, read: int
    ) -> tuple[Cursor, Cursor]:
        """Move a user's cursor forward, never back, and return it (before, after).

        What is read counts as delivered. Raises `InvalidPayload` (field `seq`) above the room's
        newest message.
        """

    async def follow(self, room: str) -> None:
        """Have the feed carry this room: returns when nothing stored from now on can be missed.
        An embedded log carries every room anyway."""

    async def unfollow(self, room: str) -> None:
        """The last local member has left. Takes effect before it first waits for anything."""


class UserDirectory(Protocol):
    """Who exists and who is banned."""

    changed: Callable[[], None]
    """Set by the server; called on its loop within a second of any change to users, by anybody."""

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


def room_epoch(token: str, room: str) -> str:
    """The room's epoch in a store whose random `token` is made with the store.

    Deriving it gives a room an epoch before its first message, without a row for every name that
    somebody joins; a new token starts a new epoch everywhere.
    """
    return hashlib.blake2b(f"{token}/{room}".encode(), digest_size=8).hexdigest()


def text_digest(text: str) -> str:
    """What a remembered key keeps of its text, to tell a retry from another message."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def json_size(text: str) -> int:
    """Bytes of `text` as a JSON string."""
    return len(msgspec.json.encode(text))


def encodable(*texts: str | None) -> bool:
    """Whether UTF-8 can hold all of them: a lone surrogate could be neither stored nor sent on."""
    try:
        for text in texts:
            if text is not None and not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_encodable(*texts: str | None) -> None:
    """Raises `InvalidPayload` unless all are `encodable`."""
    if not encodable(*texts):
        raise InvalidPayload("Not valid Unicode", field="payload")


def key_reused() -> InvalidPayload:
    """The refusal of a key that came back with another text."""
    return InvalidPayload("This key was used for another message", field="key")


async def cancelled(*tasks: Task[None] | None) -> None:
    """Cancel `tasks`, one after the other, and wait until each has ended."""
    for task in tasks:
        if task is not None:
            task.cancel()
            with contextlib.suppress(CancelledError):
                await task


def fail(future: Future[T], error: Exception) -> Future[T]:
    """Complete `future` with `error`, and without asyncio's complaint when nobody looks at it."""
    if not future.done():
        future.set_exception(error)
        future.exception()
    return future
