"""A thread whose beginning and end a loop can wait for.

Not a pool: each worker owns a connection, and does one thing until it is told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Worker", "post"]


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Have `loop` run `call(*args)`; from any thread. Nothing happens on a loop that is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


class Worker:
    """Runs `begin`, `run` and `end` on a thread of its own; `stop` makes `run` return.

    `end` runs only where `begin` succeeded.
    """

    def __init__(
        self,
        name: str,
        *,
        begin: Callable[[], None],
        run: Callable[[], None],
        end: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._begin, self._run, self._end, self._stop = begin, run, end, stop
        # A daemon: a disk that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._began: asyncio.Future[None]
        self._ended: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Returns when `begin` has; raises what it raised."""
        self._loop = asyncio.get_running_loop()
        self._began, self._ended = self._loop.create_future(), self._loop.create_future()
        self._thread.start()
        await self._began

    async def stop(self) -> None:
        """Returns when the thread is gone. Does nothing where it never started."""
        if self._ended is None:
            return
        self._stop()
        await asyncio.shield(self._ended)
        self._thread.join()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            self._begin()
        except BaseException as raised:
            error = raised
        post(self._loop, _settle, self._began, error)
        if error is None:
            try:
                self._run()
            finally:
                self._end()
        post(self._loop, _settle, self._ended, None)


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
