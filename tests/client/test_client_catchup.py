"""One room's messages put in order: single cases, then any interleaving at all."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatlab.catchup import HistoryLost, RoomClosed, RoomFeed
from chatlab.errors import Forbidden
from chatlab.protocol import HistoryPage, Joined, Message


def message(seq, id=None):
    return Message(
        id=id or f"m{seq}", seq=seq, room="general", user="bob", text=f"t{seq}", timestamp="T"
    )


def joined(seq, messages=(), *, epoch="e1", more=False, lost=False):
    return Joined(
        room="general",
        seq=seq,
        epoch=epoch,
        users=["bob"],
        count=1,
        messages=list(messages),
        more=more,
        lost=lost,
        read=0,
    )


def page(*messages, epoch="e1", more=False):
    return HistoryPage(messages=list(messages), more=more, epoch=epoch)


def feed_after(seq, **options):
    feed = RoomFeed("general", epoch="e1", after=seq, **options)
    feed.joined_again(joined(seq))
    return feed


def taken(feed):
    """What a reader at the feed's cursor gets; messages as their seq."""
    entries = []
    while (found := feed.read(feed.cursor)) is not None:
        feed.passed(feed.cursor + 1)
        entries.append(found[1].seq if isinstance(found[1], Message) else found[1])
    return entries


def test_messages_come_out_in_order_whatever_the_order_they_came_in():
    feed = feed_after(0)
    for seq in (3, 1, 2, 5, 4):
        feed.arrived(message(seq))
    assert taken(feed) == [1, 2, 3, 4, 5]


def test_a_repeated_message_comes_out_once():
    feed = feed_after(0)
    for seq in (1, 1, 2, 1, 2):
        feed.arrived(message(seq))
    assert taken(feed) == [1, 2]


def test_a_gap_is_asked_for_from_history():
    feed = feed_after(4)
    feed.arrived(message(7))
    ask = feed.need()
    assert (ask.what, ask.after, ask.urgent) == ("history", 4, False)
    feed.page(4, page(message(5), message(6), message(7)))
    assert taken(feed) == [5, 6, 7]
    assert feed.need() is None


def test_an_own_send_on_its_way_explains_a_gap_until_it_is_answered():
    feed = feed_after(4)
    pending = feed.sending()
    feed.arrived(message(6))
    assert feed.need() is None
    feed.arrived(message(5))
    feed.settle(pending)
    assert taken(feed) == [5, 6]
    assert feed.need() is None


def test_a_gap_wider_than_what_is_on_its_way_is_asked_for():
    feed = feed_after(4)
    feed.sending()
    feed.arrived(message(7))
    assert feed.need().what == "history"


def test_an_own_send_that_failed_no_longer_explains_a_gap():
    feed = feed_after(4)
    pending = feed.sending()
    feed.arrived(message(6))
    feed.settle(pending)
    assert feed.need().what == "history"


def test_a_seq_that_only_an_ack_named_is_fetched():
    feed = feed_after(4)
    feed.seen(5)
    assert feed.need().after == 4


def test_after_a_disconnect_the_room_is_joined_from_where_it_stopped():
    feed = feed_after(4)
    feed.arrived(message(5))
    feed.sending()
    feed.disconnected()
    ask = feed.need()
    assert (ask.what, ask.after, ask.epoch) == ("join", 5, "e1")
    feed.joined_again(joined(8, [message(6), message(7)], more=True))
    ask = feed.need()
    assert (ask.what, ask.after, ask.urgent) == ("history", 7, True)
    feed.arrived(message(9))
    feed.page(7, page(message(8), message(9)))
    assert taken(feed) == [5, 6, 7, 8, 9]


def test_what_history_has_dropped_is_reported_once_and_exactly():
    feed = feed_after(4)
    feed.disconnected()
    feed.joined_again(joined(20, [message(19), message(20)], lost=True))
    feed.page(4, page(*map(message, range(15, 19))))
    hole, *rest = taken(feed)
    assert hole == HistoryLost("general", after=4, resumes=15, missing=10, epoch="e1")
    assert rest == [15, 16, 17, 18, 19, 20]


def test_a_message_that_came_is_kept_although_history_has_dropped_it_since():
    feed = feed_after(4)
    feed.arrived(message(7))
    feed.arrived(message(12))
    feed.page(4, page(message(12)))
    first, seven, second, twelve = taken(feed)
    assert (first.after, first.resumes, seven) == (4, 7, 7)
    assert (second.after, second.resumes, twelve) == (7, 12, 12)


def test_another_epoch_is_lost_history_and_starts_with_what_the_server_gives():
    feed = feed_after(40)
    feed.arrived(message(45))
    feed.disconnected()
    feed.joined_again(joined(3, [message(2, "x"), message(3, "y")], epoch="e2", lost=True))
    hole, *rest = taken(feed)
    assert hole == HistoryLost("general", after=40, resumes=2, missing=None, epoch="e2")
    assert rest == [2, 3]
    assert feed.need() is None


def test_a_log_restored_from_a_backup_does_not_repeat_what_was_read():
    feed = feed_after(0)
    for seq in range(1, 6):
        feed.arrived(message(seq))
    feed.disconnected()
    restored = [message(1), message(2), message(3), message(4, "new")]
    feed.joined_again(joined(4, restored, epoch="e2", lost=True))
    *before, hole, new = taken(feed)
    assert before == [1, 2, 3, 4, 5]
    assert (hole.missing, hole.resumes, new) == (None, 4, 4)


def test_a_log_that_went_back_is_lost_history_even_in_the_same_epoch():
    feed = feed_after(9)
    feed.disconnected()
    feed.joined_again(joined(2, [message(1), message(2)], lost=True))
    hole, *rest = taken(feed)
    assert hole.missing is None
    assert rest == [1, 2]


def test_the_same_number_for_another_message_makes_the_client_join_again():
    feed = feed_after(0)
    feed.arrived(message(1))
    feed.arrived(message(1, "somebody else's"))
    assert feed.need().what == "join"


def test_history_of_another_epoch_makes_the_client_join_again():
    feed = feed_after(0)
    feed.seen(2)
    feed.page(0, page(message(1), message(2), epoch="e2"))
    assert feed.need().what == "join"
    assert taken(feed) == []


def test_nothing_is_asked_for_and_little_is_kept_while_nobody_reads():
    feed = feed_after(0, capacity=10)
    for seq in range(1, 101):
        feed.arrived(message(seq))
    assert feed.end - feed.start == 10
    assert len(feed._ahead) == 10
    assert feed.need() is None
    got = taken(feed)
    assert got == list(range(1, 21))
    ask = feed.need()
    assert (ask.what, ask.after, ask.limit) == ("history", 20, 10)


def test_repeats_do_not_hide_a_gap():
    feed = feed_after(0)
    for seq in (1, 1, 3):
        feed.arrived(message(seq))
    assert feed.need().after == 1


def test_what_came_from_a_future_that_the_log_has_lost_is_not_believed():
    feed = feed_after(4)
    feed.arrived(message(7))
    feed.disconnected()
    feed.joined_again(joined(5, [message(5)]))
    for seq in (6, 7):
        feed.arrived(message(seq, f"new{seq}"))
    got = [feed.read(position)[1].id for position in range(feed.end)]
    assert got == ["m5", "new6", "new7"]


def test_a_page_takes_no_more_than_there_is_room_for():
    feed = feed_after(0, capacity=4)
    feed.seen(20)
    feed.page(0, page(*map(message, range(1, 21))))
    assert taken(feed) == [1, 2, 3, 4]
    assert feed.need().after == 4


def test_holes_that_exceed_the_room_push_nothing_out():
    feed = feed_after(0, capacity=2)
    for seq in (1, 3, 5):
        feed.arrived(message(seq))
    feed.page(1, page(message(7)))
    assert [getattr(entry, "after", entry) for entry in taken(feed)] == [1, 1, 3, 3, 5, 5, 7]


def test_a_page_of_the_old_log_s_numbers_does_not_count_in_the_new_log():
    feed = feed_after(40)
    feed.arrived(message(50))
    asked_after = feed.need().after
    feed.joined = False
    feed.joined_again(joined(45, [message(2)], epoch="e2", more=True, lost=True))
    feed.page(asked_after, page(message(41), epoch="e2"))
    hole, two = taken(feed)
    assert (hole.resumes, two) == (2, 2)
    assert feed.need().after == 2


def test_a_server_that_claims_what_it_does_not_have_is_not_asked_for_ever():
    feed = feed_after(0)
    feed.arrived(message(3))
    asked = []
    while (ask := feed.need()) is not None:
        asked.append(ask.what)
        if ask.what == "join":
            feed.joined_again(joined(3))
        else:
            feed.page(ask.after, page())
    assert asked == ["history"] * 3 + ["join"] + ["history"] * 3
    assert taken(feed) == [HistoryLost("general", 0, 3, 2, "e1"), 3]


def test_a_room_closed_by_the_server_says_so_at_its_end():
    feed = feed_after(0)
    feed.arrived(message(1))
    error = Forbidden()
    feed.close(error)
    assert taken(feed) == [1, RoomClosed("general", error)]
    assert feed.need() is None


def test_a_reader_left_behind_is_told_so():
    feed = feed_after(0, capacity=5)
    for seq in range(1, 21):
        feed.arrived(message(seq))
        taken(feed)
    assert len(feed._ids) == feed.end - feed.start == 5
    with pytest.raises(LookupError):
        feed.read(3)
    assert feed.find(20) == 19
    assert feed.find(3) is None


class AnyInterleaving(RuleBasedStateMachine):
    """A room's log, the wire to one client that loses, repeats and reorders, and the client."""

    def __init__(self):
        super().__init__()
        self.ids = itertools.count()
        self.logs = {"e1": {}}  # epoch -> {seq: message}, what was ever stored
        self.epoch, self.seq, self.oldest = "e1", 0, 1
        self.wire = []  # new-messages on their way
        self.acks = []  # own sends: (token, message or None)
        self.connected = True
        self.capacity = 8
        self.feed = RoomFeed("general", epoch="e1", after=0, capacity=self.capacity)
        self.feed.joined_again(self.snapshot())
        self.got = []

    # --- the server ---

    def store(self, id=None):
        self.seq += 1
        stored = message(self.seq, id or f"id{next(self.ids)}")
        self.logs[self.epoch][self.seq] = stored
        return stored

    def kept(self, after):
        log = self.logs[self.epoch]
        return [log[seq] for seq in range(max(after + 1, self.oldest), self.seq + 1)]

    def snapshot(self, after=None, epoch=None):
        lost = after is not None and (
            epoch != self.epoch or after > self.seq or after + 1 < self.oldest
        )
        if after is None or lost:
            newest = self.kept(0)[-3:]
            return joined(self.seq, newest, epoch=self.epoch, lost=lost)
        missed = self.kept(after)
        return joined(self.seq, missed[:3], epoch=self.epoch, more=len(missed) > 3)

    @rule(count=st.integers(1, 30))
    def others_send(self, count):
        for _ in range(count):
            stored = self.store()
            if self.connected and self.feed.joined:
                self.wire.append(stored)

    @rule(fate=st.sampled_from(["ok", "ok but lost", "failed but stored", "failed"]))
    @precondition(lambda self: self.connected and self.feed.joined)
    def client_sends(self, fate):
        token = self.feed.sending()
        stored = None if fate == "failed" else self.store()
        if fate == "failed but stored":
            self.wire.append(stored)  # then the server does not skip the sender
        self.acks.append((token, stored if fate == "ok" else None))

    @rule(upto=st.integers(0, 40))
    def history_drops_old_messages(self, upto):
        self.oldest = max(self.oldest, min(upto, self.seq))

    @rule(keep=st.integers(0, 40))
    @precondition(lambda self: not self.connected)
    def the_log_begins_anew(self, keep):
        old = self.logs[self.epoch]
        self.epoch = f"e{len(self.logs) + 1}"
        survivors = [old[seq].id for seq in range(1, min(keep, self.seq) + 1)]
        self.logs[self.epoch] = {}
        self.seq, self.oldest, self.wire = 0, 1, []
        for id in survivors:
            self.store(id)

    # --- the wire ---

    @rule(data=st.data(), what=st.sampled_from(["deliver", "deliver", "lose", "repeat"]))
    @precondition(lambda self: self.wire)
    def one_message_moves(self, data, what):
        index = data.draw(st.integers(0, len(self.wire) - 1))
        moved = self.wire[index] if what == "repeat" else self.wire.pop(index)
        if what != "lose":
            self.feed.arrived(moved)

    @rule()
    def the_wire_delivers_everything(self):
        while self.wire:
            self.feed.arrived(self.wire.pop(0))

    @rule(data=st.data())
    @precondition(lambda self: self.acks)
    def one_ack_arrives(self, data):
        token, stored = self.acks.pop(data.draw(st.integers(0, len(self.acks) - 1)))
        if stored is not None:
            self.feed.arrived(stored)
        self.feed.settle(token)

    @rule()
    def the_connection_is_lost(self):
        self.connected = False
        self.wire, self.acks = [], []
        self.feed.disconnected()

    # --- the client ---

    @rule()
    def the_client_asks_for_what_it_needs(self):
        ask = self.feed.need()
        if ask is None:
            return
        if ask.what == "join":
            self.connected = True
            self.wire = []
            self.feed.joined_again(self.snapshot(ask.after, ask.epoch))
        else:
            found = self.kept(ask.after)
            self.feed.page(
                ask.after,
                page(*found[: ask.limit], epoch=self.epoch, more=len(found) > ask.limit),
            )

    @rule(count=st.integers(1, 30))
    def the_reader_reads(self, count):
        for _ in range(count):
            found = self.feed.read(self.feed.cursor)
            if found is None:
                break
            self.feed.passed(self.feed.cursor + 1)
            self.got.append((self.feed.epoch, found[1]))

    # --- what must hold ---

    @invariant()
    def memory_is_bounded(self):
        assert len(self.feed._ahead) <= self.capacity
        # Holes and what had come ahead of them may exceed it by as much again.
        assert self.feed.end - self.feed.cursor <= 4 * self.capacity

    def teardown(self):
        if not self.connected or not self.feed.joined:
            self.connected = True
            self.feed.disconnected()
            self.feed.joined_again(self.snapshot(self.feed.next - 1, self.feed.epoch))
        # Whatever was lost last shows by the hole that it leaves before something newer.
        self.others_send(1)
        for _ in range(1000):
            self.the_wire_delivers_everything()
            while self.acks:
                token, stored = self.acks.pop()
                if stored is not None:
                    self.feed.arrived(stored)
                self.feed.settle(token)
            self.the_reader_reads(1000)
            if self.feed.need() is None:
                break
            self.the_client_asks_for_what_it_needs()
        else:
            raise AssertionError("the client never had everything")
        self.check_what_was_read()

    def check_what_was_read(self):
        epoch, last = "e1", 0
        for _, entry in self.got:
            if isinstance(entry, HistoryLost):
                assert entry.after == last
                if entry.missing is None:
                    epoch = entry.epoch
                else:
                    assert entry.missing == entry.resumes - entry.after - 1 > 0
                    # Only what history has dropped may be called lost.
                    assert entry.resumes <= self.oldest or epoch != self.epoch
                last = entry.resumes - 1
                continue
            assert entry.seq == last + 1
            assert entry == self.logs[epoch][entry.seq]
            last = entry.seq
        assert (epoch, last) == (self.epoch, self.seq)


AnyInterleaving.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestAnyInterleaving = AnyInterleaving.TestCase
