"""What servers share beside the rooms' log: who is here, what is not stored, and users' limits.

An embedded backend has the first alone, and only of its own sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from chatlab.storage.base import RoomLog, UserDirectory

__all__ = ["Buckets", "Changes", "Events", "Presence", "Storage"]


class Changes(Protocol):
    """Hears of those who come into a room and of those who leave it, on whichever server."""

    def __call__(self, room: str, user: str, *, here: bool) -> None: ...


class Presence(Protocol):
    """Who is in which room, over all servers.

    A user is in a room while they have a socket there, on any server that is alive.
    """

    changed: Changes
    """Set by the server; called on its loop, on one server only, when a user has come or gone."""

    async def enter(self, room: str, user: str) -> None:
        """The first socket of `user` on this server has entered. Raises `Unavailable`: then they
        have not."""

    def leave(self, room: str, user: str) -> None:
        """The last socket of `user` on this server has left. Returns at once; while the store is
        away it is made good later."""

    async def who(self, room: str, limit: int) -> tuple[list[str], int]:
        """At most `limit` of the users in a room, and how many there are. Raises `Unavailable`."""

    async def close(self) -> None:
        """This server is leaving every room."""


class Events(Protocol):
    """Carries what is not stored to the other servers that host a room: at most once."""

    heard: Callable[[str, bytes], None]
    """Set by the server; called on its loop with a room and what another server published."""

    def publish(self, room: str, message: bytes) -> None:
        """Tell the other servers. While the store is away nobody hears it."""

    async def follow(self, room: str) -> None:
        """Hear what is published in a room from now on. Raises `Unavailable`."""

    def unfollow(self, room: str) -> None:
        """Hear it no more."""


class Buckets(Protocol):
    """The users' token buckets that all servers share."""

    back: Callable[[], None]
    """Set by the server; called on its loop when the store was away and is there again."""

    async def take(self, user: str, wanted: int) -> tuple[int, float]:
        """Take up to `wanted` tokens from a user's bucket. Returns how many were taken, and the
        seconds until there is another one (0.0 when all were taken). Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Everything that a backend keeps. `events` and `buckets` are None where one server is all
    there is; `subscriptions` counts the channels that are heard."""

    log: RoomLog
    directory: UserDirectory
    presence: Presence
    events: Events | None = None
    buckets: Buckets | None = None
    subscriptions: Callable[[], int] = lambda: 0
