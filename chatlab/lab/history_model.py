"""What the checker's rules look at: sends, and what each client saw of each room.

Plain data, filled by `history_views.py` in one pass over a history's events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chatlab.lab import history_events as ev
from chatlab.lab.history_events import Delivered
from chatlab.protocol import trim

__all__ = ["Digest", "Ident", "Leak", "Send", "View", "ident"]

Ident = tuple[str, str]
"""What makes a message one: its room and its id, or, where servers give none, its user and text."""


Wire = tuple[str, str, int, int]
"""Client, room, and the how-manieth connection and membership of it."""


@dataclass(slots=True, eq=False)
class Send:
    """One message that somebody wanted to send, in one attempt or several with one key."""

    room: str
    user: str
    order: int  # of the first attempt among all events
    attempts: list[ev.Sent] = field(default_factory=list)
    answers: list[tuple[int, ev.Acked]] = field(default_factory=list)
    oks: list[tuple[int, ev.Acked]] = field(default_factory=list)
    idents: dict[Ident, None] = field(default_factory=dict)  # what it was stored as

    @property
    def text(self) -> str:
        return trim(self.attempts[0].text)

    @property
    def refused(self) -> bool:
        """Every attempt was answered, with an answer that means *not stored*."""
        return len(self.answers) >= len(self.attempts) and all(
            answer.stored is False for _, answer in self.answers
        )

    @property
    def seq(self) -> int | None:
        return self.oks[0][1].seq if self.oks else None


@dataclass(slots=True, eq=False)
class View:
    """What one client saw of one room, from its joining until it left, reconnects included.

    `items` are the events in which it saw a message, in order; `stretch` begins anew where the
    client was told that the room's log did. `epochs` has one entry for each stretch.
    """

    client: str
    user: str
    room: str
    since: int  # the order of the answer to its join
    start: int | None = None  # it joined behind this seq
    epochs: list[str | None] = field(default_factory=lambda: [None])
    items: list[tuple[int, int, ev.Arrived | ev.Shown]] = field(default_factory=list)
    fetched: list[Delivered] = field(default_factory=list)
    own: list[tuple[Send, ev.Acked]] = field(default_factory=list)
    told: list[tuple[int, ev.Missing]] = field(default_factory=list)
    shows: bool = False
    at_end: bool = False

    def stretches(self) -> list[list[Delivered]]:
        """The messages of each stretch, in order."""
        found: list[list[Delivered]] = [[] for _ in self.epochs]
        for _, stretch, event in self.items:
            found[stretch].append(event.message)
        return found


@dataclass(frozen=True, slots=True)
class Leak:
    """A delivery to somebody who should not have got it, and why not."""

    event: ev.Arrived | ev.Shown
    why: str


@dataclass(slots=True)
class Digest:
    """Everything that the rules need. `wire` holds, by connection, what arrived in which order."""

    begin: float = 0.0
    clients: dict[str, ev.Client] = field(default_factory=dict)
    sends: list[Send] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    wire: dict[Wire, list[ev.Arrived]] = field(default_factory=dict)
    stray: list[ev.Arrived | ev.Shown] = field(default_factory=list)  # what leaked
    leaks: list[Leak] = field(default_factory=list)
    acked_twice: list[tuple[Send, ev.Acked]] = field(default_factory=list)
    delivered: int = 0
    anew: set[str] = field(default_factory=set)  # rooms whose log began anew


def ident(message: Delivered) -> Ident:
    """See `Ident`."""
    name = f"{message.user}\0{message.text}" if message.id is None else message.id
    return (message.room, name)
