"""Puts what happened into an order that is the same in every run.

What clients did keeps its order. What a server answered is grouped with its cause and put where the
client had seen the first of it, so that two threads that race do not change the drawing.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.timeline_faults import with_faults
from chatlab.lab.timeline_flights import LATE, Episodes, Flight
from chatlab.lab.timeline_items import Item, breaks, find_effects, mark, turns

__all__ = ["arrange"]

_SAME_MOMENT = 1.0  # seconds in which both ends notice that a connection is gone


def arrange(
    recorders: Sequence[Recorder], flights: Sequence[Flight], episodes: Episodes, lanes: list[str]
) -> list[Item]:
    """Every row, from top to bottom. `lanes` are the actors' names from left to right."""
    roots = _roots(recorders, flights, episodes)
    effects, loose = find_effects(recorders, flights, roots, lanes)
    rests = _rests([item for _, members in effects for item in members])
    roots = sorted([*roots, *loose], key=lambda item: item.order)
    keyed: list[tuple[tuple[int, ...], Item]] = []
    place = {item: n for n, item in enumerate(roots)}
    for item in roots:
        keyed.append(((place[item], 1), item))
        late = item.flights[0] if item.flights and _is_late(item.flights[0], roots) else None
        if late is not None and late.got is not None:
            item.part = "leaves"
            arrival = Item(late.got.order, late.got.at, [late], part="arrives")
            rest = bisect.bisect_right(rests, late.got.at)
            keyed.append(((_slot(roots, late.got.order), 0, rest, place[item]), arrival))
    for cause, members in effects:
        for turn, together in enumerate(turns(members)):
            # A turn goes where the first of it had been seen: what a slow thread of some receiver
            # saw last does not move it.
            seen = min(_last_seen(item) for item in together)
            slot = max(_slot(roots, seen), place[cause] + 1)
            # Two causes' effects are told apart by their causes only where they come together.
            rest = bisect.bisect_right(rests, min(item.at for item in together))
            for number, item in enumerate(together):
                key = (place[cause], 1, turn, number)
                late = next((f for f in item.flights if _is_late(f, roots)), None)
                # What servers say to each other stays with what led to it.
                inner = late is not None and late.inner
                leaves = (slot if inner else min(slot, _slot(roots, item.order)), 0, rest)
                if late is not None and late.got is not None:
                    then = bisect.bisect_right(rests, late.got.at)
                    arrives = (_slot(roots, late.got.order), 0, then)
                    if arrives[0] > leaves[0] or (late.inner and arrives > leaves):
                        item.part = "leaves"
                        arrival = Item(late.got.order, late.got.at, item.flights, part="arrives")
                        keyed += [((*leaves, *key), item), ((*arrives, *key), arrival)]
                        continue
                keyed.append(((slot, 0, rest, *key), item))
    if any(f.inner for f in flights):
        keyed = _as_received(keyed)
    ordered = [item for _, item in sorted(keyed, key=lambda pair: pair[0])]
    return with_faults(ordered, recorders, roots)


# -- what clients did ------------------------------------------------------------------------------


def _roots(
    recorders: Sequence[Recorder], flights: Sequence[Flight], episodes: Episodes
) -> list[Item]:
    """What nobody else caused: the clients' packets, time-outs, notes, ends of connections."""
    items = [Item(f.first.order, f.first.at, [f]) for f in flights if f.to_server and not f.inner]
    known = {(f.conn, f.episode, f.packet) for f in flights if f.packet != "event"}
    ends: dict[str, list[Item]] = {}
    servers: list[Entry] = []
    for recorder in recorders:
        for entry in recorder.entries:
            conn = entry.conn or recorder.name
            episode = episodes.of(conn, entry.order)
            if entry.kind == "disconnected":
                # A goodbye tells it already, and a refused connection never was one.
                if known & {(conn, episode, "disconnect"), (conn, episode, "connect_error")}:
                    continue
                if recorder.role == "server":
                    servers.append(entry)
                else:
                    ends.setdefault(conn, []).append(mark(entry))
            elif recorder.role == "client" and _is_news(entry, conn, episode, known):
                items.append(mark(entry))
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
            items.append(mark(entry))
    items += [item for found in ends.values() for item in found]
    return sorted(items, key=lambda item: item.order)


def _is_news(entry: Entry, conn: str, episode: int, known: set[tuple[str, int, str]]) -> bool:
    """Whether a client's entry says more than the packets beside it."""
    if entry.kind == "connected":
        return (conn, episode, "connect") not in known
    if entry.kind == "refused":
        return (conn, episode, "connect_error") not in known
    return entry.kind in ("timeout", "note")


# -- where it goes ---------------------------------------------------------------------------------


def _last_seen(item: Item) -> int:
    if item.flights:
        return min(f.last.order for f in item.flights)
    return item.order


def _as_received(
    keyed: Sequence[tuple[tuple[int, ...], Item]],
) -> list[tuple[tuple[int, ...], Item]]:
    """Let nothing stand above what came before it on the same connection.

    Where several servers send, the order in which a client gets it is what is to be seen, also
    where they were so quick that the causes alone would decide.
    """
    latest: dict[tuple[str, bool], tuple[int, ...]] = {}
    moved: list[tuple[tuple[int, ...], Item]] = []
    for key, item in sorted(keyed, key=lambda pair: pair[1].order):
        served = [f for f in item.flights if f.packet == "event" and (f.inner or not f.to_server)]
        if served and item.part != "arrives":
            ways = [(f.conn, f.to_server) for f in served]
            above = max((latest[way] for way in ways if way in latest), default=key)
            key = (*above, 1) if above > key else key
            latest |= dict.fromkeys(ways, key)
        moved.append((key, item))
    return moved


def _rests(items: Sequence[Item]) -> list[float]:
    """The ends of the pauses in which servers sent nothing: what comes after was seen after."""
    got = [f.got for item in items for f in item.flights if f.inner and f.got is not None]
    return breaks([*(item.at for item in items), *(entry.at for entry in got)])


def _slot(roots: Sequence[Item], order: int) -> int:
    """The place of the first root that happened after `order`."""
    return bisect.bisect_right(roots, order, key=lambda item: item.order)


def _is_late(flight: Flight, roots: Iterable[Item]) -> bool:
    """Whether something else happened while the packet was under way for long."""
    if flight.delay < LATE or flight.sent is None or flight.got is None:
        return False
    if flight.inner:
        return True
    since, until = flight.sent.at + 0.9 * LATE, flight.got.order
    return any(r.at > since and r.order < until and flight not in r.flights for r in roots)
