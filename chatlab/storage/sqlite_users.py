"""The user directory in the database file: for the server, and for the command line beside it.

The server's goes through the log's threads; the command line's is plain and synchronous, because
`chatlab user` runs in a process of its own, with or without a server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from chatlab.errors import SettingsError
from chatlab.storage import sqlite_file
from chatlab.storage.base import User, encodable
from chatlab.storage.sqlite import SqliteLog
from chatlab.storage.sqlite_history import all_users, banned_users, find_user
from chatlab.storage.sqlite_operations import Put
from chatlab.storage.sqlite_rows import put_user

__all__ = ["SqliteDirectory", "UserFile"]

_PATIENCE: Final = 5.0  # seconds to wait for a server's transaction, which takes milliseconds


class SqliteDirectory:
    """A `UserDirectory` in the file of `log`; it is open while the log is."""

    def __init__(self, log: SqliteLog) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._log = log
        log.users_changed = lambda: self.changed()

    async def get(self, user: str) -> User | None:
        """See `UserDirectory.get`."""
        if not encodable(user):
            return None
        return await self._log.read(partial(find_user, user=user))

    async def banned(self, users: Sequence[str]) -> set[str]:
        """See `UserDirectory.banned`."""
        return (await self._log.read(banned_users)).intersection(users)

    async def put(self, user: User) -> None:
        """See `UserDirectory.put`."""
        _check(user)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log.write(Put(user, future))
        await future

    async def list(self) -> list[User]:
        """See `UserDirectory.list`."""
        return await self._log.read(all_users)


class UserFile:
    """The directory in the file `path`, for one command at a time. Close it, or use `with`.

    With `create`, a file that does not exist yet is made. Raises `SettingsError` when the file
    cannot be used, here and in every method.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        sqlite_file.check(path)
        if not create and not os.path.exists(path):
            raise SettingsError(f"{path} does not exist yet: add a user, or start the server once")
        self._path = path
        with sqlite_file.explained(path):
            self._connection = sqlite_file.connect(path, busy=_PATIENCE)
            try:
                sqlite_file.prepare(self._connection, path, thorough=False)
            except BaseException:
                self._connection.close()
                raise

    def get(self, user: str) -> User | None:
        """The user, or None."""
        if not encodable(user):
            return None
        with sqlite_file.explained(self._path):
            return find_user(self._connection, user)

    def put(self, user: User) -> None:
        """Add or change a user. Raises `ValueError` where UTF-8 cannot hold it."""
        _check(user)
        with sqlite_file.explained(self._path):
            put_user(self._connection, user)

    def set_banned(self, user: str, banned: bool) -> User | None:
        """Ban or unban a user, and return them; None when there is no such user."""
        if not encodable(user):
            return None
        with sqlite_file.explained(self._path):
            self._connection.execute("UPDATE users SET banned = ? WHERE id = ?", (banned, user))
            return find_user(self._connection, user)

    def list(self) -> list[User]:
        """Everybody, by id."""
        with sqlite_file.explained(self._path):
            return all_users(self._connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> UserFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check(user: User) -> None:
    if not encodable(user.id, user.name):
        raise ValueError("a user's id and name must be valid Unicode")
