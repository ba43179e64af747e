"""The transport with the handlers and timings that the official protocol suites expect; no chat.

`python tests/protocol/suite_server.py --port 3000`, and both suites of the Socket.IO repository
(docs/engine.io-protocol, docs/socket.io-protocol) find their server: Socket.IO at /socket.io/, a
bare Engine.IO echo at /engine.io/. `--transport stock` serves the same with python-socketio's own
classes. The tests of this folder build the same application in their own loop.

What it asks of chatlab.transport:

- `StrictServer(accept=, opened=, arrived=, closed=, namespaces=("/", "/custom"), ...)`, where
  `Handshake.namespace` tells which, and a `sid` belongs to one namespace: `push_event(sid, name,
  *args)` and `push_ack(sid, ack_id, *args)` take any number of arguments, bytes among them.
- `StrictEngine(received=echo, ...)` alone, with the limits that StrictServer hands to its own:
  `received(session, data)` gets each message as `str` or `bytes`, and `session.push(data)` sends
  one back.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import signal
import sys
from pathlib import Path
from typing import Any

import engineio
import socketio
from aiohttp import web

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chatlab.transport import Handshake, StrictServer
from chatlab.transport.engine import StrictEngine

NAMESPACES = ("/", "/custom")
TIMINGS = {"ping_interval": 0.3, "ping_timeout": 0.2, "max_http_buffer_size": 1_000_000}
# Bounds of the strict classes, far from what the suites send.
ENGINE = {
    "max_unread": 10_000_000,
    "compression": False,
    "allow_origin": lambda _request, _origin: True,
}
SERVER = {"connect_timeout": 1.0, "max_attachments": 10, "max_unauthenticated": 1000}
EXIT_SECONDS = 1.0


class StrictSuite:
    """chatlab.transport with the suites' handlers; `limits` replace what is given above."""

    def __init__(self, **limits: Any) -> None:
        self.opened: list[str] = []
        self.closed: list[tuple[str, str]] = []
        self.events: list[tuple[str, list[Any]]] = []
        engine = {**TIMINGS, **ENGINE}
        shared = {name: value for name, value in limits.items() if name in engine}
        self.transport = StrictServer(
            accept=lambda handshake: self.accept(handshake),
            opened=self._opened,
            arrived=self.arrived,
            closed=self._closed,
            **{**SERVER, **NAMESPACED, **engine, **limits},
        )
        self.engine = _echoing(**{**engine, **shared})

    async def accept(self, handshake: Handshake) -> dict[str, Any] | None:
        """Lets everybody in; tests replace it."""
        return None

    def _opened(self, sid: str, handshake: Handshake) -> None:
        self.opened.append(sid)
        auth = handshake.auth if handshake.auth is not None else {}
        # The CONNECT goes first: it is sent when this function has returned.
        asyncio.get_running_loop().call_soon(self.transport.push_event, sid, "auth", auth)

    async def _closed(self, sid: str, reason: str) -> None:
        self.closed.append((sid, reason))

    def arrived(self, sid: str, name: str, args: list[Any], ack_id: int | None) -> Any:
        """Sends a `message` back and answers a `message-with-ack` with what it carries."""
        self.events.append((name, args))
        if name == "message":
            self.transport.push_event(sid, "message-back", *args)
        elif name == "message-with-ack" and ack_id is not None:
            self.transport.push_ack(sid, ack_id, *args)
        return None

    def app(self) -> web.Application:
        """An aiohttp application with both endpoints."""
        app = web.Application()
        self.transport.attach(app, "socket.io")
        self.engine.attach(app, "engine.io")
        return app

    async def close(self) -> None:
        """Close every client's transport."""
        for engine in (self.transport.eio, self.engine):
            await engine.close_all(within=EXIT_SECONDS)


# A server from before there were namespaces has none to be told of.
_KNOWN = inspect.signature(StrictServer.__init__).parameters
NAMESPACED = {"namespaces": NAMESPACES} if "namespaces" in _KNOWN else {}


def _echoing(**options: Any) -> Any:
    if "received" in inspect.signature(StrictEngine.__init__).parameters:
        return StrictEngine(received=lambda session, data: session.push(data), **options)
    engine = StrictEngine(admit=lambda _request: True, **options)

    async def echo(sid: str, data: Any) -> None:
        engine.sockets[sid].push(engineio.packet.Packet(engineio.packet.MESSAGE, data))

    async def nothing(*_: Any) -> None:
        pass

    engine.on("connect", nothing)
    engine.on("message", echo)
    engine.on("disconnect", nothing)
    return engine


class StockSuite:
    """The same handlers on python-socketio's own classes, as its documentation writes them."""

    def __init__(self, **limits: Any) -> None:
        self.opened: list[str] = []
        self.closed: list[tuple[str, str]] = []
        self.events: list[tuple[str, list[Any]]] = []
        self.transport = socketio.AsyncServer(
            async_mode="aiohttp", namespaces=list(NAMESPACES), **{**TIMINGS, **limits}
        )
        self.engine = engineio.AsyncServer(async_mode="aiohttp", **{**TIMINGS, **limits})
        self.engine.on("message", self.engine.send)
        for namespace in NAMESPACES:
            self.transport.register_namespace(_Stock(namespace, self))

    def app(self) -> web.Application:
        """An aiohttp application with both endpoints."""
        app = web.Application()
        self.transport.attach(app, "socket.io")
        self.engine.attach(app, "engine.io")
        return app

    async def close(self) -> None:
        """End the libraries' own tasks; they have nothing for the clients."""
        for engine in (self.transport.eio, self.engine):
            await engine.shutdown()


class _Stock(socketio.AsyncNamespace):  # type: ignore[misc]
    def __init__(self, namespace: str, suite: StockSuite) -> None:
        super().__init__(namespace)
        self._suite = suite

    async def on_connect(self, sid: str, _environ: Any, auth: Any = None) -> None:
        self._suite.opened.append(sid)
        self.server.start_background_task(
            self.emit, "auth", auth if auth is not None else {}, to=sid
        )

    async def on_disconnect(self, sid: str, reason: str) -> None:
        self._suite.closed.append((sid, reason))

    async def trigger_event(self, event: str, *args: Any) -> Any:
        sid, *data = args
        if event == "message":
            self._suite.events.append((event, data))
            return await self.emit("message-back", tuple(data), to=sid)
        if event == "message-with-ack":
            self._suite.events.append((event, data))
            return tuple(data)
        return await super().trigger_event(event, *args)


async def serve(suite: StrictSuite | StockSuite, port: int) -> None:
    """Serve on localhost until SIGTERM or SIGINT, and say so on the first line of stdout."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(suite.app(), handle_signals=False, shutdown_timeout=EXIT_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        sys.stdout.write(f"listening on http://127.0.0.1:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await stop.wait()
        await suite.close()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=3000, help="0 picks a free one")
    parser.add_argument("--transport", choices=["strict", "stock"], default="strict")
    given = parser.parse_args()
    suite = StrictSuite() if given.transport == "strict" else StockSuite()
    asyncio.run(serve(suite, given.port))


if __name__ == "__main__":
    main()
