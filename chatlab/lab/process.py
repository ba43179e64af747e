"""Runs a server as a process of its own, which can be killed, frozen and started again for real.

It survives the notebook's Interrupt and never outlives its kernel. What runs in there shares
nothing with the notebook: see its `logs()`, or put a wire in front of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from chatlab.lab.card import Card
from chatlab.lab.logs import MOST_LINES, LogLines
from chatlab.lab.page import HasPage, not_served, serves_page
from chatlab.lab.part import Part
from chatlab.lab.recorder import Recorder
from chatlab.lab.supervised import Supervised
from chatlab.lab.tokens import mint_as

__all__ = ["Process", "process", "without_passwords"]

_LISTENING = r"listening on (http://\S+)"
# After SIGTERM a server has two seconds by contract; one that takes longer is killed by `stop`.
_PATIENCE = 3.0


def process(
    *arguments: str,
    name: str = "server",
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    ready: str | None = _LISTENING,
    timeout: float = 20.0,
) -> Process:
    """Start `chatlab serve --dev --port 0` (and `arguments`) as a process; return when it accepts.

    `command` runs any other program instead, with `arguments` after it; `env` is added to this
    process's environment. It is ready when a line of its output matches `ready`, whose first group,
    if any, becomes its `url` (None: at once). A second call with the same `name` stops the earlier
    process. Raises `RuntimeError` with the last lines of its log when it ends before it is ready,
    or is not ready within `timeout` seconds.
    """
    return Process(arguments, name=name, command=command, env=env, ready=ready, timeout=timeout)


class Process(HasPage, Part):
    """A child process. Made by `process`."""

    # Files that a subclass removes when it stops; they go, too, when the notebook's kernel dies.
    _folder: Path | None = None

    def __init__(
        self,
        arguments: Sequence[str] = (),
        *,
        name: str = "server",
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        ready: str | None = _LISTENING,
        timeout: float = 20.0,
    ) -> None:
        self.name = name
        self.recorder = Recorder(name, "server")
        self.url = ""
        self._arguments = list(arguments)
        self._command = None if command is None else list(command)
        self._env = {**os.environ, **(env or {})}
        if self._command is None:
            # Known here too, so that `token` can make tokens which this server takes.
            self._env.setdefault("CHATLAB_JWT_SECRET", secrets.token_hex(32))
        self._env["PYTHONUNBUFFERED"] = "1"
        self._ready = None if ready is None else re.compile(ready)
        self._timeout = timeout
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._child: Supervised | None = None
        self._frozen = False
        self._stopped = False
        self._take_name()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._frozen = self._stopped = False
        self._child = Supervised(
            self._whole_command(),
            env=self._env,
            ready=self._ready,
            lines=self._lines,
            folder=self._folder,
        )
        address = self._child.wait_until_ready(self._timeout)
        if address is None:
            what = f"was not ready within {self._timeout:g} s"
            if not self.running:
                what = f"{self._state()} before it was ready"
            last = "\n".join(list(self._lines)[-12:]) or "(it printed nothing)"
            raise RuntimeError(f"{self.name} {what}. The last lines of its log:\n{last}")
        self.url = address or self.url

    def _whole_command(self) -> list[str]:
        if self._command is not None:
            return [*self._command, *self._arguments]
        port = self.url.rpartition(":")[2] or "0"
        given = [] if _option(self._arguments, "--port") else ["--port", port]
        return [sys.executable, "-m", "chatlab", "serve", "--dev", *given, *self._arguments]

    # -- faults ------------------------------------------------------------------------------------

    def kill(self) -> Self:
        """SIGKILL: it ends at once and cleans up nothing. Returns when it has ended."""
        self._signal("SIGKILL", "killed")
        if self._child is not None:
            self._child.wait(_PATIENCE)
        return self

    def terminate(self) -> Self:
        """SIGTERM: ask it to finish. Returns at once; `await server.exited()` waits for the end."""
        return self._signal("SIGTERM", "told to finish")

    def freeze(self) -> Self:
        """SIGSTOP: it stands still and its connections stay open. Not on Windows."""
        self._signal("SIGSTOP", "frozen")
        self._frozen = True
        if self._child is not None:
            self._child.wait_until_still(1.0)
        return self

    def thaw(self) -> Self:
        """SIGCONT: it goes on where it stood."""
        self._signal("SIGCONT", "goes on")
        self._frozen = False
        return self

    def restart(self) -> Self:
        """Start it again, on the same port; stop it first where it still runs."""
        self._end()
        self._take_name()
        self._start()
        self.recorder.add("note", text="started again")
        return self

    def _signal(self, word: str, remark: str) -> Self:
        number = getattr(signal, word, None)
        if number is None and word != "SIGKILL":
            raise RuntimeError(f"this system has no {word}: use Linux, macOS or WSL2")
        if self._child is None or not self.running:
            raise RuntimeError(f"{self.name} does not run ({self._state()}): nothing to signal")
        self.recorder.add("note", text=remark)
        # Windows has no SIGKILL; its os.kill ends a process at once for any other number.
        self._child.send(signal.SIGTERM if number is None else number)
        return self

    # -- the end -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process's number in the system."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process exists (a frozen one does)."""
        return self._child is not None and self._child.returncode is None

    @property
    def returncode(self) -> int | None:
        """Its exit code; minus the signal's number where a signal ended it; None while it runs."""
        return None if self._child is None else self._child.returncode

    async def exited(self, timeout: float = 5.0) -> int:
        """Wait until it has ended; returns `returncode`.

        Raises `TimeoutError` after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while self.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} still runs after {timeout:g} s")
            await asyncio.sleep(0.005)
        return self.returncode or 0

    def stop(self) -> Self:
        """Ask it to finish, kill it where it does not, free everything. Returns the process."""
        self._stopped = self._stopped or self.running
        self._end()
        self._give_up_name()
        return self

    def _end(self) -> None:
        if self._child is not None:
            # One that is frozen would hear a SIGTERM only when thawed.
            self._child.end(politely=not self._frozen, patience=_PATIENCE)

    # -- what it says of itself --------------------------------------------------------------------

    def logs(self) -> LogLines:
        """What it wrote to stdout and stderr, newest 2,000 lines, oldest first."""
        return LogLines(self._lines)

    def token(self, user: str, *, ttl: float = 900.0, **claims: Any) -> str:
        """A token for `user` that this server takes for `ttl` seconds; `claims` are added to it.

        Raises `RuntimeError` for a process that is not `chatlab serve`.
        """
        if self._command is not None:
            raise RuntimeError(f"{self.name} is not `chatlab serve`: its tokens are its own affair")
        return mint_as(self._env, user, ttl=ttl, claims=claims)

    def _why_no_page(self) -> str | None:
        if self._command is not None:
            return "is not `chatlab serve`: it has no chat page"
        if not serves_page(self._arguments, self._env):
            return not_served('process("--page")')
        return None if self.running else f"does not run ({self._state()}): restart it"

    def _state(self) -> str:
        code = self.returncode
        if self._stopped:
            return "stopped"
        if self._child is None:
            return "not started"
        if code is None:
            return "frozen" if self._frozen else "running"
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def card(self) -> Card:
        """Address, what runs, where messages are kept, and its state."""
        rows = [("address", self.url)] if self.url else []
        rows.append(("runs as", "a process of its own"))
        if self._command is None:
            options = " ".join(["chatlab serve --dev", *self._arguments])
            kept = _option(self._arguments, "--storage") or self._env.get("CHATLAB_STORAGE")
            rows += [
                ("command", options),
                ("storage", kept or "memory: a restart forgets every message"),
                ("limits", "off" if "--no-limits" in self._arguments else "on"),
            ]
        else:
            rows.append(("command", " ".join([*self._command, *self._arguments])))
        state = self._state()
        mood: Any = {"running": "good", "stopped": "off"}.get(state, "bad")
        return Card(
            self.name, state, mood, tuple((name, without_passwords(value)) for name, value in rows)
        )


def without_passwords(text: str) -> str:
    """`text` with the password of every address in it replaced by `***`."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(name + "="):
            return argument.partition("=")[2]
    return None
