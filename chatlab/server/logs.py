"""Log lines: one each on stderr, for a person or as JSON, whatever the message contains.

Nothing secret is logged anywhere; as a second fence, what looks like a token is cut out here. And
whatever a client does, a few lines are all that it gets: `Budget` counts the rest.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TextIO

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

__all__ = ["Budget", "lighten", "set_up"]

LONGEST: Final = 10_000
"""Characters of a line; a traceback through Python's deepest recursion is shorter."""

# header.payload.signature, base64url: what every signed JWT looks like
_TOKEN: Final = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")


class _OneLine(logging.Formatter):
    """`2026-01-31 12:00:00,123 INFO    message`, in UTC."""

    _second = -1.0
    _shown = ""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        second, fraction = divmod(record.created, 1)
        if second != self._second:
            self._second = second
            self._shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        return f"{self._shown},{int(fraction * 1000):03d} {record.levelname:<7} {_clean(text)}"


class _Json(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LONGEST],
        }
        if client := _client(record):
            line["client"] = client
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)[:LONGEST]
        return _TOKEN.sub("<token>", json.dumps(line))


def _clean(text: str) -> str:
    # What a client sent may be in it: a line break there must not forge a line of the log.
    if "eyJ" in text:
        text = _TOKEN.sub("<token>", text)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _client(record: logging.LogRecord) -> str:
    return str(getattr(record, "client", ""))


def _is_wanted(record: logging.LogRecord) -> bool:
    """Make one line of what is no HTTP; aiohttp 3.14.5 logs a traceback for it, as for a crash."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, (HttpProcessingError, RequestPayloadError)):
        return True
    client = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
    told = (client or "somebody", type(error).__name__)
    record.msg, record.args = "%s sent what is no HTTP: %s", told
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname, record.client = logging.INFO, "INFO", client
    return logging.getLogger("chatlab").isEnabledFor(logging.INFO)


@dataclass(slots=True)
class _Window:
    """A minute of one kind of line about one client, beginning with the first line."""

    since: float
    level: int
    written: int = 0
    more: int = 0
    example: str = ""


class Budget:
    """Of each kind of line, `lines` a minute about each client; then only how many more there were.

    Who logs names the client with `extra={"client": …}`, an address or a user. A kind is a logger
    and a text before its arguments are filled in. What names no client has `COMMON` lines a
    minute, so that no mistake of ours lets a client fill a disk either. `lines` of 0 is no limit.
    """

    COMMON: Final = 100
    MINUTE: Final = 60.0
    REMEMBERED: Final = 4_096  # windows; past it the oldest ends early

    def __init__(self, lines: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        # All are equally long, so the oldest is the first to end, and no timer is needed.
        self._windows: OrderedDict[tuple[str, str, str], _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, record: logging.LogRecord) -> bool:
        """Whether the record may be written; if not, it is counted."""
        if not self._lines:
            return True
        client = _client(record)
        kind = (client, record.name, str(record.msg).partition("\n")[0])
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(self._clock(), record.levelno)
        if window.written < (self._lines if client else self.COMMON):
            window.written += 1
            return True
        if not window.more:
            window.example = record.getMessage()[:200]
        window.more += 1
        return False

    def told(self, *, all_of_them: bool = False) -> Iterator[logging.LogRecord]:
        """What is to be said of minutes that are over, or of `all_of_them`, the last ones too."""
        over = self._clock() - self.MINUTE
        while self._windows:
            oldest = next(iter(self._windows.values()))
            full = len(self._windows) >= self.REMEMBERED
            if not (all_of_them or full or oldest.since <= over):
                return
            (client, name, _), window = self._windows.popitem(last=False)
            if window.more:
                yield _summary(client, name, window)


def _summary(client: str, name: str, window: _Window) -> logging.LogRecord:
    about = f" about {client}" if client else ""
    text = f"… and {window.more} more{about} within a minute, like: {window.example}"
    said = {"name": name, "levelno": window.level, "msg": text, "client": client}
    return logging.makeLogRecord({**said, "levelname": logging.getLevelName(window.level)})


class _Lines(logging.StreamHandler[TextIO]):
    """One write for each line. There is no queue: nothing is lost at exit, nor when killed."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(sys.stderr)
        self._budget = budget

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for summary in self._budget.told():
                super().emit(summary)
            if self._budget.take(record):
                super().emit(record)
        except Exception:  # as every handler: a line that cannot be written is not raised
            self.handleError(record)

    def close(self) -> None:
        for summary in self._budget.told(all_of_them=True):
            super().emit(summary)
        super().close()


def lighten() -> None:
    """Have this process's records not look up what no line shows: caller, thread and process.

    That is a third of what a record costs (Python's Logging HOWTO, "Optimization").
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False


def set_up(level: str, form: str, lines: int = 5) -> None:
    """Send the package's log records of `level` and above to stderr as `form`, text or json.

    `lines` of one kind are written in a minute about one client; 0 is no limit.
    """
    handler = _Lines(Budget(lines))
    handler.setFormatter(_Json() if form == "json" else _OneLine())
    handler.addFilter(_is_wanted)
    logger = logging.getLogger("chatlab")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    for library in ("aiohttp", "asyncio"):
        logging.getLogger(library).handlers[:] = [handler]
        logging.getLogger(library).setLevel("WARNING")
        logging.getLogger(library).propagate = False
