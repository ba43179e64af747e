"""A websocket client that sends any frames at all, whole, in pieces, or such as nobody may send.

It forgives nothing either: a server's frames are read as they are. See hardened_wire.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from chatlab.grade.hardened_wire import LONGEST, Door, Line, Refused, shown

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "WebSocket",
    "frame",
    "packed",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_TAIL: Final = b"\x00\x00\xff\xff"  # what RFC 7692 takes off a compressed message


@dataclass(frozen=True)
class Frame:
    """One websocket frame of the server, unpacked."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """Why it closes, of a CLOSE."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None


class WebSocket:
    """The client's side of a websocket; `agreed` are the extensions that the server took."""

    def __init__(self, line: Line, agreed: str | None) -> None:
        self.line = line
        self.agreed = agreed

    @classmethod
    async def open(
        cls,
        door: Door,
        who: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        buffer: int = 0,
    ) -> WebSocket:
        """Raises `Refused` when the server answers anything but 101."""
        line = await door.line(who, buffer=buffer)
        asked = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", b64encode(os.urandom(16)).decode()),
        ]
        try:
            answer = await line.request("GET", target, headers=[*asked, *headers])
        except ConnectionError:
            raise Refused(None) from None
        if answer.status != 101:
            line.abort()
            raise Refused(answer)
        return cls(line, answer.headers.get("sec-websocket-extensions"))

    async def send(self, *messages: str | bytes) -> None:
        """Messages in one frame each, all in one write."""
        for message in messages:
            self.note("→", shown(message))
        await self.line.send(b"".join(map(_whole, messages)))

    async def send_frames(self, *frames: bytes, told: str) -> None:
        """Frames as they are, in one write; the evidence says `told`."""
        self.note("→", told)
        await self.line.send(b"".join(frames))

    def note(self, way: Literal["→", "←"], text: str) -> None:
        """A line of evidence."""
        self.line.door.trace.add(self.line.who, way, text)

    async def frame(self, *, patience: float | None = None) -> Frame | None:
        """The next frame, or None when the connection has ended. Raises `TimeoutError`."""
        reader = self.line.reader
        async with asyncio.timeout(patience or self.line.door.patience):
            try:
                first, second = await reader.readexactly(2)
                length = second & 0x7F
                if length >= 126:
                    size = 2 if length == 126 else 8
                    length = int.from_bytes(await reader.readexactly(size), "big")
                payload = await reader.readexactly(min(length, LONGEST))
            except (asyncio.IncompleteReadError, ConnectionError):
                self.note("←", "(the connection ends)")
                return None
        if first & 0x40:
            with contextlib.suppress(zlib.error):
                payload = zlib.decompressobj(wbits=-15).decompress(payload + _TAIL)
        got = Frame(first & 0xF, payload)
        if got.opcode == CLOSE:
            self.note("←", f"(closes with {got.code or 'no code'})")
        return got


def _whole(message: str | bytes) -> bytes:
    if isinstance(message, str):
        return frame(TEXT, message.encode())
    return frame(BINARY, message)


def frame(
    opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, reserved: int = 0
) -> bytes:
    """A client's frame; `reserved` are its three RSV bits, 4 the highest."""
    mask = os.urandom(4) if masked else b""
    first, bit, size = (final << 7) | (reserved << 4) | opcode, masked << 7, len(payload)
    if size < 126:
        top = struct.pack("!BB", first, bit | size)
    elif size < 65_536:
        top = struct.pack("!BBH", first, bit | 126, size)
    else:
        top = struct.pack("!BBQ", first, bit | 127, size)
    if masked:
        repeated = (mask * (size // 4 + 1))[:size]
        number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
        payload = number.to_bytes(size, "big")
    return top + mask + payload


def packed(payload: bytes) -> bytes:
    """A payload as permessage-deflate sends it, without a window of earlier ones."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
