"""The Socket.IO server: who is accepted, what reaches the application, how a socket closes.

python-socketio 5.18.1 registers a socket in every room before its connect handler has decided,
answers a crash there with nothing, and runs each event in a task of its own. Here a socket is
known only once it is accepted, every crash is a refusal, and the application gets events in the
order of arrival and answers them itself. tests/protocol/test_stock_faults.py has the stock
classes' faults, one by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import socketio
from aiohttp import web

from chatlab.transport import packet
from chatlab.transport.engine import StrictEngine
from chatlab.transport.frame import frame
from chatlab.transport.manager import StrictManager
from chatlab.transport.packet import MalformedPacket, Packet, encode, encode_event, event_of
from chatlab.transport.session import Session

__all__ = ["Handshake", "StrictServer", "encode_event"]

log = logging.getLogger(__name__)

REFUSALS: Final = 10
"""CONNECTs of one session that may be refused before it is closed."""

_ID_END: Final = 17  # where the JSON of an event in `/` begins at the latest: 2, 15 digits


@dataclass(slots=True)
class Handshake:
    """One connection attempt. `auth` is whatever the client sent: check its type.

    `state` is for middlewares to leave things for one another and for the application.
    """

    auth: Any
    request: web.Request
    namespace: str = "/"
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Peer:
    """What Socket.IO knows of a session. `request` opened it; it is kept while it is needed."""

    request: web.Request | None
    sids: dict[str, str] = field(default_factory=dict)
    refusals: int = 0
    partial: Packet | None = None
    parts: list[bytes] = field(default_factory=list)


class StrictServer(socketio.AsyncServer):  # type: ignore[misc]
    """A python-socketio server whose application is four functions.

    `accept(handshake)` is awaited for every CONNECT; what it returns is sent back if it is a
    refusal, None accepts. `opened(sid, handshake)` follows an acceptance, `closed(sid, reason)`
    exactly once when the socket ends. `arrived(sid, name, args, ack_id)` gets every event in
    order; it may return an awaitable, and the socket is not read further before that is done.

    `allowance(sid, frames)` takes so many frames from what the sid's user may send: 0.0, or the
    seconds for which the socket is not read. `connect_timeout` is in seconds.
    """

    def __init__(
        self,
        *,
        accept: Callable[[Handshake], Awaitable[dict[str, Any] | None]],
        opened: Callable[[str, Handshake], None],
        arrived: Callable[[str, str, list[Any], int | None], Awaitable[None] | None],
        closed: Callable[[str, str], Awaitable[None] | None],
        allowance: Callable[[str, int], float] = lambda _sid, _frames: 0.0,
        address_of: Callable[[web.Request], str] = lambda request: request.remote or "",
        namespaces: Collection[str] = ("/",),
        connect_timeout: float,
        max_attachments: int,
        max_unauthenticated: int,
        max_unauthenticated_per_address: int = 0,
        client_manager: StrictManager | None = None,
        **engine_options: Any,
    ) -> None:
        self._accept = accept
        self._opened = opened
        self._arrived = arrived
        self._closed = closed
        self._allowance = allowance
        self._known_namespaces = frozenset(namespaces)
        self._connect_timeout = connect_timeout
        self._max_attachments = max_attachments
        self._max_unauthenticated = max_unauthenticated
        self._max_per_address = max_unauthenticated_per_address
        self.accepting = True  # new sessions
        self.pending_connects: dict[Session, asyncio.TimerHandle] = {}
        self._pending_addresses: Counter[str] = Counter()
        self._sessions: dict[str, Session] = {}
        super().__init__(
            client_manager=client_manager or StrictManager(),
            logger=_library_log,
            engineio_logger=_library_log,
            opened=self._begin,
            received=self._received,
            left=self._left,
            afford=self._afford,
            admit=self._has_room,
            address_of=address_of,
            **engine_options,
        )

    def _engineio_server_class(self) -> type[StrictEngine]:
        return StrictEngine

    # --- for the application -----------------------------------------------------------------

    def push(self, sid: str, framed: bytes) -> None:
        """Queue an encoded packet for one socket, without waiting."""
        session = self._sessions.get(sid)
        if session is not None:
            session.write(framed)

    def outlet(self, sid: str) -> Callable[[bytes], None]:
        """What queues encoded packets for this socket; of one that is gone, it does nothing."""
        session = self._sessions.get(sid)
        return session.write if session is not None else _nowhere

    def push_event(self, sid: str, name: str, *args: Any) -> None:
        """Queue an event for one socket, without waiting."""
        self._push(sid, packet.EVENT, [name, *args])

    def push_ack(self, sid: str, ack_id: int, *answer: Any) -> None:
        """Queue an ack for one socket, without waiting. Raises when `answer` has no JSON form."""
        self._push(sid, packet.ACK, answer, ack_id)

    def push_encoded_ack(self, sid: str, ack_id: int, answer: bytes) -> None:
        """The same in `/`, with the one argument's JSON."""
        session = self._sessions.get(sid)
        if session is not None:
            session.write(frame(b"43%d[%b]" % (ack_id, answer)))

    def _push(self, sid: str, kind: int, data: Any, ack_id: int | None = None) -> None:
        session = self._sessions.get(sid)
        if session is not None:
            namespace = _namespace_of(session, sid)
            for framed in encode(kind, data, namespace=namespace, ack_id=ack_id):
                session.write(framed)

    async def close_transport(self, sid: str, reason: str) -> None:
        """Write what is queued and close the transport: the client returns by itself."""
        session = self._sessions.get(sid)
        if session is not None:
            session.ended(reason)

    async def kick(self, sid: str, reason: str) -> None:
        """Send a Socket.IO DISCONNECT: the official client does not return by itself."""
        session = self._sessions.get(sid)
        if session is not None:
            self._push(sid, packet.DISCONNECT, None)
            self._leave(session, _namespace_of(session, sid), reason)

    async def disconnect(
        self, sid: str, namespace: str | None = None, ignore_queue: bool = False
    ) -> None:
        """python-socketio's name for `kick`."""
        await self.kick(sid, self.reason.SERVER_DISCONNECT)

    # --- sessions that have not connected yet --------------------------------------------------

    def _has_room(self, address: str) -> bool:
        if not self.accepting or len(self.pending_connects) >= self._max_unauthenticated:
            return False
        return not self._max_per_address or (
            self._pending_addresses[address] < self._max_per_address
        )

    def _begin(self, session: Session, request: web.Request) -> None:
        session.peer = _Peer(request)
        self._expect_connect(session)

    def _expect_connect(self, session: Session) -> None:
        if not session.closed and session not in self.pending_connects:
            self.pending_connects[session] = asyncio.get_running_loop().call_later(
                self._connect_timeout, session.drop, "no CONNECT in time"
            )
            self._pending_addresses[session.address] += 1

    def _stop_expecting(self, session: Session) -> None:
        timer = self.pending_connects.pop(session, None)
        if timer is not None:
            timer.cancel()
            self._pending_addresses[session.address] -= 1
            if not self._pending_addresses[session.address]:
                del self._pending_addresses[session.address]

    def _afford(self, session: Session, frames: int) -> float:
        for sid in session.peer.sids.values():
            return self._allowance(sid, frames)
        raise MalformedPacket("too much before CONNECT")

    # --- from the engine ---------------------------------------------------------------------

    def _received(self, session: Session, data: str | bytes) -> Awaitable[None] | None:
        peer: _Peer = session.peer
        if peer.partial is not None:
            return self._attach(session, peer.partial, data)
        if data[:1] == "2":
            # The one packet that comes by the thousand: an event in `/`, perhaps with an ack id.
            start = data.find("[", 1, _ID_END)  # type: ignore[arg-type]
            digits, sid = data[1:start], peer.sids.get("/")
            if sid is not None and (
                start == 1 or (start > 1 and digits.isascii() and digits.isdigit())
            ):
                event = event_of(data[start:])  # type: ignore[arg-type]
                ack_id = int(digits) if digits else None
                return self._arrived(sid, event[0], event[1:], ack_id)
        return self._dispatch(session, Packet.parse(data))

    def _dispatch(self, session: Session, pkt: Packet) -> Awaitable[None] | None:
        peer: _Peer = session.peer
        if pkt.kind == packet.CONNECT:
            return self._connect(session, pkt.namespace, pkt.data)
        sid = peer.sids.get(pkt.namespace)
        if sid is None:
            raise MalformedPacket("a packet for a namespace that is not connected")
        if pkt.kind == packet.DISCONNECT:
            self._leave(session, pkt.namespace, self.reason.CLIENT_DISCONNECT)
        elif pkt.kind in (packet.BINARY_EVENT, packet.BINARY_ACK):
            if not 0 < pkt.attachments <= self._max_attachments:
                raise MalformedPacket("binary attachments are not accepted here")
            peer.partial = pkt
        elif pkt.kind == packet.EVENT:
            return self._arrived(sid, pkt.data[0], pkt.data[1:], pkt.id)
        return None  # an ack: nobody here asks for one

    def _attach(self, session: Session, pkt: Packet, data: str | bytes) -> Awaitable[None] | None:
        if not isinstance(data, bytes):
            raise MalformedPacket("an attachment was expected")
        peer = session.peer
        peer.parts.append(data)
        if len(peer.parts) < pkt.attachments:
            return None
        parts, peer.parts, peer.partial = peer.parts, [], None
        pkt.attach(parts)
        if pkt.kind == packet.BINARY_ACK:
            return None
        return self._arrived(peer.sids[pkt.namespace], pkt.data[0], pkt.data[1:], pkt.id)

    def _connect(self, session: Session, namespace: str, auth: Any) -> Awaitable[None] | None:
        peer = session.peer
        if namespace not in self._known_namespaces:
            self._refuse(session, namespace, {"message": "Invalid namespace"})
            return None
        if namespace in peer.sids:
            raise MalformedPacket("a second CONNECT")
        if peer.request is None:  # it was given up: whoever left has to open another session
            session.ended(self.reason.SERVER_DISCONNECT)
            return None
        return self._decide(session, Handshake(auth, peer.request, namespace))

    async def _decide(self, session: Session, handshake: Handshake) -> None:
        """Only then is the socket let into the manager's rooms."""
        peer, namespace = session.peer, handshake.namespace
        refusal = await self._accept(handshake)
        if refusal is not None:
            self._refuse(session, namespace, refusal)
            return
        self._stop_expecting(session)
        sid = peer.sids[namespace] = self.eio.generate_id()
        if len(peer.sids) == len(self._known_namespaces):
            peer.request = None  # of 3.6 KB
        self._sessions[sid] = session
        self.manager.add(sid, namespace, session.sid)
        self._opened(sid, handshake)
        self._push(sid, packet.CONNECT, {"sid": sid})
        if session.closed:  # it left while we were deciding
            self._leave(session, namespace, self.reason.TRANSPORT_CLOSE)

    def _refuse(self, session: Session, namespace: str, refusal: dict[str, Any]) -> None:
        peer = session.peer
        peer.refusals += 1
        if peer.refusals > REFUSALS:
            raise MalformedPacket("too many CONNECTs that were refused")
        for framed in encode(packet.CONNECT_ERROR, refusal, namespace=namespace):
            session.write(framed)

    def _leave(self, session: Session, namespace: str, reason: str) -> None:
        """One namespace of a session has ended."""
        peer = session.peer
        sid = peer.sids.pop(namespace)
        if peer.partial is not None and peer.partial.namespace == namespace:
            peer.partial, peer.parts = None, []
        del self._sessions[sid]
        try:
            telling = self._closed(sid, reason)
            if telling is not None:
                self.eio.spawn(telling)
        except Exception:
            log.exception("the application could not be told that a socket has left")
        self.manager.basic_disconnect(sid, namespace)
        if not peer.sids:
            self._expect_connect(session)

    def _left(self, session: Session, reason: str) -> None:
        self._stop_expecting(session)
        for namespace in list(session.peer.sids):
            self._leave(session, namespace, reason)
        session.peer.request = None


def _namespace_of(session: Session, sid: str) -> str:
    for namespace, known in session.peer.sids.items():
        if known == sid:
            return str(namespace)
    return "/"


def _nowhere(_framed: bytes) -> None:
    """The outlet of a socket that is gone."""


# What the libraries log names Engine.IO session ids, which are bearer secrets.
_library_log = logging.getLogger("chatlab.transport.library")
_library_log.addHandler(logging.NullHandler())
_library_log.propagate = False
_library_log.setLevel(logging.CRITICAL)
