"""Real Valkeys that belong together: a Redis Cluster, and a master that Sentinel watches over."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from chatlab.lab.ports import free_port
from chatlab.lab.process import Process
from chatlab.lab.valkey import Valkey, find_valkey
from tests.waiting import wait_until

# After so long a silence the others take a node for dead.
NODE_TIMEOUT_MS = 500

_number = itertools.count(1)


def run(server: Valkey | int, *command: Any) -> Any:
    """The reply to one command, on a connection of its own."""
    port = server if isinstance(server, int) else server.port
    with redis.Redis(port=port, decode_responses=True, socket_timeout=5) as client:
        return client.execute_command(*command)


def follows(replica: Valkey, master: Valkey) -> bool:
    """Whether a replica has all that its master had when this was asked."""
    its, mine = run(master, "INFO", "replication"), run(replica, "INFO", "replication")
    up = mine["role"] == "slave" and mine.get("master_link_status") == "up"
    return bool(up and mine["slave_repl_offset"] >= its["master_repl_offset"])


def is_master(server: Valkey) -> bool:
    """Whether a server says that it is a master."""
    return bool(run(server, "ROLE")[0] == "master")


def _start(*arguments: str, name: str) -> Valkey:
    quick = ("--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0")
    name = f"{name}-{next(_number)}"
    return Valkey(persist=False, arguments=(*quick, *arguments), name=name)


def _end(part: Process) -> None:
    if part.running:
        part.kill()
    part.stop()


def _fact(node: Valkey, name: str) -> str:
    lines = str(run(node, "CLUSTER", "INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines)[name]


class RedisCluster:
    """Three masters that share the slots, and one replica, which follows the first of them."""

    def __init__(self) -> None:
        self.nodes: list[Valkey] = []
        try:
            for _ in range(4):
                self.nodes.append(self._node())
            self._join(self.nodes[:3], self.nodes[3])
        except BaseException:
            self.stop()
            raise

    def _node(self) -> Valkey:
        return _start(
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--cluster-port", str(free_port()), "--cluster-replica-validity-factor", "0"),
            name="cluster",
        )

    def _join(self, masters: list[Valkey], replica: Valkey) -> None:
        first = masters[0]
        share = 16_384 // 3 + 1
        for at, master in enumerate(masters):
            last = min((at + 1) * share, 16_384) - 1
            run(master, "CLUSTER", "ADDSLOTSRANGE", at * share, last)
            run(master, "CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for node in self.nodes[1:]:
            bus = run(first, "CONFIG", "GET", "cluster-port")["cluster-port"]
            run(node, "CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        wait_until(lambda: all(_fact(one, "cluster_known_nodes") == "4" for one in self.nodes))
        self.follow(replica, first)
        wait_until(self.well)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in self.nodes)

    def configure(self, name: str, value: int) -> None:
        """Set a parameter of every node that runs."""
        for node in self.nodes:
            if node.running:
                run(node, "CONFIG", "SET", name, value)

    def id(self, node: Valkey) -> str:
        return str(run(node, "CLUSTER", "MYID"))

    def follow(self, replica: Valkey, master: Valkey) -> None:
        run(replica, "CLUSTER", "REPLICATE", self.id(master))
        wait_until(lambda: follows(replica, master))

    def pair(self) -> tuple[Valkey, Valkey]:
        """A master and its replica, which has all that the master has; who died is started again,
        and becomes the replica of its successor.
        """
        for node in self.nodes:
            if not node.running:
                node.restart()
        wait_until(lambda: self.well() and len(self._replicas()) == 1)
        replica = self._replicas()[0]
        port = run(replica, "ROLE")[2]
        master = next(one for one in self.nodes if one.port == port)
        wait_until(lambda: follows(replica, master))
        return master, replica

    def _replicas(self) -> list[Valkey]:
        return [node for node in self.nodes if not is_master(node)]

    def well(self) -> bool:
        """Whether all nodes say that the cluster is in order."""
        return all(_fact(one, "cluster_state") == "ok" for one in self.nodes if one.running)

    def owner(self, slot: int) -> Valkey:
        """The master of a slot, as the masters see it."""
        for node in self.nodes:
            if node.running and is_master(node):
                for first, last, (_, port, *_), *_ in run(node, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == port)
        raise LookupError(slot)

    def stop(self) -> None:
        for node in self.nodes:
            _end(node)


class Watched:
    """A master, its replica, and three sentinels that watch over them as `service`."""

    service = "mychat"

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chatlab-sentinel-"))
        self.parts: list[Process] = []
        self.ports: list[int] = []
        try:
            master = _start(*options, name="master")
            self.parts.append(master)
            replica = _start("--replicaof", f"127.0.0.1 {master.port}", *options, name="replica")
            self.parts.append(replica)
            self.servers = [master, replica]
            wait_until(lambda: follows(replica, master))
            self.sentinels = [self._sentinel(free_port()) for _ in range(3)]
            wait_until(lambda: all(self._knows_all(port) for port in self.ports))
        except BaseException:
            self.stop()
            raise

    def _sentinel(self, port: int) -> Process:
        self.ports.append(port)
        file = self.folder / f"{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.servers[0].port} 2\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 1000\n"
        )
        command = [find_valkey(), str(file), "--sentinel"]
        name = f"sentinel-{next(_number)}"
        self.parts.append(Process(name=name, command=command, ready=r"\+monitor"))
        return self.parts[-1]

    def pair(self) -> tuple[Valkey, Valkey]:
        """The master that all sentinels name, and its replica, which has all that it has."""
        wait_until(lambda: {is_master(one) for one in self.servers} == {True, False})
        replica, master = sorted(self.servers, key=is_master)
        wait_until(lambda: follows(replica, master))
        wait_until(lambda: {self._named(port) for port in self.ports} == {master.port})
        return master, replica

    def _named(self, port: int) -> int:
        return int(run(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])

    def _knows_all(self, port: int) -> bool:
        reply = run(port, "SENTINEL", "MASTER", self.service)
        facts = (
            reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        )
        return int(facts["num-other-sentinels"]) == 2 and int(facts["num-slaves"]) == 1

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{self.service}"

    def stop(self) -> None:
        for part in reversed(self.parts):
            _end(part)
        shutil.rmtree(self.folder, ignore_errors=True)
