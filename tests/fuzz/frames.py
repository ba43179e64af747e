"""Websocket frames as bytes, right ones and wrong ones; RFC 6455 section 5.2 is the drawing.

It writes whatever it is told to write. What a server makes of that is `wire.py`'s to look at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import cycle
from typing import Final

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Frame"]

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


@dataclass(frozen=True)
class Frame:
    """One frame. `claims` is the length in its head where that is a lie, `width` the bytes used
    for it (1, 3 or 9; 0 is the shortest that fits), `cut` how many bytes of the frame are sent."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    claims: int | None = None
    width: int = 0
    cut: int | None = None

    def encode(self, payload: bytes | None = None) -> bytes:
        """The frame's bytes; `payload` stands for the frame's own, with its blanks filled in."""
        payload = self.payload if payload is None else payload
        length = len(payload) if self.claims is None else self.claims
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode])
        mask = os.urandom(4) if self.masked else b""
        encoded = head + self._length(length) + mask + _masked(payload, mask)
        return encoded if self.cut is None else encoded[: self.cut]

    def _length(self, length: int) -> bytes:
        bit = self.masked << 7
        width = self.width or (1 if length < 126 else 3 if length < 65_536 else 9)
        if width == 1:
            return bytes([bit | min(length, 125)])
        if width == 3:
            return bytes([bit | 126]) + min(length, 65_535).to_bytes(2, "big")
        return bytes([bit | 127]) + length.to_bytes(8, "big")


def _masked(payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return payload
    if len(payload) < 64:
        return bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(len(payload), "big")
