"""The checker's record may begin anew while everybody goes on, and takes guests at their word."""

from __future__ import annotations

from typing import Any

from chatlab.lab.recorder import Entry, Kind
from chatlab.stage.record import Record, WindowRecord


class Wire:
    """What a window's wire records of it, made by hand."""

    def __init__(self, record: Record, user: str) -> None:
        self.book = WindowRecord(record, user, user)
        self._id = 0

    def tell(self, kind: Kind, out: bool, packet: str, **fields: Any) -> None:
        self.book.take(Entry(0, 0.0, "wire", kind, "user-1", out, packet, **fields))

    def enter(self, room: str = "stage", seq: int = 0) -> None:
        self.tell("pass", False, "connect")
        number = self.ask("join-room", {"room": room})
        self.tell("pass", False, "ack", id=number, data={"ok": True, "room": room, "seq": seq})

    def ask(self, name: str, data: Any, kind: Kind = "pass") -> int:
        self._id += 1
        self.tell(kind, True, "event", name=name, data=data, id=self._id)
        return self._id

    def send(self, text: str, seq: int) -> None:
        number = self.ask("send-message", {"room": "stage", "text": text, "key": text})
        answer = {"ok": True, "id": f"m{seq}", "seq": seq}
        self.tell("pass", False, "ack", id=number, data=answer)

    def hear(self, text: str, seq: int, user: str) -> None:
        data = {"room": "stage", "text": text, "user": user, "id": f"m{seq}", "seq": seq}
        self.tell("pass", False, "event", name="new-message", data=data)


def two() -> tuple[Record, Wire, Wire]:
    record = Record()
    alice, bob = Wire(record, "alice"), Wire(record, "bob")
    alice.enter()
    bob.enter()
    return record, alice, bob


def test_what_was_acked_and_did_not_arrive_is_lost() -> None:
    record, alice, bob = two()
    alice.send("one", 1)
    bob.hear("one", 1, "alice")
    assert record.check().ok
    alice.send("two", 2)
    assert record.check().counts["lost"] == 1


def test_nothing_is_owed_to_who_is_away() -> None:
    record, alice, bob = two()
    bob.tell("mute", False, "event")
    bob.book.take(Entry(0, 0.0, "wire", "mute"))
    alice.send("one", 1)
    assert record.check().ok
    bob.book.back()
    assert record.check().counts["lost"] == 1


def test_a_swallowed_message_was_sent_and_is_no_phantom() -> None:
    record, alice, bob = two()
    alice.ask("send-message", {"room": "stage", "text": "late", "key": "k"}, kind="drop")
    for each in (alice, bob):
        each.hear("late", 1, "alice")
    assert record.check().ok
    assert record.check().counts["unknown"] == 1


def test_a_guest_is_taken_at_their_word_but_not_out_of_order() -> None:
    record, alice, bob = two()
    for each in (alice, bob):
        each.hear("hi", 1, "guest-anna-1")
        each.hear("there", 2, "guest-anna-1")
    assert record.check().ok
    assert record.vouched == 2
    bob.hear("hi", 1, "guest-anna-1")
    assert record.check().counts["duplicated"] == 1


def test_a_page_that_was_loaded_anew_is_owed_nothing_from_before() -> None:
    record, alice, bob = two()
    bob.book.away()
    alice.send("one", 1)
    bob._id = -1
    bob.enter(seq=1)
    alice.send("two", 2)
    bob.hear("two", 2, "alice")
    assert record.check().ok


def test_who_comes_back_and_asks_is_owed_what_was_missed() -> None:
    record, alice, bob = two()
    bob.book.away()
    alice.send("one", 1)
    bob.enter(seq=1)
    assert record.check().counts["lost"] == 1


def test_a_new_record_goes_on_where_everybody_is() -> None:
    record, alice, bob = two()
    for seq in range(1, 50):
        alice.send(f"text {seq}", seq)
        bob.hear(f"text {seq}", seq, "alice")
    assert record.calm
    before = len(record)
    record.begin_anew(forget=False)
    assert len(record) < 10 < before
    alice.send("after", 50)
    bob.hear("after", 50, "alice")
    bob.send("too", 51)
    alice.hear("too", 51, "bob")
    report = record.check()
    assert report.ok, report
    assert report.counts["sent"] == 2
    alice.send("missing", 52)
    assert record.check().counts["lost"] == 1


def test_what_was_on_its_way_when_a_record_began_is_no_fault_of_it() -> None:
    record, alice, bob = two()
    alice.send("on its way", 1)
    record.begin_anew(forget=False)
    bob.hear("on its way", 1, "alice")
    alice.send("next", 2)
    bob.hear("next", 2, "alice")
    assert record.check().ok, record.check()


def test_a_reset_forgets_the_numbers_too() -> None:
    record, alice, bob = two()
    alice.send("one", 1)
    bob.hear("one", 1, "alice")
    record.begin_anew(forget=True)
    alice.enter()
    bob.enter()
    alice.send("one", 1)
    bob.hear("one", 1, "alice")
    assert record.check().ok, record.check()
