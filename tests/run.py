"""What `make test` runs: every part, even after one has failed, and at the end a line for each.

It starts the parts and reports; what each part checks is written in the part. Tests of servers
wait more than they work: some run beside all others, and what they say is shown at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
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

# What runs beside the notebooks and all other tests: with those three lanes, each part after part,
# which take about equally long. Most of it waits: for timeouts, for a page, for pip.
BESIDE = [
    {
        "servers": ["tests/client", "tests/lab", "tests/protocol", "tests/server", "tests/storage"],
        "deploy": ["tests/deploy"],
    },
    {"browser": ["tests/browser"], "stage": ["tests/stage"], "grade": ["tests/grade"]},
]


@dataclass
class Part:
    name: str
    passed: bool
    note: str


def main() -> int:
    python = [sys.executable, "-m"]
    # The second is what lesson 08 grades; where it cannot be had, the lesson's own cells say so.
    parts = [javascript(), run("bench/peer", [*python, "bench.node"])]
    parts.append(run("check", ["make", "--no-print-directory", "check"]))
    others = [f"--ignore={folder}" for folder in beside_the_others()]
    with contextlib.ExitStack() as stack:
        lanes = [Lane(lane) for lane in BESIDE]
        for lane in lanes:
            stack.enter_context(lane)
        parts.append(run("notebooks", [*python, "pytest", *NBVAL, *NBVAL_PYTEST, *NOTEBOOKS]))
        parts.append(run("tests", [*python, "pytest", "tests", *others]))
        for lane in lanes:
            parts += lane.result()
    say("What ran:")
    for part in parts:
        say(f"  {'✓' if part.passed else '✗'} {part.name:<11} {part.note}")
    return 0 if all(part.passed for part in parts) else 1


def beside_the_others() -> list[str]:
    """The folders whose tests are not in the part that is called tests."""
    return [folder for lane in BESIDE for folders in lane.values() for folder in folders]


class Lane:
    """Parts that run one after the other, out of view, beside what the `with` block runs."""

    def __init__(self, parts: dict[str, list[str]]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._parts = [
            self._pool.submit(
                run, name, [sys.executable, "-m", "pytest", *folders], output=self._output
            )
            for name, folders in parts.items()
        ]

    def result(self) -> list[Part]:
        """Wait for every part, show what they said, and return them."""
        parts = [part.result() for part in self._parts]
        self._output.seek(0)
        say(self._output.read())
        return parts

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        # Ctrl-C ends what runs, and begins nothing more.
        self._pool.shutdown(cancel_futures=True)
        self._output.close()


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
