"""Tells every open stage page what happens: one socket each, and none of them can hold up another.

It passes messages on as they are; what is in them is made elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from chatlab.stage.guard import Guard

__all__ = ["Hub"]

Message = Mapping[str, Any]

_WAITING: Final = 500  # messages for a page that does not read, past which it has to come again
_GREETING: Final = 5.0  # seconds for the key
_BAD_KEY: Final = 4401
_CLOSING: Final = 2.0


class Hub:
    """`greeting` gives what a page that has just come is told first."""

    def __init__(self, guard: Guard, greeting: Callable[[], Sequence[Message]]) -> None:
        self._guard = guard
        self._greeting = greeting
        self._pages: dict[web.WebSocketResponse, asyncio.Queue[str | None]] = {}

    def __len__(self) -> int:
        return len(self._pages)

    def tell(self, message: Message) -> None:
        """Send it to every page, in order. Never waits."""
        if not self._pages:
            return
        text = _text(message)
        for queue in self._pages.values():
            self._put(queue, text)

    def _put(self, queue: asyncio.Queue[str | None], text: str) -> None:
        if queue.qsize() < _WAITING:
            queue.put_nowait(text)
        elif queue.qsize() == _WAITING:
            queue.put_nowait(None)  # it is let go, and gets the whole state when it is back

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """`GET /stage/events`."""
        self._guard.require_home(request)
        socket = web.WebSocketResponse(heartbeat=15.0, max_msg_size=4096, compress=False)
        if not socket.can_prepare(request).ok:
            raise web.HTTPBadRequest(text="this address is for a WebSocket\n")
        await socket.prepare(request)
        if not await self._greeted(socket):
            await socket.close(code=_BAD_KEY, message=b"the key is wrong")
            return socket
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        for message in self._greeting():
            queue.put_nowait(_text(message))
        self._pages[socket] = queue
        writer = asyncio.create_task(self._write(socket, queue))
        try:
            async for _ in socket:  # it says nothing more; reading notices when it goes
                pass
        finally:
            self._pages.pop(socket, None)
            writer.cancel()
            await asyncio.wait({writer})
        return socket

    async def _greeted(self, socket: web.WebSocketResponse) -> bool:
        try:
            async with asyncio.timeout(_GREETING):
                first = await socket.receive()
            said = json.loads(first.data) if first.type is WSMsgType.TEXT else None
        except (TimeoutError, ValueError):
            return False
        return isinstance(said, dict) and self._guard.knows(said.get("key"))

    async def _write(self, socket: web.WebSocketResponse, queue: asyncio.Queue[str | None]) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while (text := await queue.get()) is not None:
                await socket.send_str(text)
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)

    async def close(self) -> None:
        """Let every page go."""
        pages = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._pages)]
        if pages:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await asyncio.gather(*pages, return_exceptions=True)


def _text(message: Message) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
