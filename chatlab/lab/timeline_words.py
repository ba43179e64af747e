"""A packet's content in a few words that are the same in every run.

What differs from run to run (ids, keys, tokens, times) is left out or gets a letter, so that two
equal keys are seen to be equal. It is for drawings, not for logs.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

__all__ = ["Wording"]

_HIDDEN = frozenset(
    {"sid", "timestamp", "time", "at", "createdAt", "epoch", "expiresAt", "iat", "exp"}
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_TOKEN = re.compile(r"eyJ[\w-]*(\.[\w-]*){0,2}…?")
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
# Anywhere, only what no person would write; under a name that says so, what looks made as well.
_RANDOM = re.compile(_UUID + r"|(?=.*\d)[0-9a-fA-F]{16,}|(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[\w-]{16,}")
_MADE = re.compile(_UUID + r"|(?=.*\d)[0-9a-fA-F]{8,}|[\w-]{16,}")
_NAMES_OF_MADE = frozenset({"id", "key", "nonce", "messageId", "idempotencyKey", "token"})
_LONGEST = 140
_EARLIEST = 10**11  # as milliseconds: 1973. A larger integer is a clock or made from one.


class Wording:
    """Words for the payloads of one drawing. Letters are given in the order of `words` calls."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def words(self, data: Any) -> str:
        """The payload in short, without outer braces: `"hello", key: A`; `""` for no payload."""
        said = self._all(data)
        return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"

    def _all(self, data: Any) -> str:
        if data is None:
            return ""
        if isinstance(data, tuple):
            return ", ".join(self._value(x, 0) for x in data)
        if isinstance(data, Mapping):
            return self._fields(data, 0)
        return self._value(data, 0)

    def _fields(self, data: Mapping[Any, Any], depth: int) -> str:
        fields = {str(k): v for k, v in data.items() if str(k) not in _HIDDEN}
        if fields.get("ok") is False and "code" in fields:
            # The word that tells one failure from another comes before the sentence.
            fields = {"ok": False, "code": fields.pop("code"), **fields}
        parts = []
        if depth == 0 and isinstance(fields.get("text"), str):
            parts.append(_quoted(fields.pop("text")))  # the message itself needs no label
        parts += [f"{k}: {self._field(k, v, depth + 1)}" for k, v in fields.items()]
        return ", ".join(parts)

    def _field(self, name: str, value: Any, depth: int) -> str:
        made = name in _NAMES_OF_MADE and isinstance(value, str) and _MADE.fullmatch(value)
        if made and not _TOKEN.fullmatch(value):
            return self._letter(value)
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> str:
        if value is None or isinstance(value, bool):
            return json.dumps(value)
        if isinstance(value, str):
            return self._text(value, depth)
        if isinstance(value, int) and value >= _EARLIEST:
            return self._letter(str(value))
        if isinstance(value, int | float):
            return f"{value:g}" if isinstance(value, float) else str(value)
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        if isinstance(value, Mapping):
            return "{" + (self._fields(value, depth) if depth < 4 else "…") + "}"
        if isinstance(value, list | tuple):
            shown = [self._value(x, depth + 1) for x in value[:3]] if depth < 4 else ["…"]
            more = f", … {len(value) - 3} more" if len(value) > 3 else ""
            return "[" + ", ".join(shown) + more + "]"
        return type(value).__name__

    def _text(self, value: str, depth: int) -> str:
        if _TOKEN.fullmatch(value):
            return "<token>"
        if _TIME.match(value):
            return "<time>"
        if _RANDOM.fullmatch(value):
            return self._letter(value)
        # Inside a structure a plain word is clear without its quotes.
        if (
            depth
            and re.fullmatch(r"[A-Za-z][\w-]*", value)
            and value not in ("true", "false", "null")
        ):
            return value
        return _quoted(value)

    def _letter(self, value: str) -> str:
        if value not in self._letters:
            number = len(self._letters)
            letter = string.ascii_uppercase[number % 26]
            self._letters[value] = letter + (str(number // 26) if number >= 26 else "")
        return self._letters[value]


def _quoted(value: str) -> str:
    shown = value if len(value) <= 48 else value[:47] + "…"
    return json.dumps(shown, ensure_ascii=False)
