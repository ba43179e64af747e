"""Which delivered message is which send, and what was never sent at all.

An ack names the id that a send was stored under; what no ack names is matched by room, user and
text. Order and completeness are other rules' business.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from chatlab.lab import history_events as ev
from chatlab.lab.history_events import Delivered
from chatlab.lab.history_model import Digest, Ident, Send, ident
from chatlab.protocol import trim

__all__ = ["Match", "Phantom", "match"]


@dataclass(frozen=True, slots=True)
class Phantom:
    """A delivered message that nobody sent so. `send` is the one that it resembles most."""

    message: Delivered
    client: str
    why: str
    send: Send | None


@dataclass(slots=True)
class Match:
    """`sends` says, for each message that was delivered or acked, which sends it may be."""

    sends: dict[Ident, list[Send]] = field(default_factory=dict)
    phantoms: list[Phantom] = field(default_factory=list)
    delivered: set[Ident] = field(default_factory=set)

    def knows(self, message: Delivered) -> bool:
        """Whether somebody sent it, be it with another text."""
        return ident(message) in self.sends


def match(digest: Digest) -> Match:
    """Fill `Send.idents`, and tell what is a phantom."""
    matcher = _Matcher(digest)
    for message, client in _distinct(digest).items():
        matcher.take(message, client)
    return matcher.found


def _distinct(digest: Digest) -> dict[Delivered, str]:
    """Every message in every wording in which it was delivered, with the first who got it."""
    found: dict[Delivered, str] = {}
    events: list[ev.Arrived | ev.Shown] = []
    for view in digest.views:
        for message in view.fetched:
            found.setdefault(message, view.client)
        for _, _, seen in view.items:
            found.setdefault(seen.message, view.client)
    for arrivals in digest.wire.values():
        events.extend(arrivals)
    for event in events + digest.stray:
        found.setdefault(event.message, event.client)
    return found


class _Matcher:
    def __init__(self, digest: Digest) -> None:
        self.found = Match()
        self._alike: dict[tuple[str, str, str], list[Send]] = defaultdict(list)
        self._texts: dict[str, Send] = {}
        for send in digest.sends:
            for text in {trim(attempt.text) for attempt in send.attempts}:
                self._alike[send.room, send.user, text].append(send)
                self._texts.setdefault(text, send)
            for _, ack in send.oks:
                if ack.id is not None:
                    self._bind(send, (send.room, ack.id))

    def take(self, message: Delivered, client: str) -> None:
        name = ident(message)
        self.found.delivered.add(name)
        text = trim(message.text)
        known = self.found.sends.get(name)
        if known is not None and message.id is not None:
            if not any(_says(send, message.user, text) for send in known):
                self._phantom(message, client, _difference(known[0], message), known[0])
            return
        alike = self._alike.get((message.room, message.user, text), [])
        possible = [send for send in alike if not send.refused]
        if message.id is None:
            for send in possible:
                self._bind(send, name)
        elif possible:
            # One that was acked without an id first, then one whose answer never came; if all are
            # taken, the message was stored twice.
            free = [send for send in possible if not send.idents]
            self._bind(min(free, key=lambda send: not send.oks) if free else possible[0], name)
        if not possible:
            resembling = alike[0] if alike else self._texts.get(text)
            self._phantom(message, client, _difference(resembling, message), resembling)

    def _bind(self, send: Send, name: Ident) -> None:
        sends = self.found.sends.setdefault(name, [])
        if send not in sends:
            sends.append(send)
        send.idents[name] = None

    def _phantom(self, message: Delivered, client: str, why: str, send: Send | None) -> None:
        self.found.phantoms.append(Phantom(message, client, why, send))


def _says(send: Send, user: str, text: str) -> bool:
    return send.user == user and any(trim(attempt.text) == text for attempt in send.attempts)


def _difference(send: Send | None, message: Delivered) -> str:
    if send is None:
        return "nobody sent it"
    if send.room != message.room:
        return f"it was sent to {send.room}"
    if send.user != message.user:
        return f"it was sent by {send.user}"
    if send.refused:
        return "its send was refused"
    return f"it was sent as {send.text!r}"
