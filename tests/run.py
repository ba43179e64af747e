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

# What runs beside the notebooks and all other tests, part after part, and takes about as long.
BESIDE = {
    "servers": ["tests/client", "tests/lab", "tests/protocol", "tests/server", "tests/storage"],
    "browser": ["tests/browser"],
}


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
    others = [f"--ignore={folder}" for folders in BESIDE.values() for folder in folders]
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryFile("w+") as output:
        beside = [
            pool.submit(run, name, [*python, "pytest", *folders], output=output)
            for name, folders in BESIDE.items()
        ]
        try:
            parts.append(run("notebooks", [*python, "pytest", *NBVAL, *NBVAL_PYTEST, *NOTEBOOKS]))
            parts.append(run("tests", [*python, "pytest", "tests", *others]))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C ends what runs, and begins nothing more
            raise
        parts += [future.result() for future in beside]
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
