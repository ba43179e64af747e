"""`make bench`: every scenario against every peer, in turns, then tables and a picture.

Without `--only` and `--peers` it writes bench/results.md, .json and .svg; with them it prints. A
run that fails is reported and the others go on, so that it can be left alone.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from bench import machine, node
from bench.bar import Bar
from bench.peers import PEERS
from bench.report import markdown, terminal
from bench.results import Results
from bench.scenarios import COST, SCENARIOS, Scenario
from chatlab.lab import load_system as system
from chatlab.lab.load import LoadError

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns 0 when all was measured, 1 when something failed, 2 for a wrong argument."""
    given = _parser().parse_args(arguments)
    if given.render:
        return _render(HERE)
    try:
        scenarios = _chosen(given.only, SCENARIOS, "scenario")
        peers = _chosen(given.peers, PEERS, "peer")
        if any(name.startswith("node") for name in peers):
            node.install()
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    # Servers inherit it: 10,000 connections are as many open files on either side.
    system.allow_many_files()
    results = Results(about=machine.describe())
    results.about["measured"] = (
        f"{given.rounds} x {given.seconds:g} s, in turns, each in a fresh process after "
        f"{given.warm_up:g} s of warming up"
    )
    plan = [
        (scenario, [name for name in scenario.peers if name in peers])
        for scenario in scenarios.values()
    ]
    whole = given.only is None and given.peers is None
    folder = given.out or (HERE if whole else None)
    bar = Bar(sum(_cost(scenario, names, given) for scenario, names in plan))
    if busy := machine.busy():
        bar.line(busy)
    try:
        for scenario, names in plan:
            _measure(scenario, names, given, results, bar)
            if folder is not None:
                write(results, folder)
    except KeyboardInterrupt:
        bar.line("interrupted: what was measured so far is told")
    finally:
        bar.end()
    sys.stdout.write(terminal(results) + "\n")
    if folder is not None:
        sys.stdout.write(f"\nwritten: results.md, results.json and results.svg in {folder.name}/\n")
    return 1 if results.failures else 0


def write(results: Results, folder: Path) -> None:
    """The report, the raw figures and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    try:
        from bench.plot import draw
    except ImportError:  # matplotlib comes with the workshop
        return
    draw(results, folder / "results.svg")


def _render(folder: Path) -> int:
    results = Results.load(folder / "results.json")
    write(results, folder)
    sys.stdout.write(terminal(results) + "\n")
    return 0


def _measure(
    scenario: Scenario, names: list[str], given: argparse.Namespace, results: Results, bar: Bar
) -> None:
    rounds = min(given.rounds, scenario.most_rounds)
    bar.line(f"{scenario.name}: {scenario.title}")
    for number in range(rounds):
        for name in names:
            if name in scenario.once and number:
                continue
            peer = PEERS[name]
            bar.show(f"{scenario.name}, {peer.label}, round {number + 1} of {rounds}")
            began = time.monotonic()
            try:
                with peer.running() as started:
                    rows = asyncio.run(scenario.run(started, given.seconds, given.warm_up))
            except (LoadError, RuntimeError, OSError) as error:
                results.fail(scenario.name, name, str(error).strip())
                bar.line(f"  ✗ {peer.label}: {str(error).strip()}")
                continue
            finally:
                bar.step(_one(scenario, given))
            results.add(scenario.name, name, number, rows)
            for row in rows:
                bar.line(f"  {row}" + (f"  ({time.monotonic() - began:.0f} s)" * given.timing))


def _cost(scenario: Scenario, names: list[str], given: argparse.Namespace) -> float:
    rounds = min(given.rounds, scenario.most_rounds)
    runs = sum(1 if name in scenario.once else rounds for name in names)
    return runs * _one(scenario, given)


def _one(scenario: Scenario, given: argparse.Namespace) -> float:
    return float(scenario.cost + COST + given.seconds + given.warm_up)


def _chosen(text: str | None, known: dict[str, T], what: str) -> dict[str, T]:
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}: they are {', '.join(known)}")
    return {name: known[name] for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description="Measure chatlab against Node's Socket.IO."
    )
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--peers", metavar="NAMES", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=3, help="peers alternate in each (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each run (2)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before that (1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results.* are written")
    parser.add_argument("--timing", action="store_true", help="say how long each run took")
    parser.add_argument("--render", action="store_true", help="only write the report again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
