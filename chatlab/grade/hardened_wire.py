"""An HTTP/1.1 client that sends any bytes at all, a segment at a time.

It checks nothing and forgives nothing: what a client may not send, it sends. Websockets are
hardened_websocket.py's subject, what Engine.IO makes of both hardened_peers.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from chatlab.grade.evidence import Trace
from chatlab.grade.promise import NotJudged

__all__ = [
    "LONGEST",
    "Answer",
    "Door",
    "Line",
    "Refused",
    "shown",
]

# Headers that the evidence tells of.
_TOLD: Final = ("origin", "x-forwarded-for", "x-forwarded-host", "transfer-encoding")

LONGEST: Final = 64 * 1024 * 1024  # bytes of a frame or a body, past which nothing is believed


@dataclass(frozen=True)
class Answer:
    """What a server said to one HTTP request; `headers` by their names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body's JSON, None where it is none."""
        with contextlib.suppress(ValueError):
            return json.loads(self.body)
        return None


class Refused(Exception):
    """The server did not switch protocols; `answer` is what it said instead, None for nothing."""

    def __init__(self, answer: Answer | None) -> None:
        super().__init__("nothing" if answer is None else answer.status)
        self.answer = answer


class Door:
    """Where a server listens, and every connection to it, so that none stays open.

    `base` stands before every path; `path` is Socket.IO's, `base` included. `patience` is how many
    seconds an answer may take; whatever goes out or comes in is noted in `trace`.
    """

    def __init__(self, url: str, path: str, trace: Trace, *, patience: float) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self.base = parts.path.rstrip("/")
        self.path = self.base + path
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.authority = parts.netloc
        self.trace = trace
        self.patience = patience
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._lines: set[Line] = set()

    async def line(self, who: str, *, buffer: int = 0) -> Line:
        """Connect. A small `buffer`, in bytes, lets the server feel a client that does not read.

        Raises `NotJudged` where nobody listens.
        """
        async with asyncio.timeout(self.patience):
            raw = await self._connect(buffer)
            try:
                streams = await asyncio.open_connection(
                    sock=raw,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                    limit=max(buffer, 1024) if buffer else 65_536,
                )
            except BaseException:
                raw.close()
                raise
        line = Line(self, who, *streams)
        self._lines.add(line)
        return line

    async def _connect(self, buffer: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        failed: OSError | None = None
        for family, kind, protocol, _, address in found:
            raw = socket.socket(family, kind, protocol)
            raw.setblocking(False)
            if buffer:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            try:
                await loop.sock_connect(raw, address)
            except OSError as error:
                failed = error
                raw.close()
            except asyncio.CancelledError:  # it takes too long
                raw.close()
                raise
            else:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return raw
        raise NotJudged(f"nobody listens any more: {failed}")

    async def ask(
        self,
        who: str,
        method: str,
        target: str,
        body: str | bytes | None = None,
        *headers: tuple[str, str],
    ) -> Answer:
        """One request on a connection of its own.

        Raises `TimeoutError`, or `ConnectionError` where the answer is none.
        """
        line = await self.line(who)
        try:
            data = body.encode() if isinstance(body, str) else body
            return await line.request(method, target, data, headers)
        finally:
            line.abort()

    def forget(self, line: Line) -> None:
        """A connection was broken off."""
        self._lines.discard(line)

    def hang_up(self) -> None:
        """Break off every connection."""
        for line in list(self._lines):
            line.abort()


class Line:
    """One TCP connection to the server. `who` is for the evidence."""

    def __init__(
        self,
        door: Door,
        who: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.door = door
        self.who = who
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Raises `ConnectionError` when the server has gone, `TimeoutError` where it is deaf."""
        async with asyncio.timeout(self.door.patience):
            self.writer.write(data)
            await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """Send a request and read its answer; raises as `Door.ask` does."""
        with contextlib.suppress(ConnectionError):  # an answer may have come before the end
            await self.send(self.head(method, target, body, headers) + (body or b""))
        return await self.answer(bodiless=method == "HEAD")

    async def answer(self, *, bodiless: bool = False, patience: float | None = None) -> Answer:
        """The next response. Raises `ConnectionError` when there is none, `TimeoutError`."""
        async with asyncio.timeout(patience or self.door.patience):
            try:
                answer = await self._answer(bodiless)
            except (asyncio.IncompleteReadError, ValueError, IndexError):
                raise ConnectionResetError("the connection ended without an answer") from None
        self.door.trace.add(self.who, "←", f"HTTP {answer.status} {shown(answer.body)}")
        return answer

    async def _answer(self, bodiless: bool) -> Answer:
        top = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = top.decode("latin-1").splitlines()
        pairs = (line.partition(":") for line in filter(None, lines))
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        status = int(start.split(" ", 2)[1])
        body = b""
        if not bodiless and status not in (100, 101, 204, 304):
            body = await self._body(headers)
        return Answer(status, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                body += await self.reader.readexactly(min(size, LONGEST))
                await self.reader.readline()
            await self.reader.readline()
            return body
        if "content-length" in headers:
            return await self.reader.readexactly(min(int(headers["content-length"]), LONGEST))
        return await self.reader.read(LONGEST)

    def head(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> bytes:
        """The first lines of a request; with a body, its length unless `headers` tell of it."""
        given = list(headers)
        host = f"Host: {self.door.authority}"
        lines = [f"{method} {target} HTTP/1.1", host, *map(": ".join, given)]
        told = any(name.lower() in ("content-length", "transfer-encoding") for name, _ in given)
        if body is not None and not told:
            lines.append(f"Content-Length: {len(body)}")
        sent = "" if body is None else f" {shown(body)}"
        more = "".join(f" [{name}: {value}]" for name, value in given if name.lower() in _TOLD)
        self.door.trace.add(self.who, "→", f"{method} {target}{more}{sent}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def abort(self) -> None:
        """Break the connection off, without a goodbye."""
        self.writer.transport.abort()
        self.door.forget(self)


def shown(data: str | bytes) -> str:
    """A packet or a body for the evidence, which cuts it."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return text.replace("\x1e", "␞")
