"""Every process and every wire of the stage: started, broken, and put back.

Its methods block, so the stage calls them on a thread, one at a time. It watches nothing and
decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

from chatlab.lab.balancer import Balancer
from chatlab.lab.cluster import Cluster
from chatlab.lab.part import Part
from chatlab.lab.process import Process
from chatlab.lab.proxy import Proxy
from chatlab.lab.redis_line import RedisLine
from chatlab.lab.tokens import mint_as
from chatlab.lab.valkey import Valkey
from chatlab.stage.relay import Intake

__all__ = ["ROOM", "SERVERS", "WINDOWS", "Adapter", "Route", "World"]

Adapter = Literal["chatlab", "stock"]

ROOM: Final = "stage"
SERVERS: Final = 2
WINDOWS: Final = {"a": "alice", "b": "bob"}

# A silence is noticed after interval and timeout: 4 seconds.
_PINGS: Final = ("--ping-interval", "2", "--ping-timeout", "2")
_CHATLAB: Final = (
    *("--presence-ttl", "5", "--trusted-proxy", "127.0.0.1", "--log-level", "warning"),
    *("--max-connections-per-address", "100"),
)
_START: Final = 20.0  # seconds in which a part has to be there


class Route:
    """Where a wire leads: to another server, when that is replaced."""

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:1"  # where nobody answers


class World:
    """`pages` is the address of who serves the chat page. Nothing runs before `start`.

    What all wires and lines carry goes to `intake`: of the windows' wires as `wire-a`, of those
    behind the balancer as `server-1`, of the lines to the Valkey as `line-1`.
    """

    def __init__(self, intake: Intake, *, pages: str) -> None:
        self.adapter: Adapter = "chatlab"
        self.limits = True
        self.wires: dict[str, Proxy] = {}
        self.inner: list[Proxy] = []
        self.lines: list[RedisLine] = []
        self.store: Valkey | None = None
        self.cluster: Cluster | None = None
        self.balancer: Balancer | None = None
        self._routes = [Route() for _ in range(SERVERS)]
        self._intake = intake
        self._pages = pages
        # Two stages on one machine, or in one test, must not take each other's names.
        self._mark = secrets.token_hex(3)
        self._env = {"CHATLAB_JWT_SECRET": secrets.token_hex(32)}

    # -- beginning and end -------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything. Raises `RuntimeError`, with a sentence; call `stop` then."""
        self.store = Valkey(name=self.called("valkey"), timeout=_START)
        self._intake.listen(self.store.recorder, "valkey")
        for number, route in enumerate(self._routes, 1):
            line = RedisLine(self.store, server=self.called(f"server {number}"))
            self.lines.append(line)
            self._intake.listen(line.recorder, f"line-{number}")
            self.inner.append(self._wire(route, f"server-{number}"))
        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(self.build, self.adapter, self.limits)
            self.balancer = Balancer(
                self.inner,
                kind="caddy",
                seats=True,
                pages=self._pages,
                name=self.called("balancer"),
                timeout=_START,
            )
            serving.result()
        for window in WINDOWS:
            self.wires[window] = self._wire(self.balancer, f"wire-{window}")

    def _wire(self, target: object, place: str) -> Proxy:
        wire = Proxy(target, name=self.called(place))
        self._intake.listen(wire.recorder, place)
        return wire

    def called(self, part: str) -> str:
        """The name of a part of this stage, and of no other."""
        return f"{part} of stage {self._mark}"

    def build(self, adapter: Adapter, limits: bool) -> None:
        """New servers in place of the old ones; the wires lead to them from now on."""
        if self.cluster is not None:
            self._kill(self.cluster.servers)
            self.cluster.stop()
            self.cluster = None
        if self.store is None:
            raise RuntimeError("the stage has no Valkey: reset it")
        extra = () if limits else ("--no-limits",)
        stock = adapter == "stock"
        self.cluster = Cluster(
            SERVERS,
            stock="redis" if stock else False,
            valkey=self.store,
            lines=self.lines,
            arguments=_PINGS if stock else (*_PINGS, *_CHATLAB, *extra),
            env=self._env,
            name=self.called("cluster"),
            timeout=_START,
        )
        for route, server in zip(self._routes, self.cluster.servers, strict=True):
            route.url = server.url
        self.adapter, self.limits = adapter, limits

    def reset(self) -> None:
        """Everything as it was at the start, but that addresses and tokens stay what they were."""
        for wire in self.wires.values():
            wire.heal()
        if self.cluster is not None:
            self._kill(self.cluster.servers)
        store, balancer = self.store, self.balancer
        if store is None or balancer is None:
            raise RuntimeError("the stage was never whole")
        self._kill([store])
        store.restart(empty=True)
        if not balancer.running:
            balancer.restart()
        self.build("chatlab", limits=True)
        for wire in self.wires.values():
            wire.cut(seconds=0)

    def start_over(self) -> None:
        """As `reset`, where that did not work: whatever holds it up ends now. Addresses stay."""
        if self.cluster is not None:
            self._kill(self.cluster.servers)
        if self.store is not None:
            self._kill([self.store])
        if self.balancer is not None:
            self._kill([self.balancer])
        self.reset()

    def _kill(self, processes: Sequence[Process]) -> None:
        for process in processes:
            # It may have ended by itself a moment ago.
            with contextlib.suppress(RuntimeError, OSError):
                if process.running:
                    process.kill()

    def stop(self) -> None:
        """End every process and every wire. May be repeated, and at any time."""
        servers = self.cluster.servers if self.cluster is not None else []
        self._kill([each for each in (*servers, self.store) if each is not None])
        outside: list[Part | None] = [*self.wires.values(), self.balancer]
        for part in (*outside, *self.inner, self.cluster, *self.lines, self.store):
            if part is not None:
                with contextlib.suppress(Exception):
                    part.stop()

    # -- what it says of itself --------------------------------------------------------------------

    @property
    def servers(self) -> list[Process]:
        """The servers, up or down."""
        return [] if self.cluster is None else self.cluster.servers

    @property
    def parts(self) -> dict[str, Process]:
        """The processes by the names that the stage's page has for them."""
        found: dict[str, Process] = {
            f"server-{number}": server for number, server in enumerate(self.servers, 1)
        }
        if self.balancer is not None:
            found["balancer"] = self.balancer
        if self.store is not None:
            found["valkey"] = self.store
        return found

    @property
    def store_url(self) -> str:
        """The Valkey's address."""
        return "" if self.store is None else self.store.url

    def token(self, user: str, *, ttl: float, **claims: Any) -> str:
        """A token that every server of this stage takes."""
        return mint_as({**os.environ, **self._env}, user, ttl=ttl, claims=claims)

    def forged(self, user: str, *, ttl: float) -> str:
        """A token that looks the same, signed by somebody else."""
        other = {**os.environ, "CHATLAB_JWT_SECRET": secrets.token_hex(32)}
        return mint_as(other, user, ttl=ttl)
