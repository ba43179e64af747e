"""The embedded log: one SQLite file, one serving process.

This is the part on the server's loop: it hands work to the writer's and the reader's thread, and
completes feeds and futures when they report. Nothing here waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Future
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from chatlab.errors import InvalidPayload, Unavailable
from chatlab.storage.base import (
    KEY_MESSAGES,
    Appended,
    Cursor,
    Feed,
    Page,
    Snapshot,
    check_encodable,
    fail,
)
from chatlab.storage.promise import Promise
from chatlab.storage.sqlite_history import History
from chatlab.storage.sqlite_operations import Append, Mark, Operation, Outcome
from chatlab.storage.sqlite_reader import Job, Reader
from chatlab.storage.sqlite_store import Store
from chatlab.storage.sqlite_worker import Worker, post
from chatlab.storage.sqlite_writer import Writer

__all__ = ["SqliteLog"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 100_000  # operations that are not stored yet


class SqliteLog:
    """A `RoomLog` in the file `path`.

    `sync` is `full` (acked messages survive a power cut) or `normal` (they survive the death of
    the process). `history` is in messages a room, `key_ttl` in seconds. Another program's lock on
    the file is waited for `busy` seconds; a commit that takes longer than `stalled_after` seconds
    makes the log unhealthy until it returns. `clock` gives POSIX seconds. An object is opened
    once.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        sync: str = "full",
        history: int = 10_000,
        key_ttl: float = 86_400.0,
        key_messages: int = KEY_MESSAGES,
        busy: float = 1.0,
        stalled_after: float = 2.0,
        most_waiting: int = _MOST_WAITING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.feed: Feed = lambda room, deliveries: None
        self.renewed: Callable[[str], None] = lambda room: None
        self.users_changed: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop
        self._open = False
        self._most_waiting = most_waiting
        self._waiting = 0
        self._pending: list[Operation] = []
        self._history = History(history)
        self._store = store = Store(
            path,
            sync=sync,
            busy=busy,
            history=history,
            key_ttl=key_ttl,
            key_messages=key_messages,
            clock=clock,
        )
        self._writer = writer = Writer(store, post=self._written, stalled_after=stalled_after)
        self._reader = reader = Reader(
            path, busy=busy, post=self._have_read, changed=self._user_changed
        )
        # In the order in which they start. They stop in the reverse one, since the last
        # connection to close tidies up behind all of them.
        self._workers = (
            Worker(
                "chatlab-sqlite-writer",
                begin=store.open,
                run=writer.run,
                end=store.close,
                stop=writer.stop,
            ),
            Worker(
                "chatlab-sqlite-reader",
                begin=reader.open,
                run=reader.run,
                end=reader.close,
                stop=reader.stop,
            ),
        )

    @property
    def healthy(self) -> bool:
        """See `RoomLog.healthy`."""
        return self._open and self._writer.healthy

    async def open(self) -> None:
        """See `RoomLog.open`."""
        self._loop = asyncio.get_running_loop()
        try:
            for worker in self._workers:
                await worker.start()
        except BaseException:
            await self.close()
            raise
        self._history.token = self._store.token
        self._open = True

    async def close(self) -> None:
        """See `RoomLog.close`. Of the files only the database is left."""
        self._open = False
        self._flush()
        for worker in reversed(self._workers):
            await worker.stop()

    def append(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Future[Appended]:
        """See `RoomLog.append`."""
        future: Promise[Appended] = Promise()
        try:
            check_encodable(room, user, text, key)
            self.write(Append(room, user, text, key, origin, future))
        except (InvalidPayload, Unavailable) as error:
            fail(future, error)
        return future

    async def mark(
        self, room: str, user: str, *, delivered: int, read: int
    ) -> tuple[Cursor, Cursor]:
        """See `RoomLog.mark`."""
        check_encodable(room, user)
        future: Future[tuple[Cursor, Cursor]] = asyncio.get_running_loop().create_future()
        self.write(Mark(room, user, delivered, read, future))
        return await future

    async def snapshot(
        self,
        room: str,
        user: str,
        *,
        after: int | None,
        epoch: str | None,
        newest: int,
        limit: int,
        max_bytes: int,
    ) -> Snapshot:
        """See `RoomLog.snapshot`."""
        check_encodable(room, user)
        read = partial(
            self._history.snapshot,
            room=room,
            user=user,
            after=after,
            epoch=epoch,
            newest=newest,
            limit=limit,
            max_bytes=max_bytes,
        )
        return await self.read(read)

    async def page(
        self, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """See `RoomLog.page`."""
        check_encodable(room)
        read = partial(
            self._history.page,
            room=room,
            after=after,
            before=before,
            limit=limit,
            max_bytes=max_bytes,
        )
        return await self.read(read)

    async def follow(self, room: str) -> None:
        """The feed carries every room."""

    async def unfollow(self, room: str) -> None:
        """The feed carries every room."""

    def write(self, operation: Operation) -> None:
        """Have `operation` stored after all earlier ones. Raises `Unavailable` when it will not be.

        What is asked for in one pass of the loop reaches the writer together.
        """
        if not self.healthy or self._waiting >= self._most_waiting:
            raise Unavailable
        self._waiting += 1
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(operation)

    async def read(self, job: Job[T]) -> T:
        """What `job` returns when it is given the reader's connection.

        Raises `Unavailable` when nothing can be read.
        """
        if not self._open:
            raise Unavailable
        future: Future[T] = asyncio.get_running_loop().create_future()
        self._reader.submit(job, future)
        return await future

    def _flush(self) -> None:
        if self._pending:
            self._writer.submit(self._pending)
            self._pending = []

    # --- called on the threads ---------------------------------------------------------------

    def _written(self, outcome: Outcome) -> None:
        post(self._loop, self._complete, outcome)

    def _have_read(self, outcome: Outcome) -> None:
        post(self._loop, _settle, outcome)

    def _user_changed(self) -> None:
        post(self._loop, self.users_changed)

    # --- back on the loop --------------------------------------------------------------------

    def _complete(self, outcome: Outcome) -> None:
        self._waiting -= len(outcome.results)
        for room, deliveries in outcome.deliveries.items():
            try:
                self.feed(room, deliveries)
            except Exception:
                _log.exception("the feed of room %r failed", room)
        _settle(outcome)


def _settle(outcome: Outcome) -> None:
    for future, result in outcome.results:
        # One that is done was cancelled by whoever waited for it.
        if not future.done():
            if isinstance(result, Exception):
                fail(future, result)
            else:
                future.set_result(result)
