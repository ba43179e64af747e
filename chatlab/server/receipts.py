"""How far the users of a room have got, told at most once a second.

Only users who moved are told of, and only their newest position: a room of a hundred readers
costs one event a second, not a hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["Receipts"]


Users: TypeAlias = "dict[str, dict[str, int]]"


class Receipts:
    """Gathers the receipts of one room and hands them to `tell(users, mine, since)`.

    `users` is the wire's `{id: {delivered, read}}`, `mine` the part of it that the other servers
    have to be told; `since` is the lowest `seq` that one of them came from.
    """

    SMALL_ROOM: Final = 100
    """Users up to whom receipts go to everybody; above it, to the messages' authors."""

    EVERY: Final = 1.0  # seconds

    def __init__(self, tell: Callable[[Users, Users, int], None]) -> None:
        self._tell = tell
        self._users: Users = {}
        self._mine: Users = {}
        self._since = 0
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def add(self, user: str, *, since: int, delivered: int, read: int, mine: bool = True) -> None:
        """A user has moved forward from `since`; not `mine` where another server says so."""
        self._since = min(self._since, since) if self._users else since
        self._users[user] = {"delivered": delivered, "read": read}
        if mine:
            self._mine[user] = self._users[user]
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + self.EVERY), self._flush)

    def _flush(self) -> None:
        self._timer, self._last = None, asyncio.get_running_loop().time()
        users, self._users = self._users, {}
        mine, self._mine = self._mine, {}
        self._tell(users, mine, self._since)

    def close(self) -> None:
        """Forget what was not told."""
        if self._timer is not None:
            self._timer.cancel()
