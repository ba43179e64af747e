"""The writer's thread: what arrives while a transaction commits is the next transaction.

It also knows whether the store is away, and finds out by itself when it is back. What a
transaction does is `sqlite_store.py`'s subject.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Sequence
from typing import Final

from chatlab.errors import Unavailable
from chatlab.storage.sqlite_operations import Operation, Outcome
from chatlab.storage.sqlite_store import Store

__all__ = ["Writer"]

_log = logging.getLogger(__name__)

_BATCH: Final = 1_000  # operations of one transaction: some 10 ms of the writer's time
_PROBE: Final = 0.25  # seconds between attempts to write while the store is away


class Writer:
    """Commits what is submitted, in its order, until it is told to stop.

    `post` is called on the writer's thread with each batch's outcome; `stalled_after` is in
    seconds.
    """

    def __init__(
        self, store: Store, *, post: Callable[[Outcome], None], stalled_after: float
    ) -> None:
        self._store = store
        self._post = post
        self._stalled_after = stalled_after
        self._queue: queue.SimpleQueue[Sequence[Operation] | None] = queue.SimpleQueue()
        self._away = False
        self._busy_since: float | None = None

    @property
    def healthy(self) -> bool:
        """False after a failure, until a probe succeeds, and while a commit does not return."""
        since = self._busy_since
        stalled = since is not None and time.monotonic() - since > self._stalled_after
        return not (self._away or stalled)

    def submit(self, operations: Sequence[Operation]) -> None:
        """Have `operations` stored after all earlier ones. From any thread; never waits."""
        self._queue.put(operations)

    def stop(self) -> None:
        """Have `run` return when everything submitted so far is done. From any thread."""
        self._queue.put(None)

    def run(self) -> None:
        """Work until `stop`."""
        stopping = False
        while not stopping:
            operations, stopping = self._next()
            for start in range(0, len(operations), _BATCH):
                self._commit(operations[start : start + _BATCH])
            if self._away and not operations and not stopping:
                self._probe()

    def _next(self) -> tuple[list[Operation], bool]:
        operations: list[Operation] = []
        try:
            some = self._queue.get(timeout=_PROBE if self._away else None)
            while some is not None:
                operations += some
                if len(operations) >= _BATCH:
                    return operations, False
                some = self._queue.get_nowait()
        except queue.Empty:
            return operations, False
        return operations, True

    def _commit(self, operations: Sequence[Operation]) -> None:
        if self._away:
            self._post(_refused(operations))
            return
        self._busy_since = time.monotonic()
        try:
            outcome = self._store.commit(operations)
        except Exception as error:
            self._away = True
            _log.error("messages cannot be stored: %s", error, exc_info=_unusual(error))
            outcome = _refused(operations)
        finally:
            self._busy_since = None
        self._post(outcome)

    def _probe(self) -> None:
        try:
            self._store.probe()
        except Exception as error:
            _log.debug("messages still cannot be stored: %s", error)
        else:
            self._away = False
            _log.warning("messages can be stored again")


def _refused(operations: Sequence[Operation]) -> Outcome:
    return Outcome([(operation.future, Unavailable()) for operation in operations])


def _unusual(error: Exception) -> bool:
    # What SQLite says about its file is clear from its sentence; anything else is a fault of ours.
    return type(error).__module__ != "sqlite3"
