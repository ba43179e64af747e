"""Servers to be graded, with a door through which `control.py` breaks them.

Everything is a process of its own; users must exist, as without --dev.
"""

from __future__ import annotations

import json
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chatlab import cli
from chatlab.lab import process, valkey
from chatlab.lab.ports import free_port
from chatlab.lab.process import Process

CONTROL = [sys.executable, str(Path(__file__).with_name("control.py"))]


class Stage:
    """`count` servers without --dev that share a Valkey (or one with SQLite), and their users."""

    def __init__(self, folder: Path, *, count: int = 2, users: int = 16) -> None:
        self.secret = secrets.token_hex(32)
        self.valkey = valkey(name="graded valkey") if count > 1 else None
        self.storage = self.valkey.url if self.valkey else f"sqlite:///{folder}/chat.db"
        self.users = [f"user{number}" for number in range(users)]
        self.servers: list[Process] = []
        self._door = _Door(self._do)
        try:
            for user in self.users:
                self._user("add", user)
            for number in range(count):
                self.servers.append(self._server(number))
        except BaseException:
            self.stop()
            raise

    def _server(self, number: int) -> Process:
        command = [sys.executable, "-m", "chatlab", "serve", "--port", str(free_port())]
        return process(
            *("--storage", self.storage),
            name=f"graded {number}",
            command=command,
            env={"CHATLAB_JWT_SECRET": self.secret},
        )

    @property
    def url(self) -> str:
        return self.servers[0].url

    @property
    def also(self) -> list[str]:
        return [server.url for server in self.servers[1:]]

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs: the secret, and where the door is."""
        return {"CHATLAB_JWT_SECRET": self.secret, "GRADE_DOOR": self._door.address}

    def _user(self, *words: str) -> None:
        assert cli.main(["user", *words, "--storage", self.storage]) == 0

    def _do(self, words: list[str]) -> int:
        """Do it; 3 for what this stage cannot do."""
        word, what = words[0], words[1] if len(words) > 1 else ""
        if word in ("ban", "unban"):
            self._user(word, what)
        elif word == "kill":
            self.servers[int(what)].kill()
        elif word == "stop":
            self.servers[int(what)].terminate()
        elif word == "start":
            self.servers[int(what)].restart()
        elif word == "stop-storage" and self.valkey is not None:
            self.valkey.kill()
        elif word == "start-storage" and self.valkey is not None:
            self.valkey.restart()
        else:
            return 3
        return 0

    def stop(self) -> None:
        for part in [*self.servers, *([self.valkey] if self.valkey else [])]:
            part.stop()
        self._door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Door:
    """A loopback port that takes one JSON line of words and answers with one."""

    def __init__(self, do: Callable[[list[str]], int]) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                words: list[str] = json.loads(self.rfile.readline())
                answer: dict[str, Any] = {"code": 1, "said": "it broke"}
                try:
                    answer = {"code": do(words), "said": "done"}
                except Exception as error:
                    answer["said"] = f"{type(error).__name__}: {error}"
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
