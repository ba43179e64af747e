"""Breaks a cluster at random while thirty clients talk, and judges what they saw.

`python -m chatlab.lab.chaos --minutes 5 --seed 7` (`make chaos`) prints one line and exits with 1
when anything was lost, doubled, out of order or leaked. It measures no speed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chatlab.lab import chaos_after as after
from chatlab.lab.chaos_crowd import ROOMS, ChatMember, Crowd, Member, may_enter, rooms_of
from chatlab.lab.chaos_plan import Strike, draw, one_of_each
from chatlab.lab.chaos_stage import PRESENCE_TTL, Stage
from chatlab.lab.chaos_stock import StockMember
from chatlab.lab.history import History, Report
from chatlab.lab.history_events import Missing, line

__all__ = ["Outcome", "Run", "chaos", "main"]

_WIRED: Final = 12  # clients behind wires, two behind each
_SETTLES: Final = 30.0
_SHOWN: Final = 20  # problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What to do. `seconds` None: every kind of fault once, in an order that the seed decides."""

    seed: int
    seconds: float | None = None
    servers: int = 3
    clients: int = 30
    rate: float = 200.0
    stock: bool = False
    save: Path | None = None

    def plan(self, wires: int) -> list[Strike]:
        """The faults of this run."""
        chance = random.Random(self.seed)  # noqa: S311 - a plan to be repeated, not a secret
        if self.seconds is None:
            return one_of_each(chance, servers=self.servers, wires=wires)
        return draw(chance, seconds=self.seconds, servers=self.servers, wires=wires)


@dataclass(slots=True)
class Outcome:
    """The checker's report, and whatever else was found wrong."""

    run: Run
    history: History
    report: Report
    faults: dict[str, int]
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    busy: float = 0.0  # the driver's own share of one core
    late: float = 0.0  # the longest that its loop was held up
    memory: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return self.report.ok and not self.problems

    def line(self) -> str:
        """The run on one line."""
        counts = self.report.counts
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items())) or "none"
        what = "stock" if self.run.stock else "chatlab"
        return (
            f"{'ok' if self.ok else 'FAULTS'}: {what}, seed {self.run.seed}, {self.seconds:.0f} s; "
            f"sent {counts['sent']:,}, acked {counts['acked']:,}, unknown {counts['unknown']:,}, "
            f"delivered {counts['delivered']:,}; faults: {faults}; {self.report.words()}; "
            f"driver {self.busy:.0%} of a core, late by {self.late * 1000:.0f} ms at most; "
            f"servers {self.memory:.0f} MB at most"
        )


async def chaos(run: Run) -> Outcome:
    """Do it. Takes `run.seconds` and about ten more. Raises `RuntimeError` without the parts."""
    history = History()
    stage = await asyncio.to_thread(_stage, run)
    try:
        return await _on(stage, run, history)
    finally:
        if run.save is not None:
            _save(run.save, run, stage, history)
        await asyncio.to_thread(stage.stop)


def _stage(run: Run) -> Stage:
    return Stage(servers=run.servers, wires=min(_WIRED, run.clients) // 2, stock=run.stock)


def _save(folder: Path, run: Run, stage: Stage, history: History) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{'stock' if run.stock else 'chatlab'}-{run.seed}"
    history.save(folder / f"{name}.jsonl.gz")
    for server in stage.servers:
        text = "\n".join(server.logs())
        (folder / f"{name}-{server.name.replace(' ', '-')}.log").write_text(text + "\n")


async def _on(stage: Stage, run: Run, history: History) -> Outcome:
    if not run.stock:
        await after.warm_up(stage.cluster)
    before = {
        server.name: await asyncio.to_thread(after.footprint, server) for server in stage.servers
    }
    heard = await asyncio.to_thread(after.channels, stage.cluster)
    chance = random.Random(f"crowd {run.seed}")  # noqa: S311
    members = [_member(number, stage, run, history, chance) for number in range(run.clients)]
    crowd = Crowd(members, chance, rate=run.rate)
    watch = after.Watch(stage.servers)
    tasks: list[asyncio.Task[object]] = []
    lateness: list[float] = [0.0]
    begun, cpu = time.monotonic(), time.process_time()
    try:
        await crowd.enter()
        tasks += [
            asyncio.create_task(watch.run()),
            asyncio.create_task(_lateness(lateness, history)),
        ]
        crowd.talk()
        await stage.perform(run.plan(len(stage.wires)), history)
        if run.seconds is not None:
            await asyncio.sleep(max(0.0, begun + run.seconds - time.monotonic()))
        history.note("calm")
        await stage.calm()
        await crowd.hush(timeout=_SETTLES)
        late = await crowd.ring(timeout=_SETTLES)
        history.end()
        seconds, busy = time.monotonic() - begun, time.process_time() - cpu
        problems = [*stage.problems, *crowd.problems]
        problems += [f"given up: {text}" for member in members for text in member.gave_up]
        away = [member.name for member in members if not member.connected]
        problems += [f"not back in the end: {', '.join(away)}"] if away else []
        problems += [f"without the last message: {', '.join(late)}"] if late else []
        if not run.stock:
            problems += await after.wrong_presence(
                stage.cluster, _homes(members), within=PRESENCE_TTL + 1.0
            )
    finally:
        for task in tasks:
            task.cancel()
        await crowd.close()
    if not run.stock:
        problems += await after.left_behind(stage.cluster, before, heard, within=10.0)
        problems += watch.grown()
    report = await asyncio.to_thread(history.check)
    problems += _told_lost(history)
    return Outcome(
        run,
        history,
        report,
        dict(stage.done),
        problems,
        seconds,
        busy / seconds,
        max(lateness),
        watch.most,
    )


def _member(number: int, stage: Stage, run: Run, history: History, chance: random.Random) -> Member:
    home = rooms_of(number, chance)
    wired = number < _WIRED and stage.wires
    url = stage.wires[number % len(stage.wires)] if wired else stage.cluster
    kind = StockMember if run.stock else ChatMember
    member = kind(number, history, home, url=url, token=stage.cluster.token)
    for room in ROOMS:
        if room.startswith("private-") and may_enter(number, room):
            history.permit(member.name, room)
    return member


def _homes(members: Sequence[Member]) -> dict[str, set[str]]:
    return {room: {m.name for m in members if room in m.home} for room in ROOMS}


def _told_lost(history: History) -> list[str]:
    """Excuses, of which there must be none: this Valkey writes before it answers."""
    told = [event for event in history.events if isinstance(event, Missing)]
    return [f"{len(told)} times history was said to be lost: {line(told[0])}"] if told else []


async def _lateness(found: list[float], history: History) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + 0.02
        await asyncio.sleep(0.02)
        late = clock() - due
        found[0] = max(found[0], late)
        if late > 0.3:
            history.note(f"the driver itself was held up for {late:.1f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 1 when anything was found, 2 where a part is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m chatlab.lab.chaos",
        description="Break a cluster, and judge what came of it.",
    )
    parser.add_argument("--minutes", type=float, help="of faults; without it each kind once")
    parser.add_argument("--seed", type=int, help="repeats a plan; without it a new one")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second in all")
    parser.add_argument("--stock", action="store_true", help="stock python-socketio instead")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the history and the logs")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    run = Run(
        seed=seed,
        seconds=None if given.minutes is None else given.minutes * 60,
        servers=given.servers,
        clients=given.clients,
        rate=given.rate,
        stock=given.stock,
        save=given.save,
    )
    _say(f"seed {seed}")
    try:
        outcome = asyncio.run(chaos(run))
    except RuntimeError as error:
        _say(f"not run: {error}")
        return 2
    for problem in outcome.problems[:_SHOWN]:
        _say(f"✗ {problem}")
    if len(outcome.problems) > _SHOWN:
        _say(f"✗ and {len(outcome.problems) - _SHOWN} more")
    if not outcome.report.ok:
        for fault in _first(outcome.report):
            _say(repr(fault))
    _say(outcome.line())
    return 0 if outcome.ok else 1


def _first(report: Report) -> list[object]:
    """Two of each kind: enough to see what it is."""
    kinds = dict.fromkeys(fault.kind for fault in report.faults)
    return [fault for kind in kinds for fault in report.of(kind)[:2]]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    with contextlib.suppress(OSError):
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
