"""The load generator's process, as its caller holds it: started, asked, ended without fail.

Two processes, so that what is measured and what measures do not share an interpreter's lock.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["Generator"]

_CHILD = Path(__file__).with_name("load_child.py")


class Generator:
    """The generator's process. It ends when its stdin is closed, by us or by our death."""

    def __init__(self, job: dict[str, Any]) -> None:
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", None)
        # Out of reach of Interrupt, which ends it through `end`.
        apart: dict[str, Any] = (
            {"start_new_session": True} if group is None else {"creationflags": group}
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **apart,
        )
        self._job = job
        self._reading = threading.Lock()  # who reads from the pipes, or closes them

    def answer(self, timeout: float) -> dict[str, Any]:
        """Wait, blocking, for its answer. Another thread may `end` it meanwhile."""
        with self._reading:
            return self._answer(timeout)

    def _answer(self, timeout: float) -> dict[str, Any]:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both were asked for")
        if process.stdout.closed:
            return {"error": "the generator was ended"}
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(self._job) + "\n")
            process.stdin.flush()
        out_of_time = threading.Event()

        def give_up() -> None:
            out_of_time.set()
            process.kill()

        late = threading.Timer(timeout, give_up)
        late.daemon = True
        late.start()
        try:
            line = process.stdout.readline()
        finally:
            late.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        if out_of_time.is_set():
            return {"error": f"the generator gave no answer within {timeout:.0f} s"}
        said = process.stderr.read().strip() if process.stderr is not None else ""
        return {"error": f"the generator ended without an answer. {said}".strip()}

    def end(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        with self._reading:  # whoever reads is at the end by now
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
