"""Whether several receivers saw the same messages in one order, and if not, which two prove it.

It works on names alone, with or without a log's own numbering. Every receiver is compared with one
reference; only where that cannot tell are all of them compared with each other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

__all__ = ["Disagreement", "disagreements"]

Orders = Mapping[str, Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """`one` saw `first` before `second`, `other` the reverse.

    `moved` is the least number of messages that `other` would have to move to agree with `one`.
    """

    one: str
    other: str
    first: Hashable
    second: Hashable
    moved: int


def disagreements(orders: Orders, reference: str) -> list[Disagreement]:
    """Compare each of `orders` (receiver: messages, none twice) with the one named `reference`.

    Where none differs from it, receivers may still disagree on messages that it lacks: then, and
    only when no single order fits everybody, they are compared pair by pair. Takes time
    proportional to the number of deliveries (times its logarithm where there are faults).
    """
    found = [
        fault
        for name, order in orders.items()
        if name != reference
        for fault in _compare(reference, orders[reference], name, order)
    ]
    if found or _one_order_fits(orders):
        return found
    return [
        fault
        for one, other in combinations(orders, 2)
        for fault in _compare(one, orders[one], other, orders[other])
    ]


def _compare(
    one: str, reference: Sequence[Hashable], other: str, order: Sequence[Hashable]
) -> Iterator[Disagreement]:
    places = {name: place for place, name in enumerate(reference)}
    common = [name for name in order if name in places]
    at = [places[name] for name in common]
    descents = [i for i, (here, there) in enumerate(pairwise(at)) if here > there]
    if descents:
        # The neighbours whose places differ least: the smallest proof there is among neighbours.
        least = min(descents, key=lambda i: at[i] - at[i + 1])
        moved = len(at) - _longest_rise(at)
        yield Disagreement(one, other, common[least + 1], common[least], moved)


def _longest_rise(numbers: Sequence[int]) -> int:
    """The length of the longest increasing subsequence (patience sorting)."""
    tops: list[int] = []
    for number in numbers:
        pile = bisect_left(tops, number)
        tops[pile : pile + 1] = [number]
    return len(tops)


def _one_order_fits(orders: Orders) -> bool:
    """Whether some order of all messages contains every receiver's (Kahn, 1962)."""
    behind: dict[Hashable, list[Hashable]] = defaultdict(list)
    before: dict[Hashable, int] = {}
    for order in orders.values():
        for name in order:
            before.setdefault(name, 0)
        for first, second in pairwise(order):
            behind[first].append(second)
            before[second] += 1
    ready = deque(name for name, count in before.items() if not count)
    placed = 0
    while ready:
        name = ready.popleft()
        placed += 1
        for later in behind[name]:
            before[later] -= 1
            if not before[later]:
                ready.append(later)
    return placed == len(before)
