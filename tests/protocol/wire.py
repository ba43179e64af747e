"""HTTP/1.1 and websocket clients that send any bytes at all, one segment or frame at a time.

They check nothing and forgive nothing: what a client may not send, they send. Engine.IO and
Socket.IO are in peers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
WAIT = 5.0


@dataclass(frozen=True)
class Answer:
    """What a server said to one HTTP request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Refused(Exception):
    """The server did not switch protocols; `answer` is what it said instead."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


class Place:
    """Where a server listens, and every connection to it, so that a test can leave them open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._lines: list[Line] = []

    async def line(self, *, buffer: int = 0) -> Line:
        """Connect. A small `buffer`, in bytes, lets the server feel a client that does not read."""
        raw = socket.socket()
        raw.setblocking(False)
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        line = Line(*await asyncio.open_connection(sock=raw))
        self._lines.append(line)
        return line

    async def hang_up(self) -> None:
        """Close every connection."""
        for line in self._lines:
            await line.close()


class Line:
    """One TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        await self.send(head(method, target, body, headers) + (body or b""))
        return await self.answer(bodiless=method == "HEAD")

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next response. Raises `IncompleteReadError` when there is none."""
        async with asyncio.timeout(WAIT):
            start, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = {}
            for line in filter(None, lines):
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            status = int(start.split(" ", 2)[1])
            body = b"" if bodiless or status in (100, 101, 204) else await self._body(headers)
            return Answer(status, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def ended(self) -> bytes:
        """Read to the end of the stream; what still came."""
        async with asyncio.timeout(WAIT):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""

    def abort(self) -> None:
        """Break the connection off, without a goodbye."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self.writer.wait_closed()


def head(
    method: str, target: str, body: bytes | None = None, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The first lines of a request; with a body, its length unless it is chunked."""
    lines = [f"{method} {target} HTTP/1.1", "Host: suite.example", *map(": ".join, headers)]
    if body is not None and not any("chunked" in line for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked(*pieces: bytes) -> bytes:
    """Pieces as the chunks of a body, with the end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (*pieces, b""))


@dataclass(frozen=True)
class Frame:
    """One websocket frame of the server; `compressed` is its RSV1 bit."""

    opcode: int
    payload: bytes
    final: bool
    compressed: bool

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
        place: Place,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        buffer: int = 0,
    ) -> WebSocket:
        """Raises `Refused` when the server answers anything but 101."""
        line = await place.line(buffer=buffer)
        key = b64encode(os.urandom(16)).decode()
        asked = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        answer = await line.request("GET", target, headers=[*asked, *headers])
        if answer.status != 101:
            raise Refused(answer)
        return cls(line, answer.headers.get("sec-websocket-extensions"))

    async def send(self, *messages: str | bytes) -> None:
        """Messages in one frame each, all in one write."""
        await self.line.send(b"".join(map(whole, messages)))

    async def frame(self) -> Frame | None:
        """The next frame, or None when the server has closed the connection."""
        try:
            async with asyncio.timeout(WAIT):
                first, second = await self.line.reader.readexactly(2)
                length = second & 0x7F
                if length >= 126:
                    size = 2 if length == 126 else 8
                    length = int.from_bytes(await self.line.reader.readexactly(size), "big")
                payload = await self.line.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(first & 0xF, payload, bool(first & 0x80), bool(first & 0x40))

    async def message(self) -> str | bytes | None:
        """The next whole message, or None when the server has closed."""
        frame = await self.frame()
        if frame is None or frame.opcode == CLOSE:
            return None
        payload = inflate(frame.payload) if frame.compressed else frame.payload
        return payload.decode() if frame.opcode == TEXT else payload

    async def close(self) -> None:
        await self.line.close()


def whole(message: str | bytes) -> bytes:
    """A message in one frame."""
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
        head = struct.pack("!BB", first, bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if masked:
        repeated = (mask * (size // 4 + 1))[:size]
        number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
        payload = number.to_bytes(size, "big")
    return head + mask + payload


def deflate(payload: bytes) -> bytes:
    """A payload as permessage-deflate sends it, without a window of earlier ones."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(payload: bytes) -> bytes:
    """The opposite of `deflate`."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
