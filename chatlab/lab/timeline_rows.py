"""From ordered items to rows: lanes, arrows, marks and their words, as both drawings need them.

The text and the SVG are made from the same rows, so that they say the same. Nothing here knows
about pixels or characters on a line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.timeline_flights import Flight
from chatlab.lab.timeline_items import Item
from chatlab.lab.timeline_words import Wording

__all__ = ["REFUSED", "Lane", "Leg", "Row", "Style", "fold", "make_rows"]

Style = Literal[
    "event", "ack", "bad", "connect", "timeout", "off", "on", "wall", "cut", "heal", "note"
]

REFUSED = "✗ refused"

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_REPEATS = 8  # so many equal rounds are folded


@dataclass(frozen=True, slots=True)
class Lane:
    """One actor's line. `recorded` is False where only the others' records tell of it."""

    name: str
    role: Literal["client", "wire", "server"]
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Leg:
    """Where a packet goes: the lane of its receiver, and where it ended if it did not arrive.

    `stop` is a lane's index (the wire that swallowed it), `between` two lanes where it vanished.
    """

    target: int
    stop: int | None = None
    between: tuple[int, int] | None = None

    @property
    def lost(self) -> bool:
        """Whether it did not arrive."""
        return self.stop is not None or self.between is not None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawing: an arrow (with `legs`), a mark on `lane`, or a fold (neither).

    `name` is the event's name (or what happened), `words` its content. `number` joins the two rows
    of a late packet, the first with `part` "leaves", the second with "arrives".
    """

    at: float
    style: Style
    name: str
    words: str = ""
    lane: int | None = None
    legs: tuple[Leg, ...] = ()
    also: tuple[int, ...] = ()
    part: Literal["whole", "leaves", "arrives"] = "whole"
    number: int = 0
    one_way: bool | None = None

    @property
    def closes(self) -> bool:
        """Whether a connection ends here, or never begins."""
        return (
            self.style == "off"
            or self.name == REFUSED
            or (self.style == "cut" and self.one_way is None)
        )

    @property
    def text(self) -> str:
        """The message's text in its quotes, where the words begin with one; else nothing."""
        quoted = _QUOTED.match(self.words)
        return quoted.group() if quoted else ""

    @property
    def shape(self) -> tuple[object, ...]:
        """What makes two rows alike, so that a run of them can be folded."""
        words = self.words if not self.legs else ""
        return (self.style, self.name, words, self.lane, self.legs, self.also, self.part)


def make_rows(
    items: Iterable[Item],
    lanes: Sequence[Lane],
    recorders: Sequence[Recorder],
    *,
    only: Collection[str] | None,
    hide: Collection[str],
) -> list[Row]:
    """The rows of a drawing. `only` and `hide` hold event names and kinds, as for `timeline`."""
    items = list(items)
    maker = _Maker(lanes, recorders)
    greetings = _are_greetings_dull(items) and not (only and "connect" in only)
    rows: list[Row] = []
    for item in items:
        tags = _tags(item)
        if tags & set(hide) or (greetings and "connect" in tags):
            continue
        if only is not None and not tags & {*only, "always"}:
            continue
        rows += maker.rows(item)
    return rows


def _tags(item: Item) -> set[str]:
    if not item.flights:
        entry = item.entries[0]
        kind = {"connected": "connect", "refused": "connect", "disconnected": "disconnect"}.get(
            entry.kind, entry.kind
        )
        if entry.name:
            return {kind, entry.name}
        # What a wire or a lesson says belongs to every choice of events; a goodbye does not.
        return {kind} if kind in ("connect", "disconnect") else {kind, "always"}
    flight = item.flights[0]
    kind = "connect" if flight.packet == "connect_error" else flight.packet
    return {kind} | ({flight.name} if flight.name else set())


def _are_greetings_dull(items: Iterable[Item]) -> bool:
    """Whether everybody came once and was let in, and then something else happened."""
    tags = [(_tags(i), i) for i in items]
    came = [f for t, i in tags if "connect" in t for f in i.flights]
    asked = [(f.conn, f.episode) for f in came if f.to_server]
    let_in = [(f.conn, f.episode) for f in came if not f.to_server and f.packet == "connect"]
    once = len({conn for conn, _ in asked}) == len(asked)
    lost = any(f.dropped_by for f in came)
    refused = any(e.kind == "refused" for _, i in tags for e in i.entries)
    more = any(not t & {"connect", "disconnect"} for t, _ in tags)
    return more and once and not lost and not refused and sorted(asked) == sorted(let_in)


class _Maker:
    def __init__(self, lanes: Sequence[Lane], recorders: Sequence[Recorder]) -> None:
        self._lanes = lanes
        self._index = {lane.name: n for n, lane in enumerate(lanes)}
        self._servers = [n for n, lane in enumerate(lanes) if lane.role == "server"]
        self._seen_by: dict[str, int] = {}
        self._ended = {
            (e.conn or r.name, self._index[r.name])
            for r in recorders
            for e in r.entries
            if e.kind == "disconnected"
        }
        for recorder in recorders:
            for entry in recorder.entries if recorder.role == "server" else ():
                if entry.conn is not None:
                    self._seen_by.setdefault(entry.conn, self._index[recorder.name])
        self._wording = Wording()
        self._under_way: dict[Flight, int] = {}

    def rows(self, item: Item) -> list[Row]:
        """The row of an item; none where its lanes are not shown."""
        if not item.flights:
            return self._marks(item)
        flights = [f for f in item.flights if f.conn in self._index]
        if not flights:
            return []
        first = flights[0]
        legs = tuple(sorted((self._leg(f) for f in flights), key=lambda leg: leg.target))
        number = 0
        if item.part != "whole":
            number = self._under_way.setdefault(first, len(self._under_way) + 1)
        style, name, words = self._say(first)
        return [
            Row(
                item.at,
                style,
                name,
                words,
                lane=self._source(first),
                legs=legs,
                part=item.part,
                number=number,
            )
        ]

    def _server(self, flight: Flight) -> int:
        entry = flight.got if flight.to_server else flight.sent
        if entry is not None and entry.actor in self._index:
            return self._index[entry.actor]
        return self._seen_by.get(flight.conn, self._servers[0])

    def _source(self, flight: Flight) -> int:
        return self._index[flight.conn] if flight.to_server else self._server(flight)

    def _leg(self, flight: Flight) -> Leg:
        source = self._source(flight)
        target = self._server(flight) if flight.to_server else self._index[flight.conn]
        if flight.dropped_by is not None:
            return Leg(target, stop=self._index[flight.dropped_by])
        # The end of a connection is noticed also where the goodbye itself is not read any more.
        noticed = flight.packet == "disconnect" and (flight.conn, target) in self._ended
        if flight.got is not None or noticed or not self._lanes[target].recorded:
            return Leg(target)
        # It vanished after the last wire that saw it, and before the next that should have.
        step = 1 if target > source else -1
        here = source
        for lane in range(source + step, target, step):
            if self._lanes[lane].name in flight.wires:
                here = lane
        beyond = [
            lane for lane in range(here + step, target, step) if self._lanes[lane].role == "wire"
        ]
        return Leg(target, between=(here, beyond[0] if beyond else target))

    def _say(self, flight: Flight) -> tuple[Style, str, str]:
        words = self._wording.words(flight.data)
        if flight.packet == "connect":
            return ("connect", "connect", words) if flight.to_server else ("ack", "accepted", "")
        if flight.packet == "connect_error":
            return "bad", REFUSED, self._refusal(flight.data)
        if flight.packet == "disconnect":
            return "off", "disconnect", ""
        if flight.packet == "ack":
            said_no = isinstance(flight.data, dict) and flight.data.get("ok") is False
            return ("bad" if said_no else "ack"), "ack", words or "(nothing)"
        return ("bad" if flight.name == "error" else "event"), flight.name or "?", words

    def _refusal(self, data: object) -> str:
        if not isinstance(data, dict):
            return self._wording.words(data)
        extra = data.get("data")
        code = extra.get("code") if isinstance(extra, dict) else None
        return str(data.get("message", "")) + (f" ({code})" if code else "")

    def _marks(self, item: Item) -> list[Row]:
        places = [
            self._index[e.actor]
            for e in item.entries
            if e.actor in self._index and (e.conn is None or self._is_shown(e))
        ]
        if not places:
            return []
        style, name, words = self._remark(item.entries[0])
        return [
            Row(
                item.at,
                style,
                name,
                words,
                lane=places[0],
                also=tuple(places[1:]),
                one_way=item.entries[0].to_server,
            )
        ]

    def _is_shown(self, entry: Entry) -> bool:
        lane = self._lanes[self._index[entry.actor]]
        return lane.role != "server" or entry.conn in self._index or entry.kind == "note"

    def _remark(self, entry: Entry) -> tuple[Style, str, str]:
        text = entry.text or ""
        if entry.kind == "timeout":
            if not text and isinstance(entry.data, int | float):
                text = f"waited {entry.data:g} s"
            asked = f"for an answer to {entry.name}" if entry.name else ""
            return "timeout", f"✗ {text or 'waited in vain'}", asked
        if entry.kind == "refused":
            code = entry.data.get("code") if isinstance(entry.data, dict) else None
            return "bad", REFUSED, text + (f" ({code})" if code else "")
        if entry.kind == "disconnected":
            who = "" if entry.conn in (None, entry.actor) else f"{entry.conn}: "
            return "off", f"{who}connection ended", ""
        if entry.kind == "connected":
            return "on", "connected", ""
        if entry.kind == "mute":
            return "wall", text or "silent", ""
        if entry.kind == "cut":
            return "cut", text or "cut", ""
        if entry.kind == "heal":
            return "heal", text or "works again", ""
        return "note", text or self._wording.words(entry.data), ""


def fold(rows: Sequence[Row]) -> list[Row]:
    """Replace the middle of a long run of like rounds by one row that counts them."""
    folded: list[Row] = []
    start = 0
    while start < len(rows):
        period, rounds = _run(rows, start)
        if not period:
            folded.append(rows[start])
            start += 1
            continue
        end = start + period * rounds
        what = "more" if period == 1 else "more rounds like these"
        folded += rows[start : start + 2 * period]
        folded.append(Row(rows[start + 2 * period].at, "note", f"… {rounds - 3} {what}"))
        folded += rows[end - period : end]
        start = end
    return folded


def _run(rows: Sequence[Row], start: int) -> tuple[int, int]:
    """The shortest period, of at most six rows, that repeats long enough from here; else 0."""
    for period in range(1, 7):
        rounds = 1
        while _alike(rows, start, start + rounds * period, period):
            rounds += 1
        if rounds >= _REPEATS:
            return period, rounds
    return 0, 0


def _alike(rows: Sequence[Row], one: int, other: int, length: int) -> bool:
    return other + length <= len(rows) and all(
        rows[one + n].shape == rows[other + n].shape and rows[one + n].legs for n in range(length)
    )
