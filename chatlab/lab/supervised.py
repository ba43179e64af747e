"""One child process with its watchdog: started, read, signalled, and ended without fail.

`process.Process` is what a lesson sees; this is the part that deals with the system.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatlab.lab import child

__all__ = ["Supervised"]


class Supervised:
    """Runs `command` under `child.py`, which kills it when this process is no more.

    `folder` is removed then, too. Lines of its output go to `lines`. `address` is what the first
    line that matches `ready` gives as its first group ("" without one), None before.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        ready: re.Pattern[str] | None,
        lines: deque[str],
        folder: Path | None = None,
    ) -> None:
        self.pid: int | None = None
        self.address: str | None = None
        self._ready = ready
        self._lines = lines
        self._changed = threading.Condition()
        self._reading = True
        # Out of reach of Interrupt, whose SIGINT goes to the kernel's group.
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", None)
        apart: dict[str, Any] = (
            {"start_new_session": True} if group is None else {"creationflags": group}
        )
        options = [] if folder is None else ["--remove", str(folder)]
        self._watchdog = subprocess.Popen(
            # By path and without site-packages: `-m chatlab.lab.child` would import all of the lab.
            [sys.executable, "-I", "-S", child.__file__, *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=dict(env),
            **apart,
        )
        self._reader = threading.Thread(target=self._read, name="lab: log", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        output = self._watchdog.stdout
        for line in output or ():
            text = line.rstrip("\n")
            if self.pid is None and text.startswith(child.ANNOUNCEMENT):
                self.pid = int(text.removeprefix(child.ANNOUNCEMENT))
                found = "" if self._ready is None else None
            else:
                self._lines.append(text)
                found = self._address_in(text)
            if found is not None and self.address is None:
                with self._changed:
                    self.address = found
                    self._changed.notify_all()
        if output is not None:
            output.close()
        with self._changed:
            self._reading = False
            self._changed.notify_all()

    def _address_in(self, line: str) -> str | None:
        match = self._ready.search(line) if self._ready is not None else None
        if match is None:
            return None
        return match.group(1) if match.re.groups else ""

    def wait_until_ready(self, timeout: float) -> str | None:
        """Wait until it is ready or has closed its output; returns `address`."""
        with self._changed:
            self._changed.wait_for(lambda: self.address is not None or not self._reading, timeout)
            ready = self.address
        if ready is None and not self._reading:
            self.wait(1)  # so that the exit code is known
        return ready

    @property
    def returncode(self) -> int | None:
        """Its exit code; minus the signal's number where a signal ended it; None while it runs."""
        code = self._watchdog.poll()
        return 128 - code if code is not None and code > 128 else code

    def send(self, number: int) -> None:
        """Send a signal to the program itself, not to its watchdog."""
        if self.pid is not None:
            os.kill(self.pid, number)

    def wait_until_still(self, timeout: float) -> None:
        """Wait, blocking, until a SIGSTOP has reached each of its threads (known on Linux only).

        The system answers before that: a thread on another core may serve one more request.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
                # After the name, which stands in brackets and may hold any character.
                states = [
                    (task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks
                ]
            except (OSError, IndexError):
                return
            if all(state == "T" for state in states):
                return
            time.sleep(0.001)

    def wait(self, timeout: float) -> bool:
        """Wait, blocking, until it has ended; says whether it has."""
        try:
            self._watchdog.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1)
        return True

    def end(self, *, politely: bool, patience: float) -> None:
        """End it: by SIGTERM first if `politely`, and in any case after `patience` seconds."""
        if politely and self.returncode is None:
            with contextlib.suppress(OSError):
                self.send(signal.SIGTERM)
            self.wait(patience)
        if self._watchdog.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._watchdog.stdin.write(child.KEEP.decode())
            with contextlib.suppress(OSError):
                self._watchdog.stdin.close()  # whereupon the watchdog kills what is left
        self.wait(patience)
