"""The check of exercise 07's stretch: from a profile to the part that is worth work.

Small profiles, each with one thing in it that is easily judged wrongly. The lab's own profiler is
`chatlab.lab.profile`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chatlab.lab.checks import check, expect, written

__all__ = ["finds_the_bottleneck"]

Look = tuple[float, tuple[str, ...]]
Bottleneck = Callable[[list[Look], dict[str, str]], Any]

PARTS: Final = {
    "select": "waiting",
    "send": "kernel",
    "recv": "kernel",
    "handle": "chat",
    "deliver": "chat",
    "loads": "JSON",
    "dumps": "JSON",
    "check": "validation",
    "append": "log",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A profile, and what to say when it is judged otherwise."""

    what: str
    profile: list[Look]
    remedy: str


CASES: Final = (
    Case(
        "when `dumps` took 3 of 4 seconds",
        [
            (1.0, ("run", "dumps")),
            (1.0, ("run", "dumps")),
            (1.0, ("run", "recv")),
            (1.0, ("run", "dumps")),
        ],
        "JSON is the bottleneck, and without it one second is left of four: ('JSON', 4.0)",
    ),
    Case(
        "when `handle` took a second itself and called `send`, which took two",
        [
            (1.0, ("run", "handle")),
            (1.0, ("run", "handle", "deliver", "send")),
            (1.0, ("run", "handle", "deliver", "send")),
            (1.0, ("run", "loads")),
        ],
        "the last function of a stack is the one at work: those before it wait for it",
    ),
    Case(
        "when the server had nothing to do for three of six seconds",
        [
            (1.0, ("run", "select")),
            (1.0, ("run", "select")),
            (1.0, ("run", "recv")),
            (1.0, ("run", "handle", "check")),
            (1.0, ("run", "recv")),
            (1.0, ("run", "select")),
        ],
        "waiting costs nothing and is no part: leave it out, of the sum as well",
    ),
    Case(
        "when one look was at a second of `append`, and three at a tenth of `send` each",
        [
            (1.0, ("run", "handle", "append")),
            (0.1, ("run", "send")),
            (0.1, ("run", "send")),
            (0.1, ("run", "send")),
        ],
        "add up the seconds, not the looks",
    ),
    Case(
        "when most of the time was in `escape`, which no part names and `dumps` had called",
        [
            (0.5, ("run", "handle", "dumps")),
            (2.0, ("run", "handle", "dumps", "encode", "escape")),
            (1.0, ("run", "handle", "check")),
            (0.5, ("run", "handle", "check", "match")),
        ],
        "a function without a part works for whoever called it: go back until one has a part",
    ),
    Case(
        "when `loads` and `dumps` each took less than `append`, and together more",
        [
            (1.0, ("run", "handle", "loads")),
            (1.5, ("run", "handle", "append")),
            (1.0, ("run", "handle", "dumps")),
            (0.5, ("run", "send")),
        ],
        "add up what belongs to one part: `loads` and `dumps` are both JSON",
    ),
    Case(
        "when most of the time was in `run`, which belongs to no part and to no caller of one",
        [(2.0, ("run",)), (1.5, ("run", "handle", "append")), (0.5, ("run", "send"))],
        "what belongs to no part is work all the same: count it in the sum, and name a part",
    ),
)


@check("a profile says which part is worth work, and how much", task=3, lesson="07", stretch=True)
def finds_the_bottleneck(bottleneck: Bottleneck) -> None:
    """`bottleneck(profile, parts)` gives the part and how many times as fast it would be."""
    for case in CASES:
        found = written(bottleneck(list(case.profile), dict(PARTS)), "bottleneck")
        part, times = _taken(found)
        right_part, right_times = judged(case.profile, PARTS)
        if part == right_part and math.isclose(times, right_times, rel_tol=0.005):
            continue
        remedy = case.remedy
        if part == right_part:
            share = 1 - 1 / right_times
            if any(math.isclose(times, each, rel_tol=0.01) for each in (share, 100 * share)):
                remedy = (
                    f"that is its share of the time: without it the work takes {1 - share:.3g} "
                    f"of the time, so it is {right_times:.3g} times as fast"
                )
        expect(False, f"{case.what}, you said `('{part}', {times:.4g})` — {remedy}")


def _taken(found: Any) -> tuple[str, float]:
    fits = isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2
    expect(
        fits and isinstance(found[0], str) and isinstance(found[1], int | float),
        f"`bottleneck` gave back `{found!r}` — give back the part and a number, as ('JSON', 4.0)",
    )
    return found[0], float(found[1])


def judged(profile: Sequence[Look], parts: Mapping[str, str]) -> tuple[str, float]:
    """The part with the most seconds, and how many times as fast the work is without it."""
    spent: defaultdict[str, float] = defaultdict(float)
    for seconds, stack in profile:
        known = [parts[name] for name in reversed(stack) if name in parts]
        spent[known[0] if known else ""] += seconds
    spent.pop("waiting", None)
    total = sum(spent.values())
    part = max((name for name in spent if name), key=lambda name: spent[name])
    return part, total / (total - spent[part])
