"""Any history of a service that behaves passes; any single thing spoiled in it is found."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chatlab.lab import history_events as ev
from chatlab.lab.history import Delivered, History, Report, check_history
from tests.lab.history_world import STEPS, Step, World

steps = st.lists(
    st.tuples(
        st.sampled_from((*STEPS, *("send", "deliver") * 4)),
        st.integers(0, 3),
        st.integers(0, 1),
        st.integers(0, 9),
    ),
    max_size=60,
)
opening: list[Step] = [("join", who, where, 0) for who in range(3) for where in (0, 0, 1)]
kinds = st.sampled_from(("chat", "raw", "stock"))
quick = settings(max_examples=150)

Seen = ev.Arrived | ev.Shown


def played(kind: str, steps: list[Step]) -> list[ev.Event]:
    return World(kind).play([*opening, *steps]).events


def views(events: list[ev.Event], kind: str) -> list[tuple[int, Seen]]:
    """What was shown, where no log began anew: there a fault may be excused."""
    anew = {event.room for event in events if isinstance(event, ev.Missing)}
    shape = ev.Shown if kind == "chat" else ev.Arrived
    return [
        (place, event)
        for place, event in enumerate(events)
        if isinstance(event, shape) and event.message.room not in anew
    ]


def acked_texts(events: list[ev.Event]) -> set[str]:
    sent = {(e.client, e.send): e.text for e in events if isinstance(e, ev.Sent)}
    return {sent[e.client, e.send] for e in events if isinstance(e, ev.Acked) and e.stored}


def members_at_end(events: list[ev.Event]) -> set[tuple[str, str]]:
    inside: set[tuple[str, str]] = set()
    for event in events:
        if isinstance(event, ev.Joined):
            inside.add((event.client, event.room))
        elif isinstance(event, ev.Left):
            inside.discard((event.client, event.room))
    return inside


def last_leaving(events: list[ev.Event], client: str, room: str) -> int:
    return max(
        (
            place
            for place, event in enumerate(events)
            if isinstance(event, ev.Left) and (event.client, event.room) == (client, room)
        ),
        default=-1,
    )


@quick
@given(kinds, steps)
def test_a_history_of_a_service_that_behaves_passes(kind: str, steps: list[Step]) -> None:
    report = check_history(played(kind, steps))
    assert report.ok, report


@quick
@given(kinds, steps)
def test_a_history_that_was_written_and_read_again_gets_the_same_verdict(
    tmp_path_factory: pytest.TempPathFactory, kind: str, steps: list[Step]
) -> None:
    history = History(played(kind, steps))
    path = history.save(tmp_path_factory.getbasetemp() / "history.jsonl")
    again = History.load(path)
    assert again.events == history.events
    assert again.check() == history.check()


# --- spoiling ------------------------------------------------------------------------------------
# Each takes a history and spoils one thing in it. It names the kinds of fault that must be found,
# then those that may be found with it because the same spoiled thing shows in two ways.

Spoiled = tuple[list[ev.Event], set[str], set[str]]
Spoil = Callable[[list[ev.Event], str, st.DataObject], Spoiled]


def pick(data: st.DataObject, choices: list[tuple[int, Seen]]) -> tuple[int, Seen]:
    assume(choices)
    return data.draw(st.sampled_from(choices))


def drop_an_acked_delivery(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    acked, members = acked_texts(events), members_at_end(events)
    place, _ = pick(
        data,
        [
            (place, seen)
            for place, seen in views(events, kind)
            if seen.message.text in acked
            and (seen.client, seen.message.room) in members
            and place > last_leaving(events, seen.client, seen.message.room)
            and not (kind == "raw" and seen.message.user == seen.client)
        ],
    )
    return events[:place] + events[place + 1 :], {"lost"}, {"gap"}


def drop_one_in_the_middle(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    seen = views(events, kind)
    last = {(event.client, event.message.room): place for place, event in seen}
    place, _event = pick(
        data,
        [
            (place, event)
            for place, event in seen
            if place > last_leaving(events, event.client, event.message.room)
            and place < last[event.client, event.message.room]
            and not (kind == "raw" and event.message.user == event.client)
        ],
    )
    return events[:place] + events[place + 1 :], {"gap"}, {"lost"}


def show_one_twice(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, event = pick(data, views(events, kind))
    return [*events[: place + 1], event, *events[place + 1 :]], {"duplicated"}, set()


def swap_two(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    by_view: dict[tuple[str, str], list[tuple[int, Seen]]] = {}
    for place, event in views(events, kind):
        by_view.setdefault((event.client, event.message.room), []).append((place, event))
    pairs = []
    for (client, room), seen in by_view.items():
        for (here, one), (there, other) in itertools.pairwise(seen):
            if any(
                isinstance(e, ev.Left | ev.Disconnected) and e.client == client
                for e in events[here:there]
            ):
                continue
            texts = {one.message.text, other.message.text}
            witnesses = [
                name
                for (name, where), theirs in by_view.items()
                if name != client
                and where == room
                and texts <= {e.message.text for _, e in theirs}
                and last_leaving(events, name, room) < 0
            ]
            if kind != "stock" or witnesses:
                pairs.append((here, there))
    assume(pairs)
    here, there = data.draw(st.sampled_from(pairs))
    spoiled = list(events)
    spoiled[here], spoiled[there] = events[there], events[here]
    return spoiled, {"out of order"}, set()


def change_a_text(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, event = pick(data, views(events, kind))
    other = msgspec.structs.replace(event.message, text="something else")
    spoiled = list(events)
    spoiled[place] = type(event)(event.at, event.client, other)
    # Without an id nobody can know which message it was.
    return spoiled, {"phantom"}, {"lost"} if kind == "stock" else set()


def change_a_user(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, event = pick(data, views(events, kind))
    other = msgspec.structs.replace(event.message, user="mallory")
    spoiled = list(events)
    spoiled[place] = type(event)(event.at, event.client, other)
    return spoiled, {"phantom"}, {"lost"} if kind == "stock" else set()


def add_a_message_that_nobody_sent(
    events: list[ev.Event], kind: str, data: st.DataObject
) -> Spoiled:
    place, event = pick(data, views(events, kind))
    got = event.message
    ghost = Delivered(got.room, got.user, "boo", None if got.id is None else "ghost", got.seq)
    extra = type(event)(event.at, event.client, ghost)
    return [*events[:place], extra, *events[place:]], {"phantom"}, set()


def deliver_to_a_stranger(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, event = pick(data, views(events, kind))
    extra = [
        ev.Client(event.at, "eve", "eve", kind == "chat"),
        ev.Connected(event.at, "eve"),
        ev.Arrived(event.at, "eve", event.message),
    ]
    return [*events[:place], *extra, *events[place:]], {"leak"}, set()


def deliver_after_leaving(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    left = [(place, e) for place, e in enumerate(events) if isinstance(e, ev.Left)]
    assume(left)
    place, event = data.draw(st.sampled_from(left))
    seen = [e for at, e in views(events, kind) if e.message.room == event.room and at < place]
    assume(seen)
    message = data.draw(st.sampled_from(seen)).message
    extra = ev.Arrived(event.at, event.client, message)
    return [*events[: place + 1], extra, *events[place + 1 :]], {"leak"}, set()


def forbid_a_receiver(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    _, event = pick(data, views(events, kind))
    allowed = [
        ev.Permit(0.0, name, event.message.room)
        for name in ("c0", "c1", "c2")
        if name != event.client
    ]
    return [*allowed, *events], {"leak"}, set()


def ack_with_another_id(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    place, ack, sent = an_ack(events, kind, data)
    again = [
        ev.Sent(ack.at, ack.client, 9999, sent.room, sent.text, sent.key),
        ev.Acked(ack.at, ack.client, 9999, True, "another", ack.seq),
    ]
    return [*events[: place + 1], *again, *events[place + 1 :]], {"acked twice"}, set()


def ack_with_another_seq(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    place, ack, sent = an_ack(events, kind, data)
    assert ack.seq is not None
    again = [
        ev.Sent(ack.at, ack.client, 9999, sent.room, sent.text, sent.key),
        ev.Acked(ack.at, ack.client, 9999, True, ack.id, ack.seq + 1),
    ]
    # A raw client believes its acks: it takes the other number for one that it has.
    return [*events[: place + 1], *again, *events[place + 1 :]], {"acked twice"}, {"gap"}


def answer_twice(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, ack, _ = an_ack(events, kind, data)
    return [*events[: place + 1], ack, *events[place + 1 :]], {"acked twice"}, set()


def ack_two_sends_with_one_id(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    place, ack, sent = an_ack(events, kind, data)
    extra = [
        ev.Sent(ack.at, ack.client, 9999, sent.room, "a new text", "a new key"),
        ev.Acked(ack.at, ack.client, 9999, True, ack.id, ack.seq),
    ]
    return [*events[: place + 1], *extra, *events[place + 1 :]], {"acked twice"}, set()


def reuse_a_key(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    place, ack, sent = an_ack(events, kind, data)
    extra = [
        ev.Sent(ack.at, ack.client, 9999, sent.room, "a new text", sent.key),
        ev.Acked(ack.at, ack.client, 9999, True, ack.id, ack.seq),
    ]
    return [*events[: place + 1], *extra, *events[place + 1 :]], {"acked twice"}, set()


def store_one_twice(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    members = members_at_end(events)
    seen = views(events, kind)
    _, event = pick(data, [(p, e) for p, e in seen if (e.client, e.message.room) in members])
    got = event.message
    # Behind everything else, and for everybody in the room.
    newest = max(
        [e.message.seq or 0 for _, e in seen if e.message.room == got.room]
        + [e.seq or 0 for e in events if isinstance(e, ev.Acked | ev.Joined)]
    )
    fetched = [e.message.seq or 0 for e in events if isinstance(e, ev.Fetched)]
    assume(max([newest, *fetched]) == newest and newest == room_newest(events, got.room))
    copy = Delivered(got.room, got.user, got.text, "copy", newest + 1)
    for name, room in sorted(members):
        if room == got.room:
            events = [*events[:-1], type(event)(event.at, name, copy), events[-1]]
    return events, {"duplicated"}, set()


def room_newest(events: list[ev.Event], room: str) -> int:
    numbers = [0]
    sent = {(e.client, e.send): e.room for e in events if isinstance(e, ev.Sent)}
    for event in events:
        if isinstance(event, ev.Arrived | ev.Shown | ev.Fetched) and event.message.room == room:
            numbers.append(event.message.seq or 0)
        elif (isinstance(event, ev.Joined) and event.room == room) or (
            isinstance(event, ev.Acked) and sent[event.client, event.send] == room
        ):
            numbers.append(event.seq or 0)
    return max(numbers)


def refuse_what_was_delivered(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    _, event = pick(data, views(events, kind))
    sent = {
        (e.client, e.send)
        for e in events
        if isinstance(e, ev.Sent) and e.text == event.message.text
    }
    acks = {(e.client, e.send) for e in events if isinstance(e, ev.Acked)}
    assume(sent <= acks)
    spoiled = [
        ev.Acked(e.at, e.client, e.send, False, None, None, "forbidden")
        if isinstance(e, ev.Acked) and (e.client, e.send) in sent
        else e
        for e in events
    ]
    # A raw client knows its own message by its ack only.
    return spoiled, {"phantom"}, {"gap"}


def give_one_another_seq(events: list[ev.Event], kind: str, data: st.DataObject) -> Spoiled:
    assume(kind != "stock")
    seen = views(events, kind)
    acked = acked_texts(events)
    place, event = pick(data, [(p, e) for p, e in seen if e.message.text in acked])
    got = event.message
    assert got.seq is not None
    spoiled = list(events)
    other = msgspec.structs.replace(got, seq=got.seq + 1)
    spoiled[place] = type(event)(event.at, event.client, other)
    return spoiled, {"out of order"}, {"gap"}


def an_ack(events: list[ev.Event], kind: str, data: st.DataObject) -> tuple[int, ev.Acked, ev.Sent]:
    anew = {event.room for event in events if isinstance(event, ev.Missing)}
    sent = {(e.client, e.send): e for e in events if isinstance(e, ev.Sent)}
    acks = [
        (place, event)
        for place, event in enumerate(events)
        if isinstance(event, ev.Acked)
        and event.stored
        and sent[event.client, event.send].room not in anew
    ]
    assume(acks)
    place, ack = data.draw(st.sampled_from(acks))
    return place, ack, sent[ack.client, ack.send]


SPOILS: list[Spoil] = [
    drop_an_acked_delivery,
    drop_one_in_the_middle,
    show_one_twice,
    swap_two,
    change_a_text,
    change_a_user,
    add_a_message_that_nobody_sent,
    deliver_to_a_stranger,
    deliver_after_leaving,
    forbid_a_receiver,
    ack_with_another_id,
    ack_with_another_seq,
    answer_twice,
    ack_two_sends_with_one_id,
    reuse_a_key,
    store_one_twice,
    refuse_what_was_delivered,
    give_one_another_seq,
]


def named(report: Report) -> set[str]:
    return {fault.kind for fault in report.faults}


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@given(kind=kinds, steps=steps, data=st.data())
@settings(max_examples=30)
def test_one_spoiled_thing_is_found_and_named(
    spoil: Spoil, kind: str, steps: list[Step], data: st.DataObject
) -> None:
    played_well: list[Step] = [
        *opening,
        ("send", 0, 0, 0),
        ("send", 1, 0, 0),
        ("send", 2, 0, 0),
        ("unanswered", 0, 0, 0),
        ("send", 1, 0, 0),
        ("deliver", 1, 0, 0),
        ("deliver", 2, 0, 0),
        ("leave", 2, 0, 0),
        ("join", 2, 0, 0),
        ("send", 0, 1, 0),
    ]
    events = World(kind).play([*played_well, *steps]).events
    spoiled, must, may = spoil(events, kind, data)
    report = check_history(spoiled)
    assert must <= named(report) <= must | may, report
    assert all(report.counts[kind] > 0 for kind in must)
    assert all(fault.trace for fault in report.faults)
