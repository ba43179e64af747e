"""The parts of the stage in words: how each is, and what can be done to it.

The whole state is put together of these in `told.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chatlab.lab.process import Process
from chatlab.lab.proxy import Proxy
from chatlab.stage.world import SERVERS, WINDOWS

__all__ = ["Window", "Wire", "guest_part", "links", "part", "window_part", "wire_part"]

_CAN: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "server": {
        "good": ("kill", "terminate", "freeze", "restart"),
        "frozen": ("thaw", "kill", "restart"),
        "bad": ("restart",),
    },
    "valkey": {
        "good": ("kill", "stop", "freeze", "restart"),
        "frozen": ("thaw", "kill", "restart"),
        "bad": ("restart",),
    },
}


@dataclass(slots=True)
class Window:
    """One chat window: who is in it, with which token, and where it was last seen."""

    id: str
    user: str
    seat: str = ""
    url: str = ""
    kind: str = "good"  # of its token
    expires: float | None = None
    server: str | None = None
    loads: int = 0  # makes each address a new one, so that a browser loads the page anew

    def told(self, banned: bool) -> dict[str, Any]:
        """For the page."""
        return {
            "id": f"window-{self.id}",
            "user": self.user,
            "wire": f"wire-{self.id}",
            "url": self.url,
            "server": self.server,
            "online": self.server is not None,
            "token": self.kind,
            "expires": self.expires,
            "banned": banned,
        }


@dataclass(slots=True)
class Wire:
    """What is broken on a window's wire, on purpose."""

    cut: bool = False
    muted: str | None = None
    delay: float = 0.0

    def told(self) -> dict[str, Any]:
        """For the page."""
        return {"cut": self.cut, "muted": self.muted, "delay": self.delay}

    def words(self) -> str:
        """In words."""
        if self.cut:
            return "cut"
        if self.muted:
            ways = {
                "both": "silent both ways",
                "to_server": "silent to the server",
                "to_client": "silent to the window",
            }
            return ways[self.muted]
        return f"{self.delay:g} s late" if self.delay else "works"


def part(name: str, process: Process | None, *, frozen: bool, ended: str) -> dict[str, Any]:
    """A process. `ended` says how it ended, where it does not run."""
    kind, _, number = name.partition("-")
    running = process is not None and process.running
    mood = "good" if running and not frozen else "bad"
    words = "frozen" if running and frozen else "running" if running else ended
    can = _CAN.get(kind, {}).get("frozen" if running and frozen else mood, ())
    address = "" if process is None else process.url.partition("://")[2].partition("/")[0]
    return {
        "id": name,
        "kind": kind,
        "name": f"{kind.capitalize()} {number}".strip(),
        "mood": mood,
        "words": words,
        "detail": address,
        "can": list(can),
    }


def wire_part(window: str, wire: Wire, proxy: Proxy | None) -> dict[str, Any]:
    """A window's wire."""
    words = wire.words()
    return {
        "id": f"wire-{window}",
        "kind": "wire",
        "name": f"Wire {window.upper()}",
        "mood": "good" if words == "works" else "bad",
        "words": words,
        "detail": "" if proxy is None else proxy.url.partition("://")[2],
        "can": ["cut", "mute", "delay"] if words == "works" else ["heal", "cut", "mute", "delay"],
    }


def window_part(window: Window, banned: bool) -> dict[str, Any]:
    """A chat window, as far as its connection shows."""
    online = window.server is not None
    words = "not connected"
    if window.server is not None:
        words = f"on {window.server.replace('-', ' ')}"
    return {
        "id": f"window-{window.id}",
        "kind": "window",
        "name": f"Window {window.id.upper()}: {window.user}",
        "mood": "good" if online else "bad",
        "words": f"banned, {words}" if banned else words,
        "detail": f"{window.kind} token",
        "can": ["token", "unban" if banned else "ban", "reload"],
    }


def guest_part(name: str, title: str, on: bool, words: str) -> dict[str, Any]:
    """Who is there only sometimes."""
    return {
        "id": name,
        "kind": name,
        "name": title,
        "mood": "good" if on else "off",
        "words": words if on else "off",
        "detail": "",
        "can": ["off" if on else "on"],
    }


def links(*, door: bool, crowd: bool, flood: bool) -> list[list[str]]:
    """Who is next to whom."""
    found = [[f"window-{w}", f"wire-{w}"] for w in WINDOWS]
    found += [[f"wire-{w}", "balancer"] for w in WINDOWS]
    servers = [f"server-{n}" for n in range(1, SERVERS + 1)]
    found += [["balancer", server] for server in servers]
    found += [[server, "valkey"] for server in servers]
    if crowd:
        found.append(["crowd", "balancer"])
    if flood:
        found.append(["flood", "server-1"])
    if door:
        found += [["door", server] for server in servers]
    return found
