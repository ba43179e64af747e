"""The nodes of a Redis Cluster: which has which of the 16,384 slots, looked up and kept current.

Keys and channels have a slot, and a slot has a node, until it is moved or its node fails. The nodes
tell where everything is, and the one that knows of the latest change is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

from chatlab.storage.base import cancelled
from chatlab.storage.redis_connect import Address, Answer, ask_several, connect_to
from chatlab.storage.redis_topology import Topology
from chatlab.storage.redis_url import Location

__all__ = ["Cluster"]

log = logging.getLogger(__name__)

WATCH_EVERY: Final = 5.0
"""Seconds until the nodes are asked again, though nothing seems wrong."""

TROUBLED_EVERY: Final = 0.1
"""Seconds between two questions while a node is away, or commands are refused."""

MOST_ASKED: Final = 8  # nodes; a large cluster need not be asked as a whole


class _Map(NamedTuple):
    """What one node knows. `masters` have a slot; `others` have none, and can be asked too."""

    epoch: int
    well: bool
    owners: list[str]
    masters: dict[str, Address]
    others: set[Address]


class Cluster(Topology):
    """Every master that has slots is a node."""

    sharded = True

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._owners = [""] * REDIS_CLUSTER_HASH_SLOTS
        self._masters: dict[str, Address] = {}
        self._others: set[Address] = set()
        self._pointed_at: Address | None = None
        self._known = asyncio.Event()
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns when the slots are known."""
        self._task = asyncio.get_running_loop().create_task(self._watch())
        await self._known.wait()

    async def close(self) -> None:
        """Watch no more."""
        await cancelled(self._task)
        self._task = None

    def node_of(self, name: str) -> str:
        """The master that has the slot of a key or channel."""
        return self._owners[key_slot(name.encode())]

    def look(self) -> None:
        """Ask the nodes again, soon."""
        self._look.set()

    def moved(self, error: ResponseError) -> bool:
        """Learn from a refusal. While a slot is on its way (ASK, TRYAGAIN), the command has to wait
        for it: a script that touches several keys cannot run in the middle of that.
        """
        if not isinstance(error, (AskError, TryAgainError, ClusterDownError)):
            return False
        if isinstance(error, MovedError) and error.host:
            self._pointed_at = address = error.host, error.port
            self._owners[error.slot_id] = self._master(address)
        self.look()
        return True

    def _master(self, address: Address) -> str:
        name = f"{address[0]}:{address[1]}"
        if name not in self._masters:
            self._masters[name] = address
            options = self.location.options | {"host": address[0], "port": address[1]}
            self.found(name, partial(connect_to, options))
        return name

    # --- looking -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._ask()
            except Exception:
                log.exception("the slots of the Redis Cluster could not be read")
            await asyncio.sleep(TROUBLED_EVERY)
            if not self.troubled():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_EVERY):
                        await self._look.wait()

    async def _ask(self) -> None:
        answers, reason = await ask_several(
            self._whom(), self.location.options, [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")]
        )
        maps = [one for one in map(_read, answers) if one.masters]
        if not maps:
            self.reason = reason or "its nodes have no slots"
            return
        # A slot or a failed master's slots go to a node together with a new, higher epoch.
        self._take(max(maps, key=lambda one: (one.epoch, one.well)))

    def _whom(self) -> list[Address]:
        known = set(self._masters.values()) | self._others
        some = random.sample(sorted(known), min(len(known), MOST_ASKED))
        if self._pointed_at is not None:
            some.append(self._pointed_at)
            self._pointed_at = None
        # The addresses that were given are asked where nothing else is left.
        if not known or self.troubled():
            some += self.location.hosts
        return list(dict.fromkeys(some))

    def _take(self, latest: _Map) -> None:
        for address in latest.masters.values():
            self._master(address)
        self._owners, self._others = latest.owners, latest.others
        self.changed()
        for name in self._masters.keys() - latest.masters.keys():
            self._others.add(self._masters.pop(name))
            self.gone(name)
        self.reason = None
        self._known.set()


def _read(answer: Answer) -> _Map:
    asked, (info, ranges) = answer
    facts = dict(line.split(":", 1) for line in info.decode().split() if ":" in line)
    owners = [""] * REDIS_CLUSTER_HASH_SLOTS
    masters: dict[str, Address] = {}
    others: set[Address] = set()
    for first, last, master, *replicas in ranges:
        for host, port in _addresses([master], asked[0]):
            name = f"{host}:{port}"
            masters[name] = host, port
            owners[first : last + 1] = [name] * (last + 1 - first)
        others.update(_addresses(replicas, asked[0]))
    well = facts.get("cluster_state") == "ok"
    return _Map(int(facts.get("cluster_current_epoch", 0)), well, owners, masters, others)


def _addresses(nodes: list[Any], asked: str) -> Iterator[Address]:
    """Where nodes are; a nameless one is at the address that was asked, `?` is nowhere."""
    for host, port, *_ in nodes:
        name = host.decode() if host else asked
        if name != "?":
            yield name, port
