"""chatlab's server with one thing switched off, as a process: `python -m tests.grade.broken`.

A mutation is a function that breaks one promise of a server, written beside others of its subject
(`broken_*.py`). The process imports everything once and forks a server for each mutation, which
takes 50 ms where a start takes a second. It takes orders as JSON lines and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatlab.errors import Unavailable
from chatlab.server import run
from chatlab.server.app import ChatServer
from chatlab.settings import Settings
from chatlab.storage.base import User, fail

SECRET = "a secret for servers that are broken on purpose"
PARTS = (
    "acks",
    "admission",
    "cluster",
    "errors",
    "frames",
    "limits",
    "packets",
    "polling",
    "rooms",
    "sessions",
    "tokens",
)


@dataclass(frozen=True)
class Mutation:
    """What is switched off. `turns` are the promises that it breaks.

    `besides` are promises of other concerns that it breaks as well, each with the reason.
    `servers` run side by side, on one Valkey where `storage` is redis; `users` must exist there,
    as without --dev. `change` is called in each server's process: without an argument before the
    server is made, with one it gets the server, with two also its number.
    """

    name: str
    turns: tuple[str, ...]
    besides: Mapping[str, str]
    change: Callable[..., None]
    settings: Mapping[str, Any]
    storage: str = "memory"
    servers: int = 1
    users: tuple[str, ...] = ()


MUTATIONS: dict[str, Mutation] = {}


def breaks(
    *turns: str, besides: Mapping[str, str] | None = None, **more: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the function below as the mutation that turns these promises."""
    settings = {name: more.pop(name) for name in list(more) if name in Settings.__annotations__}
    storage = settings.pop("storage", "memory")

    def register(change: Callable[..., None]) -> Callable[..., None]:
        name = change.__name__.replace("_", "-")
        assert name not in MUTATIONS, name
        MUTATIONS[name] = Mutation(
            name, turns, besides or {}, change, settings, storage=storage, **more
        )
        return change

    return register


@breaks()
def nothing() -> None:
    """A server as it is."""


def load() -> dict[str, Mutation]:
    """Every mutation, by name."""
    for part in PARTS:
        importlib.import_module(f"tests.grade.broken_{part}")
    return MUTATIONS


# --- in a server's process ------------------------------------------------------------------------


@dataclass
class Child:
    """A server of its own, told through `line` what `--control` would do."""

    mutation: Mutation
    number: int
    settings: Settings
    line: socket.socket
    server: ChatServer | None = None
    away: list[Any] = field(default_factory=list)
    task: asyncio.Future[None] | None = None

    def serve(self) -> None:
        change = self.mutation.change
        wanted = len(inspect.signature(change).parameters)
        if wanted == 0:
            change()

        def made(settings: Settings) -> ChatServer:
            self.server = server = ChatServer(settings)
            if wanted:
                change(*(server, self.number)[:wanted])
            for user in self.mutation.users:
                if settings.storage == "memory://":
                    server.directory._users[user] = User(user, user)
            return server

        run.ChatServer = made
        run._say_where = self._say_where
        run.serve(self.settings)

    def _say_where(self, runner: Any, _settings: Settings, **_options: Any) -> None:
        asyncio.get_running_loop().add_reader(self.line, self._told)
        self.line.sendall(json.dumps(runner.addresses[0][1]).encode() + b"\n")

    def _told(self) -> None:
        told = self.line.recv(4096)
        if not told:
            os._exit(0)
        self.task = asyncio.ensure_future(self._do(json.loads(told)))

    async def _do(self, words: list[str]) -> None:
        assert self.server is not None
        word, what = words[0], words[-1]
        if word in ("ban", "unban"):
            await self.server.directory.put(User(what, what, word == "ban"))
        elif word == "stop-storage":
            self._lose_storage()
        elif word == "start-storage":
            for part, name, method in self.away:
                setattr(part, name, method)
            self.away = []
        self.line.sendall(b"0\n")

    def _lose_storage(self) -> None:
        log, directory = self.server.log, self.server.directory  # type: ignore[union-attr]

        def append(*_args: Any) -> asyncio.Future[Any]:
            return fail(asyncio.Future(), Unavailable())

        async def unavailable(*_args: Any, **_options: Any) -> None:
            raise Unavailable

        lost = [(log, name, unavailable) for name in ("snapshot", "page", "mark")]
        lost += [(directory, name, unavailable) for name in ("get", "banned")]
        lost += [(log, "append", append), (log, "healthy", False)]
        self.away = [(part, name, getattr(part, name)) for part, name, _ in lost]
        for part, name, method in lost:
            setattr(part, name, method)


# --- the process that forks them ------------------------------------------------------------------


class Nursery:
    """Starts servers and passes on what they are told; one order at a time."""

    def __init__(self) -> None:
        self.mutations = load()
        self.lines: dict[int, socket.socket] = {}

    def run(self) -> None:
        for order in iter(sys.stdin.readline, ""):
            told = json.loads(order)
            answer = getattr(self, "do_" + told.pop("do"))(**told)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        for pid in list(self.lines):
            self.do_end(pid)

    def do_start(self, name: str, number: int, settings: dict[str, Any]) -> Any:
        mine, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._become(name, number, settings, theirs, mine)
        theirs.close()
        self.lines[pid] = mine
        told = mine.makefile().readline()
        return {"pid": pid, "port": int(told)} if told else {"pid": pid, "port": 0}

    def _become(
        self, name: str, number: int, settings: dict[str, Any], line: Any, other: Any
    ) -> None:
        code = 1
        try:
            other.close()
            for each in self.lines.values():
                each.close()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            if not os.environ.get("BROKEN_LOG"):
                os.dup2(null, 2)
            Child(self.mutations[name], number, Settings(**settings), line).serve()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def do_tell(self, pid: int, words: list[str]) -> Any:
        line = self.lines[pid]
        try:
            line.sendall(json.dumps(words).encode())
            ready, _, _ = select.select([line], [], [], 10)
            return {"code": 0 if ready and line.recv(100) else 1}
        except OSError:
            return {"code": 1}

    def do_stop(self, pid: int) -> Any:
        os.kill(pid, signal.SIGTERM)
        return {}

    def do_end(self, pid: int) -> Any:
        line = self.lines.pop(pid, None)
        if line is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            line.close()
        return {}


if __name__ == "__main__":
    # The imported module's, whose table and classes the mutations change.
    importlib.import_module("tests.grade.broken").Nursery().run()
