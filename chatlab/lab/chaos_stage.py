"""The stage of a chaos run: a cluster with wires before its balancer, and what breaks them.

It strikes as planned and puts everything back; who suffers from it is `chaos_crowd.py`'s business.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from chatlab.lab.balancer import Kind, find_balancer
from chatlab.lab.chaos_plan import Strike
from chatlab.lab.cluster import Cluster, Target
from chatlab.lab.history import History
from chatlab.lab.process import Process
from chatlab.lab.proxy import Proxy

__all__ = ["PRESENCE_TTL", "Stage", "any_balancer"]

PRESENCE_TTL: Final = 5.0  # seconds; pings every 2 s, answered within 2 s
_PINGS: Final = ("--ping-interval", "2", "--ping-timeout", "2")
# Two seconds by contract; what is more here is for a machine that does everything at once.
_ENDS_WITHIN: Final = 4.0


def any_balancer() -> Kind:
    """The balancer that this machine has. Raises `RuntimeError`, which says how to get one."""
    try:
        find_balancer("haproxy")
    except RuntimeError:
        find_balancer("caddy")
        return "caddy"
    return "haproxy"


class Stage:
    """The parts, up and running; `stop` ends them. `problems` is what went wrong with a fault."""

    def __init__(self, *, servers: int, wires: int, stock: bool) -> None:
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self.wires: list[Proxy] = []
        # On a slow machine a part may not be back yet when it is to be hit again: that waits.
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        chat = () if stock else ("--presence-ttl", f"{PRESENCE_TTL:g}")
        self.cluster = Cluster(
            servers,
            balancer=any_balancer(),
            stock="redis" if stock else False,
            arguments=(*_PINGS, *chat),
            name="chaos",
        )
        try:
            for number in range(wires):
                self.wires.append(Proxy(self.cluster, name=f"chaos wire {number}"))
        except BaseException:
            self.stop()
            raise

    @property
    def servers(self) -> list[Process]:
        """The servers, up or down."""
        return self.cluster.servers

    def stop(self) -> None:
        """End everything."""
        for wire in self.wires:
            wire.stop()
        self.cluster.stop()

    # --- faults --------------------------------------------------------------------------------

    async def perform(self, plan: Sequence[Strike], history: History) -> None:
        """Let every strike happen when it is due; returns when the last one is over."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as strikes:
            for strike in plan:
                while (wait := begun + strike.at - time.monotonic()) > 0:
                    await asyncio.sleep(min(wait, 1.0))
                    self.forget()
                strikes.create_task(self._strike(strike, history))

    def forget(self) -> None:
        """A wire remembers every packet, which in a long run is too much."""
        for wire in self.wires:
            wire.clear()

    async def _strike(self, strike: Strike, history: History) -> None:
        try:
            async with self._turns[strike.part, strike.target]:
                history.note(f"{strike}")
                await self._do(strike)
        except (RuntimeError, TimeoutError) as error:
            self.problems.append(f"{strike}: {error}")
        else:
            self.done[strike.kind] += 1
        history.note(f"over: {strike}")

    async def _do(self, strike: Strike) -> None:
        target: Target = strike.target if strike.part == "server" else "valkey"
        match strike.kind:
            case "kill server" | "kill valkey":
                await asyncio.to_thread(self.cluster.kill, target)
                await asyncio.sleep(strike.seconds)
                await asyncio.to_thread(self.cluster.restart, target)
            case "stop server":
                await self._stop_server(strike)
            case "restart valkey":
                await asyncio.to_thread(self.cluster.restart, "valkey")
            case "freeze valkey":
                self.cluster.freeze("valkey")
                await asyncio.sleep(strike.seconds)
                self.cluster.thaw("valkey")
            case "cut wire":
                wire = self.wires[strike.target]
                await asyncio.to_thread(wire.cut, seconds=strike.seconds, rst=strike.seconds > 1)
                await asyncio.sleep(strike.seconds)
            case "mute wire":
                wire = self.wires[strike.target]
                await asyncio.to_thread(wire.mute, seconds=strike.seconds)
                await asyncio.sleep(strike.seconds)

    async def _stop_server(self, strike: Strike) -> None:
        begun = time.monotonic()
        server = self.servers[strike.target]
        self.cluster.stop(strike.target)
        code = await server.exited(10.0)
        took = time.monotonic() - begun
        if code != 0 or took > _ENDS_WITHIN:
            self.problems.append(
                f"{server.name}, told to finish, ended with {code} after {took:.1f} s"
            )
        await asyncio.sleep(max(0.0, strike.seconds - took))
        await asyncio.to_thread(self.cluster.restart, strike.target)

    # --- calm ----------------------------------------------------------------------------------

    async def calm(self, *, timeout: float = 15.0) -> None:
        """Every part stands, and every server says that it is well."""
        for wire in self.wires:
            await asyncio.to_thread(wire.heal)
        deadline = time.monotonic() + timeout
        for server in self.servers:
            if not server.running:
                self.problems.append(f"{server.name} ended by itself: {server.returncode}")
                await asyncio.to_thread(server.restart)
            while not await asyncio.to_thread(_well, server.url):
                if time.monotonic() > deadline:
                    self.problems.append(f"{server.name} is not well {timeout:g} s after the end")
                    break
                await asyncio.sleep(0.1)


def _well(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=1) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
