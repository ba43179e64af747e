"""Judges a run: which messages were lost, duplicated or out of order, and which nobody can tell.

It compares what was sent and acknowledged with what others stored and received, and draws nothing
itself. Two sends of the same text by one client count as one message that was tried twice.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatlab.lab.recorder import Entry, Recorder
from chatlab.lab.verdict_rules import FAULTS, Fault, Sent, Witness, identity, judge

__all__ = ["Evidence", "Verdict", "verdict"]


@dataclass(frozen=True, slots=True, repr=False)
class Evidence:
    """One message with which something went wrong.

    `item` is the message (its text), `where` the one who saw or missed it, `trace` everything that
    was recorded of it, in order.
    """

    fault: str
    item: Any
    where: str
    sentence: str
    trace: tuple[Entry, ...] = ()

    def __repr__(self) -> str:
        return f"{self.fault}: {self.sentence}"


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """What became of the messages of a run. The numbers are exact; `repr` shows words.

    `lost`: acknowledged (or sent without asking for an ack) and not there. `unknown`: an ack was
    asked for and never came, so the sender cannot tell. `unexpected`: there, but never sent, or
    refused. `arrived` has, by name, how many messages each of the others has.
    """

    sent: int
    attempts: int
    acked: int
    unknown: int
    lost: int
    duplicated: int
    out_of_order: int
    unexpected: int
    arrived: Mapping[str, int]
    evidence: tuple[Evidence, ...]
    asked: bool = False
    counts: bool = field(default=True, compare=False)

    @property
    def ok(self) -> bool:
        """Nothing lost, duplicated, out of order or unexpected. What is unknown is no fault."""
        return not (self.lost or self.duplicated or self.out_of_order or self.unexpected)

    def _counted(self) -> list[str]:
        if not self.counts:
            return []
        tries = f" in {self.attempts} tries" if self.attempts > self.sent else ""
        parts = [f"sent {self.sent}{tries}"]
        if self.asked:
            parts.append(f"acked {self.acked}")
        stores = ("stored", "arrived")
        return parts + [
            f"{name} {number}" if name in stores else f"{name} got {number}"
            for name, number in self.arrived.items()
        ]

    def _words(self) -> list[tuple[str, int]]:
        words = [(fault, int(getattr(self, fault.replace(" ", "_")))) for fault in FAULTS]
        words = [(fault, n) for fault, n in words if n or fault != "unexpected"]
        return words + ([("unknown", self.unknown)] if self.asked else [])

    def _examples(self) -> list[str]:
        """One sentence for each kind of fault, the first of its kind."""
        if not self.counts:
            return []
        first: dict[str, str] = {}
        for found in self.evidence:
            first.setdefault(found.fault, repr(found))
        return list(first.values())

    def __repr__(self) -> str:
        words = [f"{fault}: {'some' if n else 0}" for fault, n in self._words()]
        return "\n".join(
            [" · ".join(self._counted() + words), *(f"  {line}" for line in self._examples())]
        )

    def _repr_html_(self) -> str:
        edge = "var(--jp-success-color1, #2e7d32)" if self.ok else "var(--jp-error-color1, #c62828)"
        cells = "".join(
            f'<span style="margin-right:1.2em;white-space:nowrap">{_sign(fault, n)} {fault}: '
            f"<b>{'some' if n else 0}</b></span>"
            for fault, n in self._words()
        )
        lines = "".join(
            f'<div style="opacity:.8">{html.escape(line)}</div>' for line in self._examples()
        )
        return (
            f'<div style="border-left:4px solid {edge};padding:.3em .8em;margin:.3em 0">'
            f'<div style="opacity:.8">{html.escape(" · ".join(self._counted()))}</div>'
            f"<div>{cells}</div>{lines}</div>"
        )


def _sign(fault: str, number: int) -> str:
    if not number:
        return "✓"
    return "○" if fault == "unknown" else "✗"


def verdict(
    *actors: object,
    sent: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    acked: Collection[Any] | None = None,
    received: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
    stored: Iterable[Any] | None = None,
    event: str = "send-message",
    delivered: str = "new-message",
    counts: bool = True,
) -> Verdict:
    """Judge a run, from the actors' records or from lists (which replace what the records say).

    `actors` are clients, servers and wires, or their recorders: what the clients sent under the
    name `event`, which of it was acked, what arrived at the servers, and what other clients
    received under the name `delivered`. `sent` and `received` are lists, or lists by name; `acked`
    holds the acknowledged ones (None: no ack was asked for); `stored` is what a server kept.
    Messages are compared by their text. `counts=False` leaves the numbers out of the text, for
    runs in which they differ from time to time. Raises `ValueError` when nothing was sent.
    """
    recorders = [_recorder(actor) for actor in actors]
    entries = sorted((e for r in recorders for e in r.entries), key=lambda e: e.order)
    messages = _given(sent, acked) if sent is not None else _recorded(recorders, event)
    if not messages:
        raise ValueError(
            "nothing was sent: give verdict the clients that sent, or sent=[…] "
            f"(it looked for {event!r}; event=… names another)"
        )
    witnesses: list[Witness] = []
    if stored is not None:
        witnesses.append(Witness("stored", [identity(x) for x in stored], is_store=True))
    else:
        witnesses += _servers(recorders, event)
    if received is not None:
        by_name = received if isinstance(received, Mapping) else {"received": received}
        witnesses += [Witness(k, [identity(x) for x in v]) for k, v in by_name.items()]
    else:
        witnesses += _receivers(recorders, delivered, messages)
    faults = judge(messages, witnesses)
    return Verdict(
        sent=len(messages),
        attempts=sum(len(m.attempts) for m in messages),
        acked=sum(m.state == "acked" for m in messages),
        unknown=sum(m.state == "unknown" for m in messages),
        lost=_count(faults, "lost"),
        duplicated=_count(faults, "duplicated"),
        out_of_order=_count(faults, "out of order"),
        unexpected=_count(faults, "unexpected"),
        arrived={w.name: len(w.items) for w in witnesses},
        evidence=tuple(
            Evidence(f.name, f.item, f.where, f.sentence, _trace(entries, f.item)) for f in faults
        ),
        asked=any(m.state != "unasked" for m in messages),
        counts=counts,
    )


def _recorder(actor: object) -> Recorder:
    found = getattr(actor, "recorder", actor)
    if not isinstance(found, Recorder):
        raise TypeError(f"verdict takes clients, servers and wires, not {type(actor).__name__}")
    return found


def _count(faults: Iterable[Fault], name: str) -> int:
    return len({f.item for f in faults if f.name == name})


def _trace(entries: Iterable[Entry], item: Any) -> tuple[Entry, ...]:
    return tuple(e for e in entries if e.packet == "event" and identity(e.data) == item)


def _given(
    sent: Sequence[Any] | Mapping[str, Sequence[Any]], acked: Collection[Any] | None
) -> list[Sent]:
    confirmed = None if acked is None else {identity(x) for x in acked}
    messages: dict[tuple[str, Any], Sent] = {}
    for sender, items in (sent if isinstance(sent, Mapping) else {"": sent}).items():
        for position, item in enumerate(items):
            key = identity(item)
            message = messages.setdefault((sender, key), Sent(key, sender))
            message.attempts.append(position)
            if confirmed is not None:
                message.answers.append("ok" if key in confirmed else None)
    return list(messages.values())


def _recorded(recorders: Iterable[Recorder], event: str) -> list[Sent]:
    messages: dict[tuple[str, Any], Sent] = {}
    for recorder in recorders:
        if recorder.role != "client":
            continue
        waiting: dict[int, Sent] = {}
        for entry in recorder.entries:
            if entry.kind == "send" and entry.packet == "event" and entry.name == event:
                key = identity(entry.data)
                message = messages.setdefault((recorder.name, key), Sent(key, recorder.name))
                message.attempts.append(entry.order)
                if entry.id is not None:
                    message.answers.append(None)
                    waiting[entry.id] = message
            elif entry.kind == "receive" and entry.packet == "ack" and entry.id in waiting:
                data = entry.data
                said_no = isinstance(data, Mapping) and data.get("ok") is False
                waiting.pop(entry.id).answers.append("no" if said_no else "ok")
    return list(messages.values())


def _servers(recorders: Sequence[Recorder], event: str) -> list[Witness]:
    """What arrived at the servers, seen as one: a message may go to any of them."""
    items = sorted(
        (
            e
            for r in recorders
            if r.role == "server"
            for e in r.entries
            if e.kind == "receive" and e.packet == "event" and e.name == event
        ),
        key=lambda e: e.order,
    )
    if not any(r.role == "server" for r in recorders):
        return []
    return [Witness("arrived", [identity(e.data) for e in items], is_store=True)]


def _receivers(
    recorders: Iterable[Recorder], delivered: str, messages: Sequence[Sent]
) -> list[Witness]:
    found = []
    for recorder in recorders:
        if recorder.role != "client" or all(m.sender == recorder.name for m in messages):
            continue
        items = [
            identity(e.data)
            for e in recorder.entries
            if e.kind == "receive" and e.packet == "event" and e.name == delivered
        ]
        since = next((e.order for e in recorder.entries if e.kind == "connected"), -1)
        found.append(Witness(recorder.name, items, since=since))
    return found
