"""The rules about sequence: do all receivers agree on the order, and is anything left out.

The order itself is compared in `history_order.py`; here is what counts as a receiver and what the
room's `seq` adds. Which faults there are besides is in `history_rules.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from chatlab.lab.history_events import Delivered
from chatlab.lab.history_match import Match
from chatlab.lab.history_model import Digest, Ident, View, ident
from chatlab.lab.history_order import Disagreement, disagreements
from chatlab.lab.history_report import Found

__all__ = ["gaps", "out_of_order"]

Room = tuple[str, str | None]
"""A room, and where its log began anew the epoch: seqs of two epochs cannot be compared."""


# --- out of order ------------------------------------------------------------------------------


def out_of_order(seen: Digest, matched: Match) -> Iterator[Found]:
    """What two receivers, or a receiver and the log's numbers, do not agree on."""
    orders: dict[Room, dict[str, list[Delivered]]] = defaultdict(dict)
    for view in seen.views:
        for epoch, stretch in zip(view.epochs, view.stretches(), strict=True):
            room = (view.room, epoch if view.room in seen.anew else None)
            orders[room][_free(view.client, orders[room])] = _once(stretch, matched)
    for room, receivers in orders.items():
        log, conflicts = _log(room, receivers, seen)
        yield from conflicts
        by_name = {ident(m): m for messages in receivers.values() for m in messages}
        names: dict[str, list[Ident]] = {
            client: [ident(m) for m in messages] for client, messages in receivers.items()
        }
        reference = max(names, key=lambda client: len(names[client]))
        if log:
            reference = _LOG
            names[_LOG] = [name for _, name in sorted((seq, name) for name, seq in log.items())]
        for disagreement in disagreements(names, reference):
            yield _told(disagreement, by_name, room[0])
    yield from _backwards(seen)


_LOG = "the room's seq"


def _free(client: str, taken: Mapping[str, object]) -> str:
    # A client that left and came back, or was told of a new log, counts as another receiver.
    name, number = client, 2
    while name in taken:
        name, number = f"{client} (again, {number})", number + 1
    return name


def _client(receiver: str) -> str:
    return receiver.split(" (again, ", maxsplit=1)[0]


def _once(messages: Iterable[Delivered], matched: Match) -> list[Delivered]:
    """Each message where it was seen first; without those that cannot be told apart."""
    found: dict[Ident, Delivered] = {}
    for message in messages:
        name = ident(message)
        sends = matched.sends.get(name)
        if sends is not None and (message.id is not None or len(sends) == 1):
            found.setdefault(name, message)
    return list(found.values())


def _log(
    room: Room, receivers: Mapping[str, list[Delivered]], seen: Digest
) -> tuple[dict[Ident, int], list[Found]]:
    """The seq of each message, and whatever has two seqs or shares one with another."""
    places: dict[Ident, int] = {}
    holders: dict[int, Ident] = {}
    found: list[Found] = []
    claims: list[tuple[Ident, int, str]] = []
    if room[0] not in seen.anew:
        claims += [
            ((send.room, ack.id), ack.seq, ack.client)
            for send in seen.sends
            if send.room == room[0]
            for _, ack in send.oks[:1]
            if ack.id is not None and ack.seq is not None
        ]
    for receiver, messages in receivers.items():
        client = _client(receiver)
        claims += [(ident(m), m.seq, client) for m in messages if m.seq is not None]
    told: set[Ident] = set()
    for name, seq, client in claims:
        place, holder = places.setdefault(name, seq), holders.setdefault(seq, name)
        if (place != seq or holder != name) and name not in told:
            told.add(name)
            what = f"was #{place}" if place != seq else "is another message"
            text = f"#{seq} of {room[0]}, as {client} was told, {what} for others"
            found.append(
                Found("out of order", text, (name, holder), clients=(client,), room=room[0])
            )
    return places, found


def _told(fault: Disagreement, messages: Mapping[Ident, Delivered], room: str) -> Found:
    names: list[Ident] = [fault.first, fault.second]  # type: ignore[list-item]
    first, second = (str(messages.get(name, name[1])) for name in names)
    by = _LOG if fault.one == _LOG else f"{fault.one} saw"
    text = (
        f"{fault.other} saw {second} before {first} in {room}; "
        + (f"by {_LOG} it is the reverse" if fault.one == _LOG else f"{by} {first} first")
        + (f" ({fault.moved} of its messages are out of place)" if fault.moved > 1 else "")
    )
    clients = tuple(_client(name) for name in (fault.one, fault.other) if name != _LOG)
    return Found("out of order", text, tuple(names), clients=clients, room=room, count=fault.moved)


def _backwards(seen: Digest) -> Iterator[Found]:
    """On one connection the server sends a room's messages in the order of their seq."""
    for (client, room, _, _), arrivals in seen.wire.items():
        known = seen.clients.get(client)
        if known is None or not known.shows or room in seen.anew:
            continue
        newest: Delivered | None = None
        for event in arrivals:
            got = event.message
            if got.seq is None:
                continue
            if newest is not None and newest.seq is not None and got.seq < newest.seq:
                text = f"{client} was sent {got} of {room} behind {newest}"
                yield Found(
                    "out of order", text, (ident(newest), ident(got)), clients=(client,), room=room
                )
            else:
                newest = got


# --- gap ---------------------------------------------------------------------------------------


def gaps(seen: Digest, matched: Match) -> Iterator[Found]:
    """The seqs that a receiver's stream leaves out, and was not told of."""
    stored = _stored(seen, matched)
    acked = defaultdict(set)
    for send in seen.sends:
        for _, ack in send.oks:
            acked[send.room].add(ack.seq)
    for view in seen.views:
        for start, had, last in _had(view, matched):
            if not had and start is None:
                continue
            first = min(had) if start is None else start + 1
            missing = [seq for seq in range(first, last) if seq not in had]
            if view.at_end and view.room not in seen.anew:
                # Of what is acked and behind the last one shown, `lost` speaks.
                behind = {seq for seq in stored[view.room] if seq > max(last, first - 1)} - had
                missing += sorted(behind - acked[view.room])
            for low, high in _runs(seq for seq in missing if not _told_of(view, seq)):
                what = f"#{low}" if low == high else f"#{low} to #{high}"
                names = tuple(
                    stored[view.room][seq]
                    for seq in range(low, high + 1)
                    if seq in stored[view.room]
                )
                text = f"{view.client} never saw {what} of {view.room}, and was not told of it"
                yield Found(
                    "gap",
                    text,
                    names[:3],
                    clients=(view.client,),
                    room=view.room,
                    count=high - low + 1,
                )


def _stored(seen: Digest, matched: Match) -> dict[str, dict[int, Ident]]:
    """By room and seq, what anybody saw."""
    found: dict[str, dict[int, Ident]] = defaultdict(dict)
    for view in seen.views:
        for _, _, event in view.items:
            if event.message.seq is not None and matched.knows(event.message):
                found[view.room].setdefault(event.message.seq, ident(event.message))
    return found


def _had(view: View, matched: Match) -> Iterator[tuple[int | None, set[int], int]]:
    """For each stretch behind which seq it begins, the seqs that the client has, and the last.

    An ack may overtake what lies before it: of a client that did not stay, the last is what came.
    """
    starts: list[int | None] = [view.start]
    starts += [told.resumes - 1 for _, told in view.told if told.missing is None]
    fetched, own = set[int](), set[int]()
    if not view.shows:
        fetched = {m.seq for m in view.fetched if m.seq is not None and matched.knows(m)}
        own = {ack.seq for _, ack in view.own if ack.seq is not None}
    for start, messages in zip(starts, view.stretches(), strict=True):
        came = fetched | {m.seq for m in messages if m.seq is not None and matched.knows(m)}
        had = {seq for seq in came | own if start is None or seq > start}
        yield start, had, max(had if view.at_end else had & came, default=start or 0)


def _told_of(view: View, seq: int) -> bool:
    return any(told.after < seq < told.resumes for _, told in view.told)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    low = high = None
    for number in numbers:
        if low is None or high is None or number != high + 1:
            if low is not None and high is not None:
                yield low, high
            low = number
        high = number
    if low is not None and high is not None:
        yield low, high
