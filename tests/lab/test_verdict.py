"""The verdict names each fault of a made-up history, and only that one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab.lab.recorder import Recorder
from chatlab.lab.verdict import verdict

fifty = settings(max_examples=50)
FIVE = [f"message {n}" for n in range(5)]


def words(found):
    return (found.lost, found.duplicated, found.out_of_order, found.unexpected)


def test_a_faultless_run_is_all_zeros():
    found = verdict(sent=FIVE, acked=FIVE, stored=FIVE, received={"bob": FIVE})
    assert words(found) == (0, 0, 0, 0)
    assert found.ok
    assert repr(found) == (
        "sent 5 · acked 5 · stored 5 · bob got 5 · "
        "lost: 0 · duplicated: 0 · out of order: 0 · unknown: 0"
    )
    assert found.evidence == ()


def test_what_was_sent_without_asking_and_is_not_stored_is_lost():
    found = verdict(sent=FIVE, stored=FIVE[:3])
    assert found.lost == 2
    assert repr(found) == (
        "sent 5 · stored 3 · lost: some · duplicated: 0 · out of order: 0\n"
        "  lost: 'message 3' was sent and is not stored"
    )
    assert [e.item for e in found.evidence] == ["message 3", "message 4"]


def test_what_was_acked_and_is_not_stored_is_lost():
    found = verdict(sent=FIVE, acked=FIVE[:4], stored=FIVE[:3])
    assert found.lost == 1
    assert found.evidence[0].sentence == "'message 3' was acknowledged and is not stored"


def test_what_was_not_acked_is_unknown_whether_it_is_stored_or_not():
    found = verdict(sent=FIVE, acked=FIVE[:2], stored=FIVE[:3])
    assert (found.lost, found.unknown) == (0, 3)
    assert found.ok
    assert "unknown: some" in repr(found)


def test_a_message_stored_twice_is_duplicated():
    found = verdict(sent=["a", "a", "b"], acked=["a", "b"], stored=["a", "a", "b"])
    assert found.duplicated == 1
    assert repr(found).startswith("sent 2 in 3 tries · acked 2 · stored 3")


def test_a_retry_that_was_stored_once_is_no_fault():
    assert verdict(sent=["a", "a"], acked=["a"], stored=["a"]).ok


def test_two_people_may_say_the_same():
    assert verdict(sent={"alice": ["hi"], "bob": ["hi"]}, stored=["hi", "hi"]).ok


def test_a_message_that_overtook_is_out_of_order():
    found = verdict(sent=["a", "b", "c"], stored=["a", "c", "b"])
    assert found.out_of_order == 1
    assert found.evidence[0].sentence == "'b' was sent before 'c' and came after it"


def test_a_retry_that_came_after_a_later_message_is_in_order():
    assert verdict(sent=["a", "b", "a"], acked=["a", "b"], stored=["b", "a"]).out_of_order == 0


def test_what_came_after_the_first_of_two_tries_is_in_order():
    assert verdict(sent=["a", "b", "a"], acked=["a", "b"], stored=["a", "b"]).out_of_order == 0


def test_a_disorder_is_told_once_not_again_for_everybody_who_saw_it_right():
    found = verdict(sent=["a", "b"], stored=["b", "a"], received={"bob": ["a", "b"]})
    assert [e.where for e in found.evidence] == ["stored"]


def test_two_receivers_with_two_orders_are_out_of_order():
    found = verdict(
        sent={"alice": ["a"], "bob": ["b"]}, received={"carol": ["a", "b"], "dave": ["b", "a"]}
    )
    assert found.out_of_order == 1
    assert found.evidence[0].sentence == "'a' came before 'b' in carol and after it in dave"


def test_a_message_that_nobody_sent_is_unexpected():
    found = verdict(sent=["a"], stored=["a", "z"])
    assert found.unexpected == 1
    assert "unexpected: some" in repr(found)


def test_payloads_are_compared_by_their_text():
    assert verdict(sent=[{"text": " a ", "key": "k"}], stored=[{"text": "a", "id": 7}]).ok


def test_the_numbers_can_be_left_out_of_the_text():
    found = verdict(sent=FIVE, stored=FIVE[:3], counts=False)
    assert repr(found) == "lost: some · duplicated: 0 · out of order: 0"


def test_nothing_sent_is_a_mistake_of_the_call():
    with pytest.raises(ValueError, match="nothing was sent"):
        verdict(stored=FIVE)
    with pytest.raises(TypeError, match="verdict takes"):
        verdict("alice", sent=FIVE)


def actors():
    return Recorder("alice", "client"), Recorder("bob", "client"), Recorder("server", "server")


def send(alice, text, number=None):
    alice.add(
        "send",
        conn="alice",
        to_server=True,
        packet="event",
        name="send-message",
        data={"text": text},
        id=number,
    )


def arrive(server, text):
    server.add(
        "receive",
        conn="alice",
        to_server=True,
        packet="event",
        name="send-message",
        data={"text": text},
    )


def answer(alice, number, data):
    alice.add("receive", conn="alice", to_server=False, packet="ack", id=number, data=data)


def deliver(bob, text):
    bob.add(
        "receive",
        conn="bob",
        to_server=False,
        packet="event",
        name="new-message",
        data={"text": text, "user": "alice"},
    )


def test_actors_are_judged_by_their_records():
    alice, bob, server = actors()
    for n, text in enumerate(FIVE):
        send(alice, text)
        if n < 3:
            arrive(server, text)
        if n < 2:
            deliver(bob, text)
    found = verdict(alice, bob, server)
    assert (found.sent, found.lost) == (5, 3)
    assert found.arrived == {"arrived": 3, "bob": 2}
    trace = found.evidence[0].trace
    assert found.evidence[0].item == "message 3"
    assert [(e.actor, e.kind) for e in trace] == [("alice", "send")]


def test_acks_are_found_by_their_number():
    alice, _bob, server = actors()
    for number, text in enumerate(["kept", "refused", "unanswered"]):
        send(alice, text, number)
        arrive(server, text)
    answer(alice, 0, {"ok": True})
    answer(alice, 1, {"ok": False, "error": "no"})
    found = verdict(alice, server, stored=["kept"])
    assert (found.acked, found.unknown, found.lost) == (1, 1, 0)
    assert verdict(alice, server, stored=["kept", "refused"]).unexpected == 1


def test_a_retry_after_a_time_out_shows_as_a_duplicate():
    alice, _bob, server = actors()
    for number in (1, 2):
        send(alice, "pay 10", number)
        arrive(server, "pay 10")
    answer(alice, 2, {"ok": True})
    found = verdict(alice, server)
    assert (found.sent, found.attempts, found.acked) == (1, 2, 1)
    assert found.duplicated == 1


def test_a_receiver_is_not_owed_what_was_said_before_it_came():
    alice, bob, _server = actors()
    send(alice, "early")
    bob.add("connected", conn="bob")
    send(alice, "late")
    deliver(bob, "late")
    assert verdict(alice, bob).ok


def test_only_messages_count_and_nobody_is_owed_their_own():
    alice, bob, server = actors()
    for client, text in ((alice, "from alice"), (bob, "from bob")):
        fields = {"conn": client.name, "packet": "event", "to_server": True}
        client.add("send", **fields, name="join-room", data="general", id=0)
        server.add("receive", **fields, name="join-room", data="general", id=0)
        answer(client, 0, {"ok": True})
        client.add("send", **fields, name="send-message", data={"text": text})
        server.add("receive", **fields, name="send-message", data={"text": text})
        client.add("send", **fields, name="typing", data=True)
    bob.add("receive", conn="bob", packet="event", name="user-joined", data={"user": "alice"})
    deliver(bob, "from alice")
    deliver(alice, "from bob")
    found = verdict(alice, bob, server)
    assert found.ok
    assert (found.sent, found.acked, found.asked) == (2, 0, False)
    assert found.arrived == {"arrived": 2, "alice": 1, "bob": 1}


def test_one_yes_outweighs_a_refusal():
    alice, _bob, _server = actors()
    for number, ok in enumerate([False, True]):
        send(alice, "again", number)
        answer(alice, number, {"ok": ok})
    assert verdict(alice, stored=["again"]).ok
    assert verdict(alice, stored=[]).lost == 1


texts = st.lists(st.text("abcdefgh", min_size=1), min_size=2, max_size=12, unique=True)


@fifty
@given(texts)
def test_every_faultless_history_is_faultless(sent):
    assert verdict(sent=sent, acked=sent, stored=sent, received={"x": sent, "y": sent}).ok


@fifty
@given(texts, st.data())
def test_taking_one_away_is_a_loss_and_nothing_else(sent, data):
    gone = data.draw(st.sampled_from(sent))
    found = verdict(sent=sent, acked=sent, stored=[x for x in sent if x != gone])
    assert words(found) == (1, 0, 0, 0)
    assert found.evidence[0].item == gone


@fifty
@given(texts, st.data())
def test_repeating_one_is_a_duplicate_and_nothing_else(sent, data):
    place = data.draw(st.integers(0, len(sent) - 1))
    later = data.draw(st.integers(place, len(sent)))
    stored = [*sent[:later], sent[place], *sent[later:]]
    if later == place:
        stored = [*sent[: place + 1], sent[place], *sent[place + 1 :]]
    found = verdict(sent=sent, acked=sent, stored=stored)
    assert words(found) == (0, 1, 0, 0)
    assert found.evidence[0].item == sent[place]


@fifty
@given(texts, st.data())
def test_swapping_neighbours_is_disorder_and_nothing_else(sent, data):
    place = data.draw(st.integers(0, len(sent) - 2))
    stored = list(sent)
    stored[place], stored[place + 1] = stored[place + 1], stored[place]
    assert words(verdict(sent=sent, acked=sent, stored=stored)) == (0, 0, 1, 0)
    assert words(verdict(sent=sent, acked=sent, received={"x": stored})) == (0, 0, 1, 0)


@fifty
@given(texts, st.data())
def test_an_ack_less_is_one_unknown_more_and_no_fault(sent, data):
    silent = data.draw(st.sampled_from(sent))
    stored = data.draw(st.sampled_from([sent, [x for x in sent if x != silent]]))
    found = verdict(sent=sent, acked=[x for x in sent if x != silent], stored=stored)
    assert words(found) == (0, 0, 0, 0)
    assert found.unknown == 1


@fifty
@given(texts)
def test_a_stranger_is_unexpected_and_nothing_else(sent):
    assert words(verdict(sent=sent, acked=sent, stored=[*sent, "Z"])) == (0, 0, 0, 1)
