"""An event loop on a thread of its own, and the door through which other threads call into it.

Servers and wires of the lab live behind one, so that they go on whatever a cell does. It knows
nothing of sockets.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread", "in_thread"]

T = TypeVar("T")


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
        try:
            self.loop.run_forever()
        finally:
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

    def close(self) -> None:
        """Cancel what still runs on the loop, end the thread and wait for it. May be repeated."""
        if not self._thread.is_alive():
            return
        self.call(self._cancel_everything, timeout=5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)

    async def _cancel_everything(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function on a thread made for it, and await its result.

    Unlike `asyncio.to_thread` it leaves no idle worker behind in the caller's loop.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    worker = threading.Thread(target=work, name="lab: stopping", daemon=True)
    worker.start()
    waiting: Awaitable[T] = asyncio.shield(done)
    result = await waiting
    worker.join()
    return result
