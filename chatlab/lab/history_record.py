"""Turns what a client's recorder is told into the events of a history.

It understands the records of `ChatClient` and of the lab's raw client alike. What a client shows
to its reader is not on the wire: `History.read` writes that down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from chatlab.lab import history_events as ev
from chatlab.lab.history_events import Delivered
from chatlab.lab.recorder import Entry

__all__ = ["UNKNOWN_CODES", "Scribe"]

UNKNOWN_CODES: Final = frozenset({"unavailable", "closing", "internal_error"})
"""Answers after which a message may have been stored or not (the wire contract)."""

_ASKED: Final = ("join-room", "leave-room", "send-message", "history")


class _Book(Protocol):
    def add(self, event: ev.Event) -> None: ...

    def arrived(self, client: str, message: Delivered, *, at: float | None = None) -> None: ...

    def fetched(self, client: str, message: Delivered, *, at: float | None = None) -> None: ...


class Scribe:
    """A client's recorder. `also` gets every entry too; `shows` as in `history_events.Client`."""

    def __init__(self, book: _Book, name: str, user: str, *, also: Any, shows: bool) -> None:
        self.name = name
        self.user = user
        self._book = book
        self._also = also
        self._shows = shows
        self._sends = 0
        self._room: str | None = None  # the one joined last: where a send without room goes
        self._asked: dict[int, tuple[str, str, Any]] = {}  # by ack number, of this connection
        self._epochs: dict[str, str] = {}

    def add(self, kind: str, **fields: Any) -> None:
        """Record one entry now, as `Recorder.add`."""
        if self._also is not None:
            self._also.add(kind, **fields)
        self._take(
            time.monotonic(),
            kind,
            fields.get("packet"),
            fields.get("name"),
            fields.get("data"),
            fields.get("id"),
        )

    def entry(self, entry: Entry) -> None:
        """Take an entry that somebody else recorded."""
        self._take(entry.at, entry.kind, entry.packet, entry.name, entry.data, entry.id)

    def _take(
        self, at: float, kind: str, packet: Any, name: Any, data: Any, number: int | None
    ) -> None:
        if kind == "receive" and packet == "event":
            if name == "new-message" and isinstance(data, Mapping):
                self._book.arrived(self.name, _delivered(data, self._room), at=at)
        elif kind == "receive" and packet == "ack":
            if number in self._asked:
                self._answered(at, *self._asked[number], data)
        elif kind == "send" and packet == "event" and name in _ASKED:
            self._ask(at, name, data, number)
        elif kind == "connected":
            self._asked.clear()
            self._book.add(ev.Connected(at, self.name))
        elif kind == "disconnected":
            self._book.add(ev.Disconnected(at, self.name))

    def _ask(self, at: float, name: str, data: Any, number: int | None) -> None:
        asked = data if isinstance(data, Mapping) else {"room": data}
        room = asked.get("room")
        detail: Any = asked.get("after")
        if name == "send-message":
            room = self._room if room is None else room
            self._sends += 1
            detail = self._sends
            key = asked.get("key")
            event = ev.Sent(at, self.name, detail, str(room), _text(asked), _maybe(key))
            self._book.add(event)
        elif name == "join-room":
            self._room = room
            self._book.add(ev.Joining(at, self.name, str(room), detail))
        elif name == "leave-room":
            self._book.add(ev.Leaving(at, self.name, str(room)))
        if number is not None:
            self._asked[number] = (name, str(room), detail)

    def _answered(self, at: float, name: str, room: str, detail: Any, data: Any) -> None:
        answer = data if isinstance(data, Mapping) else {}
        ok = answer.get("ok") is not False
        code = answer.get("code")
        if name == "send-message":
            stored = True if ok else None if code in UNKNOWN_CODES else False
            place = (_maybe(answer.get("id")), _number(answer.get("seq"))) if ok else (None, None)
            self._book.add(ev.Acked(at, self.name, detail, stored, *place, code))
        elif name == "leave-room":
            self._book.add(ev.Left(at, self.name, room, ok))
        elif name == "join-room":
            self._joined(at, room, detail, ok, answer)
        elif name == "history" and ok:
            self._pages(at, room, answer)

    def _joined(
        self, at: float, room: str, after: Any, ok: bool, answer: Mapping[str, Any]
    ) -> None:
        seq, epoch = _number(answer.get("seq")), answer.get("epoch")
        lost = answer.get("lost") is True
        self._book.add(ev.Joined(at, self.name, room, ok, seq, epoch, lost, answer.get("code")))
        if not ok:
            return
        anew = self._epochs.get(room) not in (None, epoch)
        if lost and after is not None and not self._shows:
            first = next((_number(m.get("seq")) for m in answer.get("messages", ())), None)
            resumes = (seq or 0) + 1 if first is None else first
            gone = None if anew or resumes <= after else resumes - after - 1
            self._book.add(ev.Missing(at, self.name, room, after, resumes, gone, epoch))
        if epoch is not None:
            self._epochs[room] = epoch
        self._pages(at, room, answer)

    def _pages(self, at: float, room: str, answer: Mapping[str, Any]) -> None:
        if not self._shows:
            for message in answer.get("messages", ()):
                self._book.fetched(self.name, _delivered(message, room), at=at)


def _delivered(data: Mapping[str, Any], room: str | None) -> Delivered:
    return Delivered(
        str(data.get("room", room)),
        str(data.get("user", "")),
        _text(data),
        _maybe(data.get("id")),
        _number(data.get("seq")),
    )


def _text(data: Mapping[str, Any]) -> str:
    text = data.get("text")
    return text if isinstance(text, str) else repr(text)


def _maybe(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
