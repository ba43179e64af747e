"""Where messages and users are kept: an interface, and its embedded and distributed forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chatlab.errors import SettingsError
from chatlab.settings import Settings
from chatlab.storage.base import RoomLog, UserDirectory
from chatlab.storage.memory import MemoryDirectory, MemoryLog

__all__ = ["open_storage"]


def open_storage(settings: Settings) -> tuple[RoomLog, UserDirectory]:
    """The log and the directory that `settings.storage` names, not yet opened.

    Opening and closing the log opens and closes the directory. Raises `SettingsError` for a URL
    that cannot be used; whether what it names can be, only `RoomLog.open` finds out.
    """
    scheme = settings.storage.partition("://")[0]
    backend = _BACKENDS.get(scheme)
    if backend is None:
        known = ", ".join(f"{name}://" for name in _BACKENDS)
        raise SettingsError(f"--storage {scheme}://… is not known: use one of {known}")
    return backend(settings)


def _memory(settings: Settings) -> tuple[RoomLog, UserDirectory]:
    return MemoryLog(history=settings.history, key_ttl=settings.key_ttl), MemoryDirectory()


_BACKENDS: Final[Mapping[str, Callable[[Settings], tuple[RoomLog, UserDirectory]]]] = {
    "memory": _memory,
}
