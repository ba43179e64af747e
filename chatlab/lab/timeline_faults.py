"""Puts what a wire did into a timeline: after what it had let through, before what it had not.

The wire's thread and the client's race; what the wire recorded of each packet decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.timeline_items import Item, mark

__all__ = ["with_faults"]


def with_faults(
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
    return [*items[:place], *moved, mark(fault), *rest]
