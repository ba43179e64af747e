"""The bytes of the load generator: frames of its clients, cut out of and put into a stream.

Only what a load needs of RFC 6455: whole text frames, and the word that a connection ends.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["CLOSE", "PONG", "TEXT", "split", "text_frame"]

TEXT: Final = 0x81
CLOSE: Final = 0x88


def text_frame(payload: bytes) -> bytes:
    """`payload` as a client's websocket frame.

    Clients must mask (RFC 6455, 5.3); with the key 0 the masked bytes are the bytes themselves.
    """
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", TEXT, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", TEXT, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", TEXT, 0x80 | 127, size)
    return head + bytes(4) + payload


PONG: Final = text_frame(b"3")
"""Engine.IO's answer to a ping."""


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of the whole frames in `data`, and the rest. A close is told as b"1"."""
    found, position, end = [], 0, len(data)
    while end - position >= 2:
        size, body = data[position + 1], position + 2
        if size == 126 and end - position >= 4:
            size, body = int.from_bytes(data[position + 2 : position + 4]), position + 4
        elif size == 127 and end - position >= 10:
            size, body = int.from_bytes(data[position + 2 : position + 10]), position + 10
        elif size >= 126:
            break
        if body + size > end:
            break
        if data[position] == TEXT:
            found.append(data[body : body + size])
        elif data[position] == CLOSE:
            found.append(b"1")
        position = body + size
    return found, data[position:]
