"""The Socket.IO server: who is accepted, what reaches the application, how a socket closes.

python-socketio 5.18.1 registers a socket in every room before its connect handler has decided,
answers a crash there with nothing, and runs each event in a task of its own. Here a socket is
known only once it is accepted, every crash is a refusal, and the application gets events in the
order of arrival and answers them itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import socketio
from aiohttp import web
from engineio import packet as engine_packet
from socketio import packet

from chatlab.transport.engine import StrictEngine
from chatlab.transport.packet import MalformedPacket, StrictPacket

__all__ = ["Handshake", "StrictServer"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Handshake:
    """One connection attempt. `auth` is whatever the client sent: check its type.

    `state` is for middlewares to leave things for one another and for the application.
    """

    auth: Any
    request: web.Request
    state: dict[str, Any] = field(default_factory=dict)


class StrictServer(socketio.AsyncServer):  # type: ignore[misc]
    """A python-socketio server whose application is three functions.

    `accept(handshake)` is awaited for every CONNECT; what it returns is sent back if it is a
    refusal, None accepts. `opened(sid, handshake)` follows an acceptance, `closed(sid, reason)`
    exactly once when the socket ends. `arrived(sid, name, args, ack_id)` gets every event in
    order; it may return an awaitable, and the socket is not read further before that is done.
    """

    def __init__(
        self,
        *,
        accept: Callable[[Handshake], Awaitable[dict[str, Any] | None]],
        opened: Callable[[str, Handshake], None],
        arrived: Callable[[str, str, list[Any], int | None], Awaitable[None] | None],
        closed: Callable[[str, str], Awaitable[None]],
        connect_timeout: float,
        max_attachments: int,
        max_unauthenticated: int,
        **engine_options: Any,
    ) -> None:
        self._accept = accept
        self._opened = opened
        self._arrived = arrived
        self._closed = closed
        self._connect_timeout = connect_timeout
        self._max_attachments = max_attachments
        self._max_unauthenticated = max_unauthenticated
        self.pending_connects: dict[str, asyncio.TimerHandle] = {}
        super().__init__(
            serializer=StrictPacket,
            logger=_library_log,
            engineio_logger=_library_log,
            admit=self._has_room,
            **engine_options,
        )

    def _engineio_server_class(self) -> type[StrictEngine]:
        return StrictEngine

    # --- for the application -----------------------------------------------------------------

    def push(self, sid: str, encoded: str) -> None:
        """Queue an encoded Socket.IO packet for one socket, without waiting."""
        session = self._session(sid)
        if session is not None:
            session.push(engine_packet.Packet(engine_packet.MESSAGE, encoded))

    def push_event(self, sid: str, name: str, *args: Any) -> None:
        """Queue an event for one socket, without waiting."""
        self.push(sid, encode_event(name, *args))

    def push_ack(self, sid: str, ack_id: int, answer: Any) -> None:
        """Queue an ack for one socket, without waiting. Raises when `answer` has no JSON form."""
        self.push(sid, StrictPacket(packet.ACK, [answer], id=ack_id, binary=False).encode())

    async def close_transport(self, sid: str, reason: str) -> None:
        """Write what is queued and close the transport: the client returns by itself."""
        session = self._session(sid)
        if session is not None:
            await session.ended(reason)

    async def kick(self, sid: str, reason: str) -> None:
        """Send a Socket.IO DISCONNECT: the official client does not return by itself."""
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        if eio_sid is not None:
            self._send(eio_sid, StrictPacket(packet.DISCONNECT))
            await self._handle_disconnect(eio_sid, "/", reason)
            self._expect_connect(eio_sid)

    def _session(self, sid: str) -> Any:
        return self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, "/"))

    # --- from the engine ---------------------------------------------------------------------

    def _has_room(self, _request: web.Request) -> bool:
        return len(self.pending_connects) < self._max_unauthenticated

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._expect_connect(eio_sid)

    def _expect_connect(self, eio_sid: str) -> None:
        self._stop_expecting(eio_sid)
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            loop = asyncio.get_running_loop()
            self.pending_connects[eio_sid] = loop.call_later(
                self._connect_timeout, session.drop, "no CONNECT in time"
            )

    def _stop_expecting(self, eio_sid: str) -> None:
        timer = self.pending_connects.pop(eio_sid, None)
        if timer:
            timer.cancel()

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        if eio_sid in self._binary_packet:
            await self._attach(eio_sid, data)
        else:
            await self._dispatch(eio_sid, data)

    async def _dispatch(self, eio_sid: str, data: Any) -> None:
        pkt = StrictPacket(encoded_packet=data)
        if not data:
            raise MalformedPacket("an empty packet")
        namespace = pkt.namespace or "/"
        if pkt.packet_type == packet.CONNECT:
            await self._handle_connect(eio_sid, namespace, pkt.data)
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None or not self.manager.is_connected(sid, namespace):
            raise MalformedPacket("a packet for a namespace that is not connected")
        if pkt.packet_type == packet.DISCONNECT:
            await self._handle_disconnect(eio_sid, namespace, self.reason.CLIENT_DISCONNECT)
            self._expect_connect(eio_sid)
        elif pkt.attachment_count or pkt.packet_type in (packet.BINARY_EVENT, packet.BINARY_ACK):
            if not 0 < pkt.attachment_count <= self._max_attachments:
                raise MalformedPacket("binary attachments are not accepted here")
            self._binary_packet[eio_sid] = pkt
        else:
            await self._deliver(eio_sid, sid, namespace, pkt)

    async def _attach(self, eio_sid: str, data: Any) -> None:
        pkt = self._binary_packet[eio_sid]
        if not isinstance(data, bytes):
            raise MalformedPacket("an attachment was expected")
        try:
            complete = pkt.add_attachment(data)
        except (IndexError, TypeError, ValueError) as error:
            raise MalformedPacket("placeholders do not fit the attachments") from error
        if complete:
            del self._binary_packet[eio_sid]
            namespace = pkt.namespace or "/"
            sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
            await self._deliver(eio_sid, sid, namespace, pkt)

    async def _deliver(self, eio_sid: str, sid: str, namespace: str, pkt: StrictPacket) -> None:
        if pkt.packet_type in (packet.EVENT, packet.BINARY_EVENT):
            name, *args = pkt.data
            waiting = self._arrived(sid, name, args, pkt.id)
            if waiting is not None:
                await waiting
        else:
            await self._handle_ack(eio_sid, namespace, pkt.id, pkt.data)

    async def _handle_connect(self, eio_sid: str, namespace: str, data: Any) -> None:
        """Decide, and only then let the socket into the manager's rooms."""
        if namespace != "/":
            self._refuse(eio_sid, namespace, {"message": "Invalid namespace"})
            return
        if self.manager.sid_from_eio_sid(eio_sid, namespace) is not None:
            raise MalformedPacket("a second CONNECT")
        handshake = Handshake(data, self.environ[eio_sid]["aiohttp.request"])
        refusal = await self._accept(handshake)
        if refusal is not None:
            self._expect_connect(eio_sid)  # it may try again, but not wait for ever
            self._refuse(eio_sid, namespace, refusal)
            return
        self._stop_expecting(eio_sid)
        sid = await self.manager.pre_connect(eio_sid, namespace)
        await self.manager.connect(sid, namespace)
        self._opened(sid, handshake)
        self._send(eio_sid, StrictPacket(packet.CONNECT, {"sid": sid}))
        if eio_sid not in self.eio.sockets:  # it left while we were deciding
            await self._handle_disconnect(eio_sid, namespace, self.reason.TRANSPORT_CLOSE)

    def _refuse(self, eio_sid: str, namespace: str, refusal: dict[str, Any]) -> None:
        self._send(eio_sid, StrictPacket(packet.CONNECT_ERROR, refusal, namespace=namespace))

    async def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        self._send(eio_sid, pkt)

    def _send(self, eio_sid: str, pkt: packet.Packet) -> None:
        session = self.eio.sockets.get(eio_sid)
        if session is None:
            return
        encoded = pkt.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            session.push(engine_packet.Packet(engine_packet.MESSAGE, part))

    async def _send_eio_packet(self, eio_sid: str, eio_pkt: engine_packet.Packet) -> None:
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            session.push(eio_pkt)

    async def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        # The library's own dispatch; with events taken over above, only `disconnect` comes here.
        if event == "disconnect":
            await self._closed(*args)
        return None

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._stop_expecting(eio_sid)
        self._binary_packet.pop(eio_sid, None)
        with contextlib.suppress(KeyError):
            await super()._handle_eio_disconnect(eio_sid, reason)


def encode_event(name: str, *args: Any) -> str:
    """An event as a Socket.IO packet, to be pushed to any number of sockets."""
    encoded: str = StrictPacket(packet.EVENT, [name, *args], binary=False).encode()
    return encoded


# What the libraries log names Engine.IO session ids, which are bearer secrets.
_library_log = logging.getLogger("chatlab.transport.library")
_library_log.addHandler(logging.NullHandler())
_library_log.propagate = False
_library_log.setLevel(logging.CRITICAL)
