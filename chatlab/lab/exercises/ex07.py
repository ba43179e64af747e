"""Checks of exercise 07: what a message costs, and how many servers and Redis nodes that makes.

The numbers are given, so nothing is timed here. Each wrong result that a usual mistake would give
is known, and the advice names the mistake. The stretch is in `ex07_profile.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.exercises.ex07_profile import finds_the_bottleneck

__all__ = [
    "BUSY",
    "COSTS",
    "MEMORY",
    "Costs",
    "Load",
    "Measured",
    "finds_the_bottleneck",
    "has_the_prices",
    "plans_for",
]

BUSY: Final = 0.5
"""The share of a core to plan with; the other half is for what nobody planned."""

MEMORY: Final = 1_000_000_000
"""Bytes that each server has for its connections."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`messages` were sent, each into a room with so many `members`, the sender included.

    `cpu` is what the server spent on that, in CPU seconds.
    """

    members: int
    messages: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Load:
    """`users`, each in one room with so many `members`, who send `rate` messages a second each."""

    users: int
    members: int
    rate: float


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of a server for a `message` and for each `delivery` of it, CPU seconds of
    `redis` for a message, and bytes for a `connection`."""

    message: float
    delivery: float
    redis: float
    connection: int


COSTS: Final = Costs(message=100e-6, delivery=5e-6, redis=44e-6, connection=20_000)
"""Round figures. Redis's is that of docs/scaling.md; for the others, put in your own."""


# -- task 1: two prices ----------------------------------------------------------------------------

Prices = Callable[[Measured, Measured], Any]

_MEASURED: Final = (
    # Message and delivery in microseconds, members and messages of the two runs.
    (60, 5, (2, 10_000), (101, 1_000)),
    (60, 5, (101, 1_000), (2, 10_000)),
    (140, 20, (11, 3_000), (51, 3_000)),
    (45, 0, (2, 8_000), (20, 500)),
    (30, 2, (1, 12_000), (300, 700)),
)


def _run(message: float, delivery: float, members: int, messages: int) -> Measured:
    cpu = messages * (message + (members - 1) * delivery) * 1e-6
    return Measured(members, messages, cpu)


@check("two measurements give the price of a message and of a delivery", task=1, lesson="07")
def has_the_prices(prices: Prices) -> None:
    """`prices(one, other)` gives CPU seconds for a message and for each delivery of it."""
    for message, delivery, one, other in _MEASURED:
        runs = _run(message, delivery, *one), _run(message, delivery, *other)
        found = _pair(written(prices(*runs), "prices"))
        right = (message * 1e-6, delivery * 1e-6)
        if not _same(found, right):
            said = f"for {_words(runs[0])} and {_words(runs[1])}, yours are {_micro(found)}"
            advice(f"{said} — {_mistake_in(found, runs, right)}")


def _pair(found: Any) -> tuple[float, float]:
    fits = isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2
    if not fits or not all(_is_number(each) for each in found):
        advice(f"`prices` gave back `{found!r}` — give back two numbers: (message, delivery)")
    return float(found[0]), float(found[1])


def _mistake_in(
    found: tuple[float, float], runs: tuple[Measured, Measured], right: tuple[float, float]
) -> str:
    one, other = (run.cpu / run.messages for run in runs)
    slope = (one - other) / (runs[0].members - runs[1].members)
    if _same(found, (right[1], right[0])):
        return "they are the wrong way round: first the message, then the delivery"
    if _same(found, (right[0] * 1e6, right[1] * 1e6)):
        return "these are microseconds: give seconds"
    if _same(found, (one - runs[0].members * slope, slope)):
        return "the sender is a member, too, and is not served: a room of 10 makes 9 deliveries"
    if _near(found[0], one) or _near(found[0], other):
        return (
            "this puts the whole CPU time on the message: part of it was for the deliveries, "
            "which the other measurement can tell apart"
        )
    deliveries = [run.cpu / (run.messages * (run.members - 1) or 1) for run in runs]
    if any(_near(found[1], each) for each in deliveries):
        return "this puts the whole CPU time on the deliveries: the message has a price of its own"
    return "a run costs messages × (message + (members - 1) × delivery): two runs are two equations"


# -- task 2: how many ------------------------------------------------------------------------------

Plan = Callable[[Load, Costs], Any]


def _planned(
    load: Load,
    costs: Costs,
    *,
    served: Callable[[int], int] = lambda members: members - 1,
    busy: float = BUSY,
    rounded: Callable[[float], int] = math.ceil,
    cpu: bool = True,
    memory: bool = True,
    message: bool = True,
    alone: int = 0,
) -> tuple[int, int]:
    """Servers and Redis nodes, as they should be; each argument makes one mistake."""
    messages = load.users * load.rate
    work = messages * (costs.message * message + served(load.members) * costs.delivery)
    servers = max(
        1,
        rounded(work / busy) if cpu else 0,
        rounded(load.users * costs.connection / MEMORY) if memory else 0,
    )
    nodes = max(1, rounded(messages * costs.redis / busy)) if servers > 1 else alone
    return servers, nodes


_MISTAKES: Final[Sequence[tuple[Mapping[str, Any], str]]] = (
    (
        {"cpu": False},
        "this counts connections only: what they send, and to how many, costs CPU time",
    ),
    (
        {"served": lambda _members: 0},
        "this forgets the fan-out: a message is delivered to everybody else in its room",
    ),
    (
        {"served": lambda _members: 1},
        "this forgets the fan-out: a message is delivered to everybody else in its room",
    ),
    ({"message": False}, "this counts the deliveries only: a message has a price of its own"),
    (
        {"memory": False},
        "this forgets the memory: connections that say nothing need it all the same",
    ),
    (
        {"busy": 1.0},
        "this plans with whole cores: plan with `BUSY` of one, else every rush is an outage",
    ),
    (
        {"served": lambda members: members},
        "the sender is a member, too, and is not served: a room of 10 makes 9 deliveries",
    ),
    ({"rounded": math.floor}, "this rounds down: what is left over needs a server, too"),
    ({"rounded": round}, "this rounds to the nearest: what is left over needs a server, too"),
    ({"alone": 1}, "one server alone shares its rooms with nobody: it needs no Redis"),
)

_LOADS: Final = (
    ("1,000 users in rooms of 2, a message a second each", Load(1_000, 2, 1.0)),
    ("9,400 users in rooms of 2, a message a second each", Load(9_400, 2, 1.0)),
    ("1,000 users in rooms of 500, a message a second each", Load(1_000, 500, 1.0)),
    ("180,000 users who only listen", Load(180_000, 10, 0.0)),
    ("5,000 users in rooms of 3, a message a second each", Load(5_000, 3, 1.0)),
    ("40,000 users in rooms of 5, a message a second each", Load(40_000, 5, 1.0)),
    ("400,000 users in rooms of 20, a message in 200 seconds each", Load(400_000, 20, 0.005)),
)


@check("a load becomes a number of servers and of Redis nodes", task=2, lesson="07")
def plans_for(plan: Plan) -> None:
    """`plan(load, costs)` gives `{"servers": …, "redis": …}`."""
    found = [_counts(written(plan(load, COSTS), "plan")) for _, load in _LOADS]
    right = _answers()
    wrong = [n for n, counts in enumerate(found) if counts != right[n]]
    if wrong:
        first = wrong[0]
        said = f"for {_LOADS[first][0]}, your plan has {_parts(*found[first])}"
        advice(f"{said} — {_mistake_of(found, first)}")
    # Other prices, so that none of them can be a number in the learner's code.
    costs = Costs(message=300e-6, delivery=15e-6, redis=90e-6, connection=60_000)
    load = Load(30_000, 12, 0.5)
    other = _counts(written(plan(load, costs), "plan"))
    expect(
        other == _planned(load, costs),
        f"with other costs, your plan has {_parts(*other)} — take all prices from `costs`",
    )


def _answers(**change: Any) -> list[tuple[int, int]]:
    return [_planned(load, COSTS, **change) for _, load in _LOADS]


def _mistake_of(found: Sequence[tuple[int, int]], first: int) -> str:
    """The mistake that gives these answers to all loads; else what is wrong with the first one."""
    for change, words in _MISTAKES:
        if found == _answers(**change):
            return words
    servers = [count for count, _ in found]
    for change, words in _MISTAKES:
        if servers == [count for count, _ in _answers(**change)] != _servers():
            return words
    if servers[first] != _servers()[first]:
        return (
            f"it takes {_parts(*_answers()[first])}: work out the CPU seconds that a second of "
            "this load needs, and the memory, and take the larger number of servers"
        )
    load, nodes = _LOADS[first][1], found[first][1]
    if not nodes:
        return "this forgets Redis: several servers share their rooms through it"
    if nodes < _answers()[first][1]:
        return (
            f"this forgets what Redis has to do: {load.users * load.rate:,.0f} messages a second "
            "pass through it, and a node is one core"
        )
    return (
        "every message passes through Redis once, however many read it, and a node is a core "
        "of which you plan with `BUSY`"
    )


def _servers() -> list[int]:
    return [count for count, _ in _answers()]


def _counts(found: Any) -> tuple[int, int]:
    expect(
        isinstance(found, Mapping) and {"servers", "redis"} <= set(found),
        f"`plan` gave back `{found!r}` — give back a dictionary with `servers` and `redis`",
    )
    for name in ("servers", "redis"):
        value = found[name]
        expect(
            _is_number(value) and value == int(value) and value >= 0,
            f"`{name}` is `{value!r}` — nobody can start a part of one: round up",
        )
    return int(found["servers"]), int(found["redis"])


# -- words -----------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _near(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=0.005, abs_tol=1e-9)


def _same(found: tuple[float, float], expected: tuple[float, float]) -> bool:
    return _near(found[0], expected[0]) and _near(found[1], expected[1])


def _words(run: Measured) -> str:
    return f"{run.messages:,} messages in rooms of {run.members} that took {run.cpu:.3g} s of CPU"


def _micro(found: tuple[float, float]) -> str:
    return f"{found[0] * 1e6:,.4g} and {found[1] * 1e6:,.4g} µs"


def _parts(servers: int, nodes: int) -> str:
    return f"{servers:,} {'server' if servers == 1 else 'servers'} and {nodes:,} of Redis"
