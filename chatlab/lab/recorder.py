"""What one actor of a run (a client, a wire, a server) did and saw, in order.

Everything in the lab that can be drawn or judged carries a `Recorder`; `timeline` draws several of
them together and `verdict` judges them. It knows nothing of sockets and draws nothing itself.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Entry", "Kind", "Recorder"]

Kind = Literal[
    "send",  # this actor put a packet on its connection
    "receive",  # a packet arrived here
    "pass",  # a wire let a packet through
    "drop",  # a wire swallowed a packet (muted)
    "mute",  # a wire went silent: a wall in the drawing
    "cut",  # a wire closed the connection
    "heal",  # a wire works again
    "timeout",  # this actor stopped waiting for an ack
    "refused",  # the connection was refused (connect_error)
    "connected",
    "disconnected",
    "note",  # a remark of the lesson's own
]

# One counter for the whole process: entries of different threads can be merged in the order in
# which they were made, even where the clock's resolution cannot tell them apart.
_order = itertools.count()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened at one actor.

    `conn` names the connection by its client's name (a server and a wire serve several clients).
    `packet` is `"event"`, `"ack"`, `"connect"`, `"connect_error"`, `"disconnect"` or None;
    `name` is the event's name, `data` its payload (for an ack: the answer), `id` the ack's number
    on that connection. `to_server` says which way the packet travels.
    """

    order: int
    at: float
    actor: str
    kind: Kind
    conn: str | None = None
    to_server: bool | None = None
    packet: str | None = None
    name: str | None = None
    data: Any = None
    id: int | None = None
    text: str | None = None


@dataclass(slots=True)
class Recorder:
    """Collects the entries of one actor; `list.append` makes it safe from any thread.

    `role` is `"client"`, `"wire"` or `"server"` and decides the lane's place in a drawing.
    """

    name: str
    role: Literal["client", "wire", "server"]
    entries: list[Entry] = field(default_factory=list)

    def add(self, kind: Kind, **fields: Any) -> Entry:
        """Record one entry now. `fields` are those of `Entry`. Returns the entry."""
        entry = Entry(next(_order), time.monotonic(), self.name, kind, **fields)
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget everything, so that the next scene starts with an empty page."""
        self.entries.clear()
