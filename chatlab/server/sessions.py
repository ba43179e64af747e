"""Who is connected: one session per accepted socket, found by socket and by user.

What a session may do is decided elsewhere; this is where it is written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from chatlab.server.auth import Claims
from chatlab.server.limits import TokenBucket

__all__ = ["Session", "Sessions"]


@dataclass(slots=True, eq=False)
class Session:
    """An accepted socket. `user` is its token's `sub`, and nothing a payload says changes it.

    The buckets come with the first event, the set of rooms with the first room: most of ten
    thousand sockets are idle.
    """

    sid: str
    user: str
    claims: Claims
    address: str
    events: TokenBucket | None = None
    joins: TokenBucket | None = None
    connected: bool = True
    rooms: set[str] | frozenset[str] = frozenset()
    last_room: str | None = None
    last_error_at: float = float("-inf")
    timer: asyncio.TimerHandle | None = None

    def entered(self, room: str) -> None:
        """The socket is in a room, the one it joined last."""
        if isinstance(self.rooms, set):
            self.rooms.add(room)
        else:
            self.rooms = {room}
        self.last_room = room

    def left(self, room: str) -> None:
        """The socket is in a room no more."""
        self.rooms -= {room}

    def __repr__(self) -> str:
        return f"<Session of {self.user}>"


class Sessions:
    """The registry; whatever is put in is taken out again by `remove`."""

    def __init__(self) -> None:
        self._by_sid: dict[str, Session] = {}
        self._by_user: dict[str, dict[str, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_sid.values()))

    def add(self, session: Session) -> None:
        self._by_sid[session.sid] = session
        self._by_user.setdefault(session.user, {})[session.sid] = session

    def get(self, sid: str) -> Session | None:
        return self._by_sid.get(sid)

    def user_of(self, sid: str) -> str | None:
        """Whose a socket is; None when it is not in."""
        session = self._by_sid.get(sid)
        return session.user if session is not None else None

    def remove(self, sid: str) -> Session | None:
        """Take a socket out; returns its session, None when it was not in."""
        session = self._by_sid.pop(sid, None)
        if session is not None:
            session.connected = False
            of_user = self._by_user[session.user]
            del of_user[sid]
            if not of_user:
                del self._by_user[session.user]
        return session

    def of(self, user: str) -> list[Session]:
        """Every session of a user."""
        return list(self._by_user.get(user, {}).values())

    def users(self) -> list[str]:
        """Everybody who is connected."""
        return list(self._by_user)
