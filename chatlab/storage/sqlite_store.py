"""What a transaction does: a batch of appends and marks becomes rows, all of them or none.

It runs on the writer's thread and knows nothing of futures' loops, of queues or of feeds. A batch
takes a handful of statements however large it is, because SQLite lets go of Python's global lock
in each, and a busy loop may keep it for 5 ms (`sys.getswitchinterval`) before it comes back.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chatlab.errors import InvalidPayload
from chatlab.protocol import Message, timestamp
from chatlab.storage import sqlite_file, sqlite_rows
from chatlab.storage.base import Appended, Cursor, Delivery, key_reused, text_digest
from chatlab.storage.sqlite_lock import ServingLock
from chatlab.storage.sqlite_operations import Append, Mark, Operation, Outcome, Put

__all__ = ["Store"]

_CACHED: Final = 20_000  # rooms or members, past which the cache starts afresh
_TRIMMED: Final = 2_000  # rows, at most, that one batch deletes from a room or from the keys


@dataclass(slots=True)
class _Room:
    id: int
    seq: int
    oldest: int


@dataclass(slots=True)
class _Member:
    sent: int = 0
    delivered: int = 0
    read: int = 0


@dataclass(slots=True)
class _Keyed:
    id: str
    seq: int
    timestamp: str
    digest: str
    sent: int


@dataclass(slots=True)
class _Batch:
    """The rows that a batch adds or replaces."""

    now: str
    forgotten: str  # keys of before this time are
    keys: dict[tuple[int, str, str], _Keyed]
    outcome: Outcome = field(default_factory=Outcome)
    rooms: list[tuple[int, str]] = field(default_factory=list)
    messages: list[tuple[Any, ...]] = field(default_factory=list)
    new_keys: dict[tuple[int, str, str], _Keyed] = field(default_factory=dict)
    members: dict[tuple[int, str], _Member] = field(default_factory=dict)
    old_keys: dict[tuple[int, str], int] = field(default_factory=dict)


class Store:
    """The one connection that writes messages.

    `sync` is `full` or `normal`, `busy` in seconds, `key_ttl` in seconds, `history` in messages a
    room; `clock` gives POSIX seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync: str,
        busy: float,
        history: int,
        key_ttl: float,
        key_messages: int,
        clock: Callable[[], float],
    ) -> None:
        self._path, self._sync, self._busy = path, sync, busy
        self._history, self._key_ttl, self._key_messages = history, key_ttl, key_messages
        self._clock = clock
        self._lock = ServingLock(path)
        self._connection: sqlite3.Connection
        self._file: os.stat_result
        self._rooms: dict[str, _Room] = {}
        self._members: dict[tuple[int, str], _Member] = {}
        self._next_room = 1
        self._keys_added = 0
        # Messages are named by a number and by what no other process begins with: asking the
        # system for a random name each would cost as much as the rest of an append.
        self._named, self._numbers = secrets.token_hex(8), itertools.count()
        self.token = ""

    def open(self) -> None:
        """Make ready. Raises `SettingsError` when the file cannot be used."""
        sqlite_file.check(self._path)
        self._lock.acquire()
        try:
            with sqlite_file.explained(self._path):
                self._connect()
        except BaseException:
            self._lock.release()
            raise

    def _connect(self) -> None:
        self._connection = connection = sqlite_file.connect(self._path, busy=self._busy)
        try:
            sqlite_file.prepare(connection, self._path, thorough=True)
            self.token = sqlite_file.started(connection, self._sync)
            connection.execute("PRAGMA journal_size_limit = 67108864")
            self._next_room = sqlite_rows.next_room(connection)
            self._file = self._path.stat()
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Bring everything into the database file, and let go of it."""
        with contextlib.suppress(sqlite3.Error):
            sqlite_file.closed(self._connection)
        self._connection.close()
        self._lock.release()

    def probe(self) -> None:
        """Raises an exception while nothing can be stored."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._check_file()
        self._connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'probe'")

    def commit(self, operations: Sequence[Operation]) -> Outcome:
        """Do all of `operations` in their order, durably.

        Raises an exception, mostly a `sqlite3.Error`, when nothing of it was stored.
        """
        if len(self._rooms) > _CACHED or len(self._members) > _CACHED:
            self._forget()
        try:
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE")
            outcome = self._apply(operations)
            self._connection.execute("COMMIT")
        except BaseException:
            self._forget()
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise
        return outcome

    def _check_file(self) -> None:
        # SQLite goes on writing to a file whose name is gone; its messages would be too.
        try:
            same = os.path.samestat(self._file, self._path.stat())
        except OSError:
            same = False
        if not same:
            raise sqlite3.OperationalError(f"{self._path} was removed or replaced")

    def _forget(self) -> None:
        self._rooms.clear()
        self._members.clear()

    def _apply(self, operations: Sequence[Operation]) -> Outcome:
        now = self._clock()
        spoken = [operation for operation in operations if not isinstance(operation, Put)]
        self._load_rooms({operation.room for operation in spoken})
        self._load_members({(operation.room, operation.user) for operation in spoken})
        forgotten = timestamp(max(0.0, now - self._key_ttl))
        batch = _Batch(timestamp(now), forgotten, self._load_keys(spoken))
        for operation in operations:
            result: Any
            try:
                if isinstance(operation, Append):
                    result = self._append(operation, batch)
                elif isinstance(operation, Mark):
                    result = self._mark(operation, batch)
                else:
                    result = None
                    sqlite_rows.put_user(self._connection, operation.user)
            except InvalidPayload as error:
                result = error
            batch.outcome.results.append((operation.future, result))
        self._insert(batch)
        self._trim(batch)
        return batch.outcome

    def _append(self, append: Append, batch: _Batch) -> Appended:
        room = self._rooms.get(append.room)
        if room is None:
            room = self._rooms[append.room] = _Room(self._next_room, 0, 1)
            self._next_room += 1
            batch.rooms.append((room.id, append.room))
        whose = (room.id, append.user)
        member = self._members.get(whose)
        if member is None:
            member = self._members[whose] = _Member()
        digest = ""
        if append.key is not None:
            digest = text_digest(append.text)
            known = batch.keys.get((*whose, append.key))
            if known is not None and self._remembered(known, member, batch):
                if known.digest != digest:
                    raise key_reused()
                earlier = Message(
                    known.id, known.seq, append.room, append.user, append.text, known.timestamp
                )
                return Appended(earlier, True)
        room.seq += 1
        member.sent += 1
        batch.members[whose] = member
        if member.sent % max(1, self._key_messages // 4) == 0:
            batch.old_keys[whose] = member.sent - self._key_messages
        named = f"{self._named}{next(self._numbers):016x}"
        message = Message(named, room.seq, append.room, append.user, append.text, batch.now)
        batch.messages.append((room.id, room.seq, message.id, append.user, append.text, batch.now))
        if append.key is not None:
            keyed = _Keyed(message.id, room.seq, batch.now, digest, member.sent)
            batch.keys[(*whose, append.key)] = batch.new_keys[(*whose, append.key)] = keyed
        deliveries = batch.outcome.deliveries.setdefault(append.room, [])
        deliveries.append(Delivery(message, append.origin))
        return Appended(message, False)

    def _remembered(self, known: _Keyed, member: _Member, batch: _Batch) -> bool:
        newer = member.sent - known.sent
        return newer < self._key_messages and known.timestamp > batch.forgotten

    def _mark(self, mark: Mark, batch: _Batch) -> tuple[Cursor, Cursor]:
        room = self._rooms.get(mark.room)
        newest = room.seq if room else 0
        if max(mark.delivered, mark.read) > newest:
            raise InvalidPayload(f"The newest message of this room is {newest}", field="seq")
        if room is None:
            return Cursor(), Cursor()
        whose = (room.id, mark.user)
        member = self._members.get(whose) or _Member()
        before = Cursor(member.delivered, member.read)
        member.delivered = max(member.delivered, mark.delivered, mark.read)
        member.read = max(member.read, mark.read)
        after = Cursor(member.delivered, member.read)
        if after != before:
            self._members[whose] = batch.members[whose] = member
        return before, after

    def _load_rooms(self, names: set[str]) -> None:
        missing = [(name,) for name in names if name not in self._rooms]
        for name, number, seq, oldest in sqlite_rows.rooms(self._connection, missing):
            self._rooms[name] = _Room(number, seq, oldest)

    def _load_members(self, members: set[tuple[str, str]]) -> None:
        known = ((self._rooms[name].id, user) for name, user in members if name in self._rooms)
        missing = [member for member in known if member not in self._members]
        for room, user, *counts in sqlite_rows.members(self._connection, missing):
            self._members[room, user] = _Member(*counts)

    def _load_keys(self, spoken: Sequence[Append | Mark]) -> dict[tuple[int, str, str], _Keyed]:
        wanted = {
            (room.id, append.user, append.key)
            for append in spoken
            if isinstance(append, Append)
            and append.key is not None
            and (room := self._rooms.get(append.room)) is not None
        }
        found = sqlite_rows.keys(self._connection, list(wanted))
        return {(room, user, key): _Keyed(*rest) for room, user, key, *rest in found}

    def _insert(self, batch: _Batch) -> None:
        sqlite_rows.insert(self._connection, "rooms", batch.rooms)
        sqlite_rows.insert(self._connection, "messages", batch.messages)
        keys = [
            (*whose, keyed.id, keyed.seq, keyed.timestamp, keyed.digest, keyed.sent)
            for whose, keyed in batch.new_keys.items()
        ]
        columns = "keys (room, user, key, id, seq, timestamp, digest, sent)"
        sqlite_rows.replace(self._connection, columns, keys)
        members = [
            (*whose, member.sent, member.delivered, member.read)
            for whose, member in batch.members.items()
        ]
        sqlite_rows.replace(self._connection, "members", members)

    def _trim(self, batch: _Batch) -> None:
        """Delete what is out of reach, seldom, and never much at once."""
        slack = min(self._history // 10, _TRIMMED // 2)
        for name in batch.outcome.deliveries:
            room = self._rooms[name]
            if room.seq - room.oldest + 1 > self._history + slack:
                last = min(room.seq - self._history, room.oldest + _TRIMMED - 1)
                sqlite_rows.trim_messages(self._connection, room.id, last)
                room.oldest = last + 1
        for whose, last in batch.old_keys.items():
            sqlite_rows.trim_keys_of(self._connection, whose, last)
        self._keys_added += len(batch.new_keys)
        if self._keys_added > _TRIMMED // 4:
            self._keys_added = 0
            sqlite_rows.trim_keys(self._connection, batch.forgotten, _TRIMMED)
