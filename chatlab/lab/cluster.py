"""Several servers, a Valkey and a load balancer as one object, each a process that can be broken.

Everything runs on this machine, on free ports, and ends with the notebook. It is for finding out
what happens when a part dies, not for running a chat.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Literal, Self, TypeAlias

from chatlab.lab import cluster_parts
from chatlab.lab.balancer import NAMES, Balancer, Kind, find_balancer
from chatlab.lab.card import State
from chatlab.lab.cluster_card import ClusterCard
from chatlab.lab.page import HasPage, not_served, serves_page
from chatlab.lab.part import Part
from chatlab.lab.ports import IN_USE, free_port
from chatlab.lab.process import Process
from chatlab.lab.tokens import mint_as
from chatlab.lab.valkey import ExternalValkey, Valkey

__all__ = ["Cluster", "Target"]

Target: TypeAlias = int | Literal["valkey", "balancer"]

_ATTEMPTS = 5


class Cluster(HasPage, Part):
    """`servers` processes of `chatlab serve --dev` that share one Valkey, behind a balancer or not.

    - `balancer`: `"caddy"`, `"haproxy"` or None; `sticky=False` makes it choose a server for each
      request in turn.
    - `stock`: `"redis"` runs stock python-socketio servers with their Redis manager instead
      (`python -m chatlab.lab.stock`), `"alone"` such servers without one.
    - `valkey`: False starts none, and `arguments` say where messages are kept; a Valkey that runs
      already is used, and outlives the cluster.
    - `arguments` and `env` go to each server.
    - `lines`: a line (`RedisLine`) for each server, by which it reaches the Valkey. They are yours.

    What breaks a part takes a server's number, `"valkey"` or `"balancer"`; it returns the cluster.
    A method blocks until its part is there, or gone: inside a running scene, with clients on this
    loop, write `await asyncio.to_thread(cluster.restart, 0)`. A second cluster of the same `name`
    stops the first. Raises `RuntimeError`, and leaves nothing behind, when a part does not start.
    """

    def __init__(
        self,
        servers: int = 2,
        *,
        balancer: Kind | None = None,
        sticky: bool = True,
        stock: Literal[False, "redis", "alone"] = False,
        valkey: bool | Valkey | ExternalValkey = True,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        lines: Sequence[object] = (),
        name: str = "cluster",
        timeout: float = 20.0,
    ) -> None:
        if servers < 1:
            raise ValueError(f"a cluster has one server or more, not {servers}")
        if lines and len(lines) != servers:
            raise ValueError(f"{servers} servers need a line each, not {len(lines)} lines")
        if stock not in (False, "redis", "alone"):
            raise ValueError(f"stock is False, 'redis' or 'alone', not {stock!r}")
        if stock == "redis" and valkey is False:
            raise ValueError("stock='redis' shares its rooms through a Valkey: leave valkey=True")
        if balancer is not None:
            find_balancer(balancer)  # before anything is started
        self.name = name
        self.servers: list[Process] = []
        self.store: Valkey | ExternalValkey | None = None
        self.balancer: Balancer | None = None
        self._stock: Literal[False, "redis", "alone"] = stock
        self._arguments = tuple(arguments)
        self._lines = tuple(lines)
        self._behind = balancer is not None
        self._env = {**os.environ, **(env or {})}
        # One for all: a token that one server made is taken by every other.
        self._env.setdefault("CHATLAB_JWT_SECRET", secrets.token_hex(32))
        self._timeout = timeout
        # Keeps this cluster apart from earlier ones in a store that is not the lab's.
        self._mark = secrets.token_hex(4)
        self._own_store = isinstance(valkey, bool)
        self._stopped = False
        self._take_name()
        try:
            if not isinstance(valkey, bool):
                self.store = valkey
            elif valkey and stock != "alone" and not self._keeps_elsewhere():
                self.store = self._start_store()
            self._start_servers(servers)
            if balancer is not None:
                self.balancer = cluster_parts.Balancer(
                    self.servers,
                    kind=balancer,
                    sticky=sticky,
                    name=self._called("balancer"),
                    timeout=timeout,
                )
        except BaseException:
            self.stop()
            raise

    def _keeps_elsewhere(self) -> bool:
        return any(argument.split("=")[0] == "--storage" for argument in self._arguments)

    def _called(self, part: str) -> str:
        return part if self.name == "cluster" else f"{self.name} {part}"

    def _start_store(self) -> Valkey | ExternalValkey:
        name = self._called("valkey")
        if url := os.environ.get("CHATLAB_REDIS_URL"):
            return ExternalValkey(url, name=name)
        return cluster_parts.Store(name=name, timeout=self._timeout)

    def _start_servers(self, count: int) -> None:
        numbers = range(len(self.servers), len(self.servers) + count)
        pool = ThreadPoolExecutor(count, thread_name_prefix="lab: cluster")
        futures = [pool.submit(self._start_server, number) for number in numbers]
        try:
            wait(futures)
        finally:
            # On Interrupt, too: what is being started must be known to be stopped.
            pool.shutdown()
            self.servers += [future.result() for future in futures if future.exception() is None]
        for future in futures:
            future.result()

    def _start_server(self, number: int) -> Process:
        for attempt in range(_ATTEMPTS):
            try:
                return cluster_parts.Server(
                    (*self._command(free_port(), number), *self._arguments),
                    name=self._called(f"server {number}"),
                    stock=bool(self._stock),
                    env=self._env,
                    timeout=self._timeout,
                    token=self.token,
                )
            except RuntimeError as error:
                if IN_USE not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _command(self, port: int, number: int) -> list[str]:
        given = ["--port", str(port)]
        url = "" if self.store is None else self.store.url
        if number < len(self._lines):
            url = str(getattr(self._lines[number], "url", url))
        apart = (
            f"chatlab-{self._mark}"
            if self._own_store and isinstance(self.store, ExternalValkey)
            else ""
        )
        if self._stock:
            given += ["--redis", url] if url else []
            return [*given, "--channel", apart] if apart else given
        if apart:
            # Not on the command line, which everybody on this machine can read: it may name a
            # password that is not the lab's.
            self._env["CHATLAB_STORAGE"] = url + ("&" if "?" in url else "?") + f"prefix={apart}"
        elif url:
            given += ["--storage", url]
        if self._behind:
            given += ["--trusted-proxy", "127.0.0.1"]
        return given

    # -- faults ------------------------------------------------------------------------------------

    def kill(self, target: Target) -> Self:
        """SIGKILL: the part ends at once and cleans up nothing."""
        return self._do(target, "kill")

    def freeze(self, target: Target) -> Self:
        """SIGSTOP: the part stands still, and its connections stay open. Not on Windows."""
        return self._do(target, "freeze")

    def thaw(self, target: Target) -> Self:
        """SIGCONT: the part goes on where it stood."""
        return self._do(target, "thaw")

    def restart(self, target: Target) -> Self:
        """Start the part again on its port, Valkey with its data; stop it first where it runs.

        Returns when it accepts. The balancer finds a server that is back within a second.
        """
        return self._do(target, "restart")

    def add(self) -> Self:
        """Start one more server, and send clients to it too.

        The balancer starts again with new settings: connections through it drop and come back.
        """
        if self._stopped:
            raise RuntimeError(f"{self.name} is stopped: make a new one")
        self._start_servers(1)
        if self.balancer is not None:
            self.balancer.add(self.servers[-1])
        return self

    def stop(self, target: Target | None = None) -> Self:
        """Without a target: end everything, remove every file. May be repeated.

        With one: SIGTERM. Returns at once then; `await cluster.servers[0].exited()` waits.
        """
        if target is not None:
            return self._do(target, "terminate")
        self._stopped = True
        # Clients' side first, so that nothing is told of servers that are going anyway.
        for parts in ([self.balancer], self.servers, [self.store] if self._own_store else []):
            # First a word to each of them, so that they end side by side. Not by threads: none can
            # be started when Python itself is ending.
            for part in parts:
                if isinstance(part, cluster_parts.Member):
                    part.ask_to_finish()
            for part in parts:
                if part is not None:
                    part.stop()
        self._give_up_name()
        return self

    def _do(self, target: Target, what: str) -> Self:
        getattr(self._part(target), what)()
        return self

    def _part(self, target: Target) -> Process | ExternalValkey:
        if isinstance(target, int):
            if not -len(self.servers) <= target < len(self.servers):
                last = len(self.servers) - 1
                raise IndexError(f"{self.name} has no server {target}: they are 0 to {last}")
            return self.servers[target]
        parts: dict[str, Process | ExternalValkey | None] = {
            "valkey": self.store,
            "balancer": self.balancer,
        }
        if target not in parts:
            raise ValueError(f"a part is a server's number, 'valkey' or 'balancer', not {target!r}")
        part = parts[target]
        if part is None:
            raise RuntimeError(f"{self.name} has no {target}")
        return part

    # -- what it says of itself --------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The balancer's address; without one, the first server's."""
        if self.balancer is not None:
            return self.balancer.url
        return self.servers[0].url if self.servers else ""

    def token(self, user: str, *, ttl: float = 900.0, **claims: Any) -> str:
        """A token for `user` that every server takes for `ttl` seconds; `claims` are added."""
        return mint_as(self._env, user, ttl=ttl, claims=claims)

    def _why_no_page(self) -> str | None:
        if self._stock:
            return "runs stock servers, which have no chat page"
        if not serves_page(self._arguments, self._env):
            return not_served('Cluster(arguments=["--page"])')
        if self.balancer is not None and not self.balancer.running:
            return "has no balancer that runs: restart it"
        here = self.servers if self.balancer is not None else self.servers[:1]
        return None if any(server.running for server in here) else "has no server that runs"

    def card(self) -> ClusterCard:
        """Who stands behind whom, and the state of each."""
        columns = (
            (self.balancer.card(),) if self.balancer is not None else (),
            tuple(server.card() for server in self.servers),
            (self.store.card(),) if self.store is not None else (),
        )
        broken = [c.title for column in columns for c in column if c.mood != "good"]
        state = f"without {', '.join(broken)}" if broken else "running"
        mood: State = "bad" if broken else "good"
        if self._stopped:
            state, mood = "stopped", "off"
        return ClusterCard(self.name, state, mood, (), columns, self._note())

    def _note(self) -> str:
        words = {
            False: "servers: chatlab",
            "redis": "servers: stock python-socketio with its Redis manager",
            "alone": "servers: stock python-socketio, each on its own",
        }
        said = [words[self._stock]]
        if self.balancer is not None:
            how = "a cookie keeps a client at its server" if self.balancer.sticky else "in turn"
            said.append(f"balancer: {NAMES[self.balancer.kind]}, {how}")
        return " · ".join(said)
