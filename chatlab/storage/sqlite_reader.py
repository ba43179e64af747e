"""The reader's thread: it reads beside the writer, and is never held up by it.

It also watches for changes that another process makes to the users. What is read is decided in
`sqlite_history.py`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import time
from asyncio import Future
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from chatlab.errors import ChatError, Unavailable
from chatlab.storage import sqlite_file
from chatlab.storage.sqlite_operations import Outcome

__all__ = ["Job", "Reader"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

Job = Callable[[sqlite3.Connection], T]

_WATCH: Final = 0.25  # seconds between looks at what other processes have changed
_AT_ONCE: Final = 64  # reads that are answered together


class Reader:
    """Runs jobs in their order until it is told to stop.

    `post` is called on the reader's thread with the results of some jobs, `changed` when somebody
    changed a user.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy: float,
        post: Callable[[Outcome], None],
        changed: Callable[[], None],
    ) -> None:
        self._path, self._busy = path, busy
        self._post, self._changed = post, changed
        self._queue: queue.SimpleQueue[tuple[Job[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection
        self._seen = (0, 0)
        self._blind = False

    def open(self) -> None:
        """Make ready. Raises `sqlite3.Error`."""
        self._connection = sqlite_file.connect(self._path, busy=self._busy)
        try:
            self._connection.execute("PRAGMA query_only = ON")
            self._seen = self._look((0, 0))
        except BaseException:
            self._connection.close()
            raise

    def submit(self, job: Job[T], future: Future[T]) -> None:
        """Complete `future` with what `job` returns. From any thread; never waits."""
        self._queue.put((job, future))

    def stop(self) -> None:
        """Have `run` return when everything submitted so far is answered. From any thread."""
        self._queue.put(None)

    def run(self) -> None:
        """Work until `stop`."""
        watched = time.monotonic()
        stopping = False
        while not stopping:
            jobs, stopping = self._next(watched + _WATCH - time.monotonic())
            if jobs:
                self._post(Outcome([(future, self._result(job, future)) for job, future in jobs]))
            if time.monotonic() - watched >= _WATCH:
                watched = time.monotonic()
                self._watch()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _next(self, patience: float) -> tuple[list[tuple[Job[Any], Future[Any]]], bool]:
        jobs: list[tuple[Job[Any], Future[Any]]] = []
        try:
            one = self._queue.get(timeout=max(0.0, patience))
            while one is not None:
                jobs.append(one)
                if len(jobs) == _AT_ONCE:
                    return jobs, False
                one = self._queue.get_nowait()
        except queue.Empty:
            return jobs, False
        return jobs, True

    def _result(self, job: Job[Any], future: Future[Any]) -> Any:
        if future.cancelled():
            return None
        try:
            with _transaction(self._connection):
                return job(self._connection)
        except ChatError as error:
            return error
        except Exception as error:
            _log.error("a read failed: %s", error, exc_info=not isinstance(error, sqlite3.Error))
            return Unavailable()

    def _watch(self) -> None:
        try:
            seen = self._look(self._seen)
        except sqlite3.Error as error:
            if not self._blind:
                _log.warning("changes to users cannot be seen: %s", error)
            self._blind = True
            return
        self._blind = False
        changed = seen[1] != self._seen[1]
        self._seen = seen
        if changed:
            self._changed()

    def _look(self, seen: tuple[int, int]) -> tuple[int, int]:
        # data_version changes with every commit of anybody else; the trigger's count says more.
        version = self._connection.execute("PRAGMA data_version").fetchall()[0][0]
        if version == seen[0]:
            return seen
        rows = self._connection.execute("SELECT value FROM meta WHERE name = 'users'").fetchall()
        return version, rows[0][0]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
