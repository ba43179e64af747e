"""A run of the load generator: what it was asked, its clients' entrance, its measuring window.

What the clients then do is `load_scenes.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from chatlab.lab import load_system as system
from chatlab.lab.load_counts import Counts, LoadError
from chatlab.lab.load_row import Row, quantile
from chatlab.lab.load_wire import Wire, connect

__all__ = [
    "Job",
    "Span",
    "Watch",
    "check",
    "drained",
    "enter",
    "leave",
    "measured",
    "settled",
    "times",
    "together",
]

_ENTERING: Final = 40  # clients that enter at the same time
_DRAIN: Final = 5.0


@dataclass(slots=True)
class Job:
    """What to do, as `load.py` writes it. Everything in it is plain JSON."""

    scenario: str
    server: str
    urls: list[str]
    pids: list[int]
    tokens: list[str]
    seconds: float
    warm_up: float
    settings: dict[str, Any]
    others: list[int] = field(default_factory=list)  # pids whose CPU time is told beside
    cores: int = 1
    pinned: bool = False

    def row(self, clients: int, span: Span, **more: Any) -> Row:
        """A row with what is the same in every scenario."""
        now, peak = 0.0, 0.0
        for pid in self.pids:
            each = system.memory(pid)
            now, peak = now + each[0], peak + each[1]
        usual = {
            "scenario": self.scenario,
            "server": self.server,
            "clients": clients,
            "seconds": span.seconds,
            "server_cpu_seconds": span.server,
            "generator_cpu_share": span.generator / span.seconds if span.seconds else 0.0,
            "other_cpu_seconds": span.others,
            "memory_mb": now,
            "peak_mb": peak,
            "servers": len(self.urls),
            "cores": self.cores,
            "pinned": self.pinned,
        }
        return Row(**{**usual, **more})

    def cpu(self) -> float:
        """CPU seconds of all servers so far."""
        return sum(map(system.cpu_seconds, self.pids))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: its length, and the CPU seconds used in it."""

    seconds: float
    server: float
    generator: float
    others: float


class Watch:
    """Begins a span when made; `end` ends it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._begun = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        others = sum(map(system.cpu_seconds, self._job.others))
        return perf_counter(), self._job.cpu(), time.process_time(), others

    def end(self) -> Span:
        """How long it was."""
        then, now = self._begun, self._now()
        return Span(*(b - a for a, b in zip(then, now, strict=True)))


async def enter(
    job: Job,
    makers: Sequence[Callable[..., Wire]],
    counts: Counts,
    room_of: Callable[[int], str | None],
    *,
    url_of: Callable[[int], str] | None = None,
    source_of: Callable[[int], str | None] = lambda number: None,
) -> list[Any]:
    """Connect one client for each of `makers`, some at a time, each joining its room if any."""
    found: list[Any] = [None] * len(makers)
    numbers = iter(range(len(makers)))

    async def worker() -> None:
        for number in numbers:
            url = job.urls[0] if url_of is None else url_of(number)
            token = job.tokens[number % len(job.tokens)]
            wire = await connect(makers[number], counts, url, token, source=source_of(number))
            found[number] = wire
            if (room := room_of(number)) is not None:
                await wire.call("join-room", room)

    await together([worker() for _ in range(min(_ENTERING, len(makers)))])
    return found


async def together(work: Sequence[Awaitable[None]]) -> None:
    """Run all of it; the first failure ends the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled(job: Job, *, quiet: float = 0.3, within: float = 60.0) -> float:
    """Wait until the servers have nothing to do; returns their CPU seconds where that began."""
    deadline = perf_counter() + within
    before, then = job.cpu(), perf_counter()
    while True:
        await asyncio.sleep(quiet)
        now, used = perf_counter(), job.cpu()
        # Timers and a garbage collection use a little of their own.
        if used - before < 0.03 * (now - then) or now > deadline:
            return before
        before, then = used, now


def check(counts: Counts) -> None:
    """Raise what the server did wrong: refusals and closed connections are no measurement."""
    if counts.refused:
        raise LoadError(
            f"the server refused a message ({counts.trouble}): where it limits rates, start it "
            "with --dev --no-limits"
        )
    if counts.lost:
        raise LoadError(f"the server closed a connection: {counts.trouble}")


async def measured(job: Job, counts: Counts) -> tuple[Span, Counts, list[float]]:
    """Let it warm up, then measure. What came in that time, and its latencies."""
    await _unless_wrong(counts, job.warm_up)
    check(counts)
    counts.latencies.clear()
    before = Counts()
    before.sent, before.acks, before.deliveries = counts.sent, counts.acks, counts.deliveries
    watch = Watch(job)
    await _unless_wrong(counts, job.seconds)
    span = watch.end()
    check(counts)
    came = Counts()
    came.sent = counts.sent - before.sent
    came.acks = counts.acks - before.acks
    came.deliveries = counts.deliveries - before.deliveries
    return span, came, list(counts.latencies)


async def _unless_wrong(counts: Counts, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await counts.wrong.wait()


async def drained(complete: Callable[[], int]) -> int:
    """Wait until `complete` gives 0, 5 s at most; returns what is missing."""
    deadline = perf_counter() + _DRAIN
    while (missing := complete()) > 0 and perf_counter() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return max(0, missing)


def times(latencies: Sequence[float]) -> dict[str, float | None]:
    """p50 and p99 in milliseconds."""
    found = {}
    for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        value = quantile(latencies, part)
        found[name] = None if value is None else value * 1000
    return found


async def leave(wires: Sequence[Wire | None]) -> None:
    """Close all, and give the loop a moment to do so."""
    for wire in wires:
        if wire is not None:
            wire.close()
    await asyncio.sleep(0.05)
