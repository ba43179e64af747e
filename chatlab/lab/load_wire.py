"""One client of the load generator: a websocket of its own making, fast to write and to count.

It speaks just enough of Engine.IO 4 and Socket.IO 5 to enter, join, send and count what comes. It
checks nothing that a real client must check: for that there is `wire.py`, or the official client.
"""

# Started by path in a process of its own, where the rest of the lab would only cost time: nothing
# but the standard library and the generator's own modules is imported here.
from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from itertools import repeat
from time import perf_counter
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from chatlab.lab.load_counts import Counts, LoadError
from chatlab.lab.load_frames import CLOSE, PONG, TEXT, split, text_frame

__all__ = ["Wire", "connect"]

PATIENCE: Final = 30.0  # seconds for a connection, or for the ack of a join
_PING: Final = b"2"
_FIRST_ID: Final = 100  # ids of three digits: every frame of a client is equally long

W = TypeVar("W", bound="Wire")


class Wire(asyncio.Protocol):
    """A connection. First it talks (`connect`, `call`); after `count_only` it sends and counts."""

    def __init__(self, counts: Counts, host: str, token: str) -> None:
        self.counts = counts
        self.transport: Any = None
        self.entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._token = token
        self._rest = b""
        self._upgraded = False
        self._hot = False
        self._closing = False
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ring = b""
        self._frame = self._places = self._place = 0
        self.stamps: list[float] = []
        self._first_stamp = 0

    # -- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
            b"Host: " + self._host.encode() + b"\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: Y2hhdGxhYi1sb2FkLXJ1bg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def connection_lost(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._fail("the server closed the connection" + (f": {error}" if error else ""))

    def close(self) -> None:
        """Close TCP, as the death of a client's process does."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort() if self.transport.is_closing() else self.transport.close()

    def _fail(self, reason: str) -> None:
        self._closing = True
        self.counts.lost += 1
        self.counts.fault(reason)
        for waiting in (self.entered, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(LoadError(reason))
                waiting.exception()  # so that one that nobody awaits any more says nothing
        if self.transport is not None:
            self.transport.close()

    # -- talking -----------------------------------------------------------------------------------

    async def call(self, event: str, data: Any) -> Any:
        """Send an event, return its ack. Raises `LoadError` where it is not ok, or none comes."""
        number = len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        packet = f"42{number}{json.dumps([event, data], separators=(',', ':'))}"
        self.transport.write(text_frame(packet.encode()))
        try:
            async with asyncio.timeout(PATIENCE):
                told = await answer
        except TimeoutError:
            raise LoadError(f"no ack of {event} within {PATIENCE:g} s") from None
        ok = told[0].get("ok") if told and isinstance(told[0], dict) else None
        if not ok:
            raise LoadError(f"{event} was refused: {_why(told)}")
        return told[0]

    def _talk(self, data: bytes) -> None:
        if not self._upgraded:
            self._rest += data
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            self._upgraded, self._rest, data = True, b"", rest
            if not head.startswith(b"HTTP/1.1 101"):
                self._fail(f"no websocket: {head.splitlines()[0].decode(errors='replace')}")
                return
        payloads, self._rest = split(self._rest + data)
        for payload in payloads:
            self._hear(payload)

    def _hear(self, payload: bytes) -> None:
        """Take one packet that is neither a counted ack nor a counted delivery."""
        if payload == _PING:
            self.transport.write(PONG)
        elif payload.startswith(b"0"):
            auth = json.dumps({"token": self._token}, separators=(",", ":"))
            self.transport.write(text_frame(b"40" + auth.encode()))
        elif payload.startswith(b"40"):
            if not self.entered.done():
                self.entered.set_result(None)
        elif payload.startswith(b"44"):
            self._fail(f"the server refused the connection: {_message(payload[2:])}")
        elif payload.startswith(b"43"):
            number, bracket, told = payload[2:].partition(b"[")
            waiting = self._answers.get(int(number))
            if waiting is not None and not waiting.done():
                waiting.set_result(json.loads(bracket + told))
        elif payload.startswith(b"41") or payload == b"1":
            self._fail("the server ended the session")

    # -- sending and counting ----------------------------------------------------------------------

    def count_only(self, text: str = "", *, in_flight: int = 16) -> None:
        """From now on only count; `send` sends this text, `in_flight` ids in turn."""
        self._places = max(in_flight, 16)
        data = json.dumps(["send-message", {"text": text}], separators=(",", ":"))
        frames = [
            text_frame(f"42{number}{data}".encode())
            for number in range(_FIRST_ID, _FIRST_ID + self._places)
        ]
        self._frame = len(frames[0])
        self._ring = b"".join(frames) * 2
        self._hot = True

    def send(self, number: int) -> None:
        """Send so many messages, in one write, and remember when."""
        self.stamps.extend(repeat(perf_counter(), number))
        self.counts.sent += number
        left = number
        while left:
            part = min(left, self._places)
            first = self._place * self._frame
            self.transport.write(self._ring[first : first + part * self._frame])
            self._place = (self._place + part) % self._places
            left -= part

    def acked(self, number: int) -> None:
        """So many acks came. A scenario's wire sends again here."""
        self.arrived_after(number)

    def delivered(self, number: int) -> None:
        """So many messages of others came."""

    def arrived_after(self, number: int) -> None:
        """The oldest sends have come to their end: note how long each took."""
        now, first = perf_counter(), self._first_stamp
        self.counts.latencies.extend([now - then for then in self.stamps[first : first + number]])
        self._first_stamp = first = first + number
        if first > 1024:
            del self.stamps[:first]
            self._first_stamp = 0

    def forget(self) -> None:
        """Forget the sends so far: what is still under way is not timed."""
        self.stamps.clear()
        self._first_stamp = 0

    def data_received(self, data: bytes) -> None:
        if not self._hot:
            self._talk(data)
            return
        if self._rest:
            data = self._rest + data
        # The generator's inner loop, at 0.3 µs a frame: only the first bytes are looked at.
        acks = deliveries = position = 0
        end = len(data)
        while end - position > 5:
            size, body = data[position + 1], position + 2
            if size >= 126:
                if size == 127:
                    if end - position < 10:
                        break
                    size, body = int.from_bytes(data[position + 2 : position + 10]), position + 10
                else:
                    size, body = data[position + 2] << 8 | data[position + 3], position + 4
            after = body + size
            if after > end:
                break
            # 4 is an Engine.IO message; in it 3 an ack, 2 an event, whose name begins at the fourth
            # byte: n for new-message.
            if size > 4 and data[body] == 0x34 and data[body + 1] == 0x33:
                acks += 1
            elif size > 4 and data[body + 1] == 0x32 and data[body + 4] == 0x6E:
                deliveries += 1
            else:
                self._odd(data[position], data[body:after])
            position = after
        self._rest = data[position:]
        if self._rest and end - position < 6:
            self._short()
        counts = self.counts
        if acks:
            counts.acks += acks
            if b'"ok":false' in data:
                self._refused(data)
            self.acked(acks)
        if deliveries:
            counts.deliveries += deliveries
            self.delivered(deliveries)

    def _short(self) -> None:
        """A ping or a close is shorter than the inner loop looks at."""
        payloads, self._rest = split(self._rest)
        for payload in payloads:
            self._hear(payload)

    def _odd(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._hear(payload)
        elif opcode == CLOSE:
            self._hear(b"1")

    def _refused(self, data: bytes) -> None:
        self.counts.refused += data.count(b'"ok":false')
        place = data.find(b'"ok":false')
        said = data[place : place + 200].split(b"}")[0].decode(errors="replace")
        self.counts.fault(f"send-message was refused: {said}")


async def connect(
    make: Callable[[Counts, str, str], W],
    counts: Counts,
    url: str,
    token: str,
    *,
    source: str | None = None,
) -> W:
    """A wire that has entered. `source` is the local address to come from.

    Raises `LoadError` with the address where nobody answers, or with the server's refusal.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            if source is None:
                _, wire = await loop.create_connection(
                    lambda: make(counts, parts.netloc, token), host, port
                )
            else:
                ready = await _from(source, host, port)
                _, wire = await loop.create_connection(
                    lambda: make(counts, parts.netloc, token), sock=ready
                )
            await wire.entered
    except TimeoutError:
        raise LoadError(f"{url} did not let a client in within {PATIENCE:g} s") from None
    except OSError as error:
        raise LoadError(f"no connection to {url}: {error.strerror or error}") from None
    return wire


async def _from(source: str, host: str, port: int) -> socket.socket:
    made = socket.socket()
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The port is then chosen for this destination, so that one is not used up at `bind`.
        made.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    return made


def _message(payload: bytes) -> str:
    try:
        told = json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
    return str(told.get("message", told)) if isinstance(told, dict) else str(told)


def _why(told: Any) -> str:
    answer = told[0] if told and isinstance(told[0], dict) else told
    if isinstance(answer, dict):
        return str(answer.get("error") or answer.get("code") or answer)
    return str(answer)
