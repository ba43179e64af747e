"""Puts what happened into an order that is the same in every run.

What clients did keeps its order. What a server answered is grouped with its cause and put where the
client had seen the first of it, so that two threads that race do not change the drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.timeline_flights import LATE, Episodes, Flight

__all__ = ["Item", "arrange"]

_SAME_MOMENT = 1.0  # seconds in which both ends notice that a connection is gone


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


def arrange(
    recorders: Sequence[Recorder], flights: Sequence[Flight], episodes: Episodes, lanes: list[str]
) -> list[Item]:
    """Every row, from top to bottom. `lanes` are the actors' names from left to right."""
    roots = _roots(recorders, flights, episodes)
    effects, loose = _effects(recorders, flights, roots, lanes)
    roots = sorted([*roots, *loose], key=lambda item: item.order)
    keyed: list[tuple[tuple[int, ...], Item]] = []
    place = {item: n for n, item in enumerate(roots)}
    for item in roots:
        keyed.append(((place[item], 1), item))
        late = item.flights[0] if item.flights and _is_late(item.flights[0], roots) else None
        if late is not None and late.got is not None:
            item.part = "leaves"
            arrival = Item(late.got.order, late.got.at, [late], part="arrives")
            keyed.append(((_slot(roots, late.got.order), 0, place[item]), arrival))
    for cause, members in effects:
        for turn, together in enumerate(_turns(members)):
            seen = min(_last_seen(item) for item in together)
            slot = max(_slot(roots, seen), place[cause] + 1)
            for number, item in enumerate(together):
                key = (slot, 0, place[cause], 1, turn, number)
                late = next((f for f in item.flights if _is_late(f, roots)), None)
                if late is None or late.got is None:
                    keyed.append((key, item))
                    continue
                arrives = _slot(roots, late.got.order)
                leaves = min(slot, _slot(roots, item.order))
                if arrives > leaves:
                    item.part = "leaves"
                    keyed.append(((leaves, *key[1:]), item))
                    arrival = Item(late.got.order, late.got.at, item.flights, part="arrives")
                    keyed.append(((arrives, *key[1:]), arrival))
                else:
                    keyed.append((key, item))
    ordered = [item for _, item in sorted(keyed, key=lambda pair: pair[0])]
    return _with_faults(ordered, recorders, roots)


# -- what clients did ------------------------------------------------------------------------------


def _roots(
    recorders: Sequence[Recorder], flights: Sequence[Flight], episodes: Episodes
) -> list[Item]:
    """What nobody else caused: the clients' packets, time-outs, notes, ends of connections."""
    items = [Item(f.first.order, f.first.at, [f]) for f in flights if f.to_server]
    known = {(f.conn, f.episode, f.packet) for f in flights if f.packet != "event"}
    ends: dict[str, list[Item]] = {}
    servers: list[Entry] = []
    for recorder in recorders:
        for entry in recorder.entries:
            conn = entry.conn or recorder.name
            episode = episodes.of(conn, entry.order)
            if entry.kind == "disconnected" and (conn, episode, "disconnect") not in known:
                if recorder.role == "server":
                    servers.append(entry)
                else:
                    ends.setdefault(conn, []).append(_mark(entry))
            elif recorder.role == "client" and _is_news(entry, conn, episode, known):
                items.append(_mark(entry))
    for entry in servers:
        same = next(
            (
                item
                for item in ends.get(entry.conn or "", ())
                if len(item.entries) == 1 and abs(item.at - entry.at) < _SAME_MOMENT
            ),
            None,
        )
        if same is not None:
            same.entries.append(entry)
        else:
            items.append(_mark(entry))
    items += [item for found in ends.values() for item in found]
    return sorted(items, key=lambda item: item.order)


def _is_news(entry: Entry, conn: str, episode: int, known: set[tuple[str, int, str]]) -> bool:
    """Whether a client's entry says more than the packets beside it."""
    if entry.kind == "connected":
        return (conn, episode, "connect") not in known
    if entry.kind == "refused":
        return (conn, episode, "connect_error") not in known
    return entry.kind in ("timeout", "note")


def _mark(entry: Entry) -> Item:
    return Item(entry.order, entry.at, entries=[entry])


# -- what servers made of it -----------------------------------------------------------------------


def _effects(
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
    heard = any(f.to_server and f.got is not None for f in flights)
    for flight in flights:
        if flight.to_server:
            continue
        if flight.request is not None and flight.request in owner:
            cause: Item | None = owner[flight.request]
        else:
            possible = [r for r in roots if _may_cause(r, heard)]
            cause = _cause(flight, possible, answers, children)
        if cause is None:
            loose.append(Item(flight.first.order, flight.first.at, [flight]))
            continue
        groups.setdefault(cause, []).append(flight)
        children.setdefault(cause, set()).add((flight.name, flight.conn))
    for recorder in recorders:
        for entry in recorder.entries if recorder.role == "server" else ():
            if entry.kind != "note":
                continue
            before = [r for r in roots if _may_cause(r, heard) and _reached(r) < entry.order]
            cause = max(before, key=_reached, default=None)
            if cause is None:
                loose.append(_mark(entry))
            else:
                groups.setdefault(cause, []).append(entry)
    return [(cause, _canonical(members, lanes)) for cause, members in groups.items()], loose


def _reached(item: Item) -> int:
    """When the server knew of it."""
    if item.flights:
        flight = item.flights[0]
        return flight.got.order if flight.got is not None else flight.last.order
    return min(e.order for e in item.entries)


def _cause(
    flight: Flight,
    roots: Iterable[Item],
    answers: dict[tuple[str, int, int | None], int],
    children: dict[Item, set[tuple[Any, ...]]],
) -> Item | None:
    """What made the server send this: the latest arrival, or one of a burst with the same words."""
    order, at = flight.first.order, flight.first.at
    before = [r for r in roots if _reached(r) < order]
    if not before:
        return None
    latest = max(before, key=_reached)
    if flight.packet in ("connect", "connect_error"):
        own = [r for r in before if r.flights and r.flights[0].conn == flight.conn]
        return max(own, key=_reached, default=latest)

    def is_open(item: Item) -> bool:
        answered = answers.get(_question(item.flights[0])) if item.flights else None
        return (answered is None or answered > latest.order) and at - item.at < LATE

    words = _leaves(flight.data)
    score = {r: len(words & _words_of(r)) for r in before}
    alike = {r for r in before if _name(r) == _name(latest) != ""}
    # What was answered before the latest arrival counts only where it fits better than that.
    near = [r for r in before if is_open(r) or (r in alike and score[r] > score[latest])]
    best = {r for r in near or [latest] if score[r] == max(score[n] for n in near or [latest])}
    free = [r for r in best & alike if (flight.name, flight.conn) not in children.get(r, ())]
    return min(free, key=_reached) if latest in best and free else max(best, key=_reached)


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
    """One turn of a server: acks first, then broadcasts, each broadcast as one; notes in place."""
    notes = sorted(m.order for m in members if isinstance(m, Entry))
    lane = {name: n for n, name in enumerate(lanes)}

    def rank(member: Flight | Entry) -> tuple[Any, ...]:
        if isinstance(member, Entry):
            return (notes.index(member.order), 1)
        first = member.sent or member.first
        segment = sum(n < first.order for n in notes)
        answer = member.packet != "event"
        return (
            segment,
            0,
            not answer,
            member.name or "",
            repr(member.data),
            lane.get(member.conn, 0),
        )

    items: list[Item] = []
    for member in sorted(members, key=rank):
        if isinstance(member, Entry):
            items.append(_mark(member))
        elif items and _is_copy(member, items[-1]):
            items[-1].flights.append(member)
        else:
            items.append(Item(member.first.order, member.first.at, [member]))
    return items


def _is_copy(flight: Flight, item: Item) -> bool:
    """Whether this is the same broadcast to one more receiver."""
    if not item.flights or flight.packet != "event":
        return False
    first = item.flights[0]
    same = first.packet == "event" and (first.name, first.data) == (flight.name, flight.data)
    server = (first.sent and first.sent.actor) == (flight.sent and flight.sent.actor)
    once = flight.conn not in {f.conn for f in item.flights}
    return same and server and once and (flight.delay >= LATE) == (first.delay >= LATE)


def _turns(items: Sequence[Item]) -> list[list[Item]]:
    """Parted where the server rested: what it sends much later is shown later."""
    by_time = sorted(items, key=lambda item: item.at)
    breaks = [b.at for a, b in itertools.pairwise(by_time) if b.at - a.at > LATE]
    turns: dict[int, list[Item]] = {}
    for item in items:
        turns.setdefault(sum(item.at >= b for b in breaks), []).append(item)
    return [turns[n] for n in sorted(turns)]


# -- where it goes ---------------------------------------------------------------------------------


def _last_seen(item: Item) -> int:
    if item.flights:
        return min(f.last.order for f in item.flights)
    return item.order


def _slot(roots: Sequence[Item], order: int) -> int:
    """The place of the first root that happened after `order`."""
    return next((n for n, item in enumerate(roots) if item.order > order), len(roots))


def _is_late(flight: Flight, roots: Iterable[Item]) -> bool:
    """Whether something else happened while the packet was under way for long."""
    if flight.delay < LATE or flight.sent is None or flight.got is None:
        return False
    since, until = flight.sent.at + 0.9 * LATE, flight.got.order
    return any(r.at > since and r.order < until and flight not in r.flights for r in roots)


# -- what wires did --------------------------------------------------------------------------------


def _with_faults(
    items: list[Item], recorders: Sequence[Recorder], roots: Iterable[Item]
) -> list[Item]:
    """Put each wire's mute, cut, heal and notes between what passed before and what came after."""
    fixed = set(roots)
    for recorder in recorders:
        if recorder.role != "wire":
            continue
        carried = {f.conn for i in items for f in i.flights if recorder.name in f.wires}
        floor = 0
        for entry in recorder.entries:
            if entry.kind in ("mute", "cut", "heal", "note"):
                items = _insert(items, entry, carried, fixed, floor)
                floor = next(n for n, i in enumerate(items) if entry in i.entries) + 1
    return items


def _insert(
    items: list[Item], fault: Entry, carried: set[str], fixed: set[Item], floor: int
) -> list[Item]:
    """Put one fault in its place, not above `floor`."""

    def seen(item: Item) -> list[int]:
        one_way = fault.to_server
        return [
            f.wires[fault.actor].order
            for f in item.flights
            if fault.actor in f.wires and (one_way is None or f.to_server == one_way)
        ]

    passed = {i for i in items if seen(i) and max(seen(i)) < fault.order}
    last_sent = max((i.order for i in passed if i.flights[0].to_server), default=fault.order)

    def is_after(item: Item) -> bool:
        if seen(item):
            return max(seen(item)) > fault.order
        if fault.kind == "heal" or not item.flights or item.flights[0].conn not in carried:
            return False
        # Never seen by the wire, and sent after what the wire had seen.
        flight = item.flights[0]
        return flight.to_server and not flight.wires and item.order > last_sent

    after = next((n for n, i in enumerate(items) if is_after(i)), len(items))
    before = max((n + 1 for n, i in enumerate(items) if i in passed), default=0)
    in_time = (n for n, i in enumerate(items) if i in fixed and i.order > fault.order)
    place = max(floor, min(after, max(before, next(in_time, len(items)))))
    # An answer that came through before the fault is shown before it.
    moved = [i for i in items[place:] if i in passed and not i.flights[0].to_server]
    rest = [i for i in items[place:] if i not in moved]
    return [*items[:place], *moved, _mark(fault), *rest]
