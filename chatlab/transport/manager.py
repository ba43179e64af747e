"""Who is connected and in which room, without walking what has nothing to do with the question.

The stock manager (python-socketio 5.18.1) looks through every room when a socket leaves, starts a
task for each recipient and keeps a room of two dictionaries for each socket: 10,000 disconnects
take 17 s of CPU time there. tests/protocol/test_stock_faults.py would notice a repair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from socketio.async_manager import AsyncManager

from chatlab.transport.packet import EVENT, encode

__all__ = ["StrictManager"]


class StrictManager(AsyncManager):  # type: ignore[misc]
    """`rooms[namespace][room][sid]` is the Engine.IO sid; the room None is everybody.

    A socket can be named like a room, but nobody can enter it: it would tap its private events.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entered: dict[str, set[str]] = {}  # the rooms of each socket that is in one

    # --- coming and going --------------------------------------------------------------------

    def add(self, sid: str, namespace: str, eio_sid: str) -> None:
        """A socket was accepted."""
        self.rooms.setdefault(namespace, {}).setdefault(None, {})[sid] = eio_sid

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """Forget a socket, in the time that its own rooms take."""
        for room in self._entered.pop(sid, ()):
            self._remove(sid, namespace, room)
        self._remove(sid, namespace, None)

    def basic_enter_room(
        self, sid: str, namespace: str, room: str, eio_sid: str | None = None
    ) -> None:
        """Raises `ValueError` for a socket that is not connected, and for another's sid."""
        everybody = self.rooms.get(namespace, {}).get(None, {})
        if sid not in everybody:
            raise ValueError("sid is not connected to requested namespace")
        if room in everybody:
            raise ValueError("cannot enter a sid room")
        self.rooms[namespace].setdefault(room, {})[sid] = everybody[sid]
        self._entered.setdefault(sid, set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Leaving a room that one is not in is nothing."""
        entered = self._entered.get(sid)
        if entered is not None and room in entered:
            entered.remove(room)
            if not entered:
                del self._entered[sid]
            self._remove(sid, namespace, room)

    def _remove(self, sid: str, namespace: str, room: str | None) -> None:
        rooms = self.rooms.get(namespace, {})
        members = rooms.get(room)
        if members is not None and members.pop(sid, None) is not None and not members:
            del rooms[room]
            if not rooms:
                del self.rooms[namespace]

    # --- asking ------------------------------------------------------------------------------

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """The sockets of a room, of several, or the one of this sid: (sid, Engine.IO sid)."""
        rooms = self.rooms.get(namespace, {})
        everybody = rooms.get(None, {})
        found: dict[str, str] = {}
        for name in room if isinstance(room, (list, tuple)) else (room,):
            found |= {name: everybody[name]} if name in everybody else rooms.get(name, {})
        yield from found.items()

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """The rooms of a socket; its own sid, as python-socketio has it, among them."""
        return [sid, *self._entered.get(sid, ())] if self.is_connected(sid, namespace) else []

    def is_connected(self, sid: str | None, namespace: str) -> bool:
        return sid in self.rooms.get(namespace, {}).get(None, {})

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        found: str | None = self.rooms.get(namespace, {}).get(None, {}).get(sid)
        return found

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        session = self.server.eio.sockets.get(eio_sid)
        return session.peer.sids.get(namespace) if session is not None else None

    # --- sending -----------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        callback: Any = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Queue an event for everybody in a room, encoded once; never waits.

        Raises `ValueError` for a callback: one that a client never calls would be kept for ever.
        """
        if callback is not None:
            raise ValueError(f"{event!r} cannot ask for an ack; let the client send an event back")
        namespace = namespace or "/"
        args = data if isinstance(data, tuple) else () if data is None else (data,)
        frames = encode(EVENT, [event, *args], namespace=namespace)
        skip = [skip_sid] if isinstance(skip_sid, str) else skip_sid or ()
        for sid, _ in self.get_participants(namespace, to or room):
            if sid not in skip:
                for framed in frames:
                    self.server.push(sid, framed)
