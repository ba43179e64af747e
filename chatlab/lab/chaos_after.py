"""What is looked at when a chaos run is over: presence on every server, and what servers kept.

Messages are the checker's business; this is about what must be as it was before anybody came.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from chatlab.client import ChatClient
from chatlab.errors import ChatError, RateLimited
from chatlab.lab.cluster import Cluster
from chatlab.lab.process import Process
from chatlab.protocol import Presence

__all__ = [
    "MEMORY_ALLOWANCE",
    "Footprint",
    "Watch",
    "channels",
    "footprint",
    "left_behind",
    "warm_up",
    "wrong_presence",
]

MEMORY_ALLOWANCE: Final = 32.0
"""Megabytes by which a server may have grown between its fifth second and the end of the run."""
_WARM: Final = 5.0  # seconds after its start in which a server is still growing into its work
_TASKS: Final = 2
_PROBE: Final = "probe of"
_GAUGES: Final = re.compile(
    r"^(chatlab_(?:sockets|rooms|tasks|subscriptions|feeds)[a-z_]*) ([0-9.e+]+)$", re.MULTILINE
)


# --- presence ------------------------------------------------------------------------------------


async def wrong_presence(
    cluster: Cluster, expected: Mapping[str, set[str]], *, within: float
) -> list[str]:
    """Ask every server who is in each room until it is right; says what is wrong after `within`.

    `expected` are the users by room. Who asks has to be in the room, so a probe joins everywhere.
    """
    answers = await asyncio.gather(
        *(_ask(server, cluster, expected, within) for server in cluster.servers)
    )
    return [sentence for answer in answers for sentence in answer]


async def _ask(
    server: Process, cluster: Cluster, expected: Mapping[str, set[str]], within: float
) -> list[str]:
    # A user of its own for each server: the limits of one user would slow the three down.
    token = cluster.token(f"{_PROBE} {server.name}", rooms=list(expected))
    probe = ChatClient(server.url, token, timeout=5.0)
    doubtful = list(expected)
    try:
        async with asyncio.timeout(within + 15.0), probe:
            for room in expected:
                await probe.join(room)
            deadline = time.monotonic() + within
            while wrong := {
                room: w for room in doubtful if (w := await _wrong(probe, room, expected))
            }:
                if time.monotonic() > deadline:
                    return [f"{server.name}: {sentence}" for sentence in wrong.values()]
                doubtful = list(wrong)
                await asyncio.sleep(0.1 * len(doubtful))
    except (ChatError, TimeoutError) as error:
        return [f"{server.name} could not be asked who is there: {error!r}"]
    return []


async def _wrong(probe: ChatClient, room: str, expected: Mapping[str, set[str]]) -> str | None:
    there = {user for user in (await _who(probe, room)).users if not user.startswith(_PROBE)}
    if there == expected[room]:
        return None
    missing, ghosts = sorted(expected[room] - there), sorted(there - expected[room])
    parts = [f"without {', '.join(missing)}"] if missing else []
    parts += [f"with {', '.join(ghosts)}, who left"] if ghosts else []
    return f"presence in {room} is {' and '.join(parts)}"


async def _who(probe: ChatClient, room: str) -> Presence:
    while True:
        try:
            return await probe.who(room)
        except RateLimited as error:
            await asyncio.sleep(error.retry_after or 0.1)


async def warm_up(cluster: Cluster) -> None:
    """Use every server once: what a server makes when it is first needed, it keeps."""
    for server in cluster.servers:
        token = cluster.token(f"{_PROBE} {server.name}")
        async with ChatClient(server.url, token) as probe:
            await probe.join("warm-up")
            await probe.send("hello")
            await probe.leave("warm-up")
    deadline = time.monotonic() + 3.0
    for server in cluster.servers:
        while (await asyncio.to_thread(_gauges, server.url)).get("chatlab_sockets", 0.0):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.05)


# --- what is left --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a server holds while nobody is connected. Not everything is known everywhere."""

    files: int | None
    threads: int | None
    gauges: dict[str, float] = field(default_factory=dict)


def footprint(server: Process) -> Footprint:
    """Open files and threads, and the server's own gauges; blocks."""
    found = _process(server)
    return Footprint(
        None if found is None else found.num_fds(),
        None if found is None else found.num_threads(),
        _gauges(server.url),
    )


def channels(cluster: Cluster) -> set[str] | None:
    """The channels that anybody is subscribed to; None without a Redis. Blocks."""
    if cluster.store is None:
        return None
    with redis.Redis.from_url(cluster.store.url) as store:
        answers: list[Any] = [store.pubsub_channels(), store.pubsub_shardchannels()]
    return {name.decode(errors="replace") for answer in answers for name in answer}


async def left_behind(
    cluster: Cluster, before: Mapping[str, Footprint], heard: set[str] | None, *, within: float
) -> list[str]:
    """What servers and their Redis still hold of clients that have all gone.

    It may take them `within` seconds to let go: a silent client is noticed by its missing pong.
    """
    deadline = time.monotonic() + within
    while True:
        left = await asyncio.to_thread(_left, cluster, before, heard)
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.25)


def _left(cluster: Cluster, before: Mapping[str, Footprint], heard: set[str] | None) -> list[str]:
    left = []
    now_heard = channels(cluster)
    if heard is not None and now_heard is not None and len(now_heard) > len(heard):
        extra = sorted(now_heard - heard)
        left.append(f"{len(extra)} subscriptions are left, such as {extra[0]}")
    for server in cluster.servers:
        then, now = before[server.name], footprint(server)
        for name, value in now.gauges.items():
            was = then.gauges.get(name, 0.0)
            # A task is somebody's connection of this moment: the balancer asks for its health.
            if value > was + (_TASKS if name == "chatlab_tasks" else 0):
                left.append(f"{server.name}: {name} is {value:g}, before it was {was:g}")
        # A few connections to Redis are made when they are first needed, and kept.
        for what, was_open, is_open, more in (
            ("open files", then.files, now.files, 12),
            ("threads", then.threads, now.threads, 4),
        ):
            if was_open is not None and is_open is not None and is_open > was_open + more:
                left.append(f"{server.name}: {is_open} {what}, before it was {was_open}")
    return left


def _gauges(url: str) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=2) as answer:  # noqa: S310
            text = answer.read().decode()
    except OSError:
        return {}
    return {name: float(value) for name, value in _GAUGES.findall(text)}


class Watch:
    """Follows the memory of each server process from its start to the end of the run."""

    def __init__(self, servers: Iterable[Process]) -> None:
        self._servers = list(servers)
        self._born: dict[int, float] = {}
        self._warm: dict[int, float] = {}
        self.most = 0.0

    async def run(self) -> None:
        """Look every second, until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(1.0)

    def look(self) -> None:
        """Look once."""
        for server in self._servers:
            pid, size = server.pid, memory(server)
            if pid is None or size is None:
                continue
            self.most = max(self.most, size)
            born = self._born.setdefault(pid, time.monotonic())
            if time.monotonic() - born >= _WARM:
                self._warm.setdefault(pid, size)

    def grown(self) -> list[str]:
        """The servers that grew by more than `MEMORY_ALLOWANCE`."""
        found = []
        for server in self._servers:
            first, last = self._warm.get(server.pid or 0), memory(server)
            if first is not None and last is not None and last > first + MEMORY_ALLOWANCE:
                found.append(f"{server.name} grew from {first:.0f} MB to {last:.0f} MB")
        return found


def memory(server: Process) -> float | None:
    """Resident memory in megabytes; None where it cannot be known."""
    found = _process(server)
    try:
        return None if found is None else found.memory_info().rss / 1e6
    except Exception:
        return None


def _process(server: Process) -> Any:
    try:
        import psutil
    except ImportError:
        return None
    try:
        return psutil.Process(server.pid) if server.pid is not None else None
    except psutil.NoSuchProcess:
        return None
