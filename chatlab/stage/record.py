"""The checker's record of the stage: what the windows' wires and the crowd saw, kept for minutes.

It grows for as long as a demo lasts, so it begins anew now and then; what was found before is
added up elsewhere. Judging it is `verdict.py`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatlab.lab import history_events as ev
from chatlab.lab.history import History
from chatlab.lab.history_events import Delivered
from chatlab.lab.history_record import Scribe
from chatlab.lab.recorder import Entry

__all__ = ["Record", "WindowRecord"]

_PATIENCE: Final = 5.0  # seconds after which an ack is not expected any more
_CARRIED_OVER: Final = 10.0  # seconds in which what was sent before the record began may still come


@dataclass(slots=True)
class _Place:
    """Where a client stands in a room: what it has heard of, for a record that begins anew."""

    seq: int | None = None
    epoch: str | None = None
    inside: bool = False
    begins_at: int | None = None  # in this record


@dataclass(slots=True)
class _Seen:
    """One client: its user, whether it is connected, and its rooms."""

    user: str
    shows: bool
    connected: bool = False
    rooms: dict[str, _Place] = field(default_factory=dict)


class Record(History):
    """A history that can begin anew while everybody goes on, and that takes others at their word.

    Whoever speaks and is not recorded (a guest) is taken to have sent what arrives of them: their
    messages are judged for order, gaps and repeats, and not for having been sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = time.monotonic()
        self._clients: dict[str, _Seen] = {}
        self._sent: set[tuple[str, str, str]] = set()
        self._vouched: set[tuple[str, str]] = set()
        self._strangers: set[str] = set()
        self._counter = 0
        self._open: dict[tuple[str, int], float] = {}  # sends that are not answered yet

    @property
    def vouched(self) -> int:
        """How many sends in it are taken for granted."""
        return len(self._vouched)

    @property
    def calm(self) -> bool:
        """Whether nobody waits for an ack that may still come."""
        now = time.monotonic()
        self._open = {name: at for name, at in self._open.items() if now - at < _PATIENCE}
        return not self._open

    # -- what comes in -----------------------------------------------------------------------------

    def add(self, event: ev.Event) -> None:
        """Append one event, and keep up with who is where."""
        match event:
            case ev.Client():
                if event.client in self._clients or event.client in self._strangers:
                    return
                self._clients[event.client] = _Seen(event.user, event.shows)
            case ev.Sent():
                user = self._user(event.client)
                self._sent.add((event.room, user, event.text.strip()))
                self._open[event.client, event.send] = event.at
            case ev.Connected() | ev.Disconnected():
                if event.client in self._clients:
                    self._clients[event.client].connected = isinstance(event, ev.Connected)
            case ev.Acked():
                self._open.pop((event.client, event.send), None)
                self._heard_own(event)
            case ev.Joined(ok=True):
                place = self._place(event.client, event.room)
                if event.epoch != place.epoch:
                    place.seq = None
                    place.begins_at = None
                place.inside, place.epoch = True, event.epoch
                place.seq = _later(place.seq, event.seq)
            case ev.Left(ok=True) | ev.Closed():
                self._place(event.client, event.room).inside = False
            case ev.Arrived() | ev.Shown():
                if not self._counts(event.client, event.message):
                    return
        self.events.append(event)

    def fetched(self, client: str, message: Delivered, *, at: float | None = None) -> None:
        """See `History.fetched`."""
        if self._counts(client, message):
            super().fetched(client, message, at=at)

    def _counts(self, client: str, message: Delivered) -> bool:
        """Whether a delivery belongs to this record; what a stranger sent is vouched for."""
        place = self._place(client, message.room)
        if place.begins_at is not None and (message.seq or 0) <= place.begins_at:
            return message.seq is None
        place.seq = _later(place.seq, message.seq)
        self._vouch(message)
        return True

    def _vouch(self, message: Delivered) -> None:
        name = (message.room, message.id or f"{message.user}\0{message.text}")
        if name in self._vouched:
            return
        known = any(message.user == seen.user for seen in self._clients.values())
        sent = (message.room, message.user, message.text.strip()) in self._sent
        early = time.monotonic() - self.begun < _CARRIED_OVER
        if sent or (known and not early):
            return
        self._vouched.add(name)
        teller = f"{message.user} (not recorded)"
        if teller not in self._strangers:
            self._strangers.add(teller)
            self.events.append(ev.Client(time.monotonic(), teller, message.user))
        self._counter += 1
        self.events.append(
            ev.Sent(time.monotonic(), teller, self._counter, message.room, message.text)
        )

    def _heard_own(self, event: ev.Acked) -> None:
        # Whose room it is, is not in an ack: the newest of the rooms that it is in is near enough
        # for a record that begins anew, since what is older is left out, not judged.
        seen = self._clients.get(event.client)
        inside = [place for place in seen.rooms.values() if place.inside] if seen else []
        if len(inside) == 1:
            inside[0].seq = _later(inside[0].seq, event.seq)

    def _user(self, client: str) -> str:
        seen = self._clients.get(client)
        return client if seen is None else seen.user

    def _place(self, client: str, room: str) -> _Place:
        seen = self._clients.setdefault(client, _Seen(client, False))
        return seen.rooms.setdefault(room, _Place())

    # -- beginning anew ----------------------------------------------------------------------------

    def begin_anew(self, *, forget: bool) -> None:
        """Drop the events. `forget`: the messages too have been forgotten, as after a reset."""
        now = time.monotonic()
        self.begun = now
        self.events = []
        self._sent.clear()
        self._vouched.clear()
        self._strangers.clear()
        self._same.clear()
        for name, seen in self._clients.items():
            self.events.append(ev.Client(now, name, seen.user, seen.shows))
            if forget:
                seen.rooms.clear()
                seen.connected = False
            if seen.connected:
                self.events.append(ev.Connected(now, name))
            for room, place in seen.rooms.items():
                place.begins_at = place.seq
                if place.inside and seen.connected:
                    self.events.append(ev.Joining(now, name, room))
                    self.events.append(ev.Joined(now, name, room, True, place.seq, place.epoch))

    def returned(self, client: str) -> None:
        """It is heard again, on the connection that it had: it is still in its rooms."""
        seen = self._clients.get(client)
        if seen is None:
            return
        seen.connected = True
        now = time.monotonic()
        for room, place in seen.rooms.items():
            if place.inside:
                self.events.append(ev.Joined(now, client, room, True, None, place.epoch))

    def forget_client(self, client: str) -> None:
        """It is gone for good."""
        seen = self._clients.pop(client, None)
        if seen is not None:
            self.add(ev.Disconnected(time.monotonic(), client))


class WindowRecord:
    """One window's part of the record, from what its wire carried and swallowed."""

    def __init__(self, record: Record, name: str, user: str) -> None:
        self.name = name
        self._record = record
        self._scribe = Scribe(record, name, user, also=None, shows=False)
        self._last_id = -1
        self.connection: str | None = None  # the wire's name for the one that was accepted last
        record.client(name, user=user)

    def take(self, entry: Entry) -> None:
        """One entry of the wire's recorder."""
        if entry.kind in ("cut", "mute"):
            self.away(entry.at)
        if entry.kind not in ("pass", "drop") or entry.packet is None:
            return
        if entry.to_server:
            # Also what the wire swallowed: the window did send it.
            if entry.packet == "event":
                self._sent(entry)
        elif entry.kind == "drop":
            return
        elif entry.packet == "connect":
            self.connection = entry.conn
            self._tell(entry.at, "connected")
        elif entry.packet == "disconnect":
            self.away(entry.at)
        else:
            self._tell(entry.at, "receive", entry)

    def _sent(self, entry: Entry) -> None:
        if entry.name == "join-room" and entry.id is not None and entry.id <= self._last_id:
            # A page counts its acks from the beginning when it was loaded anew. What it missed
            # before that, it was never promised.
            asked = entry.data if isinstance(entry.data, Mapping) else {"room": entry.data}
            if asked.get("after") is None:
                self._record.left(self.name, str(asked.get("room")), at=entry.at)
        if entry.id is not None:
            self._last_id = entry.id
        self._tell(entry.at, "send", entry)

    def away(self, at: float | None = None) -> None:
        """Its connection is gone, or silent: nothing is owed to it until it is back."""
        self._tell(time.monotonic() if at is None else at, "disconnected")

    def back(self) -> None:
        """A silence is over, and its connection has outlived it: it is owed what was sent."""
        self._record.returned(self.name)

    def _tell(self, at: float, kind: Any, entry: Entry | None = None) -> None:
        told = Entry(0, at, self.name, kind)
        if entry is not None:
            told = Entry(
                0,
                at,
                self.name,
                kind,
                packet=entry.packet,
                name=entry.name,
                data=entry.data,
                id=entry.id,
            )
        self._scribe.entry(told)


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
