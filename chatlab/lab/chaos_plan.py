"""Which fault strikes when: drawn from a seed before the run begins, so that a seed repeats it.

Only the plan is repeated; what the servers and the network are doing at that moment is not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["KINDS", "Strike", "draw", "one_of_each"]

KINDS: Final = {
    "kill server": 3,
    "stop server": 2,
    "restart valkey": 1,
    "kill valkey": 1,
    "freeze valkey": 1,
    "cut wire": 3,
    "mute wire": 3,
}
"""The faults, and how often each is drawn in relation to the others."""

# Seconds that a part is given to stand before it is hit again.
_UP_AGAIN: Final = {"server": 3.0, "valkey": 1.0, "wire": 1.0}
_FREEZE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Strike:
    """Fault `kind` begins at `at` and lasts for `seconds`; `target` is a server's or a wire's."""

    at: float
    kind: str
    target: int
    seconds: float

    def __str__(self) -> str:
        which = f" {self.target}" if self.part == "wire" or self.part == "server" else ""
        return f"{self.kind}{which} for {self.seconds:.1f} s"

    @property
    def part(self) -> str:
        """`"server"`, `"valkey"` or `"wire"`."""
        return self.kind.split()[1]


def draw(chance: random.Random, *, seconds: float, servers: int, wires: int) -> list[Strike]:
    """The faults of a run of `seconds`, one every 2.5 seconds or so, many of them side by side.

    One server is always left running, and nothing is hit again before it is back.
    """
    plan: list[Strike] = []
    kinds, weights = list(KINDS), list(KINDS.values())
    at = chance.uniform(1.0, 2.0)
    while at < seconds:
        kind = chance.choices(kinds, weights)[0]
        strike = _strike(chance, at, kind, _free(plan, at, kind, servers, wires))
        if strike is not None and at + strike.seconds < seconds:
            plan.append(strike)
        at += chance.uniform(1.0, 4.0)
    return plan


def one_of_each(chance: random.Random, *, servers: int, wires: int) -> list[Strike]:
    """Every kind of fault once, in an order that the seed decides, in about 22 seconds."""
    kinds = [kind for kind in KINDS if wires or not kind.endswith("wire")]
    chance.shuffle(kinds)
    plan: list[Strike] = []
    at = 1.5
    for kind in kinds:
        while (strike := _strike(chance, at, kind, _free(plan, at, kind, servers, wires))) is None:
            at += 0.5
        plan.append(strike)
        at += 2.0
    return plan


def _strike(chance: random.Random, at: float, kind: str, targets: Sequence[int]) -> Strike | None:
    if not targets:
        return None
    seconds = {
        "kill server": chance.uniform(0.5, 4.0),
        "stop server": chance.uniform(2.0, 4.0),
        "restart valkey": 0.0,
        "kill valkey": chance.uniform(0.2, 2.0),
        "freeze valkey": _FREEZE,
        "cut wire": chance.choice((0.0, chance.uniform(0.2, 3.0))),
        "mute wire": chance.uniform(0.5, 6.0),
    }[kind]
    return Strike(at, kind, chance.choice(list(targets)), seconds)


def _free(plan: Sequence[Strike], at: float, kind: str, servers: int, wires: int) -> list[int]:
    """The targets that stand when `kind` is to strike."""
    part = kind.split()[1]
    down = {
        strike.target
        for strike in plan
        if strike.part == part and at < strike.at + strike.seconds + _UP_AGAIN[part]
    }
    count = {"server": servers, "wire": wires, "valkey": 1}[part]
    free = [number for number in range(count) if number not in down]
    return [] if part == "server" and len(free) < 2 <= servers else free
