"""The Engine.IO endpoint: opens sessions, and hands each request to its session or refuses it.

Replaces the request handling of python-engineio 4.15.1, which cuts a polling body that arrives
in two pieces, drops more than 16 packets of one and answers both with 200, announces a ping
interval of 0.3 s as 0, and takes 127.0.0.1 for every client's address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import engineio
from aiohttp import web
from engineio import packet
from engineio.async_drivers.aiohttp import translate_request
from engineio.payload import Payload

from chatlab.transport.codec import JSON
from chatlab.transport.packet import MalformedPacket
from chatlab.transport.socket import StrictSocket

__all__ = ["StrictEngine"]

log = logging.getLogger(__name__)

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
    """`max_unread` is in bytes a client; `allow_origin` decides on a browser's Origin header."""

    def __init__(
        self,
        *,
        max_unread: int,
        compression: bool,
        allow_origin: Callable[[web.Request, str], bool],
        admit: Callable[[web.Request], bool],
        **options: Any,
    ) -> None:
        super().__init__(
            async_mode="aiohttp",
            monitor_clients=False,  # each session keeps its own heartbeat
            http_compression=compression,
            **options,
        )
        self.max_unread = max_unread
        self.compression = compression
        self._allow_origin = allow_origin
        self._admit = admit
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task that is kept until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close_all(self, *, within: float) -> None:
        """Close every session's transport once its outbox is written, in at most `within` s.

        The clients see a lost transport and return by themselves; a Socket.IO DISCONNECT would
        tell the official client to stay away.
        """
        sessions = list(self.sockets.values())
        for session in sessions:
            await session.ended("server shutting down")
        deadline = asyncio.get_running_loop().time() + within
        while self._tasks and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait(self._tasks, timeout=within)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """The endpoint for every method; an aiohttp handler."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._allow_origin(request, origin):
            return _refuse(_FORBIDDEN, 403)
        response = await self._respond(request)
        if origin is not None and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Vary"] = "Origin"
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(
                status=204,
                headers={
                    "Access-Control-Allow-Methods": "GET,POST",
                    "Access-Control-Allow-Headers": request.headers.get(
                        "Access-Control-Request-Headers", "Content-Type"
                    ),
                },
            )
        transport = request.query.get("transport", "")
        if transport not in self.transports:
            return _refuse(_UNKNOWN_TRANSPORT)
        if request.query.get("EIO") != "4":
            return _refuse(_BAD_VERSION)
        sid = request.query.get("sid")
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade != (transport == "websocket"):
            return _refuse(_BAD_REQUEST)
        if sid is None:
            if request.method != "GET":
                return _refuse(_BAD_METHOD)
            return await self._open(request, transport)
        session = self.sockets.get(sid)
        if session is None:
            return _refuse(_UNKNOWN_SESSION)
        return await self._continue(request, session, transport)

    async def _continue(
        self, request: web.Request, session: StrictSocket, transport: str
    ) -> web.StreamResponse:
        if not session.connected or session.upgraded:
            return _refuse(_BAD_REQUEST)
        if transport == "websocket":
            if session.upgrading or not self.allow_upgrades:
                return _refuse(_BAD_REQUEST)
            return await session.serve_websocket(request)
        try:
            if request.method == "GET":
                return _packets(await session.poll())
            if request.method == "POST":
                body = await _read(request, self.max_http_buffer_size)
                if await session.receive_all(list(body.split(_SEPARATOR))):
                    return web.Response(text="ok", content_type="text/html")
        except _TooLarge:
            await session.ended("payload too large")
            return web.Response(status=413)
        except (MalformedPacket, UnicodeDecodeError):
            await session.ended("parse error")
        return _refuse(_BAD_REQUEST)

    async def _open(self, request: web.Request, transport: str) -> web.StreamResponse:
        if not self._admit(request):
            return web.Response(status=503, headers={"Retry-After": "1"})
        session = StrictSocket(self, self.generate_id())
        self.sockets[session.sid] = session
        handshake = {
            "sid": session.sid,
            "upgrades": self._upgrades(session.sid, transport),
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        session.push(packet.Packet(packet.OPEN, JSON.dumps(handshake)))
        await self.handlers["connect"](session.sid, translate_request(request))
        session.schedule_ping()
        if transport == "websocket":
            return await session.serve_websocket(request)
        session.connected = True
        return _packets(await session.poll())


def _refuse(fault: tuple[int, str], status: int = 400) -> web.Response:
    return web.json_response({"code": fault[0], "message": fault[1]}, status=status)


def _packets(packets: list[packet.Packet]) -> web.Response:
    body = Payload(packets=packets).encode()
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
