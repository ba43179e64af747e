"""Events that are not stored, to everybody in a room, on whichever server they are.

It is python-socketio's own pub/sub manager with the room's channel in place of the one channel for
everything, and without its listener, which is deaf for up to 60 s after an outage of Redis
(python-socketio 5.18.1; tests/server/test_manager.py). Stored messages do not come this way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from socketio.async_pubsub_manager import AsyncPubSubManager

from chatlab.storage.shared import Events
from chatlab.transport.codec import JSON
from chatlab.transport.frame import frame
from chatlab.transport.manager import StrictManager

__all__ = ["ROOM", "RoomManager"]

log = logging.getLogger(__name__)

ROOM: Final = "room:"
"""What the name of a room begins with, on python-socketio's side."""

COMPLAIN_EVERY: Final = 10.0  # seconds between two log lines about what cannot be read


class _Emit(msgspec.Struct, frozen=True, array_like=True, tag="emit"):
    """An event for the members: the Socket.IO packet as it goes out, and whom to leave out."""

    packet: str
    skip: list[str]


class _Tell(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    """Something for the servers themselves."""

    kind: str
    data: Any


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Emit | _Tell).decode


class RoomManager(StrictManager, AsyncPubSubManager):  # type: ignore[misc]
    """Give it to the server as `client_manager`. Without `events` there is only this server.

    `told(room, kind, data)` is called with what another server said by `tell`. `unread` counts what
    was heard and could not be read.
    """

    name = "chatlab"

    def __init__(self, events: Events | None = None) -> None:
        super().__init__()
        self.told: Callable[[str, str, Any], None] = lambda room, kind, data: None
        self.unread = 0
        self._events = events
        self._complained_at = float("-inf")
        if events is not None:
            events.heard = self.heard

    def initialize(self) -> None:
        """The stock class starts its listener here. `Events` listens already."""

    # --- to a room -----------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: str | None = None,
        skip_sid: str | list[str] | None = None,
        callback: Callable[..., Any] | None = None,
        to: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Send an event to a room named `room:…`, here and on the other servers; never waits.

        A tuple is several arguments, None is none; all are JSON values or structs. `skip_sid` are
        sockets to leave out. Raises `ValueError` for what has no way to the other servers: no room
        or another one, another namespace, a callback.
        """
        room = to or room
        if not isinstance(room, str) or not room.startswith(ROOM):
            raise ValueError(
                f"{event!r} must name a room that begins with {ROOM!r}: without one it would "
                "reach everybody, and any other is known to this server only"
            )
        if namespace not in (None, "/"):
            raise ValueError(f"{event!r} cannot go to {namespace!r}: there is only the namespace /")
        if callback is not None:
            raise ValueError(f"{event!r} goes to a room: nobody could gather its acks")
        args = data if isinstance(data, tuple) else () if data is None else (data,)
        skip = [skip_sid] if isinstance(skip_sid, str) else list(skip_sid or ())
        message = {"room": room, "emit": _Emit("2" + JSON.dumps([event, *args]), skip)}
        await self._handle_emit(message)
        if not kwargs.get("ignore_queue"):
            await self._publish(message)

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        self._push(message["room"], message["emit"])

    async def _publish(self, data: dict[str, Any]) -> None:
        """While Redis is away the other servers do not hear it; nothing is raised."""
        if self._events is not None:
            self._events.publish(data["room"].removeprefix(ROOM), _encode(data["emit"]))

    def _push(self, room: str, emit: _Emit) -> None:
        framed = frame(b"4" + emit.packet.encode())
        for sid, _ in self.get_participants("/", room):
            if sid not in emit.skip:
                self.server.push(sid, framed)

    # --- between servers -----------------------------------------------------------------------

    def tell(self, room: str, kind: str, data: Any) -> None:
        """Have `told` called on the other servers that follow a room (its plain name).

        `data` is what MessagePack can hold. At most once, and not while Redis is away.
        """
        if self._events is not None:
            self._events.publish(room, _encode(_Tell(kind, data)))

    def heard(self, room: str, payload: bytes) -> None:
        """Another server has published something in a room (its plain name)."""
        try:
            message = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._cannot_read(room, payload)
            return
        if isinstance(message, _Tell):
            self.told(room, message.kind, message.data)
        elif message.packet.startswith("2["):
            self._push(ROOM + room, message)
        else:
            self._cannot_read(room, payload)

    def _cannot_read(self, room: str, payload: bytes) -> None:
        self.unread += 1
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            log.warning("room %r: %d bytes from elsewhere cannot be read", room, len(payload))

    # --- sockets: each belongs to the server that it is connected to -----------------------------

    async def enter_room(
        self, sid: str, namespace: str, room: str, eio_sid: str | None = None
    ) -> None:
        """Add a socket of this server to a room. Raises `ValueError` for one that is not here."""
        if eio_sid is None and self.eio_sid_from_sid(sid, namespace) is None:
            raise ValueError("the socket is not connected to this server")
        self.basic_enter_room(sid, namespace, room, eio_sid=eio_sid)

    async def leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Take a socket out of a room; one that is not here is in none."""
        self.basic_leave_room(sid, namespace, room)

    async def close_room(self, room: str, namespace: str | None = None) -> None:
        """Raises `ValueError`: it would empty the room on this server only."""
        raise ValueError("a room cannot be closed: its sockets leave one by one")

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        """Whether the socket is here; one that is elsewhere is for its own server to close."""
        return bool(self.is_connected(sid, namespace))

    async def disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """Forget a socket of this server."""
        self.basic_disconnect(sid, namespace)
