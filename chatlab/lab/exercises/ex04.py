"""Checks of exercise 04: a token bucket, under a clock of the check's own that nobody waits for.

One bucket per user is checked in `ex04_users.py`, over real sockets, and the bucket that several
servers share in `ex04_shared.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.exercises.ex04_shared import one_bucket_for_all_servers
from chatlab.lab.exercises.ex04_users import nobody_gets_around_it

__all__ = [
    "nobody_gets_around_it",
    "one_bucket_for_all_servers",
    "the_bucket_fills_and_never_overflows",
]

START = 1000.0  # seconds; what the check's clock shows first
TINY = 1e-6  # seconds; more than floating point loses


@check("a burst at once, then the rate, whatever the clock does", task=1, lesson="04")
def the_bucket_fills_and_never_overflows(make: Callable[..., Any]) -> None:
    """`make(rate, burst, now)` gives a bucket; `take(now)` the seconds to wait, or 0."""
    _starts_full(make)
    _flows_evenly(make)
    _a_refusal_costs_nothing(make)
    _keeps_the_parts(make)
    _never_overflows(make)
    _survives_a_clock_that_steps_back(make)
    _tells_how_long_to_wait(make)
    _is_not_shared(make)


def _take(bucket: Any, now: float) -> float:
    wait = written(bucket.take(now), "take")
    expect(
        isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0,
        f"`take` gave `{wait!r}` — give 0 when the event may pass, and otherwise the seconds until "
        "one may",
    )
    return float(wait)


def _through(bucket: Any, now: float, events: int) -> int:
    """How many of so many events at one moment are let through."""
    return sum(_take(bucket, now) == 0 for _ in range(events))


def _starts_full(make: Callable[..., Any]) -> None:
    bucket = make(10, 5, START)
    through = _through(bucket, START, 20)
    expect(through, "a new bucket lets nothing through — it starts full: `burst` tokens")
    expect(
        through != 20,
        "20 events at one moment got through, and the burst is 5 — each event takes a token, and "
        "without one it may not pass",
    )
    expect(
        through == 5,
        f"{through} events at one moment got through, and the burst is 5 — an event passes when "
        "there is at least one whole token",
    )


def _flows_evenly(make: Callable[..., Any]) -> None:
    bucket = make(10, 5, START)
    _through(bucket, START, 5)
    first = _through(bucket, START + 0.1 + TINY, 5)
    if first == 0:
        later = _through(bucket, START + 1.2, 5)
        expect(
            later,
            "the bucket was emptied, and no token came in more than a second — `rate` tokens flow "
            "in each second; the time is `now`, no clock",
        )
        advice(
            "a tenth of a second after the bucket was emptied there was no token, at a rate of 10 "
            "— count parts of a second too, and do not round them"
        )
    expect(
        first == 1,
        f"a tenth of a second after the bucket was emptied {first} events got through, at a rate "
        "of 10 — what flows in is the time since the last look, times the rate",
    )


def _a_refusal_costs_nothing(make: Callable[..., Any]) -> None:
    bucket = make(10, 5, START)
    _through(bucket, START, 200)
    expect(
        _through(bucket, START + 0.1 + TINY, 2) == 1,
        "after 195 refusals the bucket gave nothing a tenth of a second later — an event that is "
        "refused takes no token",
    )


def _keeps_the_parts(make: Callable[..., Any]) -> None:
    # Somebody who asks a hundred times a second gets no less than one who asks seldom.
    bucket = make(10, 5, START)
    _through(bucket, START, 5)
    often = sum(_take(bucket, START + n / 100 + TINY) == 0 for n in range(1, 101))
    expect(
        often >= 9,
        f"an empty bucket was asked every hundredth of a second, for a second, and {often} events "
        "got through instead of 10 — keep the parts of a token that have flowed in",
    )
    expect(
        often <= 11,
        f"an empty bucket was asked every hundredth of a second, for a second, and {often} events "
        "got through instead of 10 — remember `now` at each look, or time is counted twice",
    )


def _never_overflows(make: Callable[..., Any]) -> None:
    bucket = make(10, 5, START)
    _through(bucket, START, 5)
    through = _through(bucket, START + 3600, 50)
    expect(
        through <= 5,
        f"after a quiet hour {through} events got through at one moment, and the burst is 5 — no "
        "more than `burst` tokens fit: `min(…)`",
    )
    expect(through == 5, f"after a quiet hour {through} events got through, and the burst is 5")


def _survives_a_clock_that_steps_back(make: Callable[..., Any]) -> None:
    bucket = make(10, 5, START)
    _through(bucket, START, 2)
    back = START - 600
    through = _through(bucket, back, 20)
    expect(
        through >= 3,
        f"three tokens were left, the clock stepped back ten minutes, and {through} events got "
        "through — time that is negative takes no tokens away: `max(0, …)`",
    )
    expect(
        through == 3,
        f"three tokens were left, the clock stepped back ten minutes, and {through} events got "
        "through — a step back brings no tokens",
    )
    expect(
        _through(bucket, back + 0.1 + TINY, 2) == 1,
        "after the clock stepped back ten minutes the bucket gave no token in the next tenth of a "
        "second — count on from the new time, or the user waits for ten minutes",
    )


def _tells_how_long_to_wait(make: Callable[..., Any]) -> None:
    for rate in (10, 0.5):
        bucket = make(rate, 1, START)
        _take(bucket, START)
        wait = _take(bucket, START)
        expect(
            abs(wait - 1 / rate) < 0.01 / rate,
            f"an empty bucket with a rate of {rate} said to wait {wait:g} s, and a token is there "
            f"after {1 / rate:g} s — the part that is missing, divided by the rate",
        )
        half = _take(bucket, START + 0.5 / rate)
        expect(
            abs(half - 0.5 / rate) < 0.01 / rate,
            f"with half a token there, at a rate of {rate}, it said to wait {half:g} s instead of "
            f"{0.5 / rate:g} s — only the part that is missing has to flow in",
        )


def _is_not_shared(make: Callable[..., Any]) -> None:
    one, two = make(10, 5, START), make(10, 5, START)
    _through(one, START, 5)
    expect(
        _through(two, START, 5) == 5,
        "two buckets share their tokens — keep them in `self`, not in the class",
    )
