"""What can happen in a run, one small record each, and how it is written down and read aloud.

A history is a list of these in the order in which they were seen. They are plain data: who records
them is `history.py`, what they prove is `history_rules.py`.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = [
    "Acked",
    "Arrived",
    "Client",
    "Closed",
    "Connected",
    "Delivered",
    "Disconnected",
    "End",
    "Event",
    "Fetched",
    "Joined",
    "Joining",
    "Leaving",
    "Left",
    "Missing",
    "Note",
    "Permit",
    "Sent",
    "Shown",
    "decode",
    "encode",
    "line",
]


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """A message as somebody got it. Servers of other kinds may give it no `id` and no `seq`."""

    room: str
    user: str
    text: str
    id: str | None = None
    seq: int | None = None

    def __str__(self) -> str:
        place = "" if self.seq is None else f" #{self.seq}"
        return f"{self.text!r}{place}"


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="what", tag=str.lower):
    """`at` is in seconds, on one clock for the whole history."""

    at: float


class Client(Event, frozen=True, gc=False):
    """`client` is a name of one connection, or of one that comes back; `user` whose token it has.

    `shows` says that what it shows its reader is recorded too (`Shown`), as `ChatClient` sorts it;
    otherwise what arrives is what it shows.
    """

    client: str
    user: str
    shows: bool = False


class Permit(Event, frozen=True, gc=False):
    """From now on `user` may (or may not) be in `room`; a room without any is open to all."""

    user: str
    room: str
    allowed: bool = True


class Connected(Event, frozen=True, gc=False):
    client: str


class Disconnected(Event, frozen=True, gc=False):
    client: str


class Joining(Event, frozen=True, gc=False):
    """The request was sent; `after` is the `seq` behind which the client wants everything."""

    client: str
    room: str
    after: int | None = None


class Joined(Event, frozen=True, gc=False):
    """The answer: `seq` is the room's newest, `lost` that history does not reach back."""

    client: str
    room: str
    ok: bool = True
    seq: int | None = None
    epoch: str | None = None
    lost: bool = False
    code: str | None = None


class Leaving(Event, frozen=True, gc=False):
    client: str
    room: str


class Left(Event, frozen=True, gc=False):
    client: str
    room: str
    ok: bool = True


class Closed(Event, frozen=True, gc=False):
    """The server does not let the client return to `room`."""

    client: str
    room: str


class Sent(Event, frozen=True, gc=False):
    """One attempt, number `send` of its client. Attempts with one `key` are one message."""

    client: str
    send: int
    room: str
    text: str
    key: str | None = None


class Acked(Event, frozen=True, gc=False):
    """The answer to attempt `send`: stored, or not, or (`stored` is None) nobody can tell."""

    client: str
    send: int
    stored: bool | None = True
    id: str | None = None
    seq: int | None = None
    code: str | None = None


class Arrived(Event, frozen=True, gc=False):
    """The server sent it to this client by itself."""

    client: str
    message: Delivered


class Fetched(Event, frozen=True, gc=False):
    """The client asked for it: the answer of a join or of `history`."""

    client: str
    message: Delivered


class Shown(Event, frozen=True, gc=False):
    """The client showed it to its reader."""

    client: str
    message: Delivered


class Missing(Event, frozen=True, gc=False):
    """The client was told that what lies between `after` and `resumes` cannot be had any more.

    `missing` counts it; None where the room's log began anew, as `epoch`.
    """

    client: str
    room: str
    after: int
    resumes: int
    missing: int | None = None
    epoch: str | None = None


class Note(Event, frozen=True, gc=False):
    """Something that was done to the run: a server killed, a wire cut."""

    text: str


class End(Event, frozen=True, gc=False):
    """Everything has settled: who is a member now must have everything. What follows is ignored."""


_Any = (
    Client
    | Permit
    | Connected
    | Disconnected
    | Joining
    | Joined
    | Leaving
    | Left
    | Closed
    | Sent
    | Acked
    | Arrived
    | Fetched
    | Shown
    | Missing
    | Note
    | End
)

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Any)


def encode(event: Event) -> bytes:
    """One line of JSON, without its end."""
    return _encoder.encode(event)


def decode(text: bytes | str) -> Event:
    """The event of such a line. Raises `msgspec.ValidationError` (a `ValueError`) for others."""
    event: Event = _decoder.decode(text)
    return event


def line(event: Event, begin: float = 0.0) -> str:
    """The event as a sentence, with its time in seconds since `begin`."""
    return f"{event.at - begin:9.3f} s  {_sentence(event)}"


def _sentence(event: Event) -> str:
    match event:
        case Client():
            return f"{event.client} is a client of {event.user}"
        case Permit():
            return f"{event.user} {'may' if event.allowed else 'may not'} be in {event.room}"
        case Connected():
            return f"{event.client} is connected"
        case Disconnected():
            return f"{event.client} is disconnected"
        case Joining():
            behind = "" if event.after is None else f", to go on behind #{event.after}"
            return f"{event.client} asks to join {event.room}{behind}"
        case Joined():
            return f"{event.client} {_joined(event)}"
        case Leaving():
            return f"{event.client} asks to leave {event.room}"
        case Left():
            return f"{event.client} {'has left' if event.ok else 'could not leave'} {event.room}"
        case Closed():
            return f"{event.client} may not return to {event.room}"
        case Sent():
            key = "" if event.key is None else f", key {event.key[:12]}"
            return f"{event.client} sends {event.text!r} to {event.room} (send {event.send}{key})"
        case Acked():
            return f"{event.client} is answered {_answer(event)} (send {event.send})"
        case Arrived() | Fetched() | Shown():
            did = {Arrived: "receives", Fetched: "fetches", Shown: "shows"}[type(event)]
            got = event.message
            return f"{event.client} {did} {got} of {got.user} in {got.room}"
        case Missing():
            what = "its log began anew" if event.missing is None else f"{event.missing} are gone"
            return (
                f"{event.client} is told that {event.room} goes on from #{event.after} "
                f"at #{event.resumes}: {what}"
            )
        case Note():
            return event.text
    return "everything has settled"


def _joined(event: Joined) -> str:
    if not event.ok:
        return f"could not join {event.room}" + ("" if event.code is None else f": {event.code}")
    at = "" if event.seq is None else f" at #{event.seq}"
    return f"is in {event.room}{at}" + (", history lost" if event.lost else "")


def _answer(event: Acked) -> str:
    if event.stored:
        place = "" if event.seq is None else f", #{event.seq}"
        return f"ok{place}"
    code = event.code or "no"
    return code if event.stored is False else f"{code}: stored or not, nobody knows"
