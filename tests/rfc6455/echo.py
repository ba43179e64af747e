"""Two websocket echoes to hold beside each other: aiohttp's own, and one on chatlab's websocket.

They echo and do nothing else. Both run on aiohttp's server in the caller's event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import WSMsgType, web

from chatlab.transport.frame import BINARY, frame
from chatlab.transport.websocket import Pool, WebSocket

__all__ = ["ECHOES", "serving"]

MAX_SIZE: Final = 32 * 1024 * 1024
"""Bytes; the longest messages of the suite have 16 MiB."""


class _Echo:
    """The owner of a websocket, who sends back whatever it receives."""

    def __init__(self, pool: Pool) -> None:
        self.websocket = WebSocket(self, pool)

    def received(self, data: str | bytes) -> None:
        framed = frame(data.encode()) if isinstance(data, str) else frame(data, BINARY)
        self.websocket.send([framed])

    def consumed(self, frames: int, size: int) -> None:
        """Nobody counts here."""

    def ended(self, reason: str) -> None:
        """Nothing is kept either."""


def _chatlab(*, compression: bool) -> web.Application:
    pool = Pool()

    async def echo(request: web.Request) -> web.StreamResponse:
        websocket = _Echo(pool).websocket
        answer = websocket.open(request, max_size=MAX_SIZE, compression=compression)
        websocket.start()
        return answer

    async def close(_app: web.Application) -> None:
        await pool.empty(within=1.0)

    app = web.Application()
    app.router.add_get("/", echo)
    app.on_shutdown.append(close)
    return app


def _aiohttp(*, compression: bool) -> web.Application:
    async def echo(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(max_msg_size=MAX_SIZE, compress=compression)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is WSMsgType.TEXT:
                await websocket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
        return websocket

    app = web.Application()
    app.router.add_get("/", echo)
    return app


ECHOES: Final = {"chatlab": _chatlab, "aiohttp": _aiohttp}


@asynccontextmanager
async def serving(name: str, *, compression: bool = False) -> AsyncIterator[str]:
    """Serve one of the `ECHOES`; gives its URL."""
    app = ECHOES[name](compression=compression)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
