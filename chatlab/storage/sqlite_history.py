"""The readers' SQL: snapshots and pages of a room, and users.

Whatever is read comes as one JSON text from one step of a statement; `sqlite_store.py` says why.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from chatlab.protocol import Message
from chatlab.storage.base import (
    NEWEST_BYTES,
    Cursor,
    Page,
    Snapshot,
    User,
    history_lost,
    room_epoch,
)

__all__ = ["History", "all_users", "banned_users", "find_user"]

_messages = msgspec.json.Decoder(list[Message])

_HEAD: Final = """
SELECT r.id,
    (SELECT coalesce(max(seq), 0) FROM messages WHERE room = r.id),
    (SELECT coalesce(min(seq), 1) FROM messages WHERE room = r.id),
    m.delivered, m.read
FROM (SELECT 1) LEFT JOIN rooms r ON r.name = ? LEFT JOIN members m ON m.room = r.id AND m.user = ?
"""

_SLICE: Final = """
SELECT json_group_array(json_object(
    'id', id, 'seq', seq, 'room', :name, 'user', user, 'text', text, 'timestamp', timestamp))
FROM (
    SELECT *, sum(length(CAST(json_quote(text) AS BLOB))) OVER (ORDER BY seq {order}) AS bytes
    FROM messages WHERE room = :room AND seq BETWEEN :first AND :last
)
WHERE bytes <= :bytes OR seq = {one}
"""
_UPWARDS: Final = _SLICE.format(order="ASC", one=":first")
_DOWNWARDS: Final = _SLICE.format(order="DESC", one=":last")


class History:
    """What is read about rooms; its methods run on the reader's thread.

    `length` is in messages a room. `token` is that of the file's epochs, known once it is open.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self.token = ""

    def snapshot(
        self,
        connection: sqlite3.Connection,
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
        number, seq, oldest, cursor = self._head(connection, room, user)
        current = room_epoch(self.token, room)
        lost = history_lost(after=after, epoch=epoch, seq=seq, oldest=oldest, current_epoch=current)
        if after is None or lost:
            first = max(oldest, seq - newest + 1)
            messages = _slice(connection, _DOWNWARDS, room, number, first, seq, NEWEST_BYTES)
            more = bool(messages) and messages[0].seq > oldest
        else:
            last = min(seq, after + limit)
            messages = _slice(connection, _UPWARDS, room, number, after + 1, last, max_bytes)
            more = bool(messages) and messages[-1].seq < seq
        return Snapshot(seq, current, messages, more, lost, cursor)

    def page(
        self,
        connection: sqlite3.Connection,
        room: str,
        *,
        after: int | None,
        before: int | None,
        limit: int,
        max_bytes: int,
    ) -> Page:
        """See `RoomLog.page`."""
        number, seq, oldest, _ = self._head(connection, room, "")
        if after is not None:
            first = max(after + 1, oldest)
            last = min(seq, first + limit - 1)
            messages = _slice(connection, _UPWARDS, room, number, first, last, max_bytes)
            more = bool(messages) and messages[-1].seq < seq
        else:
            last = seq if before is None else min(before - 1, seq)
            first = max(oldest, last - limit + 1)
            messages = _slice(connection, _DOWNWARDS, room, number, first, last, max_bytes)
            more = bool(messages) and messages[0].seq > oldest
        return Page(messages, more, room_epoch(self.token, room))

    def _head(
        self, connection: sqlite3.Connection, room: str, user: str
    ) -> tuple[int, int, int, Cursor]:
        row = connection.execute(_HEAD, (room, user)).fetchall()[0]
        number, seq, oldest, delivered, read = row
        if number is None:
            return 0, 0, 1, Cursor()
        # The writer deletes late; what is past its length is gone at once all the same.
        oldest = max(oldest, seq - self._length + 1)
        return number, seq, oldest, Cursor(delivered or 0, read or 0)


def _slice(
    connection: sqlite3.Connection,
    query: str,
    name: str,
    room: int,
    first: int,
    last: int,
    max_bytes: int,
) -> list[Message]:
    if first > last:
        return []
    values = {"name": name, "room": room, "first": first, "last": last, "bytes": max_bytes}
    rows = connection.execute(query, values).fetchall()
    return sorted(_messages.decode(rows[0][0]), key=lambda message: message.seq)


def find_user(connection: sqlite3.Connection, user: str) -> User | None:
    """The user, or None."""
    rows = connection.execute("SELECT name, banned FROM users WHERE id = ?", (user,)).fetchall()
    return User(user, rows[0][0], bool(rows[0][1])) if rows else None


def banned_users(connection: sqlite3.Connection) -> set[str]:
    """The ids of all who are banned."""
    query = "SELECT json_group_array(id) FROM users WHERE banned"
    return set(msgspec.json.decode(connection.execute(query).fetchall()[0][0]))


def all_users(connection: sqlite3.Connection) -> list[User]:
    """Everybody, by id."""
    query = "SELECT json_group_array(json_array(id, name, banned)) FROM users"
    rows = msgspec.json.decode(connection.execute(query).fetchall()[0][0])
    return sorted((User(id, name, bool(banned)) for id, name, banned in rows), key=_by_id)


def _by_id(user: User) -> str:
    return user.id
