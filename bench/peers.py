"""The servers that are measured, each started fresh as a process of its own for every measurement.

All verify the same tokens, signed with one secret. What each does beside is told in `Peer.does`.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.node import node_command
from chatlab.lab.process import Process
from chatlab.lab.tokens import mint
from chatlab.lab.valkey import Valkey

__all__ = ["PEERS", "BenchServer", "Peer", "Started"]

HERE = Path(__file__).resolve().parent
SECRET = secrets.token_hex(32)
ENVIRONMENT = {"CHATLAB_JWT_SECRET": SECRET, "PEER_SECRET": SECRET}


class BenchServer(Process):
    """A process whose tokens carry what each of the servers wants to find in one."""

    def token(self, user: str, *, ttl: float = 3600.0, **claims: Any) -> str:
        names = {"userId": user, "username": user}
        return mint(user, secret=SECRET, ttl=ttl, claims={**names, **claims})


@dataclass(frozen=True, slots=True)
class Started:
    """What runs: one server or two, and processes whose CPU time is told beside."""

    servers: list[BenchServer]
    others: list[int]


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the chat. `command` gets a Valkey's address ("" without) and a folder.

    `keeps` says in a word, beside each figure, what becomes of a message; `does` says the rest.
    """

    name: str
    label: str
    keeps: str
    does: str
    command: Callable[[str, Path], tuple[Sequence[str] | None, Sequence[str]]]
    servers: int = 1
    persist: bool = False  # of the Valkey, for two servers

    @contextlib.contextmanager
    def running(self) -> Iterator[Started]:
        """Start it; end it and remove its files. Raises `RuntimeError` where it does not start."""
        with contextlib.ExitStack() as ending:
            folder = Path(
                ending.enter_context(tempfile.TemporaryDirectory(prefix="chatlab-bench-"))
            )
            url, others = "", []
            if self.servers > 1:
                store = Valkey(persist=self.persist, name="bench valkey")
                ending.callback(store.stop)
                url, others = store.url, [store.pid or 0]
            command, arguments = self.command(url, folder)
            started = []
            for number in range(self.servers):
                server = BenchServer(
                    arguments,
                    name=self.label if self.servers == 1 else f"{self.label} {number + 1}",
                    command=command,
                    env=ENVIRONMENT,
                )
                ending.callback(server.stop)
                started.append(server)
            yield Started(started, others)


def _node(url: str, folder: Path) -> tuple[Sequence[str], Sequence[str]]:
    redis = ["--redis", url] if url else []
    server = str(HERE / "peer" / "server.js")
    return [*node_command(), server], ["--rate", "0", *redis]


def _stock(url: str, folder: Path) -> tuple[Sequence[str], Sequence[str]]:
    redis = ["--redis", url] if url else []
    return [sys.executable, "-P", str(HERE / "stock.py")], redis


def _chatlab(*more: str) -> Callable[[str, Path], tuple[None, Sequence[str]]]:
    def command(url: str, folder: Path) -> tuple[None, Sequence[str]]:
        filled = [each.format(folder=folder, url=url) for each in more]
        return None, ["--no-limits", *filled]

    return command


_CHAT = "token, validation, limiter at raised caps, rooms with presence, "

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "node",
            "Node",
            "nothing",
            "token, rooms, emit; no limiter; stores and orders nothing",
            _node,
        ),
        Peer(
            "stock",
            "stock python-socketio",
            "nothing",
            "as Node: token, rooms, emit; no limiter; stores and orders nothing",
            _stock,
        ),
        Peer(
            "chatlab",
            "chatlab",
            "ordered, in memory",
            _CHAT + "every message ordered and kept in memory (10,000 a room)",
            _chatlab("--storage", "memory://"),
        ),
        Peer(
            "chatlab-stock",
            "chatlab, stock transport",
            "ordered, in memory",
            _CHAT + "ordered and kept in memory, on python-socketio's own transport",
            _chatlab("--storage", "memory://", "--transport", "stock"),
        ),
        Peer(
            "chatlab-full",
            "chatlab, SQLite full",
            "ordered, on disk (FULL)",
            _CHAT + "ordered, on disk before the ack (synchronous=FULL): survives a power cut",
            _chatlab("--storage", "sqlite:///{folder}/chat.db", "--sqlite-sync", "full"),
        ),
        Peer(
            "chatlab-normal",
            "chatlab, SQLite normal",
            "ordered, in SQLite (NORMAL)",
            _CHAT + "ordered, in SQLite (synchronous=NORMAL): survives the process's death",
            _chatlab("--storage", "sqlite:///{folder}/chat.db", "--sqlite-sync", "normal"),
        ),
        Peer(
            "node-redis",
            "Node, Redis adapter",
            "nothing",
            "as Node, published by @socket.io/redis-adapter and ioredis; stores and orders nothing",
            _node,
            servers=2,
        ),
        Peer(
            "stock-redis",
            "stock, Redis manager",
            "nothing",
            "as Node, published by AsyncRedisManager; stores and orders nothing",
            _stock,
            servers=2,
        ),
        Peer(
            "chatlab-redis",
            "chatlab, Redis",
            "ordered, in Valkey",
            _CHAT + "one order on all servers, kept in Valkey (in its memory)",
            _chatlab("--storage", "{url}"),
            servers=2,
        ),
        Peer(
            "chatlab-aof",
            "chatlab, Redis on disk",
            "ordered, in Valkey, on disk",
            _CHAT + "one order on all servers, kept in Valkey with appendfsync always",
            _chatlab("--storage", "{url}"),
            servers=2,
            persist=True,
        ),
    )
}
