"""What a figure must be read with: the machine, its load, and every version that matters.

No host name and no path: only what changes the figures.
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import node
from chatlab.lab import load_system as system

__all__ = ["busy", "describe"]

_QUIET = 0.5

_PYTHON = ("python-socketio", "python-engineio", "aiohttp", "uvloop", "msgspec", "PyJWT", "redis")
_NODE = ("socket.io", "engine.io", "ws", "jsonwebtoken", "@socket.io/redis-adapter", "ioredis")


def describe() -> dict[str, Any]:
    """Facts by name, in the order in which they are shown."""
    cpus = system.two_cpus()
    apart = "one CPU for servers, another for the generator (and the Valkey)"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "load at start": " ".join(f"{value:.2f}" for value in _load()),
        "pinned": apart if cpus else "no: this system has no two CPUs to choose",
        "Python": f"{platform.python_version()} ({_origin()}): {_versions()}",
        "Node": _node(),
    }


def busy() -> str:
    """A warning where this machine has other things to do; "" where it has not."""
    load = _load()
    if not load or load[0] < _QUIET:
        return ""
    return f"This machine is busy (load {load[0]:.2f}): the figures will be its other work's, too."


def _origin() -> str:
    # The same version differs by a fifth between a distribution's interpreter and one that was
    # compiled without further thought.
    ours = sys.base_prefix in ("/usr", "/usr/local")
    return "the system's" if ours else "not the system's: compiled or installed beside it"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def _load() -> tuple[float, ...]:
    try:
        return os.getloadavg()
    except (AttributeError, OSError):
        return ()


def _versions() -> str:
    found = []
    for name in _PYTHON:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _node() -> str:
    try:
        told = node.version()
    except RuntimeError:
        return "none"
    return f"{told}: {', '.join(f'{name} {node.installed(name)}' for name in _NODE)}"
