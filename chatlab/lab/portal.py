"""An event loop on a thread of its own, and the door through which other threads call into it.

Servers and wires of the lab live behind one, so that they go on whatever a cell does. It knows
nothing of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread", "in_thread", "turned"]

T = TypeVar("T")

# The loops that run, for `turned`: of any thread, so only ever added to, taken from and copied.
_loops: set[asyncio.AbstractEventLoop] = set()
# What arrives goes through a transport, a task and a handler or two, each in a pass of its own.
_PASSES = 10


class LoopThread:
    """A running event loop on a daemon thread called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"lab: {name}", daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The thread's identifier, as `logging` and `threading` know it."""
        return self._thread.ident

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        _loops.add(self.loop)
        try:
            self.loop.run_forever()
        finally:
            _loops.discard(self.loop)
            asyncio.set_event_loop(None)
            self.loop.close()

    def check_caller(self) -> None:
        """Raise `RuntimeError` where a call would wait for itself, or for a loop that has ended."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"this code already runs on the thread of {self.name!r}: a call from there into "
                "its own loop would wait for itself for ever. Await the coroutine directly."
            )
        if not self._thread.is_alive():
            raise RuntimeError(f"{self.name!r} has been stopped: its loop runs no more")

    def call(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        timeout: float | None = None,
    ) -> T:
        """Run `function(*args)` on the loop and wait, blocking, for its result.

        Raises what the function raises; `RuntimeError` when called from the loop's own thread or
        after `close`; `TimeoutError` after `timeout` seconds (None waits).
        """
        self.check_caller()
        future = asyncio.run_coroutine_threadsafe(function(*args), self.loop)
        try:
            return future.result(timeout)
        except BaseException:
            # An interrupted cell must not leave its call running behind its back.
            future.cancel()
            raise

    async def acall(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """As `call`, awaited from another event loop."""
        self.check_caller()
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(function(*args), self.loop)
        )

    def close(
        self, last: Callable[[], Coroutine[Any, Any, None]] | None = None, *, timeout: float = 4.0
    ) -> bool:
        """Run `last` on the loop, cancel what still runs there, end the thread. May be repeated.

        Returns whether the thread has ended within `timeout` seconds: one that is stuck in a
        computation cannot be ended from outside. It does all this when it comes free.
        """
        if self._thread.is_alive():
            self.check_caller()
            # Not waited for by its result: stopping the loop would leave that undelivered.
            asyncio.run_coroutine_threadsafe(self._finish(last), self.loop)
            self._thread.join(timeout)
        return not self._thread.is_alive()

    async def _finish(self, last: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        try:
            if last is not None:
                async with asyncio.timeout(3):
                    await last()
        except Exception as error:
            message = f"{self.name} could not be ended as it should be"
            self.loop.call_exception_handler({"message": message, "exception": error})
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)
        await self._close_connections()
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
        self.loop.stop()

    async def _close_connections(self) -> None:
        """Hang up on whoever is still there, which nobody can once the loop has ended."""
        # Only the selector loops of CPython 3.11 to 3.13 keep such a list, and only for themselves.
        for transport in list(getattr(self.loop, "_transports", {}).values()):
            transport.abort()
        for _ in range(2):  # it is closed in the loop's next pass
            await asyncio.sleep(0)


async def turned(within: float) -> None:
    """Wait until every loop of the lab has gone round a few times: seconds, at most `within`.

    A thread that the machine has kept waiting does so what it had to do long ago; one that a
    handler blocks is not waited for any longer.
    """
    mine = asyncio.get_running_loop()
    behind = {loop: asyncio.Event() for loop in _loops.copy() if loop is not mine}

    def go_round(loop: asyncio.AbstractEventLoop, times: int) -> None:
        with contextlib.suppress(RuntimeError):  # one of the two loops was closed
            if times:
                loop.call_soon(go_round, loop, times - 1)
            else:
                mine.call_soon_threadsafe(behind[loop].set)

    for loop, done in behind.items():
        try:
            loop.call_soon_threadsafe(go_round, loop, _PASSES)
        except RuntimeError:
            done.set()  # it was closed
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            for done in behind.values():
                await done.wait()
    for _ in range(_PASSES):
        await asyncio.sleep(0)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function on a thread made for it, and await its result.

    Unlike `asyncio.to_thread` it leaves no idle worker behind in the caller's loop.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(take: Callable[[], None]) -> None:
        if not done.done():
            take()

    def work() -> None:
        take: Callable[[], None]
        try:
            take = functools.partial(done.set_result, function())
        except BaseException as error:
            take = functools.partial(done.set_exception, error)
        # The loop may be closed: whoever waited was cancelled before that.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, take)

    worker = threading.Thread(target=work, name="lab: stopping", daemon=True)
    worker.start()
    try:
        return await done
    finally:
        if done.done() and not done.cancelled():
            worker.join()
