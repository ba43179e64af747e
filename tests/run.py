"""What `make test` runs: every part, even after one has failed, and at the end a line for each.

It starts the parts and reports; what each part checks is written in the part. Tests of servers
wait more than they work: some run beside all others, and what they say is shown at the end.
"""

from __future__ import annotations

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

# The folders whose tests run beside all others: about as long as those and the notebooks take.
BESIDE = ["tests/client", "tests/lab", "tests/protocol", "tests/server", "tests/storage"]


@dataclass
class Part:
    name: str
    passed: bool
    note: str


def main() -> int:
    python = [sys.executable, "-m"]
    parts = [javascript()]
    parts.append(run("check", ["make", "--no-print-directory", "check"]))
    others = [f"--ignore={folder}" for folder in BESIDE]
    with ThreadPoolExecutor() as pool, tempfile.TemporaryFile("w+") as output:
        beside = [*python, "pytest", *BESIDE]
        servers = pool.submit(run, "servers", beside, output=output)
        parts.append(run("notebooks", [*python, "pytest", *NBVAL, *NBVAL_PYTEST, *NOTEBOOKS]))
        parts.append(run("tests", [*python, "pytest", "tests", *others]))
        say(f"\n--- servers: {shown(beside)}")
        parts.append(servers.result())
        output.seek(0)
        say(output.read())
    say("What ran:")
    for part in parts:
        say(f"  {'✓' if part.passed else '✗'} {part.name:<11} {part.note}")
    return 0 if all(part.passed for part in parts) else 1


def run(
    name: str, command: list[str], *, folder: Path = ROOT, output: IO[str] | None = None
) -> Part:
    """Run one part with its output in view, or in `output`; the note is its time."""
    if output is None:
        say(f"\n--- {name}: {shown(command)}")
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
    # What lesson 08 grades; where it cannot be had, the lesson's own cells say so.
    run("bench/peer", [sys.executable, "-m", "bench.node"])
    if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return Part("javascript", True, "installed already")
    return run("javascript", [npm, "ci", "--no-audit", "--no-fund"], folder=JS)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
