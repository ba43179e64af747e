"""Notices what a test run leaves behind: processes, threads, databases, sockets, temporary files.

A lesson stops what it starts; so does every test, and this is what holds them to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "CHATLAB_TEST_RUN"
GRACE_S = 5.0
DATABASES = (".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite3", ".rdb", ".aof")
SKIPPED = {".git", ".venv", "node_modules", "work", "__pycache__", ".hypothesis", ".cache"}
# A type checker or linter that runs beside the tests keeps databases here.
SKIPPED |= {".mypy_cache", ".ruff_cache", ".pytest_cache"}


class Watch:
    """Looks before a run and after it; `leftovers()` is the difference, as sentences.

    In between, temporary files go to a folder of this run's own, and every process that is started
    carries a mark in its environment, by which it is found even after it has left its parent.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mark = uuid.uuid4().hex
        self._threads = set(threading.enumerate())
        self._files = set(data_files(root))
        self._children = set(psutil.Process().children(recursive=True))
        self._saved = {name: os.environ.get(name) for name in (MARK, "TMPDIR")}
        self._saved_tempdir = tempfile.tempdir
        self.folder = Path(tempfile.mkdtemp(prefix="chatlab-"))
        os.environ[MARK] = self._mark
        os.environ["TMPDIR"] = str(self.folder)
        tempfile.tempdir = str(self.folder)

    def leftovers(self) -> list[str]:
        """What is still there, after a few seconds' grace for what is just ending."""
        until = time.monotonic() + GRACE_S
        while (found := self._look()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def close(self) -> None:
        """Put the environment back as it was."""
        tempfile.tempdir = self._saved_tempdir
        for name, value in self._saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(self.folder, ignore_errors=True)

    def _look(self) -> list[str]:
        return [
            *(f"process {each}" for each in self._processes()),
            *(
                f"thread {thread.name!r}"
                for thread in threading.enumerate()
                if thread not in self._threads and thread.is_alive()
            ),
            *(
                f"file {path.relative_to(self._root)}"
                for path in sorted(set(data_files(self._root)) - self._files)
            ),
            *(f"temporary {path.name}" for path in sorted(self.folder.iterdir())),
        ]

    def _processes(self) -> Iterator[str]:
        me = psutil.Process()
        children = set(me.children(recursive=True)) - self._children
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process == me or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process in children or process.environ().get(MARK) == self._mark:
                    yield f"{process.pid}: {' '.join(process.cmdline())[:120]}"


def data_files(root: Path) -> Iterator[Path]:
    """Databases and sockets anywhere in the working copy that git is meant to see."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in names:
            path = Path(folder, name)
            if name.endswith(DATABASES) or is_socket(path):
                yield path


def is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
