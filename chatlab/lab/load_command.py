"""The load generator on the command line: `python -m chatlab.lab.load acks --in-flight 16`.

It starts a `chatlab serve --dev --no-limits` and measures it; `make bench` holds several servers
against each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from chatlab.lab import load
from chatlab.lab.cluster import Cluster
from chatlab.lab.load import Row
from chatlab.lab.load_system import allow_many_files
from chatlab.lab.process import process

__all__ = ["main"]

_SCENARIOS = ("acks", "fanout", "rooms", "steady", "connects", "park", "across")


def main(
    arguments: Sequence[str] | None = None, *, prog: str = "python -m chatlab.lab.load"
) -> int:
    """The command line, called `prog` in its help; returns the exit code.

    What cannot be measured is one sentence on stderr and a 1, a wrong argument a 2.
    """
    parser = argparse.ArgumentParser(prog=prog, description="Measure a chat server under load.")
    _add_arguments(parser)
    return _run(parser.parse_args(arguments))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(_SCENARIOS)} (acks)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="measured, after a warm-up (2)")
    parser.add_argument("--in-flight", type=int, help="messages not yet answered, of each sender")
    parser.add_argument("--clients", type=int, help="acks: how many (50); fanout: the room (100)")
    parser.add_argument("--rate", type=float, help="steady, across: messages a second")
    parser.add_argument("--connections", type=int, default=10_000, help="park: how many (10,000)")
    parser.add_argument("--storage", default="memory://", help="of the server (memory://)")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="more options of serve")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each row")


def _run(given: argparse.Namespace) -> int:
    scenarios = given.scenarios or ["acks"]
    unknown = [name for name in scenarios if name not in _SCENARIOS]
    if unknown:
        known = ", ".join(_SCENARIOS)
        sys.stderr.write(f"there is no scenario {unknown[0]!r}: they are {known}\n")
        return 2
    allow_many_files()
    for name in scenarios:
        try:
            rows = _measure(name, given)
        except RuntimeError as error:  # a LoadError, or a server that does not start
            sys.stderr.write(f"{name}: {error}\n")
            return 1
        for row in rows:
            sys.stdout.write((json.dumps(row.as_dict()) if given.json else repr(row)) + "\n")
            sys.stdout.flush()
    return 0


def _measure(name: str, given: argparse.Namespace) -> list[Row]:
    options = given.serve.split()
    if name == "across":
        with Cluster(2, arguments=["--no-limits", *options]) as cluster:
            return asyncio.run(_two(cluster, given))
    storage = ["--storage", given.storage]
    with process("--no-limits", *storage, *options, name="chatlab") as server:
        return asyncio.run(_one(name, server, given))


async def _two(cluster: Cluster, given: argparse.Namespace) -> list[Row]:
    told = {"in_flight": given.in_flight, "rate": given.rate}
    return [await load.across(cluster, seconds=given.seconds, **_given(told))]


async def _one(name: str, server: load.Target, given: argparse.Namespace) -> list[Row]:
    seconds, window = given.seconds, {"in_flight": given.in_flight}
    if name == "acks":
        return [
            await load.acks(server, seconds=seconds, **_given({"clients": given.clients} | window))
        ]
    if name == "fanout":
        return [
            await load.fanout(server, seconds=seconds, **_given({"room": given.clients} | window))
        ]
    if name == "rooms":
        return [await load.rooms(server, seconds=seconds, **_given(window))]
    if name == "steady":
        return [await load.steady(server, seconds=seconds, **_given({"rate": given.rate}))]
    if name == "connects":
        return [await load.connects(server, seconds=seconds)]
    return list(await load.park(server, connections=given.connections))


def _given(options: dict[str, float | None]) -> dict[str, Any]:
    """Those that were given; the others have their defaults in `load`."""
    return {name: value for name, value in options.items() if value is not None}
