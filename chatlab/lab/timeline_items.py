"""What will be a row of a timeline, before its place is known, and what made a server send.

A server's answers are grouped with the event that caused them; the order of the groups is made in
`timeline_order.py`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.timeline_flights import LATE, Flight

__all__ = ["Item", "breaks", "find_effects", "mark", "turns"]

_RECENT = 100  # arrivals among which the cause of a broadcast is looked for


@dataclass(slots=True, eq=False)
class Item:
    """One row to be: a packet (or one broadcast's packets), or something that an actor noticed.

    `part` tells the two rows of a packet that was under way while other things happened.
    """

    order: int
    at: float
    flights: list[Flight] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    part: Literal["whole", "leaves", "arrives"] = "whole"


def mark(entry: Entry) -> Item:
    """Something that one actor noticed."""
    return Item(entry.order, entry.at, entries=[entry])


def find_effects(
    recorders: Sequence[Recorder],
    flights: Sequence[Flight],
    roots: Sequence[Item],
    lanes: list[str],
) -> tuple[list[tuple[Item, list[Item]]], list[Item]]:
    """What servers sent and noted, by cause; and what has no cause."""
    owner = {f: item for item in roots for f in item.flights}
    groups: dict[Item, list[Flight | Entry]] = {}
    children: dict[Item, set[tuple[Any, ...]]] = {}
    loose: list[Item] = []
    answers = _answers(flights)
    heard = any(f.to_server and f.got is not None and not f.inner for f in flights)
    possible = sorted((r for r in roots if _may_cause(r, heard)), key=_reached)
    reached = [_reached(r) for r in possible]

    def before(order: int) -> list[Item]:
        place = bisect.bisect_left(reached, order)
        return possible[max(0, place - _RECENT) : place]

    for flight in flights:
        if flight.to_server and not flight.inner:
            continue
        if flight.request is not None and flight.request in owner:
            cause: Item | None = owner[flight.request]
        else:
            cause = _cause(flight, before(flight.first.order), answers, children)
        if cause is None:
            loose.append(Item(flight.first.order, flight.first.at, [flight]))
            continue
        groups.setdefault(cause, []).append(flight)
        children.setdefault(cause, set()).add((flight.name, flight.conn))
    for recorder in recorders:
        for entry in recorder.entries if recorder.role == "server" else ():
            if entry.kind != "note":
                continue
            earlier = before(entry.order)
            if earlier:
                groups.setdefault(earlier[-1], []).append(entry)
            else:
                loose.append(mark(entry))
    return [(cause, _canonical(members, lanes)) for cause, members in groups.items()], loose


def _reached(item: Item) -> int:
    """When the server knew of it."""
    if item.flights:
        flight = item.flights[0]
        return flight.got.order if flight.got is not None else flight.last.order
    return min(e.order for e in item.entries)


def _cause(
    flight: Flight,
    before: Sequence[Item],
    answers: dict[tuple[str, int, int | None], int],
    children: dict[Item, set[tuple[Any, ...]]],
) -> Item | None:
    """What made the server send this: the latest arrival, or one of a burst with the same words.

    `before` is what had arrived, in order.
    """
    if not before:
        return None
    at, latest = flight.first.at, before[-1]
    if flight.packet in ("connect", "connect_error"):
        own = [r for r in before if r.flights and r.flights[0].conn == flight.conn]
        return own[-1] if own else latest

    def is_open(item: Item) -> bool:
        answered = answers.get(_question(item.flights[0])) if item.flights else None
        return (answered is None or answered > latest.order) and at - item.at < LATE

    words = _leaves(flight.data)
    score = {r: len(words & _words_of(r)) for r in before}
    alike = {r for r in before if _name(r) == _name(latest) != ""}
    # What was answered before the latest arrival counts only where it fits better than that.
    near = [r for r in before if is_open(r) or (r in alike and score[r] > score[latest])]
    near = near or [latest]
    highest = max(score[r] for r in near)
    best = [r for r in near if score[r] == highest]
    free = [r for r in best if r in alike and (flight.name, flight.conn) not in children.get(r, ())]
    return free[0] if latest in best and free else best[-1]


def _question(flight: Flight) -> tuple[str, int, int | None]:
    """What an answer answers: an ack by its number, an acceptance or a refusal by None."""
    return (flight.conn, flight.episode, flight.id if flight.packet in ("event", "ack") else None)


def _answers(flights: Iterable[Flight]) -> dict[tuple[str, int, int | None], int]:
    """When the client had the answer to what it asked."""
    kinds = ("ack", "connect", "connect_error")
    back = (f for f in flights if not f.to_server and f.packet in kinds)
    return {_question(f): f.got.order for f in back if f.got is not None}


def _may_cause(item: Item, heard: bool) -> bool:
    """Whether it reached a server; `heard`: whether servers recorded what reached them."""
    if not item.flights:
        return any(e.kind == "disconnected" for e in item.entries)
    flight = item.flights[0]
    if flight.dropped_by is not None or (heard and flight.got is None):
        return False
    return flight.packet in ("event", "connect", "disconnect")


def _name(item: Item) -> str:
    return (item.flights[0].name or "") if item.flights else ""


def _words_of(item: Item) -> set[str]:
    if item.flights:
        return _leaves(item.flights[0].data) | {item.flights[0].conn}
    return {e.conn or e.actor for e in item.entries}


def _leaves(data: Any) -> set[str]:
    if isinstance(data, str):
        return {data}
    if isinstance(data, dict):
        data = data.values()
    elif not isinstance(data, list | tuple):
        return set()
    return {leaf for value in data for leaf in _leaves(value)}


def _canonical(members: list[Flight | Entry], lanes: list[str]) -> list[Item]:
    """One turn of a server: acks first, then broadcasts, each broadcast as one; notes in place.

    Where servers speak to each other, one thing leads to the next, and the ack is the last.
    """
    notes = sorted(m.order for m in members if isinstance(m, Entry))
    flights = [m for m in members if isinstance(m, Flight)]
    lane = {name: n for n, name in enumerate(lanes)}
    # One handler lets in or refuses, before or after what else it sends: there is no race.
    greets = any(f.packet in ("connect", "connect_error") for f in flights)
    leads = _leads(flights)
    began: dict[tuple[str, str | None, str], int] = {}
    for f in sorted(flights, key=lambda f: f.first.order):
        began.setdefault((f.packet, f.name, repr(f.data)), f.first.order)

    def rank(member: Flight | Entry) -> tuple[Any, ...]:
        if isinstance(member, Entry):
            return (notes.index(member.order), 1)
        segment = sum(n < member.first.order for n in notes)
        what = (member.packet, member.name, repr(member.data))
        turn = began[what] if greets else leads(member)
        answer = member.packet != "event"
        place = lane.get(member.conn, 0)
        return (segment, 0, turn, not answer, what[1] or "", what[2], place)

    items: list[Item] = []
    for member in sorted(members, key=rank):
        if isinstance(member, Entry):
            items.append(mark(member))
        elif items and _is_copy(member, items[-1]):
            items[-1].flights.append(member)
        else:
            items.append(Item(member.first.order, member.first.at, [member]))
    return items


def _leads(flights: Sequence[Flight]) -> Callable[[Flight], float]:
    """What comes before what where servers speak to each other: one thing leads to the next.

    Packets to clients stand between the words that servers had exchanged when they left, so that it
    does not matter which of two servers was quicker. The acks come last.
    """
    inner = sorted((f for f in flights if f.inner), key=lambda f: f.first.order)
    rests = breaks([f.first.at for f in flights])

    def words(f: Flight) -> tuple[str | None, str, int]:
        return (f.name, repr(f.data), sum(f.first.at >= b for b in rests))

    said = list(dict.fromkeys(words(f) for f in inner))
    began = [next(f.first.order for f in inner if words(f) == each) for each in said]

    def turn(flight: Flight) -> float:
        if not inner:
            return 0
        if flight.inner:
            return 2 * said.index(words(flight)) + 1
        if flight.packet != "event":
            return math.inf
        return 2 * bisect.bisect_left(began, flight.first.order)

    return turn


def _is_copy(flight: Flight, item: Item) -> bool:
    """Whether this is the same broadcast to one more receiver."""
    if not item.flights or flight.packet != "event":
        return False
    first = item.flights[0]
    same = first.packet == "event" and (first.name, first.data) == (flight.name, flight.data)
    server = (first.sent and first.sent.actor) == (flight.sent and flight.sent.actor)
    once = flight.conn not in {f.conn for f in item.flights}
    return same and server and once and (flight.delay >= LATE) == (first.delay >= LATE)


def turns(items: Sequence[Item]) -> list[list[Item]]:
    """Parted where the server rested: what it sends much later is shown later."""
    rests = breaks([item.at for item in items])
    turns: dict[int, list[Item]] = {}
    for item in items:
        turns.setdefault(sum(item.at >= b for b in rests), []).append(item)
    return [turns[n] for n in sorted(turns)]


def breaks(times: Iterable[float]) -> list[float]:
    """The times at which something happened after nothing had for long."""
    return [b for a, b in itertools.pairwise(sorted(times)) if b - a > LATE]
