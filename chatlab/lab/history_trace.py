"""The evidence for a fault: of all events the few that concern it, in order.

One pass over the history serves all faults that are to be shown. What a fault is, is not known
here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from chatlab.lab import history_events as ev
from chatlab.lab.history_model import Ident, Send, ident

__all__ = ["Found", "traces"]

_LONGEST = 24  # lines of a trace
_NEAR = 12  # of which so many say where the client was


@dataclass(frozen=True, slots=True)
class Found:
    """A fault and whom it concerns: messages, sends, and the clients who saw or missed them."""

    kind: str
    sentence: str
    idents: tuple[Ident, ...] = ()
    sends: tuple[Send, ...] = ()
    clients: tuple[str, ...] = ()
    room: str = ""
    count: int = 1


def traces(found: Sequence[Found], events: Sequence[ev.Event]) -> list[tuple[ev.Event, ...]]:
    """For each fault the events that prove it, at most 24, in the order of the history."""
    by_ident: dict[Ident, list[int]] = defaultdict(list)
    by_send: dict[tuple[str, int], list[int]] = defaultdict(list)
    by_client: dict[str, list[int]] = defaultdict(list)
    for number, fault in enumerate(found):
        for name in {*fault.idents, *(name for send in fault.sends for name in send.idents)}:
            by_ident[name].append(number)
        for send in fault.sends:
            for attempt in send.attempts:
                by_send[attempt.client, attempt.send].append(number)
        for client in fault.clients:
            by_client[client].append(number)
    core: list[list[tuple[int, ev.Event]]] = [[] for _ in found]
    life: list[list[tuple[int, ev.Event]]] = [[] for _ in found]
    for order, event in enumerate(events):
        if isinstance(event, ev.Arrived | ev.Shown | ev.Fetched):
            for number in by_ident.get(ident(event.message), ()):
                core[number].append((order, event))
        elif isinstance(event, ev.Sent | ev.Acked):
            for number in by_send.get((event.client, event.send), ()):
                core[number].append((order, event))
        elif not isinstance(event, ev.Permit | ev.Note | ev.Client | ev.End):
            for number in by_client.get(getattr(event, "client", ""), ()):
                if getattr(event, "room", found[number].room) == found[number].room:
                    life[number].append((order, event))
    return [
        _together(_concerning(fault, seen), where)
        for fault, seen, where in zip(found, core, life, strict=True)
    ]


def _concerning(fault: Found, seen: list[tuple[int, ev.Event]]) -> list[tuple[int, ev.Event]]:
    """The sends, and what the fault's own clients saw; of others' views the first two."""
    own, others = [], []
    for order, event in seen:
        is_send = isinstance(event, ev.Sent | ev.Acked)
        if is_send or not fault.clients or getattr(event, "client", "") in fault.clients:
            own.append((order, event))
        elif not isinstance(event, ev.Fetched):
            others.append((order, event))
    return own[: _LONGEST - _NEAR] + ([] if fault.kind == "out of order" else others[:2])


def _together(
    core: list[tuple[int, ev.Event]], life: list[tuple[int, ev.Event]]
) -> tuple[ev.Event, ...]:
    middle = core[len(core) // 2][0] if core else 0
    near = sorted(life, key=lambda pair: abs(pair[0] - middle))[:_NEAR]
    return tuple(event for _, event in sorted(core + near, key=lambda pair: pair[0]))
