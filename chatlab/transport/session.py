"""One Engine.IO session: its outbox, its heartbeat, its two transports and the change between them.

The stock session (python-engineio 4.15.1) queues without bound for a client that does not read,
leaves presence up to the ping timeout after a broken packet, and takes two tasks a session and two
a frame. Here the outbox is written once in a pass of the event loop, and a frame costs no task.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from chatlab.transport.frame import BINARY, frame, polled
from chatlab.transport.packet import MalformedPacket
from chatlab.transport.websocket import WebSocket

if TYPE_CHECKING:
    from chatlab.transport.engine import StrictEngine

__all__ = ["Session"]

log = logging.getLogger(__name__)

POLL_PACKETS: Final = 16
"""Packets in one polling body; python-engineio's client 4.15.1 drops a connection at more."""

FREE_FRAMES: Final = 64
"""Frames that a session may send before its budget is asked, and how many it asks for at a time."""

FRAME_BYTES: Final = 4096
"""So many bytes count as another frame: reading a long one costs more."""

EARLY: Final = 64
"""Frames that wait for one client, past which they do not wait for the end of the loop's pass."""

_CLOSE, _PING, _NOOP = "1", frame(b"2"), "6"


@dataclass(slots=True, eq=False)
class Session:
    """`engine` owns the session; `sid` is a bearer secret: never log it.

    `address` names the client in the log, `peer` is for the layer above, `credit` says how many
    frames may still come before `engine.afford` is asked for more.
    """

    engine: StrictEngine
    sid: str
    address: str
    peer: Any = None
    session: dict[str, Any] = field(default_factory=dict)  # python-socketio's get_session()
    closed: bool = False
    upgrading: bool = False
    posting: bool = False
    websocket: WebSocket | None = None
    credit: int = FREE_FRAMES
    unread: int = 0  # bytes that wait for a poll
    _outbox: list[bytes] = field(default_factory=list)
    _corked: bool = False
    _held: deque[str | bytes] | None = None
    _poll: asyncio.Future[None] | None = None
    _farewell: str | None = _CLOSE  # what the last poll gets; None: it is said, or void
    _heartbeat: asyncio.TimerHandle | None = None

    # --- sending -----------------------------------------------------------------------------

    def push(self, data: str | bytes) -> None:
        """Queue one message."""
        if isinstance(data, str):
            self.write(frame(b"4" + data.encode()))
        else:
            self.write(frame(data, BINARY))

    async def send(self, pkt: Any) -> None:
        """What python-engineio calls with a message packet."""
        self.push(pkt.data)

    def write(self, framed: bytes) -> None:
        """Queue an encoded frame without waiting; it leaves with all others of this loop pass."""
        if self.closed:
            return
        self._outbox.append(framed)
        if self.websocket is None:
            self.unread += len(framed)
        if not self._corked:
            self._corked = True
            self.engine.cork(self)

    def flush(self) -> None:
        """Write what is queued; a client that does not keep up is dropped."""
        self._corked = False
        if self.websocket is not None:
            outbox = self._outbox
            if outbox:
                unread = self.websocket.send(outbox)
                outbox.clear()
                if unread > self.engine.max_unread:
                    self.drop("slow reader")
        elif self.unread > self.engine.max_unread:
            self.drop("slow reader")
        else:
            self._wake()

    # --- heartbeat ---------------------------------------------------------------------------

    def schedule_ping(self) -> None:
        """Ping after the interval; called again by every pong."""
        self._restart_heartbeat(self.engine.ping_interval, self._ping)

    def _ping(self) -> None:
        self.write(_PING)
        self._restart_heartbeat(self.engine.ping_timeout, self.drop, "ping timeout")

    def _restart_heartbeat(self, delay: float, callback: Any, *args: Any) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if not self.closed:
            self._heartbeat = asyncio.get_running_loop().call_later(delay, callback, *args)

    # --- closing -----------------------------------------------------------------------------

    def ended(self, reason: str) -> None:
        """The session is over: the application is told now, whatever the wire still does.

        What is queued is written first, as far as the client takes it.
        """
        if self.closed:
            return
        self.closed = True
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self.engine.forget(self, reason)
        self._held = None
        websocket = self.websocket
        if websocket is not None:
            if self._outbox:
                websocket.send(self._outbox)
                self._outbox.clear()
            websocket.close()
        self._wake()

    def drop(self, reason: str) -> None:
        """End the session and cut its transport: nothing more can be written to it."""
        self.abort()
        self.ended(reason)

    def fail(self, reason: str) -> None:
        """End the session for a fault of its client: a poll that comes afterwards is refused."""
        if self.websocket is None:
            self.abort()
        self.ended(reason)

    def abort(self) -> None:
        """Throw away what is queued, and cut the websocket."""
        self._outbox.clear()
        self.unread, self._farewell = 0, None
        if self.websocket is not None:  # a polling client's connection may be a proxy's
            self.websocket.abort()

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """What python-engineio calls; see `ended`."""
        self.ended(reason or self.engine.reason.SERVER_DISCONNECT)

    # --- receiving ---------------------------------------------------------------------------

    def received(self, data: str | bytes) -> None:
        """Handle one websocket message, or hold it while an earlier one is still being handled."""
        if self._held is not None:
            self._held.append(data)
        elif not self.closed:
            try:
                message = data[:1] == "4"  # nearly all are
                waiting = self.engine.received(self, data[1:]) if message else self._handle(data)
            except Exception as error:
                self._failed(error)
            else:
                if waiting is not None:
                    self._hold(waiting)

    def consumed(self, frames: int, size: int) -> None:
        """Take what was read together off the budget, and stop reading when it is used up.

        Much to say goes out at once: a pass of the loop is long when everybody sends that much.
        """
        if len(self._outbox) > EARLY:
            self.flush()
        self.credit -= frames + size // FRAME_BYTES
        if self.credit < 0 and self._held is None and not self.closed:
            self._hold(self._afford())

    async def receive_body(self, packets: list[str]) -> None:
        """Handle a polling body, packet by packet.

        Raises `MalformedPacket` when the session had to end for what is in it.
        """
        if self.posting or self.upgraded:
            raise MalformedPacket("two bodies at a time, or one behind an upgrade")
        self.posting = True
        try:
            for packet in packets:
                if self.closed:
                    break
                waiting = self._handle(packet)
                if waiting is not None:
                    await waiting
            self.credit -= len(packets) + sum(map(len, packets)) // FRAME_BYTES
            await self._afford()
        except Exception as error:
            self._failed(error)
            raise MalformedPacket("the session is closed") from error
        finally:
            self.posting = False

    def _handle(self, data: str | bytes) -> Awaitable[None] | None:
        """Handle one packet; what is returned has to be awaited before the next one."""
        if isinstance(data, bytes):
            return self.engine.received(self, data)
        kind = data[:1]
        if kind == "4":
            return self.engine.received(self, data[1:])
        if kind == "3":
            self.schedule_ping()
        elif kind == "1":
            self._farewell = _NOOP
            self.ended(self.engine.reason.CLIENT_DISCONNECT)
        elif kind == "b":
            try:
                return self.engine.received(self, base64.b64decode(data[1:], validate=True))
            except binascii.Error:
                raise MalformedPacket("not base64") from None
        else:
            raise MalformedPacket("a client sends no such Engine.IO packet")
        return None

    def _hold(self, waiting: Awaitable[None]) -> None:
        """Read no further before `waiting` is done."""
        self._held = deque()
        if self.websocket is not None:
            self.websocket.pause_reading()
        self.engine.spawn(self._go_on(waiting))

    async def _go_on(self, waiting: Awaitable[None] | None) -> None:
        try:
            while True:
                if waiting is not None:
                    await waiting
                await self._afford()
                if not self._held:
                    break
                waiting = self._handle(self._held.popleft())
        except Exception as error:
            self._failed(error)
        self._held = None
        if self.websocket is not None and not self.closed:
            self.websocket.resume_reading()

    async def _afford(self) -> None:
        while self.credit < 0 and not self.closed:
            wait = self.engine.afford(self, FREE_FRAMES)
            if wait > 0.0:
                await asyncio.sleep(wait)
            else:
                self.credit += FREE_FRAMES

    def _failed(self, error: Exception) -> None:
        """Nothing that a client sends may end in a half-dead session."""
        client = {"client": self.address}
        if isinstance(error, MalformedPacket):
            said = "closed a socket of %s that broke the protocol: %s"
            log.info(said, self.address, error, extra=client)
        else:
            said = "closed a socket of %s whose packet could not be handled"
            log.error(said, self.address, exc_info=error, extra=client)
        self.fail("parse error")

    # --- polling -----------------------------------------------------------------------------

    async def poll(self, request: web.Request) -> str:
        """The body that answers a poll: what is queued, or the next packet, or a CLOSE.

        Raises `MalformedPacket` for a second poll while one waits: the protocol allows one.
        """
        if self._poll is not None:
            raise MalformedPacket("two polls at a time")
        if request.transport is None:
            raise ConnectionResetError
        if not self._outbox and not self.closed and not self.upgrading:
            # aiohttp tells of a connection that is lost nobody but the reader of the body. A poll
            # has none, so it waits in its place.
            waiting = self._poll = asyncio.get_running_loop().create_future()
            request._payload = waiting  # type: ignore[assignment]
            try:
                await waiting
            except (ConnectionError, asyncio.CancelledError):
                self.fail("transport close")
                raise
            finally:
                self._poll = None
        if self.websocket is not None or (self.upgrading and not self.closed):
            return _NOOP
        taken, self._outbox = self._outbox[:POLL_PACKETS], self._outbox[POLL_PACKETS:]
        self.unread -= sum(map(len, taken))
        # The official client forgets what it got in one body with a CLOSE (4.8.4).
        if taken:
            return "\x1e".join(map(polled, taken))
        last, self._farewell = self._farewell, None
        return last or _CLOSE

    @property
    def polling(self) -> bool:
        """Whether a poll is waiting."""
        return self._poll is not None

    @property
    def expects_poll(self) -> bool:
        """Whether the session, which has ended, has something left to say to a poll."""
        return self.closed and self.websocket is None and self._farewell is not None

    def _wake(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    # --- from polling to websocket -----------------------------------------------------------

    @property
    def upgraded(self) -> bool:
        """Whether a websocket carries the session."""
        return self.websocket is not None

    def probed(self) -> None:
        """A websocket is about to take over: the waiting poll is answered, and no other waits."""
        self.upgrading = True
        self._wake()

    def carry_on(self, websocket: WebSocket) -> None:
        """From now on `websocket` carries the session, beginning with what is queued."""
        self.websocket, self.upgrading = websocket, False
        websocket.owner = self
        self.unread = 0
        self.flush()


class Probe:
    """The owner of a websocket that asks to take a polling session over."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._step = "2probe"
        self._timer = asyncio.get_running_loop().call_later(
            session.engine.ping_timeout, self._give_up
        )
        self.websocket: WebSocket | None = None

    def received(self, data: str | bytes) -> None:
        """Only `2probe` and then, with no polling body on its way, `5` lead anywhere."""
        session, websocket, step = self._session, self.websocket, self._step
        taken = session.upgrading if step == "2probe" else session.posting
        if websocket is None:
            return
        if data != step or taken or session.closed or session.upgraded:
            websocket.close()
        elif step == "2probe":
            self._step = "5"
            websocket.send([frame(b"3probe")])
            session.probed()
        else:
            self._timer.cancel()
            session.carry_on(websocket)

    def consumed(self, frames: int, size: int) -> None:
        """Two messages need no budget."""

    def ended(self, reason: str) -> None:
        """The session stays with polling."""
        self._timer.cancel()
        if self._step == "5":
            self._session.upgrading = False

    def _give_up(self) -> None:
        if self.websocket is not None:
            self.websocket.close()
