"""From the records of several actors to the journeys of single packets.

What one actor sent, a wire passed or swallowed and another received becomes one `Flight`. In which
order flights are shown, and how, is not decided here.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatlab.lab.recorder import Entry, Recorder

__all__ = ["LATE", "Episodes", "Flight", "find_flights"]

# Seconds. Later than this counts as late: loopback takes a hundredth of it, a busy machine seldom
# half, and the delays and pauses of lessons begin at 0.2.
LATE = 0.18


@dataclass(slots=True, eq=False)
class Flight:
    """One packet on its way over one connection.

    `sent` and `got` are the entries of the actors at the ends, None where nobody recorded one;
    `wires` those of the wires between, `request` the flight that an ack answers. `episode` counts
    the connections that the client made. `inner` marks what servers say to each other.
    """

    conn: str
    episode: int
    to_server: bool
    packet: str
    name: str | None
    data: Any
    id: int | None
    sent: Entry | None = None
    wires: dict[str, Entry] = field(default_factory=dict)
    got: Entry | None = None
    request: Flight | None = None
    inner: bool = False

    @property
    def first(self) -> Entry:
        """The earliest entry on the way."""
        return next(e for e in (self.sent, *self.wires.values(), self.got) if e is not None)

    @property
    def last(self) -> Entry:
        """The entry at which it was seen last: on arrival, or where it was swallowed."""
        return next(
            e for e in (self.got, *reversed(self.wires.values()), self.sent) if e is not None
        )

    @property
    def dropped_by(self) -> str | None:
        """The name of the wire that swallowed it."""
        return next((name for name, e in self.wires.items() if e.kind == "drop"), None)

    @property
    def delay(self) -> float:
        """Seconds from leaving to arriving; 0 where one of them is not known."""
        return self.got.at - self.sent.at if self.sent and self.got else 0.0


class Episodes:
    """Which of a client's connections an entry belongs to: a client may come back.

    A connection begins where the client began to connect, by its own record or else by the record
    of whoever saw it; what comes before any is episode 0.
    """

    def __init__(self, recorders: Iterable[Recorder]) -> None:
        self._starts: dict[str, list[int]] = {}
        recorders = list(recorders)
        for role, kind in (("client", "send"), ("wire", "pass"), ("server", "receive")):
            found: dict[str, list[int]] = {}
            for recorder in recorders:
                for entry in recorder.entries if recorder.role == role else ():
                    opens = entry.packet == "connect" and entry.kind == kind
                    if opens and is_to_server(entry, recorder):
                        found.setdefault(entry.conn or recorder.name, []).append(entry.order)
            for conn, orders in found.items():
                self._starts.setdefault(conn, sorted(orders))

    def of(self, conn: str, order: int) -> int:
        """The number of the connection of `conn` that was open at `order`."""
        return bisect.bisect_right(self._starts.get(conn, []), order)


def is_to_server(entry: Entry, recorder: Recorder) -> bool:
    """Which way a packet travels, also where its entry does not say."""
    if entry.to_server is not None:
        return entry.to_server
    return (entry.kind == "send") == (recorder.role == "client")


def find_flights(recorders: Sequence[Recorder], episodes: Episodes) -> list[Flight]:
    """Every packet that the recorders know of, in the order of each one's first entry."""
    entries: dict[tuple[str, int, bool], list[Entry]] = {}
    for recorder in recorders:
        for entry in recorder.entries:
            if entry.packet is None or entry.kind not in ("send", "receive", "pass", "drop"):
                continue
            conn = entry.conn or recorder.name
            journey = (conn, episodes.of(conn, entry.order), is_to_server(entry, recorder))
            entries.setdefault(journey, []).append(entry)
    roles = {r.name: r.role for r in recorders}
    found: list[Flight] = []
    for (conn, episode, to_server), seen in entries.items():
        found += _align(conn, episode, to_server, seen, roles)
    _find_requests(found)
    for flight in found:
        flight.inner = roles.get(flight.conn) == "server"
    return sorted(found, key=lambda f: f.first.order)


def _align(
    conn: str, episode: int, to_server: bool, seen: list[Entry], roles: Mapping[str, str]
) -> list[Flight]:
    """Follow one direction of one connection, which keeps its order but may lose packets."""
    flights: list[Flight] = []
    by_actor: dict[str, list[Entry]] = {}
    for entry in sorted(seen, key=lambda e: e.order):
        by_actor.setdefault(entry.actor, []).append(entry)
    rank = {"client": 0, "wire": 1, "server": 2}
    stations = sorted(by_actor, key=lambda a: rank[roles[a]] if to_server else -rank[roles[a]])
    for actor in stations:
        place = 0
        for entry in by_actor[actor]:
            at = next(
                (n for n in range(place, len(flights)) if _is_same(flights[n], entry, actor)), None
            )
            if at is None:
                # Seen here first: whoever sent it has no record of it.
                flights.insert(
                    place,
                    Flight(
                        conn,
                        episode,
                        to_server,
                        entry.packet or "",
                        entry.name,
                        entry.data,
                        entry.id,
                    ),
                )
                at = place
            _note(flights[at], entry)
            place = at + 1
    return flights


def _is_same(flight: Flight, entry: Entry, actor: str) -> bool:
    return (
        flight.packet == entry.packet
        and (flight.name == entry.name or flight.name is None or entry.name is None)
        and (flight.id == entry.id or flight.id is None or entry.id is None)
        and (flight.data is None or entry.data is None or _plain(flight.data) == _plain(entry.data))
        and flight.got is None
        and actor not in flight.wires
        and (entry.kind != "receive" or flight.dropped_by is None)
    )


def _plain(value: Any) -> Any:
    """`value` as it looks after JSON, which knows no tuples and only text as keys."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _note(flight: Flight, entry: Entry) -> None:
    if entry.kind == "send":
        flight.sent = entry
    elif entry.kind == "receive":
        flight.got = entry
    else:
        flight.wires[entry.actor] = entry
    if flight.name is None:
        flight.name = entry.name
    if flight.data is None:
        flight.data = entry.data
    if flight.id is None:
        flight.id = entry.id


def _find_requests(flights: Iterable[Flight]) -> None:
    """Give each ack the event that it answers, and that event's name."""
    asked: dict[tuple[str, int, bool, int | None], Flight] = {
        (f.conn, f.episode, f.to_server, f.id): f
        for f in flights
        if f.packet == "event" and f.id is not None
    }
    for flight in flights:
        if flight.packet == "ack":
            flight.request = asked.get(
                (flight.conn, flight.episode, not flight.to_server, flight.id)
            )
            if flight.request is not None and flight.name is None:
                flight.name = flight.request.name
