"""Finds Node and installs what bench/peer needs, once; says in a sentence what is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from chatlab.lab.optional import node_command as find_node

__all__ = ["install", "installed", "node_command", "version"]

PEER = Path(__file__).resolve().parent / "peer"


def node_command() -> list[str]:
    """The command that runs Node. Raises `RuntimeError`, which says what to do, without one."""
    try:
        return find_node()
    except FileNotFoundError:
        raise RuntimeError(
            "there is no Node.js on this machine, which this is measured against: install Node 20 "
            "or newer (nodejs.org, or your system's packages), or leave it out with --peers chatlab"
        ) from None


def install() -> None:
    """`npm ci` in bench/peer, unless what is installed is what the lock asks for.

    Raises `RuntimeError` with the last lines of npm's output where that fails.
    """
    node_command()
    wanted, installed = PEER / "package-lock.json", PEER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("there is Node here but no npm, which installs socket.io for bench/peer")
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"],
        cwd=PEER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise RuntimeError(f"npm ci failed in bench/peer:\n{last}")


def version() -> str:
    """Node's version, as `v20.1.0`."""
    told = subprocess.run(
        [*node_command(), "--version"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def installed(package: str) -> str:
    """The version of a package in bench/peer/node_modules; "?" where it is not there."""
    try:
        text = (PEER / "node_modules" / package / "package.json").read_text(encoding="utf-8")
    except OSError:
        return "?"
    return str(json.loads(text)["version"])
