"""python-socketio's client, tamed: it logs nothing, never reconnects and leaves nothing behind.

What its library versions need for that is gathered here. It knows nothing of chat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

import aiohttp
import engineio.base_client
import socketio

__all__ = ["QuietSocket"]

log = logging.getLogger(__name__)

_GOODBYE: Final = 1.0  # seconds for a polite close; a silent wire answers none
_CANCEL_AGAIN: Final = 0.05  # seconds

# python-socketio 5.18.1 logs packets, tokens among them, and adds a handler of its own to a
# logger that has no level. This one is in nobody's tree and lets nothing through.
_SILENT: Final = logging.Logger("chatlab.client.silent", logging.CRITICAL + 1)


class QuietSocket(socketio.AsyncClient):  # type: ignore[misc]
    """One connection; connect it once. Its handlers must be plain functions.

    Plain functions run in the order in which packets arrived: engineio starts a task for each
    packet, and tasks that do not wait keep their order.
    """

    def __init__(self) -> None:
        self._http = aiohttp.ClientSession()
        self._own_tasks: set[asyncio.Task[Any]] = set()
        super().__init__(
            reconnection=False,
            handle_sigint=False,
            logger=_SILENT,
            engineio_logger=_SILENT,
            http_session=self._http,
            websocket_extra_options={"timeout": aiohttp.ClientWSTimeout(ws_close=_GOODBYE)},
        )
        # engineio ends neither the tasks of its packets nor, where a connect fails, its loops.
        self.eio.start_background_task = self._start_own_task

    def is_dismissal(self, reason: str) -> bool:
        """Whether a disconnect for `reason` was Socket.IO's DISCONNECT, asked in its handler.

        Engine.IO's CLOSE has the same reason, but only DISCONNECT finds the transport still open
        (python-socketio 5.18.1).
        """
        by_server = reason == self.eio.reason.SERVER_DISCONNECT
        return by_server and bool(self.eio.state == "connected")

    @property
    def frame_was_too_long(self) -> bool:
        """Whether the server closed because of the size of something that it was sent."""
        ws = self.eio.ws
        return ws is not None and ws.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    async def let_go(self, *, politely: bool) -> None:
        """Leave no task and no socket. Saying goodbye takes 1 s at most."""
        if politely:
            with suppress(Exception):
                async with asyncio.timeout(_GOODBYE):
                    await self.disconnect()
        await _end_tasks(self._own_tasks)
        if self.eio.ws is not None:
            # Whoever is silent is not waited for; aiohttp lets go of the socket all the same.
            with suppress(Exception):
                async with asyncio.timeout(_GOODBYE if politely else 0):
                    await self.eio.ws.close()
        with suppress(ValueError):  # engineio 4.15.1 forgets it there when a close is interrupted
            engineio.base_client.connected_clients.remove(self.eio)
        await self._http.close()

    def _start_own_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(target(*args))
        self._own_tasks.add(task)
        task.add_done_callback(self._own_task_done)
        return task

    def _own_task_done(self, task: asyncio.Task[Any]) -> None:
        self._own_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a packet was not understood: %s", type(error).__name__)


async def _end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended.

    More than once where need be: `asyncio.wait_for`, which engineio 4.15.1 uses, swallows a
    cancellation that meets a result (Python 3.11).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
