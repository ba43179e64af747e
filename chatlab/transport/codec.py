"""JSON for the wire: msgspec's, with a tolerant second look at what it refuses.

python-socketio wants a module-like object with `dumps` and `loads`. It is set on our own packet
class only: its `json=` option is process-wide and would change every client in the same process.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

__all__ = ["JSON", "decode_json", "encode_json"]

encode_json = msgspec.json.Encoder().encode
"""A value, or a struct, as compact JSON bytes. Raises `TypeError` or `UnicodeEncodeError`."""

decode_json = msgspec.json.Decoder().decode
"""The value of strict JSON text. Raises `msgspec.DecodeError` and more: see `JSON.loads`."""


def _whole_number(digits: str) -> int | float:
    # Longer ones would cost quadratic time or raise (CPython's limit of 4,300 digits): they
    # overflow, and validation answers so.
    return int(digits) if len(digits) <= 40 else math.inf


class JSON:
    """`dumps` and `loads` as python-socketio calls them."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        """`value` as compact JSON. Raises `TypeError` or `UnicodeEncodeError`."""
        return encode_json(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        """The value of `text`. Raises `ValueError` when it is not JSON or is too deep.

        What JavaScript and Python clients can produce but msgspec refuses (half a surrogate pair,
        `NaN`, a number that overflows) is let through: validation answers it with the name of the
        field, where a parse error would close the socket.
        """
        try:
            return decode_json(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            try:
                return json.loads(text, parse_int=_whole_number)
            except RecursionError:
                raise ValueError("JSON is nested too deeply") from None
