"""The rules behind `verdict`: what counts as lost, duplicated, out of order, unexpected.

Pure functions over lists of messages; where the lists come from is `verdict.py`'s business.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["FAULTS", "Fault", "Sent", "Witness", "identity", "judge"]

FAULTS = ("lost", "duplicated", "out of order", "unexpected")

# What a server adds to a message, or a client to a try: not part of what was said.
_ADDED = frozenset({"id", "key", "seq", "timestamp", "user", "room", "from", "username", "userId"})


def identity(payload: Any) -> Any:
    """What makes two payloads the same message: the text where there is one. Always hashable."""
    if isinstance(payload, Mapping):
        if isinstance(payload.get("text"), str):
            return payload["text"].strip()
        return tuple(sorted((str(k), repr(v)) for k, v in payload.items() if k not in _ADDED))
    text = getattr(payload, "text", None)
    if isinstance(text, str):
        return text.strip()
    if isinstance(payload, str):
        return payload.strip()
    try:
        hash(payload)
    except TypeError:
        return repr(payload)
    return payload


@dataclass(slots=True)
class Sent:
    """One message of one sender: when it was tried, and what the sender was told.

    `answers` has None for each try that asked for an ack, and "ok" or "no" for each answer.
    """

    item: Any
    sender: str
    attempts: list[int] = field(default_factory=list)
    answers: list[Literal["ok", "no"] | None] = field(default_factory=list)

    @property
    def state(self) -> Literal["acked", "refused", "unknown", "unasked"]:
        """What the sender knows. A yes outweighs a no, and a no to every try is a refusal."""
        if not self.answers:
            return "unasked"
        if "ok" in self.answers:
            return "acked"
        asked = self.answers.count(None)
        return "refused" if self.answers.count("no") >= asked else "unknown"

    @property
    def promised(self) -> bool:
        """Whether it has to be there: acknowledged, or sent by somebody who never asks."""
        return self.state in ("acked", "unasked")


@dataclass(slots=True)
class Witness:
    """Somebody who has messages: a store (`is_store`) or a receiver, in the order they came.

    A receiver is owed the messages of others that were sent after `since`.
    """

    name: str
    items: Sequence[Any]
    is_store: bool = False
    since: int = -1

    def is_owed(self, message: Sent) -> bool:
        """Whether this message has to be here."""
        if not message.promised:
            return False
        return self.is_store or (message.sender != self.name and message.attempts[0] > self.since)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one message at one witness."""

    name: str
    item: Any
    where: str
    sentence: str


def judge(messages: Sequence[Sent], witnesses: Sequence[Witness]) -> list[Fault]:
    """Every fault, in the order of `FAULTS` and, within each, of the witnesses."""
    return [
        *_lost(messages, witnesses),
        *_duplicated(messages, witnesses),
        *_out_of_order(messages, witnesses),
        *_unexpected(messages, witnesses),
    ]


def _of(sender: str) -> str:
    return f" of {sender}" if sender else ""


def _lost(messages: Sequence[Sent], witnesses: Sequence[Witness]) -> Iterable[Fault]:
    for witness in witnesses:
        there = set(witness.items)
        for message in messages:
            if message.item in there or not witness.is_owed(message):
                continue
            told = "was acknowledged" if message.state == "acked" else "was sent"
            missing = (
                "is not stored"
                if witness.name == "stored"
                else ("never arrived" if witness.is_store else f"never reached {witness.name}")
            )
            yield Fault(
                "lost",
                message.item,
                witness.name,
                f"{message.item!r}{_of(message.sender)} {told} and {missing}",
            )


def _duplicated(messages: Sequence[Sent], witnesses: Sequence[Witness]) -> Iterable[Fault]:
    # Two people may say the same thing: that many copies are right.
    said = Counter(m.item for m in messages)
    for witness in witnesses:
        for item, number in Counter(witness.items).items():
            if number > max(1, said[item]):
                yield Fault(
                    "duplicated",
                    item,
                    witness.name,
                    f"{item!r} is there {number} times"
                    if witness.is_store
                    else f"{item!r} reached {witness.name} {number} times",
                )


def _out_of_order(messages: Sequence[Sent], witnesses: Sequence[Witness]) -> Iterable[Fault]:
    seen: set[tuple[str, Any]] = set()
    for witness in witnesses:
        for sender in dict.fromkeys(m.sender for m in messages):
            tries = {m.item: m.attempts for m in messages if m.sender == sender}
            order = [x for x in dict.fromkeys(witness.items) if x in tries]
            # Wrong only where no choice among the tries of both explains what was seen.
            for earlier, item in _fallen_behind(order, tries):
                seen.add((witness.name, item))
                yield Fault(
                    "out of order",
                    item,
                    witness.name,
                    f"{item!r}{_of(sender)} was sent before {earlier!r} and came after it",
                )
    for one, other in itertools.combinations(witnesses, 2):
        rank = {item: [n] for n, item in enumerate(dict.fromkeys(one.items))}
        order = [x for x in dict.fromkeys(other.items) if x in rank]
        for earlier, item in _fallen_behind(order, rank):
            pair = itertools.product((one.name, other.name), (item, earlier))
            if seen.isdisjoint(pair):
                yield Fault(
                    "out of order",
                    item,
                    other.name,
                    f"{item!r} came before {earlier!r} in {one.name} and after it in {other.name}",
                )


def _fallen_behind(
    order: Iterable[Any], tries: Mapping[Any, Sequence[int]]
) -> Iterable[tuple[Any, Any]]:
    """Pairs (earlier, item): `item` comes after one whose first try was after `item`'s last."""
    latest: Any = None
    for item in order:
        if latest is not None and tries[item][-1] < tries[latest][0]:
            yield latest, item
        if latest is None or tries[item][0] > tries[latest][0]:
            latest = item


def _unexpected(messages: Sequence[Sent], witnesses: Sequence[Witness]) -> Iterable[Fault]:
    sent = {m.item for m in messages}
    refused = {m.item for m in messages if m.state == "refused"} - {
        m.item for m in messages if m.state != "refused"
    }
    for witness in witnesses:
        for item in dict.fromkeys(witness.items):
            if item not in sent:
                yield Fault(
                    "unexpected", item, witness.name, f"{item!r} is there, and nobody sent it"
                )
            elif item in refused and witness.name != "arrived":
                yield Fault("unexpected", item, witness.name, f"{item!r} was refused and is there")
