"""Where messages and users are kept: an interface, and its embedded and distributed forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from chatlab.errors import SettingsError
from chatlab.settings import REDIS_SCHEMES, Settings
from chatlab.storage import sqlite_file
from chatlab.storage.memory import MemoryDirectory, MemoryLog
from chatlab.storage.presence import LocalPresence
from chatlab.storage.shared import Storage
from chatlab.storage.sqlite import SqliteLog
from chatlab.storage.sqlite_users import SqliteDirectory, UserFile

if TYPE_CHECKING:
    from chatlab.storage.redis_users import UserStore

__all__ = ["open_storage", "open_users"]


def open_storage(settings: Settings) -> Storage:
    """What `settings.storage` names, not yet opened.

    Opening and closing the log opens and closes everything. Raises `SettingsError` for a URL
    that cannot be used; whether what it names can be, only `RoomLog.open` finds out.
    """
    scheme = settings.storage.partition("://")[0]
    backend = _BACKENDS.get(scheme)
    if backend is None:
        known = ", ".join(f"{name}://" for name in _BACKENDS)
        raise SettingsError(f"--storage {scheme}://… is not known: use one of {known}")
    return backend(settings)


def _memory(settings: Settings) -> Storage:
    log = MemoryLog(history=settings.history, key_ttl=settings.key_ttl)
    return Storage(log, MemoryDirectory(), LocalPresence())


def _sqlite(settings: Settings) -> Storage:
    log = SqliteLog(
        sqlite_file.path_of(settings.storage),
        sync=settings.sqlite_sync,
        history=settings.history,
        key_ttl=settings.key_ttl,
        # Half of it, so that who waited for a lock is still answered in time.
        busy=settings.storage_timeout / 2,
        stalled_after=settings.storage_timeout,
    )
    return Storage(log, SqliteDirectory(log), LocalPresence())


def _redis(settings: Settings) -> Storage:
    # Only here, because whoever keeps messages in a file does not need to load redis-py.
    from chatlab.storage import redis_storage

    return redis_storage.open_redis(settings)


def open_users(url: str, *, create: bool = False) -> UserFile | UserStore:
    """The directory that `url` names, for the command line: at once, without a loop.

    With `create`, a file that does not exist yet is made. Every server that uses it notices changes
    within a second. Raises `SettingsError` where there is nothing to open: memory, too,
    belongs to the server alone.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        raise SettingsError(
            "memory:// keeps users in the server's own memory, out of reach of this command: "
            "start the server with --storage sqlite:///chat.db to have a list of users"
        )
    if scheme in REDIS_SCHEMES:
        from chatlab.storage import redis_users

        return redis_users.UserStore(url)
    if scheme != "sqlite":
        raise SettingsError(f"--storage {scheme}://… is not known: use sqlite:///relative/path")
    return UserFile(sqlite_file.path_of(url), create=create)


_BACKENDS: Final[Mapping[str, Callable[[Settings], Storage]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    **dict.fromkeys(REDIS_SCHEMES, _redis),
}
