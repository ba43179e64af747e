"""Cuts a byte stream of websocket frames into messages, and finds the Socket.IO packet in each.

Made for a wire that forwards bytes unchanged: every unit carries its raw bytes. It does not check
the protocol; what it cannot read passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from chatlab.lab.packets import Seen, decode

__all__ = ["MESSAGE_LIMIT", "SESSION", "Unit", "WebSocketParser"]

# A message is held back until it is complete, up to this many bytes; a longer one is judged by
# its beginning and streamed.
MESSAGE_LIMIT = 1024 * 1024
# How much of a long message is looked at.
_BEGINNING = 4096
# An Engine.IO handshake, which names the session.
SESSION = re.compile(r'^0\{.*?"sid"\s*:\s*"([^"]+)"', re.DOTALL)


@dataclass(slots=True)
class Unit:
    """The smallest piece that a wire forwards or swallows as a whole.

    `packets` are the Socket.IO packets inside. `without` makes the bytes that remain when some of
    them (by index) are taken out; `answer` is what the sender is told when nothing remains of its
    request. A unit that `continues` shares the fate of the one before; `control` units are not
    part of that chain. `exchange` marks HTTP, where a lost unit leaves somebody without an answer.
    """

    raw: bytes
    packets: list[Seen] = field(default_factory=list)
    without: Callable[[set[int]], bytes] | None = None
    answer: bytes | None = None
    continues: bool = False
    control: bool = False
    exchange: bool = False


class WebSocketParser:
    """Reads one direction of one websocket. `opened` is told the Engine.IO session id."""

    def __init__(self, opened: Callable[[str], None]) -> None:
        self._opened = opened
        self._buffer = bytearray()
        self._held = bytearray()  # raw frames of a message that is not complete
        self._payload = bytearray()  # what these frames say
        self._text = False
        self._streaming = False  # in a message that was too long to hold
        self._left = 0  # bytes of the present frame still to come, while streaming
        self._last_frame = False
        self._attachments = 0

    def feed(self, data: bytes) -> list[Unit]:
        """Take bytes as they come; return the units that they complete."""
        self._buffer += data
        units: list[Unit] = []
        while self._step(units):
            pass
        return units

    def _step(self, units: list[Unit]) -> bool:
        if self._left:
            return self._stream(units)
        head = _frame_head(self._buffer)
        if head is None:
            return False
        size, length, mask = head
        final, opcode = bool(self._buffer[0] & 0x80), self._buffer[0] & 0x0F
        if opcode >= 8:
            if len(self._buffer) < size + length:
                return False
            units.append(Unit(self._take(size + length), control=True))
            return True
        if opcode:
            self._text = opcode == 1
        if self._streaming or len(self._held) + size + length > MESSAGE_LIMIT:
            self._begin_streaming(units, size, length, mask, final)
            return True
        if len(self._buffer) < size + length:
            return False
        raw = self._take(size + length)
        self._held += raw
        self._payload += _unmask(raw[size:], mask)
        if final:
            units.append(self._message(bytes(self._held)))
            self._held.clear()
            self._payload.clear()
        return True

    def _take(self, count: int) -> bytes:
        raw = bytes(self._buffer[:count])
        del self._buffer[:count]
        return raw

    def _begin_streaming(
        self, units: list[Unit], size: int, length: int, mask: bytes | None, final: bool
    ) -> None:
        raw = self._take(min(size + length, len(self._buffer)))
        self._left = size + length - len(raw)
        self._last_frame = final
        if self._streaming:
            units.append(Unit(raw, continues=True))
        else:
            self._payload += _unmask(raw[size : size + _BEGINNING], mask)
            units.append(self._message(bytes(self._held) + raw))
            self._held.clear()
            self._payload.clear()
        self._streaming = bool(self._left) or not final

    def _stream(self, units: list[Unit]) -> bool:
        if not self._buffer:
            return False
        raw = self._take(min(self._left, len(self._buffer)))
        self._left -= len(raw)
        units.append(Unit(raw, continues=True))
        if not self._left and self._last_frame:
            self._streaming = False
        return True

    def _message(self, raw: bytes) -> Unit:
        if not self._text:
            mine, self._attachments = self._attachments > 0, max(0, self._attachments - 1)
            return Unit(raw, continues=mine)
        self._attachments = 0
        text = self._payload.decode("utf-8", "replace")
        session = SESSION.match(text)
        if session:
            self._opened(session.group(1))
        seen = decode(text[1:]) if text.startswith("4") else None
        if seen is None:
            return Unit(raw)
        self._attachments = seen.attachments
        return Unit(raw, [seen], without=lambda _: b"")


def _frame_head(buffer: bytearray) -> tuple[int, int, bytes | None] | None:
    """The frame's header size, payload length and mask; None while bytes are missing."""
    if len(buffer) < 2:
        return None
    masked, length, size = bool(buffer[1] & 0x80), buffer[1] & 0x7F, 2
    extra = {126: 2, 127: 8}.get(length, 0)
    if len(buffer) < size + extra + (4 if masked else 0):
        return None
    if extra:
        length = int.from_bytes(buffer[2 : 2 + extra], "big")
        size += extra
    mask = bytes(buffer[size : size + 4]) if masked else None
    return size + (4 if masked else 0), length, mask


def _unmask(data: bytes, mask: bytes | None) -> bytes:
    if mask is None or not data:
        return data
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    number = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(data), "big")
