"""One serving process for each database file: an operating-system lock on `<file>.serving`.

The lock dies with its process, however that ends. It does not keep out `chatlab user`, which is
why it is not a lock on the database itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from chatlab.errors import SettingsError

__all__ = ["ServingLock"]

if sys.platform == "win32":
    import msvcrt

    # Windows keeps others from reading what is locked: lock a byte far behind the process id.
    _OFFSET = 1 << 20

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class ServingLock:
    """Held from `acquire` to `release` by the one process that serves `database`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        # Resolved, so that two names of one file (a symbolic link) meet at one lock.
        resolved = database.resolve()
        self._path = resolved.with_name(f"{resolved.name}.serving")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `SettingsError` where another process has it, or none can be."""
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise SettingsError(
                    f"{self._path} cannot be written ({error.strerror}): "
                    "the folder of the database must be writable"
                ) from None
            try:
                _lock(descriptor)
            except OSError as error:
                holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise self._refused(error, holder) from None
            if self._still_named(descriptor):
                break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def _refused(self, error: OSError, holder: str) -> SettingsError:
        if not isinstance(error, (BlockingIOError, PermissionError)):
            return SettingsError(
                f"{self._path} cannot be locked ({error.strerror}): "
                "keep the database on a local disk"
            )
        return SettingsError(
            f"{self._database} is served by another process{f' ({holder})' if holder else ''}: "
            "stop that one first, or choose another --storage"
        )

    def _still_named(self, descriptor: int) -> bool:
        # Its last holder may have removed the file between our open and our lock.
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go, and leave no file behind. Does nothing without the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if sys.platform != "win32":
            # While it is locked: whoever opened it meanwhile sees that its name is gone.
            with contextlib.suppress(OSError):
                self._path.unlink()
        with contextlib.suppress(OSError):
            _unlock(descriptor)
        os.close(descriptor)
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                self._path.unlink()
