"""What a fuzzed client does, step by step: plain values whose repr can be pasted into a test.

`play.py` performs the steps. In any text or payload `{token}` stands for a valid token of that
actor, `{sid0}` to `{sid2}` for the actors' sessions, `{deep}`, `{long}`, `{full}` and `{over}` for
what is too long to be read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tests.fuzz.frames import Frame

__all__ = [
    "ACTORS",
    "Bytes",
    "Cut",
    "Deaf",
    "Frames",
    "Meanwhile",
    "Open",
    "Poll",
    "Request",
    "Say",
    "Script",
    "Step",
    "Upgrade",
    "weight",
]

ACTORS = 3
"""How many sessions a script has at a time."""

Packets: TypeAlias = tuple[str | bytes, ...]


@dataclass(frozen=True)
class Open:
    """A new Engine.IO session. With `early` the packets leave together with the request for a
    websocket, before the server has said yes; `after` first asks for something else on the same
    connection."""

    who: int
    transport: str = "websocket"
    early: Packets = ()
    after: bool = False


@dataclass(frozen=True)
class Say:
    """Engine.IO packets over the session's transport, in one write or one body; `post` them even
    though the session has a websocket."""

    who: int
    packets: Packets
    post: bool = False


@dataclass(frozen=True)
class Frames:
    """Websocket frames, in `pieces` writes."""

    who: int
    frames: tuple[Frame, ...]
    pieces: int = 1


@dataclass(frozen=True)
class Bytes:
    """Bytes on the session's websocket."""

    who: int
    data: bytes


@dataclass(frozen=True)
class Poll:
    """A poll that is not waited for."""

    who: int


@dataclass(frozen=True)
class Upgrade:
    """A websocket for a session that has polled until now, and packets on it."""

    who: int
    packets: Packets = ("2probe", "5")
    early: bool = False


@dataclass(frozen=True)
class Request:
    """An HTTP request on a connection of its own. `framing` is `length`, `chunked`, `short`,
    `beyond`, `both` or `none`; the body leaves in `pieces` writes."""

    method: str
    query: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    framing: str = "length"
    pieces: int = 1


@dataclass(frozen=True)
class Cut:
    """End the session's websocket: `end` says so properly, `abort` does not, `leave` closes the
    session by a packet."""

    who: int
    how: str = "end"


@dataclass(frozen=True)
class Deaf:
    """Read nothing from the session's websocket any more."""

    who: int


@dataclass(frozen=True)
class Meanwhile:
    """A client that keeps to the rules is answered in between."""


Step: TypeAlias = Open | Say | Frames | Bytes | Poll | Upgrade | Request | Cut | Deaf | Meanwhile
Script: TypeAlias = tuple[Step, ...]


def weight(script: Script) -> int:
    """How many frames, packets and requests a script sends."""
    return sum(_weight(step) for step in script)


def _weight(step: Step) -> int:
    if isinstance(step, Say):
        return len(step.packets)
    if isinstance(step, Open):
        return 1 + len(step.early)
    if isinstance(step, Upgrade):
        return 1 + len(step.packets)
    if isinstance(step, Frames):
        return len(step.frames)
    return 0 if isinstance(step, (Deaf, Meanwhile)) else 1
