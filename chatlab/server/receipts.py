"""How far the users of a room have got, told at most once a second.

Only users who moved are told of, and only their newest position: a room of a hundred readers
costs one event a second, not a hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["Receipts"]


class Receipts:
    """Gathers the receipts of one room and hands them to `tell(users, since)`.

    `users` is the wire's `{id: {delivered, read}}`; `since` is the lowest `seq` that one of them
    came from.
    """

    SMALL_ROOM: Final = 100
    """Users up to whom receipts go to everybody; above it, to the messages' authors."""

    EVERY: Final = 1.0  # seconds

    def __init__(self, tell: Callable[[dict[str, dict[str, int]], int], Awaitable[None]]) -> None:
        self._tell = tell
        self._users: dict[str, dict[str, int]] = {}
        self._since = 0
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, user: str, *, since: int, delivered: int, read: int) -> None:
        """A user has moved forward from `since`."""
        self._since = min(self._since, since) if self._users else since
        self._users[user] = {"delivered": delivered, "read": read}
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._last + self.EVERY), self._flush)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, self._last = None, loop.time()
        users, self._users = self._users, {}
        self._task = loop.create_task(self._run(users, self._since))

    async def _run(self, users: dict[str, dict[str, int]], since: int) -> None:
        await self._tell(users, since)

    def close(self) -> None:
        """Forget what was not told."""
        if self._timer is not None:
            self._timer.cancel()
