"""Finds Node and installs what bench/peer needs, once; says in a sentence what is missing.

`python -m bench.node` does so at set-up, and is no failure where it cannot be done.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from chatlab.lab.optional import node_command as find_node

__all__ = ["install", "installed", "main", "node_command", "version"]

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
    done = subprocess.run(
        [*_npm_command(), "ci", "--no-audit", "--no-fund"],
        cwd=PEER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise RuntimeError(f"npm ci failed in bench/peer:\n{last}")


def _npm_command() -> list[str]:
    """The command that runs npm: the one on PATH, or the one beside the Node of a wheel."""
    npm = shutil.which("npm")
    if npm is not None:
        return [npm]
    node = Path(find_node()[0])
    # In a wheel as in Node's own archives; on Windows without `lib`.
    for folder in (node.parent.parent / "lib", node.parent):
        script = folder / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.is_file():
            return [str(node), str(script)]
    raise RuntimeError("there is Node here but no npm, which installs socket.io for bench/peer")


def main() -> int:
    """Install; where that cannot be done, say so in a sentence. A machine without Node is told
    nothing. Returns 0."""
    try:
        find_node()
    except FileNotFoundError:
        return 0
    try:
        install()
    except RuntimeError as error:
        sys.stdout.write(f"lesson 08 keeps the stored results of its Node server: {error}\n")
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
