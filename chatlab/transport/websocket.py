"""A websocket over a connection that aiohttp has accepted and given away.

aiohttp's own WebSocketResponse (3.14.5) takes a task, a future and two timers for each frame and
writes each alone. Here the reader of aiohttp, which is compiled, calls back for every message, and
the owner decides when to write. tests/rfc6455 and tests/protocol/test_frames.py hold it to the RFC.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from typing import Any, Final, Protocol

from aiohttp import WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.http_websocket import WebSocketError

from chatlab.transport.frame import BINARY, CLOSE, PONG, TEXT, frame, opening, payload

__all__ = ["CLOSE_WAIT", "Owner", "Pool", "WebSocket"]

CLOSE_WAIT: Final = 0.5
"""Seconds to wait for the client's half of the closing handshake."""

READ_SIZE: Final = 65_536
PONGS_WAITING: Final = 16_384  # bytes unsent, past which pings are not answered (RFC 6455, 5.5.3)

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_DEFLATED: Final = 0x40  # the bit of a frame's first byte that says so
_TAIL: Final = b"\x00\x00\xff\xff"  # what RFC 7692 takes off a deflated message


class Owner(Protocol):
    """Who is told of what a websocket does."""

    def received(self, data: str | bytes) -> None:
        """A message of the client."""

    def consumed(self, frames: int, size: int) -> None:
        """The client's bytes that arrived together have been handed over: so much was read."""

    def ended(self, reason: str) -> None:
        """Nothing more will be received."""


class Open(Protocol):
    """What a pool can cut."""

    def abort(self) -> None:
        """End it without ceremony."""


class Pool:
    """What is open in one event loop, and what it shares.

    What is read is consumed at once, so that one buffer does for all websockets.
    """

    def __init__(self) -> None:
        self.room = memoryview(bytearray(READ_SIZE))
        self._open: set[Open] = set()
        self._empty = asyncio.Event()

    def add(self, one: Open) -> None:
        self._open.add(one)
        self._empty.clear()

    def discard(self, one: Open) -> None:
        self._open.discard(one)
        if not self._open:
            self._empty.set()

    async def empty(self, *, within: float) -> None:
        """Wait until everything has closed; what is still open after `within` seconds is cut."""
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._empty.wait()
        for one in list(self._open):
            one.abort()


class _Taken(web.StreamResponse):
    """What aiohttp gets as the answer of a request whose connection is no longer its own."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class WebSocket(WebSocketDataQueue, asyncio.BufferedProtocol):
    """`owner` may be replaced at any time; `max_size` is in bytes of a message."""

    __slots__ = (
        "_closing",
        "_deflate",
        "_early",
        "_frames",
        "_head",
        "_pool",
        "_reader",
        "_skip",
        "_timer",
        "owner",
        "wire",
    )

    # What the reader looks at to see whether the stock queue is full; ours never holds anything.
    # (The constructor is not called: it would make the stock queue, of 700 bytes a client.)
    _size = _limit = 0

    def __init__(self, owner: Owner | None, pool: Pool) -> None:
        self.owner: Owner | None = owner
        self.wire: asyncio.Transport | None = None
        self._pool = pool
        self._reader: WebSocketReader | None = None
        self._deflate: Any = None
        self._early = b""
        self._head = b""  # of a header that has come in part
        self._skip = 0  # bytes until the next frame begins
        self._frames = 0
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    def open(
        self, request: web.Request, *, max_size: int, compression: bool, first: bytes = b""
    ) -> web.StreamResponse:
        """Answer the handshake, with the frame `first` behind it, and take the connection.

        `start` begins to read. What is returned is for aiohttp. Raises what `opening` raises, and
        `ConnectionResetError` when the client has left.
        """
        head, bits, alone = opening(request, compression=compression)
        handler, wire = request.protocol, request.transport
        if wire is None:
            raise ConnectionResetError
        if bits:
            self._deflate = _Deflate(bits, alone)
        # aiohttp's reader refuses a frame that is as long as its limit, not only a longer one.
        self._reader = WebSocketReader(self, max_size + 1, bool(bits), True)
        self.wire = wire
        self._pool.add(self)
        self._early, handler._message_tail = handler._message_tail, b""
        # aiohttp's handler forgets the connection as if it were lost, but does not close it.
        handler.transport = None
        handler.connection_lost(None)
        wire.set_protocol(self)
        wire.write(head + first)
        return _Taken()

    def start(self) -> None:
        """Begin to read, with what the client sent without waiting for the answer."""
        if self.wire is not None and not self.wire.is_reading():
            self.resume_reading()
        early, self._early = self._early, b""
        if early:
            self._feed(early)

    # --- reading -----------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._pool.room

    def buffer_updated(self, nbytes: int) -> None:
        self._feed(bytes(self._pool.room[:nbytes]))

    def _feed(self, data: bytes) -> None:
        if self._reader is None:
            return
        if not (self._closing or self._masked(data)):
            self.close(1002, "parse error")
        self._frames = 0
        self._reader.feed_data(data)
        if self.owner is not None:
            self.owner.consumed(self._frames, len(data))

    def _masked(self, data: bytes) -> bool:
        """Whether each frame that begins here is masked (RFC 6455, 5.1): aiohttp takes all."""
        at = self._skip
        if self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while end - at >= 2:
            size = data[at + 1]
            if size < 0x80:
                return False
            if size < 0xFE:
                at += size - 0x80 + 6
                continue
            wide = 4 if size == 0xFE else 10
            if end - at < wide:
                break
            at += wide + 4 + int.from_bytes(data[at + 2 : at + wide], "big")
        self._skip = max(0, at - end)
        if at < end:
            self._head = data[at:]
        return True

    def feed_data(self, message: WSMessage, size: int) -> None:  # type: ignore[override]
        """A message was read; called by aiohttp's reader."""
        self._frames += 1
        kind, data, _ = message
        if self._closing or self.owner is None or self.wire is None:
            if kind is WSMsgType.CLOSE and self.wire is not None:
                self.wire.close()
        elif kind is _TEXT or kind is _BINARY:
            self.owner.received(data)
        elif kind is WSMsgType.PING:
            if self.wire.get_write_buffer_size() < PONGS_WAITING:
                self.wire.write(frame(data, PONG))
        elif kind is WSMsgType.CLOSE:
            self.close(data or 1000)
            self.wire.close()

    def set_exception(self, exc: BaseException, exc_cause: object = None) -> None:
        """The client broke RFC 6455, or its message is too long; called by aiohttp's reader."""
        code = exc.code if isinstance(exc, WebSocketError) else 1002
        self.close(code, "payload too large" if code == 1009 else "parse error")

    def pause_reading(self) -> None:
        """Take nothing more from the client: what it sends piles up on its own side."""
        if self.wire is not None:
            self.wire.pause_reading()

    def resume_reading(self) -> None:
        if self.wire is not None and not self.wire.is_closing():
            self.wire.resume_reading()

    # --- writing -----------------------------------------------------------------------------

    def send(self, frames: list[bytes]) -> int:
        """Write frames in one go; returns how many bytes the client has not taken yet."""
        wire = self.wire
        if wire is None or self._closing:
            return 0
        if self._deflate is not None:
            frames = [self._deflate(framed) for framed in frames]
        wire.write(frames[0] if len(frames) == 1 else b"".join(frames))
        return wire.get_write_buffer_size()

    # --- closing -----------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "transport close") -> None:
        """Begin or answer the closing handshake, and cut the connection if it takes too long."""
        if self._closing or self.wire is None:
            return
        self._closing = True
        self.wire.write(frame(code.to_bytes(2, "big"), CLOSE))
        self._timer = asyncio.get_running_loop().call_later(CLOSE_WAIT, self.abort)
        self._end(reason)
        self.resume_reading()  # the client's half has to be seen

    def abort(self) -> None:
        """Cut the connection; what is unsent is thrown away."""
        if self.wire is not None:
            self.wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._closing, self.wire, self._reader = True, None, None
        self._pool.discard(self)
        self._end("transport close")

    def _end(self, reason: str) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.ended(reason)


class _Deflate:
    """permessage-deflate (RFC 7692) for what a server sends."""

    __slots__ = ("_alone", "_bits", "_zlib")

    def __init__(self, bits: int, alone: bool) -> None:
        self._bits, self._alone = bits, alone
        self._zlib = zlib.compressobj(wbits=-bits)

    def __call__(self, framed: bytes) -> bytes:
        if framed[0] not in (TEXT, BINARY):
            return framed
        flush = zlib.Z_FULL_FLUSH if self._alone else zlib.Z_SYNC_FLUSH
        data = self._zlib.compress(payload(framed)) + self._zlib.flush(flush)
        return frame(data.removesuffix(_TAIL), framed[0] | _DEFLATED)
