"""Which fault a wire has, and which is about to strike: the rules behind `Proxy`.

It decides on packets one by one and moves no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chatlab.lab.packets import Seen

__all__ = ["Action", "Direction", "Rule", "make_rule", "ways", "words"]

Direction = Literal["to_server", "to_client", "both"]
Action = Literal["mute", "cut", "drop", "delay"]

_WORDS = {"to_server": "to the server", "to_client": "to the client", "both": "both ways"}


def words(direction: Direction) -> str:
    """The direction in words."""
    return _WORDS[direction]


def ways(direction: Direction) -> set[bool]:
    """The values of `to_server` that a direction covers. Raises `ValueError` for another word."""
    if direction not in _WORDS:
        raise ValueError(f"direction is 'to_server', 'to_client' or 'both', not {direction!r}")
    return {"to_server": {True}, "to_client": {False}, "both": {True, False}}[direction]


@dataclass(slots=True)
class Rule:
    """A fault that strikes when a certain packet arrives.

    Packets that match `only` (`"event"`, `"ack"`, or an event's name) and travel in `count`'s
    direction are counted from 1. `mute`, `cut` and `delay` strike at number `after` + 1, which is
    the first to be lost or late; `drop` swallows the numbers in `at`, or every one where `at` is
    None. `seconds` is how long a silence or a cut lasts (None: until healed), `late` by how much a
    delay is late.
    """

    action: Action
    only: str
    count: Direction
    direction: Direction
    after: int = 0
    at: frozenset[int] | None = None
    seconds: float | None = None
    late: float = 0.0
    rst: bool = False
    seen: int = 0
    done: bool = False

    def strikes(self, packet: Seen, to_server: bool) -> bool:
        """Count the packet where it matches; say whether this is the one."""
        if self.done or to_server not in ways(self.count) or not self._matches(packet):
            return False
        self.seen += 1
        if self.action == "drop":
            if self.at is not None and self.seen >= max(self.at):
                self.done = True
            return self.at is None or self.seen in self.at
        self.done = self.seen > self.after
        return self.done

    def _matches(self, packet: Seen) -> bool:
        if self.only in ("event", "ack"):
            return packet.packet == self.only
        return packet.packet == "event" and packet.name == self.only

    def describe(self) -> str:
        """The rule as a phrase for a card."""
        if self.action == "drop":
            if self.at is None:
                return f"swallows every {self.only} {words(self.count)}"
            numbers = ", ".join(map(str, sorted(self.at)))
            return f"swallows {self.only} {numbers} {words(self.count)}"
        late = f"is {self.late:g} s late"
        verb = {"mute": "goes silent", "cut": "is cut", "delay": late}[self.action]
        ending = "" if self.direction == "both" else f", {words(self.direction)}"
        way = "" if self.count == "both" else f" {words(self.count)}"
        if self.after == 0:
            return f"{verb} at the first {self.only}{way}{ending}"
        plural = "" if self.after == 1 else "s"
        return f"{verb} after {self.after} {self.only}{plural}{way}{ending}"


def make_rule(
    action: Action,
    *,
    direction: Direction | None = None,
    only: str | None = None,
    count: Direction | None = None,
    after: int = 0,
    at: int | Iterable[int] | None = None,
    seconds: float | None = None,
    late: float = 0.0,
    rst: bool = False,
) -> Rule:
    """Fill in what was left out, and refuse what makes no sense with `ValueError`."""
    only = only or "event"
    natural: Direction = "to_client" if only == "ack" else "to_server"
    if count is None:
        count = direction if direction in ("to_server", "to_client") else natural
    if direction is None:
        direction = count if action == "drop" else "both"
    ways(count)
    ways(direction)
    if after < 0:
        raise ValueError(f"a count of packets is 0 or more, not {after}")
    for amount in (late, seconds or 0.0):
        if amount < 0:
            raise ValueError(f"a time is 0 seconds or more, not {amount}")
    numbers = None
    if at is not None:
        numbers = frozenset([at] if isinstance(at, int) else at)
        if not numbers or min(numbers) < 1:
            raise ValueError(f"packets are counted from 1; at={at!r} names none")
    return Rule(action, only, count, direction, after, numbers, seconds, late, rst)
