"""The checker: every kind of fault caught and named, and what nobody can promise excused."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from chatlab import ChatClient
from chatlab.lab import raw_client
from chatlab.lab.history import Delivered, History, check_history, compare, history_of
from chatlab.lab.history_report import KINDS, Report
from tests.client.helpers import token_for
from tests.client.running import serving
from tests.waiting import PATIENCE_S


class Story(History):
    """Alice, Bob and Carol in one room; what is sent gets the room's next seq."""

    def __init__(self, *names: str, shows: bool = True, numbered: bool = True) -> None:
        super().__init__()
        self.names = names or ("alice", "bob", "carol")
        self.log: list[Delivered] = []
        self.numbered = numbered
        self.shows = shows
        for name in self.names:
            self.client(name, shows=shows)
            self.connected(name)
            self.enter(name)

    def enter(self, name: str, room: str = "general", *, seq: int | None = 0) -> None:
        self.joining(name, room)
        self.joined(name, room, seq=seq if self.numbered else None, epoch="one")

    def message(self, text: str, user: str = "alice") -> Delivered:
        place = len(self.log) + 1
        one = Delivered("general", user, text)
        if self.numbered:
            one = Delivered("general", user, text, f"id-{place}", place)
        self.log.append(one)
        return one

    def say(self, text: str, user: str = "alice") -> Delivered:
        """Sent and acked, not delivered to anybody yet."""
        one = self.message(text, user)
        self.sent(user, len(self.log), "general", text, key=f"key of {text}")
        self.acked(user, len(self.log), id=one.id, seq=one.seq)
        return one

    def give(self, one: Delivered, *names: str) -> None:
        for name in names or self.names:
            if self.shows or name != one.user:
                (self.shown if self.shows else self.arrived)(name, one)


def kinds(report: Report) -> set[str]:
    return {fault.kind for fault in report.faults}


def only(report: Report, *expected: str) -> None:
    """The report names these kinds of fault and no other; each with evidence."""
    assert kinds(report) == set(expected), report
    assert {kind for kind in KINDS if report.counts[kind]} == set(expected)
    assert report.ok is not bool(expected)
    assert all(fault.trace and fault.sentence for fault in report.faults)


def test_a_history_without_faults_passes_and_is_counted():
    story = Story()
    for text in ("one", "two"):
        story.give(story.say(text))
    report = story.check()
    only(report)
    assert {name: report.counts[name] for name in ("sent", "acked", "delivered")} == {
        "sent": 2, "acked": 2, "delivered": 6,
    }  # fmt: skip
    assert repr(report).startswith("sent 2 · acked 2 · delivered 6")
    assert "lost: 0" in report.words()


# --- lost ----------------------------------------------------------------------------------------


def test_an_acked_message_that_a_member_never_gets_is_lost():
    story = Story()
    story.give(story.say("one"))
    story.give(story.say("two"), "alice", "carol")
    report = story.check()
    only(report, "lost")
    (fault,) = report.of("lost")
    assert "'two' (#2) by alice in general" in fault.sentence
    assert fault.sentence.endswith("never reached bob")
    assert "alice sends 'two' to general" in fault.trace
    assert "alice is answered ok, #2" in fault.trace
    assert "bob is in general at #0" in fault.trace
    assert "carol shows 'two' #2" in fault.trace


def test_a_message_missed_in_the_middle_is_lost_and_leaves_a_gap():
    story = Story()
    story.give(story.say("one"), "alice", "carol")
    story.give(story.say("two"))
    only(story.check(), "lost", "gap")


def test_a_client_that_came_back_and_was_not_given_what_it_missed_has_lost_it():
    story = Story(shows=False, numbered=False)
    story.give(story.say("one"))
    story.disconnected("bob")
    story.give(story.say("two"), "carol")
    story.connected("bob")
    story.enter("bob")
    story.give(story.say("three"))
    report = story.check()
    only(report, "lost")
    assert "'two'" in report.of("lost")[0].sentence


def test_a_client_that_stayed_away_or_had_left_lost_nothing():
    story = Story()
    story.disconnected("bob")
    story.leaving("carol", "general")
    story.left("carol", "general")
    story.give(story.say("one"), "alice")
    only(story.check())


def test_what_was_sent_before_a_client_joined_is_not_owed_to_it():
    story = Story("alice")
    story.give(story.say("one"))
    story.client("bob", shows=True)
    story.enter("bob", seq=1)
    story.give(story.say("two"), "alice", "bob")
    only(story.check())


def test_without_numbers_a_message_that_was_sent_while_a_client_joined_is_not_owed_to_it():
    story = Story("alice", shows=False, numbered=False)
    story.sent("alice", 1, "general", "one")
    story.client("bob")
    story.enter("bob")
    story.acked("alice", 1)
    only(story.check())


def test_two_sends_of_one_text_without_ids_are_lost_when_only_one_of_them_came():
    story = Story(shows=False, numbered=False)
    for number in (1, 2):
        story.sent("alice", number, "general", "hello")
        story.acked("alice", number)
    story.give(Delivered("general", "alice", "hello"), "bob", "carol")
    story.give(Delivered("general", "alice", "hello"), "carol")
    report = story.check()
    only(report, "lost")
    assert report.counts["lost"] == 1


def test_a_send_without_answer_may_be_delivered_or_not():
    story = Story()
    for number, code in enumerate((None, "unavailable", "closing"), 1):
        story.sent("alice", number, "general", f"text {number}", key=f"key {number}")
        if code is not None:
            story.acked("alice", number, stored=None, code=code)
    story.give(Delivered("general", "alice", "text 1", "id", 1))
    report = story.check()
    only(report)
    assert report.counts["unknown"] == 3
    assert report.counts["acked"] == 0


def test_a_retry_with_the_same_key_is_the_same_message():
    story = Story()
    story.sent("alice", 1, "general", "one", key="k")
    story.sent("alice", 2, "general", "one", key="k")
    story.acked("alice", 2, id="id", seq=1)
    story.acked("alice", 1, id="id", seq=1)
    story.give(Delivered("general", "alice", "one", "id", 1))
    report = story.check()
    only(report)
    assert (report.counts["sent"], report.counts["attempts"]) == (1, 2)


# --- excuses -------------------------------------------------------------------------------------


def test_what_a_client_was_told_is_lost_is_excused_and_counted():
    story = Story()
    first, second, third = (story.say(text) for text in ("one", "two", "three"))
    for one in (first, second, third):
        story.give(one, "alice", "carol")
    story.give(first, "bob")
    story.missing("bob", "general", 1, 3, count=1, epoch="one")
    story.give(third, "bob")
    report = story.check()
    only(report)
    assert report.counts["excused"] == 1
    assert "excused 1" in repr(report)


def test_a_log_that_began_anew_excuses_what_it_no_longer_has():
    story = Story()
    story.give(story.say("one"))
    story.give(story.say("two"), "alice")
    for name, after in (("alice", 2), ("bob", 1), ("carol", 1)):
        story.missing(name, "general", after, 2, epoch="two")
    story.sent("carol", 9, "general", "anew", key="anew")
    story.acked("carol", 9, id="id of the new epoch", seq=2)
    story.give(Delivered("general", "carol", "anew", "id of the new epoch", 2))
    report = story.check()
    only(report)
    assert report.counts["excused"] == 2


def test_what_is_acked_after_the_log_began_anew_is_not_excused():
    story = Story()
    story.give(story.say("one"))
    for name in story.names:
        story.missing(name, "general", 1, 2, epoch="two")
    story.sent("carol", 9, "general", "anew", key="anew")
    story.acked("carol", 9, id="id of the new epoch", seq=2)
    story.give(Delivered("general", "carol", "anew", "id of the new epoch", 2), "alice", "carol")
    report = story.check()
    only(report, "lost")
    assert report.counts["excused"] == 0


# --- phantom, duplicated -------------------------------------------------------------------------


def test_a_message_that_nobody_sent_is_a_phantom():
    story = Story()
    story.give(story.message("boo"), "bob")
    report = story.check()
    only(report, "phantom")
    assert "but nobody sent it" in report.faults[0].sentence


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        (Delivered("general", "alice", "zwei", "id-1", 1), "it was sent as 'one'"),
        (Delivered("general", "bob", "one", "id-1", 1), "it was sent by alice"),
    ],
)
def test_another_text_or_user_than_was_sent_is_a_phantom(spoiled: Delivered, why: str):
    story = Story()
    right = story.say("one")
    story.give(right, "alice", "bob")
    story.shown("carol", spoiled)
    report = story.check()
    only(report, "phantom")
    assert why in report.faults[0].sentence


def test_a_message_that_was_refused_and_comes_all_the_same_is_a_phantom():
    story = Story()
    story.sent("alice", 1, "general", "one", key="k")
    story.acked("alice", 1, stored=False, code="forbidden")
    story.give(Delivered("general", "alice", "one", "id", 1))
    report = story.check()
    only(report, "phantom")
    assert "its send was refused" in report.faults[0].sentence


def test_surrounding_white_space_which_the_server_trims_is_no_phantom():
    story = Story()
    story.sent("alice", 1, "general", "  one \ufeff", key="k")
    story.acked("alice", 1, id="id", seq=1)
    story.give(Delivered("general", "alice", "one", "id", 1))
    only(story.check())


@pytest.mark.parametrize("numbered", [True, False])
def test_a_message_that_a_client_sees_twice_is_duplicated(numbered: bool):
    story = Story(shows=False, numbered=numbered)
    one = story.say("one")
    story.give(one)
    story.give(one, "bob")
    report = story.check()
    only(report, "duplicated")
    assert report.faults[0].sentence.endswith("2 times")


def test_one_send_that_was_stored_under_two_ids_is_duplicated():
    story = Story()
    story.sent("alice", 1, "general", "one", key="k")
    story.sent("alice", 2, "general", "one", key="k")
    story.acked("alice", 2, id="second", seq=2)
    story.give(Delivered("general", "alice", "one", "first", 1))
    story.give(Delivered("general", "alice", "one", "second", 2))
    only(story.check(), "duplicated")


def test_two_acked_copies_of_one_send_are_duplicated_and_acked_twice():
    story = Story()
    for number in (1, 2):
        story.sent("alice", number, "general", "one", key="k")
        story.acked("alice", number, id=f"id-{number}", seq=number)
        story.give(Delivered("general", "alice", "one", f"id-{number}", number))
    only(story.check(), "duplicated", "acked twice")


def test_a_server_that_sends_a_message_twice_is_seen_though_the_client_shows_it_once():
    story = Story()
    one = story.say("one")
    story.arrived("bob", one)
    story.arrived("bob", one)
    story.give(one)
    report = story.check()
    only(report, "duplicated")
    assert "bob was sent" in report.faults[0].sentence


# --- order and gaps ------------------------------------------------------------------------------


def test_two_receivers_that_saw_two_orders_are_found_without_any_numbers():
    story = Story(shows=False, numbered=False)
    one, two = story.say("one", "alice"), story.say("two", "alice")
    story.give(one, "bob")
    story.give(two, "bob", "carol")
    story.give(one, "carol")
    report = story.check()
    only(report, "out of order")
    (fault,) = report.faults
    assert fault.sentence == ("carol saw 'two' before 'one' in general; bob saw 'one' first")
    assert fault.trace.count("receives") == 4


def test_receivers_that_disagree_on_what_the_longest_view_lacks_are_found_too():
    story = Story("alice", "bob", "carol", "dan", shows=False, numbered=False)
    first, second = story.say("one"), story.say("two")
    rest = [story.say(f"more {n}") for n in range(4)]
    story.give(first, "bob")
    story.give(second, "bob", "carol")
    story.give(first, "carol")
    for one in rest:
        story.give(one, "dan")
    report = story.check()
    assert report.counts["out of order"] == 1
    assert kinds(report) == {"out of order", "lost"}


def test_a_receiver_that_leaves_the_rooms_own_order_is_found_alone():
    story = Story("alice")
    one, two = story.say("one"), story.say("two")
    story.give(two)
    story.give(one)
    report = story.check()
    only(report, "out of order")
    assert "by the room's seq it is the reverse" in report.faults[0].sentence


def test_one_seq_for_two_messages_is_a_disagreement():
    story = Story()
    for number in (1, 2):
        story.sent("alice", number, "general", f"text {number}", key=f"key {number}")
    story.give(Delivered("general", "alice", "text 1", "a", 1), "alice", "bob")
    story.give(Delivered("general", "alice", "text 2", "b", 1), "carol")
    only(story.check(), "out of order")


def test_an_own_ack_that_comes_before_or_after_its_neighbours_is_no_disorder():
    story = Story(shows=False)
    one, two, three = story.say("one", "bob"), story.message("two", "alice"), story.message("three")
    story.sent("alice", 2, "general", "two", key="two")
    story.sent("alice", 3, "general", "three", key="three")
    story.give(one, "alice", "carol")
    story.give(three, "bob", "carol")  # for carol two is still on its way
    story.acked("alice", 3, id=three.id, seq=3)
    story.acked("alice", 2, id=two.id, seq=2)
    story.give(two, "bob")
    report = story.check()
    # Bob got three before two, which nothing explains; alice's acks, the other way round, do.
    assert {fault.sentence.split()[0] for fault in report.of("out of order")} == {"bob"}


def test_a_seq_that_nobody_acked_and_one_stream_leaves_out_is_a_gap():
    story = Story()
    story.give(story.say("one"))
    story.sent("alice", 2, "general", "two", key="two")
    two = story.message("two")
    story.give(two, "alice", "carol")
    story.give(story.say("three"))
    report = story.check()
    only(report, "gap")
    assert report.faults[0].sentence.startswith("bob never saw #2 of general")
    assert "carol shows 'two' #2" in report.faults[0].trace


def test_a_message_that_others_saw_last_and_one_member_did_not_is_a_gap():
    story = Story()
    story.sent("alice", 1, "general", "one", key="one")
    story.give(story.message("one"), "alice", "carol")
    only(story.check(), "gap")


# --- leaks ---------------------------------------------------------------------------------------


def test_a_message_for_somebody_who_never_joined_is_a_leak():
    story = Story()
    one = story.say("one")
    story.give(one)
    story.client("eve")
    story.connected("eve")
    story.arrived("eve", one)
    report = story.check()
    only(report, "leak")
    assert report.faults[0].sentence.endswith("never joined it")


def test_a_message_behind_the_ack_of_leaving_is_a_leak_and_one_before_it_is_not():
    story = Story("alice", "bob", shows=False)
    story.leaving("bob", "general")
    story.give(story.say("one"), "bob")
    story.left("bob", "general")
    only(story.check())
    story.give(story.say("two"), "bob")
    only(story.check(), "leak")


def test_a_message_for_a_connection_that_did_not_join_again_is_a_leak():
    story = Story("alice", "bob", shows=False)
    story.disconnected("bob")
    story.connected("bob")
    story.arrived("bob", story.say("one"))
    only(story.check(), "leak")


def test_what_was_on_its_way_when_a_client_gave_its_connection_up_is_no_leak():
    story = Story("alice", "bob", shows=False)
    story.disconnected("bob")
    story.arrived("bob", story.say("one"))
    only(story.check())


def test_a_message_in_a_room_that_its_receiver_may_not_enter_is_a_leak():
    story = Story()
    story.permit("alice", "general")
    story.permit("bob", "general")
    story.give(story.say("one"))
    report = story.check()
    only(report, "leak")
    assert "carol" in report.faults[0].sentence


def test_a_permit_that_was_taken_back_counts_after_a_second():
    story = Story("alice", "bob", shows=False)
    story.permit("alice", "general", at=0.5)
    story.permit("bob", "general", at=0.5)
    story.permit("bob", "general", False, at=10.0)
    story.arrived("bob", story.say("one"), at=10.9)
    only(story.check())
    story.arrived("bob", story.say("two"), at=11.1)
    only(story.check(), "leak")


def test_what_was_there_before_a_client_joined_is_not_for_its_stream():
    story = Story("alice")
    one = story.say("one")
    story.give(one)
    story.client("bob", shows=True)
    story.enter("bob", seq=1)
    story.shown("bob", one)
    only(story.check(), "leak")


# --- acked twice ---------------------------------------------------------------------------------


def test_two_answers_to_one_send_are_a_fault():
    story = Story()
    story.give(story.say("one"))
    story.acked("alice", 1, id="id-1", seq=1)
    only(story.check(), "acked twice")


def test_one_message_that_was_acked_for_two_sends_is_a_fault():
    story = Story()
    story.give(story.say("one"))
    story.sent("alice", 9, "general", "other", key="other")
    story.acked("alice", 9, id="id-1", seq=1)
    only(story.check(), "acked twice")


@pytest.mark.parametrize(("id", "seq"), [("id-1", 2), ("another", 1)])
def test_a_second_ack_that_differs_from_the_first_is_a_fault(id: str, seq: int):
    story = Story()
    story.give(story.say("one"))
    story.sent("alice", 2, "general", "one", key="key of one")
    story.acked("alice", 2, id=id, seq=seq)
    only(story.check(), "acked twice")


# --- showing, files, speed -----------------------------------------------------------------------


def two_reports() -> dict[str, Report]:
    good, bad = Story(), Story()
    good.give(good.say("one"))
    bad.give(bad.say("<one>"), "alice", "carol")
    return {"chatlab": good.check(), "stock": bad.check()}


def test_two_verdicts_are_shown_beside_each_other():
    comparison = compare(two_reports())
    lines = repr(comparison).splitlines()
    assert lines[0].split() == ["chatlab", "stock"]
    assert [line.split() for line in lines if line.startswith("lost")] == [
        ["lost", "✓", "0", "✗", "1"]
    ]
    page = comparison._repr_html_()
    assert "var(--jp-error-color1" in page
    assert "&lt;one&gt;" in page
    assert "<one>" not in page


def test_numbers_can_be_left_out_of_what_is_shown():
    text = repr(compare(two_reports(), counts=False))
    assert "✗ some" in text
    assert "sent" not in text


def test_a_report_shows_one_example_of_each_kind_and_its_own_table():
    report = two_reports()["stock"]
    assert len(repr(report).splitlines()) == 3
    assert "<table>" in report._repr_html_()
    with pytest.raises(ValueError, match="no kind of fault"):
        report.of("late")


def test_a_file_that_is_no_history_is_refused_with_the_line(tmp_path: Path):
    story = Story()
    path = story.save(tmp_path / "run.jsonl.gz")
    assert History.load(path).events == story.events
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"what":"end","at":1.0}\n{"what":"nothing"}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 2"):
        History.load(bad)


def test_events_after_the_end_are_not_judged():
    story = Story()
    story.give(story.say("one"))
    story.end()
    story.disconnected("bob")
    story.say("two")
    only(story.check())


def test_a_hundred_thousand_deliveries_are_judged_in_seconds():
    story = Story(*(f"c{n}" for n in range(20)))
    for number in range(5000):
        story.give(story.say(f"text {number}", f"c{number % 20}"))
    begun = time.process_time()
    report = story.check()
    assert report.ok
    assert report.counts["delivered"] == 100_000
    assert time.process_time() - begun < 30  # comparing all with all would take minutes


# --- real clients --------------------------------------------------------------------------------


async def test_chat_clients_that_are_recorded_give_a_history_without_faults():
    history = History()
    async with serving(no_limits=True) as server:
        clients = [
            ChatClient(server.url, token_for(name), name=name, recorder=history.recorder(name))
            for name in ("alice", "bob")
        ]
        for client in clients:
            await client.connect()
            await client.join("general")
        reading = [asyncio.create_task(history.read(client)) for client in clients]
        await asyncio.gather(*(c.send(f"{c.name} {n}") for n in range(20) for c in clients))
        async with asyncio.timeout(PATIENCE_S):
            while history.check().counts["delivered"] < 80:
                await asyncio.sleep(0.01)
        history.end()
        for client in clients:
            await client.close()
        await asyncio.gather(*reading)
    report = check_history(history)
    only(report)
    assert report.counts["sent"] == report.counts["acked"] == 40


async def test_raw_clients_that_are_over_give_a_history_too():
    async with serving(no_limits=True) as server:
        async with (
            raw_client(server.url, name="alice", auth={"token": token_for("alice")}) as alice,
            raw_client(server.url, name="bob", auth={"token": token_for("bob")}) as bob,
        ):
            for client in (alice, bob):
                await client.call("join-room", "general")
            for number in range(5):
                await alice.call("send-message", {"text": f"text {number}", "key": f"k{number}"})
            await bob.wait_for("new-message", 5)
            history = history_of(alice, bob)
            bob.recorder.entries[:] = [
                entry
                for entry in bob.recorder.entries
                if not (entry.name == "new-message" and entry.data["seq"] == 3)
            ]
            spoiled = history_of(alice, bob)
    only(history.check())
    only(spoiled.check(), "lost", "gap")
