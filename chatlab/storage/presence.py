"""Who is in which room, where there is only one server: what it says of its own sockets.

With several servers redis_presence.py does the same over all of them.
"""

from __future__ import annotations

from itertools import islice

from chatlab.storage.shared import Changes

__all__ = ["LocalPresence"]


def _nobody_listens(room: str, user: str, *, here: bool) -> None:
    return


class LocalPresence:
    """A `Presence` of this process alone."""

    def __init__(self) -> None:
        self.changed: Changes = _nobody_listens
        self._rooms: dict[str, dict[str, None]] = {}  # users in the order in which they came

    async def enter(self, room: str, user: str) -> None:
        """See `Presence.enter`."""
        users = self._rooms.setdefault(room, {})
        if user not in users:
            users[user] = None
            self.changed(room, user, here=True)

    def leave(self, room: str, user: str) -> None:
        """See `Presence.leave`."""
        users = self._rooms.get(room)
        if users is None or user not in users:
            return
        del users[user]
        if not users:
            del self._rooms[room]
        self.changed(room, user, here=False)

    async def who(self, room: str, limit: int) -> tuple[list[str], int]:
        """See `Presence.who`."""
        users = self._rooms.get(room, {})
        return list(islice(users, limit)), len(users)

    async def close(self) -> None:
        """Nobody else is told."""
        self._rooms.clear()
