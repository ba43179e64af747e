"""The transport with the handlers and timings that the official protocol suites expect; no chat.

`python tests/protocol/suite_server.py --port 3000`, and both suites of the Socket.IO repository
(docs/engine.io-protocol, docs/socket.io-protocol) find their server: Socket.IO at /socket.io/, a
bare Engine.IO echo at /engine.io/. `--transport stock` serves the same with python-socketio's own
classes. The tests of this folder build the same application in their own loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
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


class Suite:
    """What both have: who came and went, what was heard, and where a test may step in."""

    transport: Any
    engine: Any

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.addresses: list[str] = []
        self.closed: list[tuple[str, str]] = []
        self.events: list[tuple[str, list[Any]]] = []
        self.connecting: Callable[[Any], Awaitable[Any]] | None = None
        self.handling: Callable[[str, list[Any]], Awaitable[None] | None] | None = None

    def app(self) -> web.Application:
        """An aiohttp application with both endpoints."""
        app = web.Application()
        self.transport.attach(app, "socket.io")
        self.engine.attach(app, "engine.io")
        return app

    async def close(self, *, within: float = EXIT_SECONDS) -> None:
        """End what the server holds, before it stops to listen; in so many seconds."""
        raise NotImplementedError


class StrictSuite(Suite):
    """chatlab.transport with the suites' handlers; `limits` replace what is given above."""

    def __init__(self, **limits: Any) -> None:
        super().__init__()
        engine = {**TIMINGS, **ENGINE}
        own = {name: value for name, value in limits.items() if name in engine}
        self.transport = StrictServer(
            accept=self._accept,
            opened=self._opened,
            arrived=self._arrived,
            closed=lambda sid, reason: self.closed.append((sid, reason)),
            namespaces=NAMESPACES,
            **{**SERVER, **engine, **limits},
        )
        self.engine = StrictEngine(
            received=lambda session, data: session.push(data), **{**engine, **own}
        )

    async def _accept(self, handshake: Handshake) -> dict[str, Any] | None:
        return await self.connecting(handshake) if self.connecting else None

    def _opened(self, sid: str, handshake: Handshake) -> None:
        self.opened.append(sid)
        self.addresses.append(handshake.request.remote or "")
        auth = handshake.auth if handshake.auth is not None else {}
        # The CONNECT goes first: it is sent when this function has returned.
        asyncio.get_running_loop().call_soon(self.transport.push_event, sid, "auth", auth)

    def _arrived(self, sid: str, name: str, args: list[Any], ack_id: int | None) -> Any:
        waiting = self.handling(name, args) if self.handling else None
        if waiting is None:
            # Half a surrogate pair cannot be said again: no UTF-8 holds it.
            with contextlib.suppress(UnicodeEncodeError):
                self._answer(sid, name, args, ack_id)
            return None
        return self._answer_later(waiting, sid, name, args, ack_id)

    async def _answer_later(self, waiting: Awaitable[None], *event: Any) -> None:
        await waiting
        self._answer(*event)

    def _answer(self, sid: str, name: str, args: list[Any], ack_id: int | None) -> None:
        self.events.append((name, args))
        if name == "message":
            self.transport.push_event(sid, "message-back", *args)
        elif name == "message-with-ack" and ack_id is not None:
            self.transport.push_ack(sid, ack_id, *args)

    async def close(self, *, within: float = EXIT_SECONDS) -> None:
        for engine in (self.transport.eio, self.engine):
            await engine.close_all(within=within)


class StockSuite(Suite):
    """The same handlers on python-socketio's own classes, as its documentation writes them."""

    def __init__(self, **limits: Any) -> None:
        super().__init__()
        self.transport = socketio.AsyncServer(
            async_mode="aiohttp", namespaces=list(NAMESPACES), **{**TIMINGS, **limits}
        )
        self.engine = engineio.AsyncServer(async_mode="aiohttp", **{**TIMINGS, **limits})
        self.engine.on("message", self.engine.send)
        for namespace in NAMESPACES:
            self.transport.register_namespace(_Stock(namespace, self))

    async def close(self, *, within: float = EXIT_SECONDS) -> None:
        for engine in (self.transport.eio, self.engine):
            if engine.service_task_handle is not None:  # it cannot be done twice (4.15.1)
                await engine.shutdown()


class _Stock(socketio.AsyncNamespace):  # type: ignore[misc]
    def __init__(self, namespace: str, suite: StockSuite) -> None:
        super().__init__(namespace)
        self._suite = suite

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        if self._suite.connecting:
            await self._suite.connecting(auth)
        self._suite.opened.append(sid)
        self._suite.addresses.append(environ["REMOTE_ADDR"])
        auth = auth if auth is not None else {}
        self.server.start_background_task(self.emit, "auth", auth, to=sid)

    async def on_disconnect(self, sid: str, reason: str) -> None:
        self._suite.closed.append((sid, reason))

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event in ("connect", "disconnect"):
            return await super().trigger_event(event, *args)
        sid, *data = args
        waiting = self._suite.handling(event, data) if self._suite.handling else None
        if waiting is not None:
            await waiting
        self._suite.events.append((event, data))
        if event == "message":
            await self.emit("message-back", tuple(data), to=sid)
        return tuple(data) if event == "message-with-ack" else None


async def serve(suite: Suite, port: int) -> None:
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
    parser.add_argument(
        "--ping-interval", type=float, default=TIMINGS["ping_interval"], help="seconds"
    )
    given = parser.parse_args()
    suite = {"strict": StrictSuite, "stock": StockSuite}[given.transport]
    asyncio.run(serve(suite(ping_interval=given.ping_interval), given.port))


if __name__ == "__main__":
    main()
