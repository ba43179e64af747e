"""Cuts the two directions of an HTTP/1.1 connection into requests and responses.

Bodies of Engine.IO's long polling are opened and the packets in them named; everything else passes
as it is. After an upgrade it hands over to `frames`. It serves a wire, not a web server.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from chatlab.lab.frames import MESSAGE_LIMIT, SESSION, Unit, WebSocketParser
from chatlab.lab.packets import Seen, decode
from chatlab.lab.tap import NAME_HEADER

__all__ = ["Conversation", "HttpParser"]

_HEAD_LIMIT = 64 * 1024
_SEPARATOR = "\x1e"
_NOOP = "6"
# Without these two headers frames and bodies are not compressed, and can be read.
_REMOVED = {"sec-websocket-extensions", "accept-encoding"}

Headers = list[tuple[str, str]]


class Namer(Protocol):
    """Knows the name of a client by what a request says of it."""

    def name_for(self, given: str | None, session: str | None) -> str:
        """The name for a request with this name header and this Engine.IO session id."""

    def learn(self, session: str, name: str) -> None:
        """This session belongs to this client."""


@dataclass(slots=True)
class _Request:
    method: str
    polling: bool


@dataclass(slots=True)
class Conversation:
    """What the two directions of one connection must know of each other."""

    namer: Namer
    name: str | None = None
    waiting: deque[_Request] = field(default_factory=deque)
    upgraded: bool = False

    def opened(self, session: str) -> None:
        """An Engine.IO session began on this connection."""
        if self.name is not None:
            self.namer.learn(session, self.name)


class HttpParser:
    """Reads one direction; `requests` says which."""

    def __init__(self, talk: Conversation, *, requests: bool) -> None:
        self._talk = talk
        self._requests = requests
        self._buffer = bytearray()
        self._step: Callable[[], Unit | None] = self._head
        self._websocket: WebSocketParser | None = None
        self._left = 0
        self._start, self._headers = "", Headers()
        self._request = _Request("GET", False)
        self._body = bytearray()
        self._chunks = bytearray()

    def feed(self, data: bytes) -> list[Unit]:
        """Take bytes as they come; return the units that they complete."""
        if self._websocket is not None:
            return self._websocket.feed(data)
        self._buffer += data
        units: list[Unit] = []
        while self._buffer:
            if self._talk.upgraded and self._step == self._head:
                self._websocket = WebSocketParser(self._talk.opened)
                units += self._websocket.feed(bytes(self._buffer))
                self._buffer.clear()
                break
            step, before = self._step, len(self._buffer)
            unit = self._step()
            if unit is not None:
                units.append(unit)
            elif self._step == step and len(self._buffer) == before:
                break
        return units

    def _take(self, count: int) -> bytes:
        raw = bytes(self._buffer[:count])
        del self._buffer[:count]
        return raw

    # -- the head ----------------------------------------------------------------------------------

    def _head(self) -> Unit | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT or not _like_http(self._buffer):
                self._step = self._unreadable
            return None
        lines = self._take(end + 4).decode("latin-1").split("\r\n")
        self._start = lines[0]
        self._headers = [
            (name.strip(), value.strip())
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        ]
        return self._request_head() if self._requests else self._response_head()

    def _request_head(self) -> Unit | None:
        method, _, rest = self._start.partition(" ")
        query = parse_qs(urlsplit(rest.partition(" ")[0]).query)
        session = query.get("sid", [None])[0]
        self._headers = [item for item in self._headers if item[0].lower() not in _REMOVED]
        if "EIO" in query:
            given = self._value(NAME_HEADER)
            self._talk.name = self._talk.namer.name_for(unquote(given) if given else None, session)
            if given is None:
                # So that server and wire call a client that gives no name by the same one.
                self._headers.append((NAME_HEADER, quote(self._talk.name)))
        polling = "EIO" in query and query.get("transport", ["polling"])[0] == "polling"
        self._request = _Request(method, polling)
        self._talk.waiting.append(self._request)
        length = self._length()
        return self._begin_body(0 if length is None else length, readable=polling)

    def _response_head(self) -> Unit | None:
        status = int(self._start.split(" ")[1]) if self._start.count(" ") else 0
        if 100 <= status < 200 and status != 101:
            return Unit(self._head_bytes(), exchange=True)
        self._request = (
            self._talk.waiting.popleft() if self._talk.waiting else _Request("GET", False)
        )
        if status == 101:
            self._talk.upgraded = True
        if status in (101, 204, 304) or self._request.method == "HEAD":
            return Unit(self._head_bytes(), exchange=True)
        plain = self._value("content-encoding") in (None, "identity")
        readable = self._request.polling and self._request.method == "GET" and plain
        length = self._length()
        if length is None and not self._chunked():
            self._step = self._unreadable  # the body ends with the connection
            return Unit(self._head_bytes(), exchange=True)
        return self._begin_body(length or 0, readable=readable)

    def _value(self, name: str) -> str | None:
        for key, value in self._headers:
            if key.lower() == name.lower():
                return value
        return None

    def _length(self) -> int | None:
        value = self._value("content-length")
        return int(value) if value is not None and value.isdigit() else None

    def _chunked(self) -> bool:
        return "chunked" in (self._value("transfer-encoding") or "").lower()

    def _head_bytes(self, length: int | None = None) -> bytes:
        headers = self._headers
        if length is not None:
            framing = ("content-length", "transfer-encoding")
            headers = [item for item in headers if item[0].lower() not in framing]
            headers = [*headers, ("Content-Length", str(length))]
        lines = [self._start, *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    # -- the body ----------------------------------------------------------------------------------

    def _begin_body(self, length: int, *, readable: bool) -> Unit | None:
        self._body.clear()
        self._chunks.clear()
        if self._chunked():
            self._left = 0
            self._step = self._chunk if readable else self._passing_chunk
        elif length and readable and length <= MESSAGE_LIMIT:
            self._left = length
            self._step = self._whole_body
        else:
            self._left = length
            self._step = self._passing if length else self._head
        if self._step in (self._whole_body, self._chunk):
            return None
        return Unit(self._head_bytes(), exchange=True)

    def _passing(self) -> Unit | None:
        raw = self._take(min(self._left, len(self._buffer)))
        self._left -= len(raw)
        if not self._left:
            self._step = self._head
        return Unit(raw, continues=True, exchange=True)

    def _unreadable(self) -> Unit | None:
        return Unit(self._take(len(self._buffer)), exchange=True)

    def _whole_body(self) -> Unit | None:
        if len(self._buffer) < self._left:
            return None
        self._body += self._take(self._left)
        return self._polling_unit()

    def _chunk_size(self) -> int | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        try:
            return int(bytes(self._buffer[:end]).partition(b";")[0], 16)
        except ValueError:
            self._step = self._unreadable
            return None

    def _next_chunk(self) -> tuple[bytes, bytes, bool] | None:
        """The next chunk's raw bytes and content, and whether it ends the body."""
        size = self._chunk_size()
        if size is None:
            return None
        line = self._buffer.find(b"\r\n")
        if size == 0:
            # The last chunk, and trailers up to an empty line.
            close = self._buffer.find(b"\r\n\r\n", line)
            return None if close < 0 else (self._take(close + 4), b"", True)
        if len(self._buffer) < line + 2 + size + 2:
            return None
        raw = self._take(line + 2 + size + 2)
        return raw, raw[line + 2 : -2], False

    def _passing_chunk(self) -> Unit | None:
        """As `_chunk`, but for a body that is not looked at: nothing is held back."""
        if self._left:
            raw = self._take(min(self._left, len(self._buffer)))
            self._left -= len(raw)
            return Unit(raw, continues=True, exchange=True)
        size = self._chunk_size()
        if size is None:
            return None
        line = self._buffer.find(b"\r\n") + 2
        if size:
            self._left = size + 2
            return Unit(self._take(line), continues=True, exchange=True)
        chunk = self._next_chunk()
        if chunk is None:
            return None
        self._step = self._head
        return Unit(chunk[0], continues=True, exchange=True)

    def _chunk(self) -> Unit | None:
        chunk = self._next_chunk()
        if chunk is None:
            if len(self._body) + len(self._buffer) > MESSAGE_LIMIT:
                self._step = self._passing_chunk
                return Unit(self._head_bytes() + bytes(self._chunks), exchange=True)
            return None
        raw, content, last = chunk
        self._chunks += raw
        self._body += content
        return self._polling_unit() if last else None

    # -- long polling ------------------------------------------------------------------------------

    def _polling_unit(self) -> Unit:
        """The packets of one body of Engine.IO's polling transport."""
        self._step = self._head
        groups: list[tuple[list[str], Seen | None]] = []
        for text in bytes(self._body).decode("utf-8", "replace").split(_SEPARATOR):
            session = SESSION.match(text)
            if session:
                self._talk.opened(session.group(1))
            if text.startswith("b") and groups:
                groups[-1][0].append(text)  # an attachment goes with its packet
            else:
                groups.append(([text], decode(text[1:]) if text.startswith("4") else None))
        answer = self._ok() if self._requests else None
        start, headers = self._start, self._headers

        def without(dropped: set[int]) -> bytes:
            left, index = [], -1
            for texts, seen in groups:
                index += seen is not None
                if seen is None or index not in dropped:
                    left += texts
            if not left and answer is not None:
                return b""
            self._start, self._headers = start, headers
            body = _SEPARATOR.join(left or [_NOOP]).encode()
            return self._head_bytes(len(body)) + body

        return Unit(
            self._head_bytes(len(self._body)) + bytes(self._body),
            [seen for _, seen in groups if seen is not None],
            without=without,
            answer=answer,
            exchange=True,
        )

    def _ok(self) -> bytes:
        """What Engine.IO answers to a POST: told to a client whose packets were swallowed."""
        origin = self._value("origin")
        cors = f"Access-Control-Allow-Origin: {origin}\r\n" if origin else ""
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n{cors}\r\nok"
        ).encode("latin-1")


def _like_http(data: bytearray) -> bool:
    """Whether these first bytes may begin a request or a response."""
    return re.match(rb"[A-Z]{1,10}( |$)|[A-Z]+/1", bytes(data[:16])) is not None
