"""One Engine.IO session: its outbox, its heartbeat and its two transports.

The stock session (python-engineio 4.15.1) queues without bound for a client that does not read,
leaves presence up to the ping timeout after a broken packet, and starts a task per frame. Here
the outbox counts bytes, a close is announced at once, and a frame costs no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSCloseCode, WSMsgType, web
from engineio import async_socket, packet

from chatlab.transport.packet import MalformedPacket

if TYPE_CHECKING:
    from chatlab.transport.engine import StrictEngine

__all__ = ["StrictSocket"]

log = logging.getLogger(__name__)

CLOSE_WAIT: Final = 0.5
"""Seconds to wait for the client's half of the websocket closing handshake."""

POLL_PACKETS: Final = 16
"""Packets in one polling body; python-engineio's client 4.15.1 drops a connection at more."""

_NOOP: Final = packet.Packet(packet.NOOP)


class _WebSocket(web.WebSocketResponse):
    """Tells the session of a close before the closing handshake, which may take its time.

    `session` is None while the websocket only probes: its end is not the session's end then.
    """

    session: StrictSocket | None = None

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        if self.session is not None:
            await self.session.ended("transport close")
        return await super().close(code=code, message=message, drain=drain)


class StrictSocket(async_socket.AsyncSocket):  # type: ignore[misc]
    """`server` is the engine that owns the session, `sid` its secret id: never log it."""

    server: StrictEngine
    closed: bool
    closing: bool
    connected: bool
    upgraded: bool
    upgrading: bool

    def __init__(self, server: StrictEngine, sid: str) -> None:
        super().__init__(server, sid)
        # Handed over and not yet taken by the client: characters, which are bytes where the text
        # is ASCII. Counting those of other text would encode it once more for every recipient.
        self.unread = 0
        self._outbox: deque[packet.Packet] = deque()
        self._wake = asyncio.Event()
        self.polling = False
        self._websocket: web.Request | None = None
        self._heartbeat: asyncio.TimerHandle | None = None

    # --- sending -----------------------------------------------------------------------------

    def push(self, pkt: packet.Packet) -> None:
        """Queue a packet without waiting; a client that does not keep up is dropped."""
        if self.closed:
            return
        self._outbox.append(pkt)
        self.unread += len(pkt.data) if isinstance(pkt.data, (str, bytes)) else 64
        self._wake.set()
        if self.unread > self.server.max_unread:
            self.drop("slow reader")

    async def send(self, pkt: packet.Packet) -> None:
        """Queue a packet, for callers that expect the stock coroutine."""
        self.push(pkt)

    def _take(self, most: int | None = None) -> list[packet.Packet]:
        self._wake.clear()
        if most is None or len(self._outbox) <= most:
            packets = list(self._outbox)
            self._outbox.clear()
            return packets
        return [self._outbox.popleft() for _ in range(most)]

    # --- heartbeat ---------------------------------------------------------------------------

    def schedule_ping(self) -> None:
        """Ping after the interval; called again by every pong."""
        self._restart_heartbeat(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.push(packet.Packet(packet.PING))
        self._restart_heartbeat(self.server.ping_timeout, self.drop, "ping timeout")

    def _restart_heartbeat(self, delay: float, callback: Any, *args: Any) -> None:
        if self._heartbeat:
            self._heartbeat.cancel()
        if not self.closed:
            loop = asyncio.get_running_loop()
            self._heartbeat = loop.call_later(delay, callback, *args)

    # --- closing -----------------------------------------------------------------------------

    async def ended(self, reason: str) -> None:
        """The session is over: tell the application now, whatever the wire still does."""
        if self.closed:
            return
        self.closing = self.closed = True
        if self._heartbeat:
            self._heartbeat.cancel()
        self.server.sockets.pop(self.sid, None)
        try:
            await self.server.handlers["disconnect"](self.sid, reason)
        except Exception:
            log.exception("disconnect handler failed")
        self._wake.set()

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """End the session and close its transport, after what is queued has been written."""
        await self.ended(reason or self.server.reason.SERVER_DISCONNECT)

    def drop(self, reason: str) -> None:
        """End the session and cut its transport: nothing more can be written to it."""
        self._outbox.clear()
        self.unread = 0
        self.server.spawn(self._drop(reason))

    async def _drop(self, reason: str) -> None:
        await self.ended(reason)
        self._abort()

    def _abort(self) -> None:
        # Only a websocket owns its connection; a polling client's may be a proxy's.
        if self._websocket is not None and self._websocket.transport is not None:
            self._websocket.transport.abort()

    # --- receiving ---------------------------------------------------------------------------

    async def receive(self, pkt: packet.Packet) -> None:
        """Handle one packet of the client. Raises `MalformedPacket` for what it may not send."""
        if pkt.packet_type == packet.MESSAGE:
            await self.server.handlers["message"](self.sid, pkt.data)
        elif pkt.packet_type == packet.PONG:
            self.schedule_ping()
        elif pkt.packet_type == packet.CLOSE:
            await self.ended(self.server.reason.CLIENT_DISCONNECT)
        else:
            raise MalformedPacket("a client does not send this Engine.IO packet")

    async def receive_all(self, encoded: list[str | bytes]) -> bool:
        """Handle encoded packets in order. False, and the session is over, at a malformed one."""
        try:
            for item in encoded:
                if self.closed:
                    break
                await self.receive(parse(item))
        except MalformedPacket as error:
            log.info("closed a socket that broke the protocol: %s", error)
        except Exception:
            # Nothing that a client sends may end in a half-dead session.
            log.exception("closed a socket whose packet could not be handled")
        else:
            return True
        await self.ended("parse error")
        return False

    # --- polling -----------------------------------------------------------------------------

    async def poll(self) -> list[packet.Packet]:
        """What is queued, or the next packet, or a CLOSE when the session is over.

        Raises `MalformedPacket` for a second poll while one waits: the protocol allows one.
        """
        if self.polling:
            raise MalformedPacket("two polls at a time")
        self.polling = True
        try:
            while not self._outbox and not self.closed and not self.upgrading:
                self._wake.clear()
                await self._wake.wait()
        finally:
            self.polling = False
        if self.upgrading or self.upgraded:
            return [_NOOP]
        packets = self._take(POLL_PACKETS)
        self.unread = sum(len(pkt.data or "") for pkt in self._outbox)
        # The official client forgets what it got in one body with a CLOSE (4.8.4).
        return packets or [packet.Packet(packet.CLOSE)]

    # --- websocket ---------------------------------------------------------------------------

    async def serve_websocket(self, request: web.Request) -> web.StreamResponse:
        """Carry the session over a websocket until either side ends it."""
        ws = _WebSocket(
            # aiohttp 3.14.5 refuses a frame that is as long as this, not only a longer one.
            max_msg_size=self.server.max_http_buffer_size + 1,
            timeout=CLOSE_WAIT,
            compress=self.server.compression,
        )
        await ws.prepare(request)
        if not self.connected:
            self.connected = True
        elif not await self._probe(ws):
            self.upgrading = False
            await ws.close()
            return ws
        self.upgraded, self.upgrading = True, False
        self._websocket, ws.session = request, self
        await self._serve(ws)
        return ws

    async def _probe(self, ws: web.WebSocketResponse) -> bool:
        try:
            async with asyncio.timeout(self.server.ping_timeout):
                if await ws.receive_str() != "2probe":
                    return False
                await ws.send_str("3probe")
                self.upgrading = True
                self._wake.set()  # a waiting poll is answered with NOOP: the client pauses it
                return await ws.receive_str() == "5" and not self.closed
        except (TimeoutError, TypeError, ConnectionError, RuntimeError):
            return False

    async def _serve(self, ws: web.WebSocketResponse) -> None:
        writer = asyncio.create_task(self._write(ws))
        try:
            async for message in ws:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                if not await self.receive_all([message.data]) or self.closed:
                    break
        finally:
            await self.ended("transport close")
            await asyncio.wait({writer}, timeout=CLOSE_WAIT)
            if not writer.done():  # the client is there but does not read
                self._abort()
            await writer

    async def _write(self, ws: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                if not self._outbox:
                    if self.closed:
                        break
                    self._wake.clear()
                    await self._wake.wait()
                for pkt in self._take():
                    encoded = pkt.encode()
                    if isinstance(encoded, str):
                        await ws.send_str(encoded)
                    else:
                        await ws.send_bytes(encoded)
                self.unread = sum(len(pkt.data or "") for pkt in self._outbox)
        await self.ended("transport close")
        with contextlib.suppress(ConnectionError, RuntimeError):
            await ws.close()


def parse(encoded: str | bytes) -> packet.Packet:
    """An Engine.IO packet of a client. Raises `MalformedPacket`.

    The stock parser reads every MESSAGE as JSON first, to guess its type; Socket.IO's own parser
    reads it again.
    """
    if isinstance(encoded, bytes):
        return packet.Packet(packet.MESSAGE, encoded)
    kind = encoded[:1]
    if kind == "b":
        try:
            return packet.Packet(encoded_packet=encoded)
        except ValueError as error:
            raise MalformedPacket("not base64") from error
    if kind not in ("0", "1", "2", "3", "4", "5", "6"):
        raise MalformedPacket("not an Engine.IO packet")
    return packet.Packet(int(kind), encoded[1:])
