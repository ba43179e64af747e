"""A load generator: many clients against a running server, in a process of their own.

Each function starts the generator, measures the server from outside (throughput, ack latency, CPU,
memory) and returns a `Row`, which also says when the generator itself was the limit. It asserts
nothing about the chat: the checker does that. `python -m chatlab.lab.load --help` is the same on
the command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from chatlab.lab import load_system as system
from chatlab.lab.load_counts import LoadError
from chatlab.lab.load_process import Generator
from chatlab.lab.load_row import Bottleneck, Row, bottleneck
from chatlab.lab.portal import in_thread

__all__ = [
    "Bottleneck",
    "LoadError",
    "Row",
    "Target",
    "acks",
    "across",
    "bottleneck",
    "connects",
    "disconnects",
    "fanout",
    "idle",
    "park",
    "rooms",
    "steady",
]

_TEXT = "A message of forty characters, or nearly"
_SOME_USERS = 200  # how many different users connect, where thousands connect
_GRACE = 420.0  # seconds beside those measured, after which a run is given up


class Target(Protocol):
    """A server to measure: what `process`, a cluster's `servers` and `background` return.

    `pid` is its process; a server without one runs in this process, which is then measured as a
    whole.
    """

    name: str

    @property
    def url(self) -> str:
        """Where it listens: `http://host:port`."""

    def token(self, user: str, *, ttl: float = ..., **claims: Any) -> str:
        """A token that it takes."""


async def acks(
    server: Target,
    *,
    clients: int = 50,
    in_flight: int = 16,
    seconds: float = 2.0,
    warm_up: float = 0.7,
    text: str = _TEXT,
    pin: bool = True,
) -> Row:
    """Acked messages a second: `clients`, each alone in a room, with `in_flight` unacked each.

    Like every function here: the server must not limit rates (`process("--no-limits")`); `seconds`
    are measured after `warm_up` seconds of the same; `pin` keeps the server on one CPU and the
    generator on another meanwhile, where the system can. Raises `LoadError`, which says why, when
    the server is not there, refuses, or goes away.
    """
    settings = {"clients": clients, "in_flight": in_flight, "text": text}
    return await _one("acks", server, clients, settings, seconds, warm_up, pin)


async def fanout(
    server: Target,
    *,
    room: int = 100,
    senders: int = 1,
    in_flight: int = 8,
    seconds: float = 2.0,
    warm_up: float = 0.7,
    text: str = _TEXT,
    pin: bool = True,
) -> Row:
    """Deliveries a second in one room of `room` members, of whom `senders` speak.

    A message is in flight until it is acked and was delivered to everybody else. It begins when all
    joins, and what they announce, have settled. See `acks` for the rest.
    """
    settings = {"room": room, "senders": senders, "in_flight": in_flight, "text": text}
    return await _one("fanout", server, room, settings, seconds, warm_up, pin)


async def rooms(
    server: Target,
    *,
    rooms: int = 10,
    size: int = 10,
    in_flight: int = 1,
    seconds: float = 2.0,
    warm_up: float = 0.7,
    text: str = _TEXT,
    pin: bool = True,
) -> Row:
    """Deliveries a second in so many `rooms` of `size` members, all of whom send. See `acks`."""
    settings = {"rooms": rooms, "size": size, "in_flight": in_flight, "text": text}
    return await _one("rooms", server, rooms * size, settings, seconds, warm_up, pin)


async def steady(
    server: Target,
    *,
    rate: float = 2000.0,
    rooms: int = 10,
    size: int = 10,
    seconds: float = 3.0,
    warm_up: float = 1.0,
    text: str = _TEXT,
    pin: bool = True,
) -> Row:
    """What a given `rate` of messages a second costs, and how soon they are acked. See `rooms`."""
    settings = {"rate": rate, "rooms": rooms, "size": size, "text": text}
    return await _one("steady", server, rooms * size, settings, seconds, warm_up, pin)


async def connects(
    server: Target,
    *,
    at_a_time: int = 40,
    seconds: float = 2.0,
    warm_up: float = 0.7,
    most: int = 8_000,
    pin: bool = True,
) -> Row:
    """Authenticated websocket connections a second: upgrade, token, CONNECT, its answer.

    `at_a_time` are being made, `most` in all (each stays open until the end). Its latencies are
    those of connecting. See `acks`.
    """
    settings = {"at_a_time": at_a_time, "most": most, "files": most + 100, "sources": _linux()}
    return await _one("connects", server, _SOME_USERS, settings, seconds, warm_up, pin)


async def park(
    server: Target,
    *,
    connections: int = 10_000,
    first: int = 200,
    rest: float = 2.0,
    pin: bool = True,
) -> tuple[Row, Row]:
    """Connect many who say nothing, then close them all: the rows of `idle` and `disconnects`.

    Memory is counted from when `first` clients have come and gone, and read for `rest` seconds
    once all are there (the lowest reading, since a garbage collector takes its time). The system
    must allow that many open files, here and to the server. See `acks`.
    """
    settings = {
        "connections": connections,
        "first": first,
        "rest": rest,
        "files": connections + 100,
        "sources": _linux(),
    }
    found = await _run("park", [server], _SOME_USERS, settings, 0.0, 0.0, pin)
    return found[0], found[1]


async def idle(server: Target, *, connections: int = 10_000, **more: Any) -> Row:
    """Memory of `connections` that say nothing: `kb_per_connection`. See `park`."""
    return (await park(server, connections=connections, **more))[0]


async def disconnects(server: Target, *, connections: int = 10_000, **more: Any) -> Row:
    """CPU seconds that closing `connections` (in no room) at once costs the server. See `park`."""
    return (await park(server, connections=connections, **more))[1]


async def across(
    servers: Any,
    *,
    rate: float | None = None,
    in_flight: int = 64,
    seconds: float = 2.0,
    warm_up: float = 0.7,
    text: str = _TEXT,
    others: Sequence[int] = (),
    pin: bool = True,
) -> Row:
    """One client sends at the first server, one listens at the second; deliveries are timed.

    `servers` is a `Cluster` or a list of servers. With a `rate` (messages a second) that many are
    sent; without, as many as can be with `in_flight` not yet delivered. `others` are the pids of
    processes whose CPU time is told beside, as the Valkey's; they share the generator's CPU. The
    row's CPU time is that of both servers; on a machine with two cores they share one. See `acks`.
    """
    targets = list(getattr(servers, "servers", servers))
    if len(targets) < 2:
        raise ValueError("across is between two servers: give a cluster of two, or a list")
    settings = {"rate": rate, "in_flight": in_flight, "text": text}
    found = await _run("across", targets[:2], 2, settings, seconds, warm_up, pin, others)
    return found[0]


async def _one(
    scenario: str,
    server: Target,
    users: int,
    settings: dict[str, Any],
    seconds: float,
    warm_up: float,
    pin: bool,
) -> Row:
    return (await _run(scenario, [server], users, settings, seconds, warm_up, pin))[0]


async def _run(
    scenario: str,
    servers: Sequence[Target],
    users: int,
    settings: dict[str, Any],
    seconds: float,
    warm_up: float,
    pin: bool,
    others: Sequence[int] = (),
) -> list[Row]:
    """Start the generator, give it the job, wait for its rows."""
    # A server of `background` has no process of its own.
    pids = [getattr(server, "pid", os.getpid()) for server in servers]
    for server, pid in zip(servers, pids, strict=True):
        if pid is None or not getattr(server, "running", True):
            raise LoadError(f"{server.name} does not run: start it before it is measured")
    cpus = system.two_cpus(len(pids)) if pin and os.getpid() not in pids else None
    job = {
        "scenario": scenario,
        "server": servers[0].name,
        "urls": [server.url for server in servers],
        "pids": pids,
        "tokens": [servers[0].token(f"user-{number}", ttl=3600.0) for number in range(users)],
        "seconds": seconds,
        "warm_up": warm_up,
        "settings": settings,
        "others": list(others),
        "pinned": cpus is not None,
        "cores": len(cpus[0]) if cpus else min(len(pids), os.cpu_count() or 1),
        "cpus": sorted(cpus[1]) if cpus else None,
    }
    with (
        system.pinned(pids, cpus[0] if cpus else None),
        system.pinned(others, cpus[1] if cpus else None),
    ):
        generator = Generator(job)
        try:
            told = await in_thread(lambda: generator.answer(seconds + warm_up + _GRACE))
        finally:
            generator.end()
    if "error" in told:
        raise LoadError(f"{servers[0].name}: {told['error']}")
    return [Row.from_dict(row) for row in told["rows"]]


def _linux() -> bool:
    """Whether 127.0.0.2 and its neighbours are this machine too."""
    return sys.platform == "linux"


if __name__ == "__main__":
    from chatlab.lab.load_command import main

    sys.exit(main())
