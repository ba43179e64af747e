"""The Engine.IO endpoint: opens sessions, and hands each request to its session or refuses it.

Replaces the request handling of python-engineio 4.15.1, which cuts a polling body that arrives
in two pieces, drops more than 16 packets of one and answers both with 200, announces a ping
interval of 0.3 s as 0, and takes 127.0.0.1 for every client's address: each of these has a line
in tests/protocol/test_stock_faults.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import engineio
from aiohttp import web

from chatlab.transport.codec import encode_json
from chatlab.transport.frame import frame, polled
from chatlab.transport.packet import MalformedPacket
from chatlab.transport.session import Probe, Session
from chatlab.transport.websocket import Pool, WebSocket

__all__ = ["StrictEngine"]

log = logging.getLogger(__name__)

LAST_POLL: Final = 2.0
"""Seconds for which a polling client may fetch what was queued when its session ended.

And the CLOSE behind it: who was between two polls would be told that the session is unknown, which
client libraries report as an error.
"""

_SEPARATOR: Final = "\x1e"
# The codes and sentences of the protocol's reference server.
_UNKNOWN_TRANSPORT: Final = (0, "Transport unknown")
_UNKNOWN_SESSION: Final = (1, "Session ID unknown")
_BAD_METHOD: Final = (2, "Bad handshake method")
_BAD_REQUEST: Final = (3, "Bad request")
_FORBIDDEN: Final = (4, "Forbidden")
_BAD_VERSION: Final = (5, "Unsupported protocol version")


class _TooLarge(Exception):
    pass


class StrictEngine(engineio.AsyncServer):  # type: ignore[misc]
    """An Engine.IO server, for python-socketio or alone.

    Its application is functions, not handlers of `on()`: `received(session, data)` gets every
    message, and what it returns is awaited before that client's next one; `opened(session,
    request)` and `left(session, reason)` come once each. `afford(session, frames)` takes frames off
    what the client may send: 0.0, or the seconds for which it is not read.

    `max_unread` is in bytes a client, `max_payload_packets` counts what one polling body may hold.
    `allow_origin(request, origin)` decides on a browser's Origin header, `admit(address)` on a new
    session of a client, which `address_of(request)` names, in the log too.
    """

    session_class: type[Session] = Session

    def __init__(
        self,
        *,
        received: Callable[[Session, str | bytes], Awaitable[None] | None],
        opened: Callable[[Session, web.Request], None] = lambda _session, _request: None,
        left: Callable[[Session, str], None] = lambda _session, _reason: None,
        afford: Callable[[Session, int], float] = lambda _session, _frames: 0.0,
        max_unread: int = 1_048_576,
        max_payload_packets: int = 1_000,
        compression: bool = False,
        allow_origin: Callable[[web.Request, str], bool] = lambda _request, _origin: False,
        admit: Callable[[str], bool] = lambda _address: True,
        address_of: Callable[[web.Request], str] = lambda request: request.remote or "",
        **options: Any,
    ) -> None:
        super().__init__(
            async_mode="aiohttp",
            monitor_clients=False,  # each session keeps its own heartbeat
            http_compression=compression,
            **options,
        )
        self.received, self.opened, self.left, self.afford = received, opened, left, afford
        self.max_unread = max_unread
        self.compression = compression
        self._max_payload_packets = max_payload_packets
        self._allow_origin = allow_origin
        self._admit = admit
        self._address_of = address_of
        self._upgradable = self.allow_upgrades and "websocket" in self.transports
        self._corked: list[Session] = []
        self._leaving: dict[str, Session] = {}  # ended, and something waits for their last poll
        self._pool = Pool()
        self._tasks: set[asyncio.Future[None]] = set()

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Serve at this path: every method, so that each gets the protocol's own answer."""
        app.router.add_route("*", f"/{engineio_path.strip('/')}/", self.handle_request)

    # --- for sessions ------------------------------------------------------------------------

    def cork(self, session: Session) -> None:
        """Have the session flushed once everything that this pass of the loop does is done."""
        if not self._corked:
            asyncio.get_running_loop().call_soon(self._uncork)
        self._corked.append(session)

    def _uncork(self) -> None:
        corked, self._corked = self._corked, []
        for session in corked:
            session.flush()

    def spawn(self, work: Awaitable[None]) -> None:
        """Run `work` in a task that is kept until it is done."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, session: Session, reason: str) -> None:
        """A session has ended; called by the session, once."""
        self.sockets.pop(session.sid, None)
        if session.expects_poll:
            self._leaving[session.sid] = session
            if reason != self.reason.CLIENT_DISCONNECT:  # who left need not come for it
                self._pool.add(session)
            asyncio.get_running_loop().call_later(LAST_POLL, self._fetched, session)
        self.left(session, reason)

    def _fetched(self, session: Session) -> None:
        self._leaving.pop(session.sid, None)
        self._pool.discard(session)

    async def close_all(self, *, within: float) -> None:
        """Close every session's transport once its outbox is written, in at most `within` s.

        The clients see a lost transport and return by themselves; a Socket.IO DISCONNECT would
        tell the official client to stay away.
        """
        for session in list(self.sockets.values()):
            session.ended("server shutting down")
        await self._pool.empty(within=within)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    # --- requests ----------------------------------------------------------------------------

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """The endpoint for every method; an aiohttp handler."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._allow_origin(request, origin):
            return _refuse(_FORBIDDEN, 403)
        response = await self._respond(request)
        if origin is not None and response.status != 101:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Vary"] = "Origin"
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return _preflight(request)
        query = request.query
        transport = query.get("transport", "")
        if transport not in self.transports:
            return _refuse(_UNKNOWN_TRANSPORT)
        if query.get("EIO") != "4":
            return _refuse(_BAD_VERSION)
        sid = query.get("sid")
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade != (transport == "websocket"):
            return _refuse(_BAD_REQUEST)
        if sid is None:
            if request.method != "GET":
                return _refuse(_BAD_METHOD)
            return self._open(request, transport)
        session = self.sockets.get(sid) or self._leaving.get(sid)
        if session is None or (session.closed and request.method != "GET"):
            return _refuse(_UNKNOWN_SESSION)
        if transport == "websocket":
            return self._upgrade(request, session)
        return await self._continue(request, session)

    def _open(self, request: web.Request, transport: str) -> web.StreamResponse:
        address = self._address_of(request)
        if not self._admit(address):
            return web.Response(status=503, headers={"Retry-After": "1"})
        session = self.session_class(self, self.generate_id(), address)
        polling = transport == "polling"
        handshake = {
            "sid": session.sid,
            "upgrades": ["websocket"] if polling and self._upgradable else [],
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        first = frame(b"0" + encode_json(handshake))
        if polling:
            answer: web.StreamResponse = _packets(polled(first))
        else:
            websocket = self._websocket(session)
            answer = websocket.open(
                request,
                max_size=self.max_http_buffer_size,
                compression=self.compression,
                first=first,
            )
            session.websocket = websocket
        self.sockets[session.sid] = session
        self.opened(session, request)
        session.schedule_ping()
        if session.websocket is not None:
            session.websocket.start()
        return answer

    def _upgrade(self, request: web.Request, session: Session) -> web.StreamResponse:
        if not self._upgradable:
            return _refuse(_BAD_REQUEST)
        probe = Probe(session)
        probe.websocket = websocket = self._websocket(probe)
        answer = websocket.open(
            request, max_size=self.max_http_buffer_size, compression=self.compression
        )
        if session.upgraded or session.upgrading:
            websocket.close()
        websocket.start()
        return answer

    async def _continue(self, request: web.Request, session: Session) -> web.StreamResponse:
        if session.upgraded:
            return _refuse(_BAD_REQUEST)
        try:
            if request.method == "GET":
                body = await session.poll(request)
                if session.closed and not session.expects_poll:
                    self._fetched(session)
                return _packets(body)
            if request.method == "POST":
                async with asyncio.timeout(self.ping_timeout):  # however slowly it trickles
                    body = await _read(request, self.max_http_buffer_size)
                packets = body.split(_SEPARATOR)
                if len(packets) > self._max_payload_packets:
                    raise MalformedPacket("too many packets in one body")
                await session.receive_body(packets)
                return web.Response(text="ok", content_type="text/html")
        except _TooLarge:
            session.fail("payload too large")
            return web.Response(status=413)
        except (MalformedPacket, UnicodeDecodeError, web.RequestPayloadError):
            session.fail("parse error")
        except TimeoutError:
            session.fail("transport error")
            return web.Response(status=408)
        except ConnectionError:
            pass  # nobody is there to read the answer
        return _refuse(_BAD_REQUEST)

    def _websocket(self, owner: Session | Probe) -> WebSocket:
        return WebSocket(owner, self._pool)


def _refuse(fault: tuple[int, str], status: int = 400) -> web.Response:
    return web.json_response({"code": fault[0], "message": fault[1]}, status=status)


def _preflight(request: web.Request) -> web.Response:
    asked = request.headers.get("Access-Control-Request-Headers", "Content-Type")
    headers = {"Access-Control-Allow-Methods": "GET,POST", "Access-Control-Allow-Headers": asked}
    return web.Response(status=204, headers=headers)


def _packets(body: str) -> web.Response:
    return web.Response(text=body, content_type="text/plain")


async def _read(request: web.Request, limit: int) -> str:
    # The stock driver reads once: whatever of the body has not arrived yet is lost.
    if request.content_length is not None and request.content_length > limit:
        raise _TooLarge
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise _TooLarge
    return body.decode()
