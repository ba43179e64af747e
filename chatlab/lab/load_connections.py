"""The load generator's scenarios of connections: how fast they are made, what thousands take.

Nobody says anything here: for messages see `load_scenes.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter
from typing import Final

from chatlab.lab import load_system as system
from chatlab.lab.load_counts import Counts, LoadError
from chatlab.lab.load_job import Job, Span, Watch, check, enter, leave, settled, times, together
from chatlab.lab.load_row import Row
from chatlab.lab.load_wire import Wire, connect

__all__ = ["connects", "park"]

_PER_SOURCE: Final = 5_000  # connections from one of the addresses 127.0.0.x


async def connects(job: Job) -> list[Row]:
    """Websocket, CONNECT with a token, its answer: as many as can be, so many at a time."""
    at_a_time, most = job.settings["at_a_time"], job.settings["most"]
    counts = Counts()
    wires: list[Wire] = []
    durations: list[float] = []
    numbers = iter(range(most))

    async def worker() -> None:
        for number in numbers:
            begun = perf_counter()
            token = job.tokens[number % len(job.tokens)]
            wires.append(
                await connect(Wire, counts, job.urls[0], token, source=source(number, job))
            )
            durations.append(perf_counter() - begun)

    crowd = together([worker() for _ in range(at_a_time)])
    workers: asyncio.Task[None] = asyncio.create_task(crowd)
    try:
        await _for(job.warm_up, workers)
        done = len(wires)
        durations.clear()
        watch = Watch(job)
        await _for(job.seconds, workers)
        span = watch.end()
        count = len(wires) - done
    finally:
        workers.cancel()
        with contextlib.suppress(asyncio.CancelledError, LoadError):
            await workers
    check(counts)
    row = job.row(len(wires), span, unit="connections", count=count, **times(durations))
    await leave(wires)
    return [row]


async def _for(seconds: float, workers: asyncio.Task[None]) -> None:
    """Let them work; raises at once what ends them."""
    await asyncio.wait({workers}, timeout=seconds)
    if workers.done():
        workers.result()


def source(number: int, job: Job) -> str | None:
    """The address that a client comes from: several, where ports of one could run out."""
    if not job.settings["sources"]:
        return None
    return f"127.0.0.{1 + number // _PER_SOURCE % 250}"


async def park(job: Job) -> list[Row]:
    """Connect many who then say nothing: what they take; then close them all: what that takes."""
    clients, some = job.settings["connections"], job.settings["first"]
    counts = Counts()
    # What a server loads and compiles for its first clients is not the price of a connection.
    warm = await enter(job, [Wire] * some, counts, lambda n: None)
    await leave(warm)
    await settled(job)
    before = sum(system.memory(pid)[0] for pid in job.pids)
    watch = Watch(job)
    wires: list[Wire] = await enter(
        job, [Wire] * clients, counts, lambda n: None, source_of=lambda n: source(n, job)
    )
    span = watch.end()
    await settled(job)
    # A garbage collector may need a while to see that it is over.
    readings = []
    for _ in range(int(job.settings["rest"] / 0.25) + 1):
        readings.append(sum(system.memory(pid)[0] for pid in job.pids))
        await asyncio.sleep(0.25)
    check(counts)
    lowest_memory = min(readings)
    idle = job.row(
        clients,
        span,
        scenario="idle",
        unit="connections",
        count=clients,
        memory_mb=lowest_memory,
        kb_per_connection=(lowest_memory - before) * 1000 / clients,
    )
    used = job.cpu()
    watch = Watch(job)
    for wire in wires:
        wire.close()
    began = perf_counter()
    await asyncio.sleep(0.05)
    used = await settled(job, within=240.0) - used
    gone = watch.end()
    span = Span(perf_counter() - began, used, gone.generator, gone.others)
    over = job.row(clients, span, scenario="disconnects", unit="disconnects", count=clients)
    return [idle, over]
