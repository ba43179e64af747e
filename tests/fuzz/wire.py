"""One TCP connection to the server under test: it writes bytes, and judges what comes back.

It is no client: it neither reconnects nor understands Socket.IO. Whatever a server may never say
(a status of 500, a masked frame, a reserved close code, bytes that are no frame) is a fault.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame

__all__ = ["PATIENCE", "Wire", "connect"]

PATIENCE: Final = 10.0
"""Seconds for what a server does at once; long, because the machine may be busy."""

_NEVER_SENT: Final = (1004, 1005, 1006, 1011, 1015)
_KEPT: Final = 400  # packets


class Wire(asyncio.Protocol):
    """`statuses` are of the HTTP responses, `packets` the text messages of the websocket or the
    bodies of the responses, `faults` sentences about what a server may not say."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.statuses: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.packets: deque[str] = deque(maxlen=_KEPT)
        self.faults: list[str] = []
        self.ended = False
        self.close_code: int | None = None
        self.on_packet: Callable[[str], None] = lambda packet: None
        self.bodiless = False  # the answer to HEAD has a length and no body
        self._said_all = False
        self._websocket = False
        self._buffer = bytearray()
        self._message = bytearray()
        self._binary = False
        self._changed: asyncio.Future[None] | None = None

    # --- from asyncio --------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._frame() if self._websocket else self._response():
                pass
        except (ValueError, IndexError) as error:
            self.faults.append(f"unreadable: {error!r} in {bytes(self._buffer[:80])!r}")
            self._buffer.clear()
        self._notify()

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended = True
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # --- for the player ------------------------------------------------------------------------

    @property
    def websocket(self) -> bool:
        """Whether the server has switched protocols."""
        return self._websocket

    def write(self, data: bytes) -> None:
        """Write, unless the connection has ended."""
        if not self._said_all and not self.ended and not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        """Say that nothing more will be written; the server is to close then."""
        if not self.ended and not self.transport.is_closing():
            self.transport.resume_reading()
            self._said_all = True
            try:
                self.transport.write_eof()
            except OSError:  # it is just going
                self.transport.abort()

    async def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Wait for `condition()` or the end of the connection; whether it became true."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            left = deadline - asyncio.get_running_loop().time()
            if self.ended or left <= 0:
                return False
            self._changed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._changed], timeout=left)
        return True

    async def closed(self) -> bool:
        """Wait for the end of the connection; whether it came."""
        await self.until(lambda: self.ended)
        return self.ended

    # --- HTTP ----------------------------------------------------------------------------------

    def _response(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        taken = end + 4
        body = b""
        if headers.get("transfer-encoding") == "chunked" and not self.bodiless:
            whole = _dechunked(self._buffer, taken)
            if whole is None:
                return False
            body, taken = whole
        elif status >= 200 and status not in (204, 304) and not self.bodiless:
            length = int(headers.get("content-length", "0"))
            if len(self._buffer) < taken + length:
                return False
            body = bytes(self._buffer[taken : taken + length])
            taken += length
        del self._buffer[:taken]
        if status == 100:
            return True
        if status >= 500 and status != 503:
            self.faults.append(f"HTTP {status}: {body[:200]!r}")
        self.statuses.append(status)
        self.headers.append(headers)
        self._websocket = status == 101
        for packet in body.decode().split("\x1e") if body and status == 200 else ():
            self._take(packet)
        return True

    def _take(self, packet: str) -> None:
        self.packets.append(packet)
        self.on_packet(packet)

    # --- websocket -----------------------------------------------------------------------------

    def _frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        fin, rsv, opcode = buffer[0] >> 7, buffer[0] >> 4 & 7, buffer[0] & 15
        length, start = buffer[1] & 127, 2
        if buffer[1] & 128 or rsv or opcode not in (0, 1, 2, CLOSE, PING, PONG):
            raise ValueError(f"a server does not send {bytes(buffer[:2])!r}")
        if length > 125:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return False
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return False
        payload = bytes(buffer[start : start + length])
        del buffer[: start + length]
        if opcode == CLOSE:
            self._closing(payload)
        elif opcode == PING:
            self.write(Frame(PONG, payload).encode())
        elif opcode != PONG:
            self._data(opcode, payload, fin=bool(fin))
        return True

    def _closing(self, payload: bytes) -> None:
        self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
        payload[2:].decode()
        if self.close_code is not None and (
            self.close_code in _NEVER_SENT or not 1000 <= self.close_code <= 4999
        ):
            self.faults.append(f"close code {self.close_code}: {payload[2:]!r}")
        self.write(Frame(CLOSE, payload[:2]).encode())

    def _data(self, opcode: int, payload: bytes, *, fin: bool) -> None:
        if opcode != CONTINUATION:
            self._message.clear()
            self._binary = opcode != TEXT
        self._message += payload
        if not fin:
            return
        if self._binary:
            return
        packet = self._message.decode()
        if packet == "2":
            self.write(Frame(TEXT, b"3").encode())
        self._take(packet)


def _dechunked(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = bytearray()
    while True:
        line = buffer.find(b"\r\n", start)
        if line < 0:
            return None
        size = int(bytes(buffer[start:line]), 16)
        if len(buffer) < line + 4 + size:
            return None
        body += buffer[line + 2 : line + 2 + size]
        start = line + 4 + size
        if size == 0:
            return bytes(body), start


async def connect(port: int) -> Wire:
    """A connection to this machine's `port`."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    return wire
