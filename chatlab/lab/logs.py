"""The log of a server that runs inside the notebook, kept instead of printed.

A server on a thread of its own would print under whatever cell happens to be running. So its lines
are kept here and a cell shows them when it asks. It is not a logging set-up for production.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import threading
import time
import traceback
from collections import deque
from types import TracebackType
from typing import Any

__all__ = ["LogBook", "LogLines", "ThreadRouter", "quiet_logger"]

MOST_LINES = 2000


class LogLines(list[str]):
    """Log entries, oldest first, shown one below the other."""

    def __repr__(self) -> str:
        return "\n".join(self) if self else "(the log is empty)"


class LogBook(logging.Handler):
    """Keeps the newest 2,000 records: as a short form for a lesson, and in full."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: deque[tuple[str, str]] = deque(maxlen=MOST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record from the logging module."""
        error = record.exc_info[1] if record.exc_info else None
        self.note(record.levelname.lower(), record.getMessage(), error)

    def note(self, level: str, message: str, error: BaseException | None = None) -> None:
        """Keep one entry; `error` adds what was raised and where."""
        line = f"{level}: {message}"
        if error is None:
            self._entries.append((line, line))
            return
        full = "".join(traceback.format_exception(error)).rstrip()
        self._entries.append((f"{line}\n{_short(error)}", f"{line}\n{full}"))

    def lines(self, *, full: bool = False) -> LogLines:
        """The entries; `full` gives whole tracebacks, else only where and what was raised."""
        return LogLines(entry[1 if full else 0] for entry in list(self._entries))

    async def wait_for(self, text: str, timeout: float) -> None:
        """Wait until an entry contains `text`. Raises `TimeoutError` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not any(text in entry for entry in self.lines(full=True)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in the log within {timeout:g} s:\n{self.lines()}")
            await asyncio.sleep(0.005)

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception handler for an event loop: keeps what asyncio would have printed."""
        self.note("error", str(context.get("message", "error")), context.get("exception"))


def _short(error: BaseException) -> str:
    """Where it was raised (the innermost frame that is not a library's) and what it was."""
    frame = _own_frame(error.__traceback__)
    what = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    if frame is None:
        return f"  {what}"
    name, line = frame
    return f"  in {name}: {line}\n  {what}" if line else f"  in {name}\n  {what}"


def _own_frame(trace: TracebackType | None) -> tuple[str, str] | None:
    found = None
    for frame, number in traceback.walk_tb(trace):
        filename = frame.f_code.co_filename
        if found is None or "site-packages" not in filename:
            line = linecache.getline(filename, number, frame.f_globals).strip()
            found = (frame.f_code.co_name, line)
    return found


def quiet_logger(name: str, book: LogBook, level: int = logging.WARNING) -> logging.Logger:
    """A logger outside logging's tree, so that its records reach the book and nobody else."""
    logger = logging.Logger(name, level)
    logger.addHandler(book)
    return logger


class ThreadRouter(logging.Handler):
    """A handler of the root logger that gives each server thread's records to its own book.

    Installed while at least one server runs. Records of other threads go where they would have
    gone without it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._books: dict[int, LogBook] = {}
        self._guard = threading.Lock()

    def add(self, thread: int, book: LogBook) -> None:
        """Route a thread's records to a book from now on."""
        with self._guard:
            self._books[thread] = book
            root = logging.getLogger()
            if self not in root.handlers:
                root.addHandler(self)

    def remove(self, thread: int) -> None:
        """Stop routing a thread; the last one takes the handler off the root logger."""
        with self._guard:
            self._books.pop(thread, None)
            if not self._books:
                logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Give a record to the book of its thread."""
        book = self._books.get(record.thread or 0)
        if book is not None:
            book.handle(record)
        elif logging.getLogger().handlers == [self]:
            # Without this handler Python would have used its last resort: keep that.
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
