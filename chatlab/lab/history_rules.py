"""The checker's rules: what in a history is a fault, one function for each kind.

They say what is wrong and whom it concerns. What they look at is made by `history_views.py`, the
sentences and traces are shown by `history_report.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from chatlab.lab import history_events as ev
from chatlab.lab.history_events import Delivered
from chatlab.lab.history_match import Match, match
from chatlab.lab.history_model import Digest, Ident, Send, View, ident
from chatlab.lab.history_report import Found, Report, report
from chatlab.lab.history_sequence import gaps, out_of_order
from chatlab.lab.history_views import digest
from chatlab.protocol import trim

__all__ = ["judge"]


def judge(events: Sequence[ev.Event], *, grace: float = 1.0) -> Report:
    """The verdict on `events`; see `check_history`.

    `grace` is how many seconds a delivery may come after a permit was taken back: the contract
    gives a ban one second to reach every server.
    """
    seen = digest(events, grace=grace)
    matched = match(seen)
    lost, excused = _lost(seen)
    stored_twice, excused_too = _stored_twice(seen, matched)
    acked_twice, excused_three = _acked_twice(seen, matched)
    found = [
        *lost,
        *_phantoms(matched),
        *stored_twice,
        *_shown_twice(seen, matched),
        *out_of_order(seen, matched),
        *gaps(seen, matched),
        *_leaks(seen),
        *acked_twice,
    ]
    counts = {
        "sent": len(seen.sends),
        "attempts": sum(len(send.attempts) for send in seen.sends),
        "acked": sum(bool(send.oks) for send in seen.sends),
        "refused": sum(send.refused for send in seen.sends),
        "unknown": sum(not send.oks and not send.refused for send in seen.sends),
        "delivered": seen.delivered,
        "excused": excused + excused_too + excused_three,
    }
    return report(found, counts, events, begin=seen.begin)


# --- lost --------------------------------------------------------------------------------------


def _lost(seen: Digest) -> tuple[list[Found], int]:
    acked: dict[str, list[Send]] = {}
    for send in seen.sends:
        if send.oks:
            acked.setdefault(send.room, []).append(send)
    epochs = _epochs(seen)
    found, excused = [], 0
    for view in seen.views:
        if not view.at_end:
            continue
        had = Counter(ident(event.message) for _, _, event in view.items)
        had.update(ident(message) for message in view.fetched)
        own = set() if view.shows else {id(send) for send, _ in view.own}
        for send in acked.get(view.room, ()):
            if not _owed(view, send, seen) or id(send) in own or _take(had, send):
                continue
            if _excuse(view, send, epochs):
                excused += 1
                continue
            at = send.oks[0][1].at - seen.begin
            text = f"{_name(send)} was acked at {at:.3f} s and never reached {view.client}"
            found.append(Found("lost", text, sends=(send,), clients=(view.client,), room=view.room))
    return found, excused


def _owed(view: View, send: Send, seen: Digest) -> bool:
    """Whether `view` begins before the message: by the room's own count, or by what was when."""
    if view.start is not None and send.seq is not None and view.room not in seen.anew:
        return send.seq > view.start
    return send.order > view.since


def _take(had: Counter[Ident], send: Send) -> bool:
    for name in send.idents:
        if had[name] > 0:
            # Without ids, two sends of one text are two only when it was seen twice.
            had[name] -= "\0" in name[1]
            return True
    return False


def _excuse(view: View, send: Send, epochs: dict[Ident, set[str | None]]) -> bool:
    """Whether what the client was told to be lost may be this message."""
    if not view.told:
        return False
    seq, (acked_at, _) = send.seq, send.oks[0]
    known = set[str | None]().union(*(epochs.get(name, set()) for name in send.idents))
    for (order, told), before in zip(view.told, _epochs_before(view), strict=True):
        behind = seq is None or seq > told.after
        until = seq is None or seq < told.resumes
        if told.missing is not None:
            if behind and until and (not known or before in known):
                return True
            continue
        may_be_gone = acked_at < order and told.epoch not in known
        # What was said to be gone reaches from there to the end of that log, and over every log
        # that came and went while the client was away.
        if until or (may_be_gone and (behind or before not in known)):
            return True
    return False


def _epochs_before(view: View) -> Iterator[str | None]:
    """The epoch in which the client was when it was told each of its losses."""
    place = 0
    for _, told in view.told:
        yield view.epochs[place]
        place += told.missing is None


def _epochs(seen: Digest) -> dict[Ident, set[str | None]]:
    """In which epochs each message of the rooms whose log began anew was seen."""
    found: dict[Ident, set[str | None]] = {}
    for view in seen.views:
        if view.room in seen.anew:
            for _, stretch, event in view.items:
                found.setdefault(ident(event.message), set()).add(view.epochs[stretch])
    return found


# --- phantom and duplicated --------------------------------------------------------------------


def _phantoms(matched: Match) -> Iterator[Found]:
    for phantom in matched.phantoms:
        got = phantom.message
        text = f"{phantom.client} got {got} of {got.user} in {got.room}, but {phantom.why}"
        sends = () if phantom.send is None else (phantom.send,)
        yield Found("phantom", text, (ident(got),), sends, clients=(phantom.client,), room=got.room)


def _stored_twice(seen: Digest, matched: Match) -> tuple[list[Found], int]:
    found, excused = [], 0
    for send in seen.sends:
        copies = [name for name in send.idents if name in matched.delivered]
        if len(copies) < 2:
            continue
        if send.room in seen.anew and not _together(seen, send):
            excused += 1  # a log that came back with less has forgotten the key
            continue
        text = f"{_name(send)} is in {send.room} {len(copies)} times"
        found.append(Found("duplicated", text, tuple(copies), (send,), room=send.room))
    return found, excused


def _together(seen: Digest, send: Send) -> bool:
    """Whether somebody saw two copies without being told of a new log in between."""
    for view in seen.views:
        if view.room == send.room:
            for stretch in view.stretches():
                if len({ident(message) for message in stretch} & send.idents.keys()) > 1:
                    return True
    return False


def _shown_twice(seen: Digest, matched: Match) -> Iterator[Found]:
    for view in seen.views:
        for stretch in view.stretches():
            yield from _repeats(stretch, matched, view.client, "" if view.shows else "was sent")
    for (client, _, _, _), arrivals in seen.wire.items():
        known = seen.clients.get(client)
        if known is not None and known.shows:
            messages = [event.message for event in arrivals]
            yield from _repeats(messages, matched, client, "was sent")


def _repeats(
    messages: Sequence[Delivered], matched: Match, client: str, verb: str
) -> Iterator[Found]:
    times = Counter(ident(message) for message in messages)
    if len(times) == len(messages):
        return
    by_name = {ident(message): message for message in messages}
    for name, count in times.items():
        got = by_name[name]
        sends = matched.sends.get(name, [])
        # Without ids, a text that was sent twice may come twice.
        if count > (1 if got.id is not None else max(1, len(sends))):
            text = f"{client} {verb or 'showed'} {got} of {got.user} in {got.room} {count} times"
            yield Found(
                "duplicated", text, (name,), tuple(sends[:1]), clients=(client,), room=got.room
            )


# --- leak and acked twice ----------------------------------------------------------------------


def _leaks(seen: Digest) -> Iterator[Found]:
    for leak in seen.leaks:
        got, client = leak.event.message, leak.event.client
        text = f"{client} got {got} of {got.room}, and {leak.why}"
        yield Found("leak", text, (ident(got),), clients=(client,), room=got.room)
    for view in seen.views:
        if view.start is None or view.room in seen.anew:
            continue
        for _, _, event in view.items:
            got = event.message
            if got.seq is not None and got.seq <= view.start:
                text = f"{view.client} got {got} of {got.room}, and joined behind #{view.start}"
                yield Found("leak", text, (ident(got),), clients=(view.client,), room=got.room)


def _acked_twice(seen: Digest, matched: Match) -> tuple[list[Found], int]:
    found, excused = [], 0
    for send, ack in seen.acked_twice:
        text = f"send {ack.send} of {ack.client} ({send.text!r}) was answered twice"
        found.append(Found("acked twice", text, sends=(send,), room=send.room))
    acked: dict[Ident, Send] = {}
    for send in seen.sends:
        told = {(ack.id, ack.seq): ack for _, ack in send.oks}
        if len(told) > 1 and send.room in seen.anew:
            excused += 1
        elif len(told) > 1:
            answers = " and ".join(f"#{seq} (id {name})" for name, seq in told)
            text = f"{_name(send)} was acked as {answers}"
            found.append(Found("acked twice", text, sends=(send,), room=send.room))
        if len(_texts_acked(send)) > 1:
            texts = " and ".join(map(repr, _texts_acked(send)))
            text = f"one key of {send.user} was acked for {texts}"
            found.append(Found("acked twice", text, sends=(send,), room=send.room))
        for _, ack in send.oks:
            other = send if ack.id is None else acked.setdefault((send.room, ack.id), send)
            if other is not send:
                text = f"one id ({ack.id}) was acked for {_name(other)} and for {_name(send)}"
                found.append(Found("acked twice", text, sends=(other, send), room=send.room))
                break
    return found, excused


def _texts_acked(send: Send) -> dict[str, None]:
    texts = {(attempt.client, attempt.send): trim(attempt.text) for attempt in send.attempts}
    return {texts[ack.client, ack.send]: None for _, ack in send.oks}


def _name(send: Send) -> str:
    place = "" if send.seq is None else f" (#{send.seq})"
    return f"{send.text!r}{place} by {send.user} in {send.room}"
