"""What `make test` runs: every part, even after one has failed, and at the end a line for each.

It starts the parts and reports; what each part checks is written in the part. Most of them wait
more than they work, so some run beside the others, and what they say is shown at the end.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
JS = ROOT / "tests" / "js"
NOTEBOOKS = ["notebooks", "exercises", "solutions"]
CI = os.environ.get("CI", "").lower() in {"1", "true"}

NBVAL = [
    "--nbval",
    "--nbval-current-env",
    "--nbval-sanitize-with=tests/nbval.cfg",
    "--nbval-cell-timeout=60",
    "--nbval-kernel-startup-timeout=120",
]
# A whole cell, with its kernel's start where it is the first, is one test there.
NBVAL_PYTEST = ["-p", "tests.nbval_parts", "--timeout=200", "-o", "asyncio_mode=strict"]

# What runs beside the notebooks and all other tests. Most of it waits: for timeouts, for a page,
# for pip. The longest come first, so that all of it ends at about the same time.
BESIDE = {
    "servers": ["tests/client", "tests/protocol", "tests/server", "tests/storage"],
    "browser": ["tests/browser"],
    "exercises": ["tests/exercises"],
    "grade": ["tests/grade"],
    "lab": ["tests/lab"],
    "deploy": ["tests/deploy"],
    "stage": ["tests/stage"],
    "steps": ["tests/steps"],
}
AT_ONCE = 2


@dataclass
class Part:
    name: str
    passed: bool
    note: str


def main() -> int:
    python = [sys.executable, "-m"]
    # Hundreds of processes import it. Where Python is told to write no bytecode, as in many
    # containers, each of them would compile it.
    compileall.compile_dir(ROOT / "chatlab", quiet=1)
    # The second is what lesson 08 grades; where it cannot be had, the lesson's own cells say so.
    parts = [javascript(), run("bench/peer", [*python, "bench.node"])]
    others = [f"--ignore={folder}" for folder in beside_the_others()]
    with Beside(BESIDE) as beside:
        parts.append(run("check", ["make", "--no-print-directory", "check"]))
        parts.append(run("notebooks", [*python, "pytest", *NBVAL, *NBVAL_PYTEST, *NOTEBOOKS]))
        parts.append(run("tests", [*python, "pytest", "tests", *others]))
        parts += beside.results()
    say("What ran:")
    for part in parts:
        say(f"  {'✓' if part.passed else '✗'} {part.name:<11} {part.note}")
    return 0 if all(part.passed for part in parts) else 1


def beside_the_others() -> list[str]:
    """The folders whose tests are not in the part that is called tests."""
    return [folder for folders in BESIDE.values() for folder in folders]


class Beside:
    """Parts that run out of view, so many at once, beside what the `with` block runs."""

    def __init__(self, parts: dict[str, list[str]], *, at_once: int = AT_ONCE) -> None:
        self._open = contextlib.ExitStack()
        self._outputs = {
            name: self._open.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - _open
            for name in parts
        }
        self._done: dict[str, Part] = {}
        self._waiting = deque(parts.items())
        self._pool = ThreadPoolExecutor(at_once)
        self._workers = [self._pool.submit(self._work) for _ in range(at_once)]

    def _work(self) -> None:
        while part := self._next():
            name, folders = part
            command = [sys.executable, "-m", "pytest", *folders]
            self._done[name] = run(name, command, output=self._outputs[name])

    def _next(self) -> tuple[str, list[str]] | None:
        with contextlib.suppress(IndexError):
            return self._waiting.popleft()
        return None

    def results(self) -> list[Part]:
        """Lend a hand until every part has run, show what each said, and return them."""
        self._work()
        for worker in self._workers:
            worker.result()
        for output in self._outputs.values():
            output.seek(0)
            say(output.read())
        return [self._done[name] for name in self._outputs]

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        # Ctrl-C ends what runs, and begins nothing more.
        self._waiting.clear()
        self._pool.shutdown()
        self._open.close()


def run(
    name: str, command: list[str], *, folder: Path = ROOT, output: IO[str] | None = None
) -> Part:
    """Run one part with its output in view, or in `output`; the note is its time."""
    title = f"\n--- {name}: {shown(command)}"
    if output is None:
        say(title)
    else:
        output.write(title + "\n")
        output.flush()  # the part itself writes to the same file
    began = time.monotonic()
    code = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        check=False,
    ).returncode
    seconds = time.monotonic() - began
    return Part(name, code == 0, f"{seconds:.0f} s" + (f", exit code {code}" if code else ""))


def shown(command: list[str]) -> str:
    return " ".join("python" if word == sys.executable else word for word in command)


def javascript() -> Part:
    """Install what the JavaScript tests need, unless the installed is what the lock asks for."""
    wanted, installed = JS / "package-lock.json", JS / "node_modules" / ".package-lock.json"
    if not wanted.exists():
        return Part("javascript", True, "nothing to install")
    npm = shutil.which("npm")
    if npm is None:
        note = "no npm here: the JavaScript tests are not run"
        return Part("javascript", not CI, note + (", which CI=true does not allow" if CI else ""))
    if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return Part("javascript", True, "installed already")
    return run("javascript", [npm, "ci", "--no-audit", "--no-fund"], folder=JS)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
