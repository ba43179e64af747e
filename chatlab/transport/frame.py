"""Websocket frames as a server sends them (RFC 6455), and the answer to an opening handshake.

A message is encoded once, as the frame that goes out; a hundred recipients share its bytes. Long
polling takes the frame's header off again. Frames of clients are read by aiohttp's reader.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from aiohttp import web
from aiohttp.http_websocket import WS_KEY, ws_ext_gen, ws_ext_parse

__all__ = ["BINARY", "CLOSE", "PONG", "TEXT", "frame", "opening", "payload", "polled"]

# The first byte: a final frame (0x80) of this kind.
TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PONG: Final = 0x8A

_SHORT: Final = tuple(bytes((TEXT, size)) for size in range(126))


def frame(data: bytes, first: int = TEXT) -> bytes:
    """`data` as one frame; a server's are not masked."""
    size = len(data)
    if size < 126:
        return (_SHORT[size] if first == TEXT else bytes((first, size))) + data
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + data
    return bytes((first, 127)) + size.to_bytes(8, "big") + data


def payload(framed: bytes) -> bytes:
    """The data of a frame that `frame` has made."""
    return framed[{126: 4, 127: 10}.get(framed[1], 2) :]


def polled(framed: bytes) -> str:
    """A frame's Engine.IO packet as it stands in a polling body, where binary is base64."""
    data = payload(framed)
    return data.decode() if framed[0] == TEXT else "b" + base64.b64encode(data).decode()


def opening(request: web.Request, *, compression: bool) -> tuple[bytes, int, bool]:
    """The answer that opens a websocket: (head of the response, window bits, no takeover).

    The latter two are of permessage-deflate (RFC 7692); 0 bits is none. Raises aiohttp's
    `HTTPBadRequest` or `HTTPUpgradeRequired` for a handshake that RFC 6455 does not allow.
    """
    headers = request.headers
    tokens = headers.get("Connection", "").lower().replace(" ", "").split(",")
    if request.method != "GET" or "upgrade" not in tokens:
        raise web.HTTPBadRequest(text="a websocket begins with GET and Connection: Upgrade")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise web.HTTPUpgradeRequired(headers={"Sec-WebSocket-Version": "13"})
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key is not 16 bytes in base64")
    accept = base64.b64encode(hashlib.sha1(key.encode() + WS_KEY, usedforsecurity=False).digest())
    bits, alone = 0, False
    if compression:
        bits, alone = ws_ext_parse(headers.get("Sec-WebSocket-Extensions"), isserver=True)
    extension = b""
    if bits:
        chosen = ws_ext_gen(compress=bits, isserver=True, server_notakeover=alone)
        extension = b"Sec-WebSocket-Extensions: %b\r\n" % chosen.encode()
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, extension)
    )
    return head, bits, alone
