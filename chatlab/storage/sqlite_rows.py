"""The writer's SQL: many rows in, or looked up, by one statement.

Rows that are looked up come back as one JSON text, in one step of the statement. The readers' SQL
is in `sqlite_reader.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from chatlab.storage.base import User

__all__ = [
    "insert",
    "keys",
    "members",
    "next_room",
    "put_user",
    "replace",
    "rooms",
    "trim_keys",
    "trim_keys_of",
    "trim_messages",
]

_ROWS: Final = 500  # of one statement: at most 4,000 of the 32,766 variables that SQLite allows


@lru_cache(maxsize=256)
def _values(rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)


def _slices(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        yield _values(len(some), len(some[0])), [value for row in some for value in row]


def insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add `rows` to `table`. Raises `sqlite3.IntegrityError` for a row that is there already."""
    for values, flat in _slices(rows):
        connection.execute(f"INSERT INTO {table} VALUES {values}", flat)  # noqa: S608


def replace(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add `rows` to `table`, in place of those with the same key."""
    for values, flat in _slices(rows):
        connection.execute(f"REPLACE INTO {table} VALUES {values}", flat)  # noqa: S608


def _look_up(
    connection: sqlite3.Connection, wanted: Sequence[tuple[Any, ...]], columns: str, query: str
) -> Iterator[Any]:
    for values, flat in _slices(wanted):
        rows = connection.execute(
            f"WITH want ({columns}) AS (VALUES {values}) {query}",
            flat,
        ).fetchall()
        yield from msgspec.json.decode(rows[0][0])


def rooms(connection: sqlite3.Connection, names: Sequence[tuple[str]]) -> Iterator[Any]:
    """(name, id, newest seq, oldest seq) of those rooms that exist."""
    return _look_up(
        connection,
        names,
        "name",
        "SELECT json_group_array(json_array(name, rooms.id, "
        "(SELECT coalesce(max(seq), 0) FROM messages WHERE room = rooms.id), "
        "(SELECT coalesce(min(seq), 1) FROM messages WHERE room = rooms.id))) "
        "FROM want JOIN rooms USING (name)",
    )


def members(connection: sqlite3.Connection, wanted: Sequence[tuple[int, str]]) -> Iterator[Any]:
    """(room, user, sent, delivered, read) of those members that exist."""
    return _look_up(
        connection,
        wanted,
        "room, user",
        "SELECT json_group_array(json_array(room, user, sent, delivered, read)) "
        "FROM want JOIN members USING (room, user)",
    )


def keys(connection: sqlite3.Connection, wanted: Sequence[tuple[int, str, str]]) -> Iterator[Any]:
    """(room, user, key, id, seq, timestamp, digest, sent) of those keys that are kept."""
    return _look_up(
        connection,
        wanted,
        "room, user, key",
        "SELECT json_group_array(json_array(room, user, key, id, seq, timestamp, digest, sent)) "
        "FROM want JOIN keys USING (room, user, key)",
    )


def next_room(connection: sqlite3.Connection) -> int:
    """An id that no room has."""
    rows = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM rooms").fetchall()
    return int(rows[0][0])


def put_user(connection: sqlite3.Connection, user: User) -> None:
    """Add or change `user`."""
    connection.execute(
        "INSERT INTO users VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
        "SET name = excluded.name, banned = excluded.banned",
        (user.id, user.name, user.banned),
    )


def trim_messages(connection: sqlite3.Connection, room: int, last: int) -> None:
    """Delete the messages of `room` up to and with `last`."""
    connection.execute("DELETE FROM messages WHERE room = ? AND seq <= ?", (room, last))


def trim_keys_of(connection: sqlite3.Connection, member: tuple[int, str], last: int) -> None:
    """Delete the keys of a member's messages up to and with their `last`."""
    connection.execute(
        "DELETE FROM keys WHERE room = ? AND user = ? AND sent <= ?", (*member, last)
    )


def trim_keys(connection: sqlite3.Connection, before: str, most: int) -> None:
    """Delete keys of before a time, at most so many."""
    connection.execute(
        "DELETE FROM keys WHERE timestamp < ? AND number IN "
        "(SELECT number FROM keys ORDER BY number LIMIT ?)",
        (before, most),
    )
