"""The master that Sentinel names: asked for at every connect, and watched while it is in use.

Sentinel promotes a replica without asking those who talk to the old master, which may be alive and
cut off. So they ask every second, and leave a master that is none any more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError

from chatlab.storage.base import cancelled
from chatlab.storage.redis_connect import Address, ask, ask_several, connect_to, hang_up
from chatlab.storage.redis_topology import Topology
from chatlab.storage.redis_url import Location

__all__ = ["Sentinel"]

log = logging.getLogger(__name__)

WATCH_EVERY: Final = 1.0
"""Seconds until the sentinels are asked again, though nothing seems wrong."""

MASTER_WITHIN: Final = 0.5
"""Seconds in which a master has to answer: the one that Sentinel names may have died, and its
successor is not to be missed for long."""


class Sentinel(Topology):
    """One node: whatever server is the master of the service."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._at: Address | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Each connect finds the master anew; the watch sees it change in between."""
        self.found(self.location.shown, self._connect)
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Watch no more."""
        await cancelled(self._task)
        self._task = None

    async def _connect(self) -> AbstractConnection:
        host, port = address = await self._master()
        connection = None
        try:
            async with asyncio.timeout(MASTER_WITHIN):
                connection = await connect_to(self.location.options | {"host": host, "port": port})
                role = (await ask(connection, "ROLE"))[0]
            if role != b"master":
                raise ConnectionError(f"{host}:{port}, which Sentinel names, is not a master")
        except TimeoutError:
            if connection is not None:
                await hang_up(connection)
            raise ConnectionError(f"{host}:{port} is silent for {MASTER_WITHIN:g} s") from None
        except BaseException:
            if connection is not None:
                await hang_up(connection)
            raise
        self._now_at(address)
        return connection

    def _now_at(self, address: Address) -> None:
        before, self._at = self._at, address
        if before not in (None, address):
            # Links that are still up talk to the old one; this one is only being made.
            self.relocated(self.location.shown, f"the master is {address[0]}:{address[1]} now")

    async def _master(self) -> Address:
        """Where the master is, according to the sentinel that knows of the latest failover."""
        service = self.location.service
        answers, reason = await ask_several(
            self.location.hosts,
            self.location.sentinel_options or {},
            [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)],
        )
        known = [(_epoch(facts), address) for _, (address, facts) in answers if address]
        if not known:
            what = reason or "they do not know it"
            raise ConnectionError(f"no Sentinel says where {service!r} is: {what}")
        _, (host, port) = max(known)
        return host.decode(), int(port)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            try:
                master = await self._master()
            except ConnectionError as error:
                log.warning("%s", error)
                continue
            if self._at not in (None, master):
                why = f"Sentinel has made {master[0]}:{master[1]} the master"
                self.relocated(self.location.shown, why)


def _epoch(facts: list[Any]) -> int:
    return int(dict(zip(facts[::2], facts[1::2], strict=True)).get(b"config-epoch", 0))
