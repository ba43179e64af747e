"""Log lines: one each on stderr, for a person or as JSON, whatever the message contains.

Nothing secret is logged anywhere; as a second fence, what looks like a token is cut out here.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Final

__all__ = ["set_up"]

# header.payload.signature, base64url: what every signed JWT looks like
_TOKEN: Final = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")


class _OneLine(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        return _clean(super().format(record))


class _Json(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _TOKEN.sub("<token>", json.dumps(line))


def _clean(text: str) -> str:
    # What a client sent may be in it: a line break there must not forge a line of the log.
    text = _TOKEN.sub("<token>", text)
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def set_up(level: str, form: str) -> None:
    """Send the package's log records of `level` and above to stderr as `form`, text or json."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("chatlab")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    for library in ("aiohttp", "asyncio"):
        logging.getLogger(library).handlers[:] = [handler]
        logging.getLogger(library).setLevel("WARNING")
        logging.getLogger(library).propagate = False
