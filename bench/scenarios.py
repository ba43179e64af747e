"""What is measured: for each scenario the load, who is measured, what is compared and the target.

The load itself is `chatlab.lab.load`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bench.peers import Started
from chatlab.lab import load
from chatlab.lab.load import Row

__all__ = ["COST", "FIGURES", "SCENARIOS", "Figure", "Goal", "Scenario"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a row that peers are compared by; `more` where more is better."""

    name: str
    label: str
    unit: str
    more: bool
    of: Callable[[Row], float | None]


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("per_cpu", "per server-CPU-second", "/CPU-s", True, lambda row: row.per_cpu_second),
        Figure("p50", "p50", "ms", False, lambda row: row.p50_ms),
        Figure("p99", "p99", "ms", False, lambda row: row.p99_ms),
        Figure("cores", "cores used", "cores", False, lambda row: row.server_cpu_share),
        Figure("kb", "a connection, idle", "KB", False, lambda row: row.kb_per_connection),
        Figure("cpu", "CPU to absorb the disconnects", "CPU-s", False, lambda row: _absorbing(row)),
    )
}


def _absorbing(row: Row) -> float | None:
    return row.server_cpu_seconds if row.scenario == "disconnects" else None


@dataclass(frozen=True, slots=True)
class Goal:
    """`peer`'s figure over that of the scenario's first peer: at least (or, below: under) `at`."""

    peer: str
    figure: str
    at: float

    @property
    def words(self) -> str:
        """The target, for people."""
        if FIGURES[self.figure].more:
            return f"x{self.at:g}"
        return "below Node's" if self.at == 1 else f"at most {self.at:g} of Node's"

    def met(self, ratio: float) -> bool:
        """Whether this ratio reaches it."""
        if FIGURES[self.figure].more:
            return ratio >= self.at
        return ratio < self.at if self.at == 1 else ratio <= self.at


Run = Callable[[Started, float, float], Coroutine[Any, Any, list[Row]]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load. The first of `peers` is what the others are held against.

    `once`: those of them that are measured in the first round only. `figures`: shown of each peer
    beside its rates; `timed`: whether there are any.
    `most_rounds`: for what takes long. `cost`: about how many seconds a run takes beside those
    measured.
    """

    name: str
    title: str
    run: Run
    peers: tuple[str, ...]
    goals: tuple[Goal, ...]
    once: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    timed: bool = True
    most_rounds: int = 1000
    cost: float = 1.0


def _acks(in_flight: int) -> Run:
    async def run(at: Started, seconds: float, warm_up: float) -> list[Row]:
        return [
            await load.acks(at.servers[0], in_flight=in_flight, seconds=seconds, warm_up=warm_up)
        ]

    return run


def _fanout(room: int, in_flight: int) -> Run:
    async def run(at: Started, seconds: float, warm_up: float) -> list[Row]:
        return [
            await load.fanout(
                at.servers[0], room=room, in_flight=in_flight, seconds=seconds, warm_up=warm_up
            )
        ]

    return run


async def _rooms(at: Started, seconds: float, warm_up: float) -> list[Row]:
    return [await load.rooms(at.servers[0], seconds=seconds, warm_up=warm_up)]


async def _steady(at: Started, seconds: float, warm_up: float) -> list[Row]:
    return [await load.steady(at.servers[0], seconds=seconds + 1, warm_up=warm_up)]


async def _connects(at: Started, seconds: float, warm_up: float) -> list[Row]:
    return [await load.connects(at.servers[0], seconds=seconds, warm_up=warm_up)]


async def _park(at: Started, seconds: float, warm_up: float) -> list[Row]:
    return list(await load.park(at.servers[0]))


def _across(rate: float | None) -> Run:
    async def run(at: Started, seconds: float, warm_up: float) -> list[Row]:
        row = await load.across(
            at.servers, rate=rate, seconds=seconds, warm_up=warm_up, others=at.others
        )
        return [row]

    return run


_ALL = ("node", "chatlab", "stock", "chatlab-stock")
_BESIDE = ("stock", "chatlab-stock")
_TWO = ("node-redis", "chatlab-redis", "chatlab-aof", "stock-redis")
_TWO_BESIDE = ("chatlab-aof", "stock-redis")
COST = 1.5  # seconds to start and stop a server


def _more(at: float) -> tuple[Goal, ...]:
    return (Goal("chatlab", "per_cpu", at),)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "acks-16",
            "acked messages, 50 clients, 16 in flight each",
            _acks(16),
            ("node", "chatlab", "chatlab-full", "chatlab-normal", "stock", "chatlab-stock"),
            (*_more(2.5), Goal("chatlab-full", "per_cpu", 1.0)),
            once=_BESIDE,
        ),
        Scenario(
            "acks-1",
            "acked messages, 50 clients, 1 in flight each",
            _acks(1),
            _ALL,
            _more(2.0),
            once=_BESIDE,
        ),
        Scenario(
            "fanout-100-1",
            "deliveries, room of 100, 1 sender, 1 in flight",
            _fanout(100, 1),
            _ALL,
            _more(1.4),
            once=_BESIDE,
        ),
        Scenario(
            "fanout-100",
            "deliveries, room of 100, 1 sender, 8 in flight",
            _fanout(100, 8),
            _ALL,
            _more(6.0),
            once=_BESIDE,
        ),
        Scenario(
            "fanout-1000",
            "deliveries, room of 1,000, 1 sender, 8 in flight",
            _fanout(1000, 8),
            _ALL,
            _more(5.0),
            once=_BESIDE,
            cost=10.0,
        ),
        Scenario(
            "rooms-10",
            "deliveries, 10 rooms of 10, all sending, 1 in flight each",
            _rooms,
            _ALL,
            _more(4.0),
            once=_BESIDE,
        ),
        Scenario(
            "steady",
            "2,000 messages/s fixed, 10 rooms of 10: acks",
            _steady,
            _ALL,
            (Goal("chatlab", "p99", 0.25),),
            once=_BESIDE,
            figures=("p50", "p99", "cores"),
            cost=2.0,
        ),
        Scenario(
            "connects",
            "authenticated websocket connects",
            _connects,
            _ALL,
            _more(2.5),
            once=_BESIDE,
        ),
        Scenario(
            "park",
            "10,000 connections: idle, then closed at once",
            _park,
            _ALL,
            (Goal("chatlab", "kb", 1.0), Goal("chatlab", "cpu", 1.0)),
            once=_BESIDE,
            figures=("kb", "cpu"),
            timed=False,
            most_rounds=2,
            cost=24.0,
        ),
        Scenario(
            "across-300",
            "two servers over Redis, 300 messages/s: deliveries",
            _across(300.0),
            _TWO,
            (Goal("chatlab-redis", "p50", 1.0), Goal("chatlab-redis", "p99", 1.0)),
            once=_TWO_BESIDE,
            figures=("p50", "p99", "cores"),
            cost=2.0,
        ),
        Scenario(
            "across-most",
            "two servers over Redis, 1 sender, 1 receiver: most messages",
            _across(None),
            _TWO,
            (Goal("chatlab-redis", "per_cpu", 2.0),),
            once=_TWO_BESIDE,
            cost=2.0,
        ),
    )
}
