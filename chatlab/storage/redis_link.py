"""One connection to one Redis: commands go out in batches, in order, each at most once.

Whatever is asked during a loop pass, or while a batch is on its way, forms the next batch. A
command that was sent and not answered is never sent again: whether it ran is not known. An outage
that is known fails at once.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from chatlab.errors import Unavailable
from chatlab.storage.base import cancelled, fail
from chatlab.storage.redis_connect import Connect, hang_up, in_words

__all__ = ["Link", "retry_pauses"]

log = logging.getLogger(__name__)

Command: TypeAlias = tuple[str | bytes | int | float, ...]

IDLE_PING: Final = 1.0  # seconds without a command until the link asks whether Redis is there
MOST_IN_A_BATCH: Final = 512


def retry_pauses() -> Callable[[], float]:
    """Seconds to wait before each attempt to connect again: short, since Redis is near."""
    pauses = iter((0.0, 0.02, 0.05, 0.1))
    return lambda: next(pauses, 0.2)


class Link:
    """Sends commands to Redis, and answers each with its reply.

    `stalled_after` is in seconds: a batch that is not answered by then counts as an outage.
    `changed` is called on the loop when the link goes up or down.
    """

    def __init__(self, connect: Connect, *, stalled_after: float) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.up = False
        self.connects = 0
        self.reason: str | None = None
        self._connect = connect
        self._stalled_after = stalled_after
        self._queue: list[tuple[Command, Future[Any]]] = []
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: asyncio.Timeout | None = None

    def start(self) -> None:
        """Begin to connect; `changed` tells when the link is up."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Let go. What was not answered fails with `Unavailable`."""
        await cancelled(self._task)
        self._task = None
        self._down([], "closed")

    def call(self, *command: str | bytes | int | float) -> Future[Any]:
        """Send a command. The future fails with `Unavailable`, or with Redis's `ResponseError`."""
        future: Future[Any] = asyncio.get_running_loop().create_future()
        if not self.up:
            return fail(future, Unavailable())
        self._queue.append((command, future))
        self._work.set()
        return future

    def reconnect(self, reason: str) -> None:
        """Let go of the connection and make another. What was not answered fails."""
        if self.up and self._session is not None and not self._session.expired():
            self.reason = reason
            self._session.reschedule(0)

    def check(self) -> None:
        """Find out now whether Redis is still there, rather than at the next command."""
        self.call("PING")

    async def _run(self) -> None:
        pause = retry_pauses()
        while True:
            await asyncio.sleep(pause())
            batch: list[tuple[Command, Future[Any]]] = []
            connection = None
            try:
                async with asyncio.timeout(self._stalled_after):
                    connection = await self._connect()
                self._is_up()
                pause = retry_pauses()
                async with asyncio.timeout(None) as self._session:
                    while True:
                        batch = await self._next_batch()
                        async with asyncio.timeout(self._stalled_after):
                            await self._exchange(connection, batch)
            except (RedisError, OSError) as error:  # OSError includes TimeoutError
                self._down(batch, in_words(error, self._stalled_after))
            except Exception as error:
                log.exception("a link to Redis failed")
                self._down(batch, in_words(error, self._stalled_after))
            finally:
                if connection is not None:
                    await hang_up(connection)

    def _is_up(self) -> None:
        self.up, self.reason = True, None
        self.connects += 1
        self.changed()

    def _down(self, batch: list[tuple[Command, Future[Any]]], reason: str) -> None:
        if not self.up or self.reason is None:  # else it was told to reconnect, and why
            self.reason = reason
        self._session = None
        waiting, self._queue = self._queue, []
        was_up, self.up = self.up, False
        for _, future in batch + waiting:
            fail(future, Unavailable())
        if was_up:
            self.changed()

    async def _next_batch(self) -> list[tuple[Command, Future[Any]]]:
        if not self._queue:
            self._work.clear()
            try:
                async with asyncio.timeout(IDLE_PING):
                    await self._work.wait()
            except TimeoutError:
                self.check()
        batch = self._queue[:MOST_IN_A_BATCH]
        del self._queue[:MOST_IN_A_BATCH]
        return batch

    async def _exchange(
        self, connection: AbstractConnection, batch: list[tuple[Command, Future[Any]]]
    ) -> None:
        packed = connection.pack_commands([command for command, _ in batch])
        await connection.send_packed_command(packed, check_health=False)
        for _, future in batch:
            try:
                reply = await connection.read_response()
            except ReadOnlyError:
                raise  # it has become a replica: its master is elsewhere
            except ResponseError as error:
                fail(future, error)
            else:
                if not future.done():
                    future.set_result(reply)
