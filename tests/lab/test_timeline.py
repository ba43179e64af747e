"""A timeline tells what happened, in an order that does not depend on who won a race."""

import asyncio
import re
import time

import pytest

from chatlab.lab.portal import LoopThread
from chatlab.lab.recorder import Recorder
from chatlab.lab.timeline import settled, timeline
from tests.lab.scene import Scene


def rows(drawing):
    """The text without the line of lanes, and without padding."""
    lines = repr(drawing).splitlines()[1 + (drawing.title is not None) :]
    return [re.sub(r" {2,}", "  ", line).strip() for line in lines]


def lanes(drawing):
    return [lane.name for lane in drawing.lanes]


def hello(scene, client="alice", number=1, **how):
    scene.up(client, "send-message", {"text": "hello"}, id=number, **how)


# -- what is drawn ---------------------------------------------------------------------------------


def test_a_message_and_its_ack_are_one_arrow_each():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    scene.ack("alice", 1, {"ok": True, "seq": 1})
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "hello"',
        "server → alice  ack ok: true, seq: 1",
    ]


def test_a_silent_wire_is_a_wall_at_which_arrows_end():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    scene.mute()
    hello(scene, number=2)
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "hello"',
        "wire  ▒ silent",
        'alice → ✗ wire  send-message "hello" · swallowed',
    ]


def test_a_burst_is_walled_off_where_the_wire_went_silent():
    scene = Scene("alice", wired=("alice",))
    packets = [
        {
            "conn": "alice",
            "to_server": True,
            "packet": "event",
            "name": "send-message",
            "data": {"text": f"message {n}"},
        }
        for n in range(5)
    ]
    for packet in packets:  # the client was done before the wire saw the first
        scene.alice.add("send", **packet)
    for number, packet in enumerate(packets):
        if number == 3:
            scene.mute()
        if number < 3:
            scene.wire.add("pass", **packet)
            scene.server.add("receive", **packet)
        else:
            scene.wire.add("drop", **packet)
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "message 0"',
        'alice → server  send-message "message 1"',
        'alice → server  send-message "message 2"',
        "wire  ▒ silent",
        'alice → ✗ wire  send-message "message 3" · swallowed',
        'alice → ✗ wire  send-message "message 4" · swallowed',
    ]


def test_a_lost_ack_ends_at_the_wire_and_the_sender_waits():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    scene.ack("alice", 1, {"ok": True}, drop=True)
    scene.timeout("alice", "send-message", 1)
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "hello"',
        "server → ✗ wire  ack ok: true · swallowed",
        "alice  ✗ waited 0.5 s for an answer to send-message",
    ]


def test_what_vanishes_without_a_wire_ends_on_the_way():
    scene = Scene("alice")
    hello(scene)
    hello(scene, number=2, vanish=True)
    assert rows(timeline(*scene.actors))[1] == (
        'alice → ✗ server  send-message "hello" · did not arrive'
    )


def test_a_cut_connection_shows_the_cut_and_both_ends_noticing():
    scene = Scene("alice", wired=("alice",))
    scene.connect("alice")
    hello(scene)
    scene.wire.add("cut", text="cut")
    scene.alice.add("disconnected", conn="alice", text="transport close")
    scene.server.add("disconnected", conn="alice")
    assert rows(timeline(*scene.actors))[-2:] == [
        "wire  ✂ cut",
        "alice and server  ○ connection ended",
    ]


def test_the_message_at_which_the_wire_is_cut_is_shown_before_the_cut_and_later_ones_after():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    hello(scene, number=2, drop=True)
    scene.alice.add(
        "send",
        conn="alice",
        to_server=True,
        packet="event",
        name="send-message",
        data={"text": "too late"},
    )
    scene.wire.add("cut", text="cut")
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "hello"',
        'alice → ✗ wire  send-message "hello" · swallowed',
        "wire  ✂ cut",
        'alice → ✗ server  send-message "too late" · did not arrive',
    ]


def test_a_healed_wire_lets_arrows_through_again():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    scene.mute()
    hello(scene, number=2)
    scene.heal()
    hello(scene, number=3)
    assert [r.split("  ")[0] for r in rows(timeline(*scene.actors))] == [
        "alice → server",
        "wire",
        "alice → ✗ wire",
        "wire",
        "alice → server",
    ]
    assert "wire  ✓ works again" in rows(timeline(*scene.actors))


def test_one_broadcast_is_one_row_with_its_receivers_by_lane():
    scene = Scene("alice", "bob", "carol")
    hello(scene)
    for client in ("carol", "bob"):
        scene.down(client, "new-message", {"text": "hello", "user": "alice"})
    assert rows(timeline(*scene.actors))[1] == (
        'server → bob, carol  new-message "hello", user: alice'
    )


def test_a_second_copy_is_a_second_row():
    scene = Scene("alice", "bob")
    hello(scene)
    for _ in range(2):
        scene.down("bob", "new-message", {"text": "hello"})
    assert rows(timeline(*scene.actors))[1:] == ['server → bob  new-message "hello"'] * 2


def test_a_receiver_that_misses_a_broadcast_is_named():
    scene = Scene("alice", "bob", "carol", wired=("carol",))
    scene.connect("carol")
    hello(scene)
    scene.down("bob", "new-message", {"text": "hello"})
    scene.down("carol", "new-message", {"text": "hello"}, drop=True)
    assert rows(timeline(*scene.actors))[1] == (
        'server → bob, ✗ wire  new-message "hello" · swallowed for carol'
    )


def test_the_ack_comes_before_the_broadcasts_of_the_same_turn():
    one, other = Scene("alice", "bob"), Scene("alice", "bob")
    for scene, ack_first in ((one, True), (other, False)):
        hello(scene)
        if ack_first:
            scene.ack("alice", 1, {"ok": True})
        scene.down("bob", "new-message", {"text": "hello"})
        if not ack_first:
            scene.ack("alice", 1, {"ok": True})
    assert repr(timeline(*one.actors)) == repr(timeline(*other.actors))


def test_a_servers_note_keeps_its_place_among_its_answers():
    scene = Scene("alice")
    hello(scene)
    scene.ack("alice", 1, {"ok": True})
    scene.server.add("note", conn="alice", text="stored")
    assert rows(timeline(*scene.actors))[1:] == [
        "server → alice  ack ok: true",
        "server  · stored",
    ]


def test_a_refusal_shows_message_and_code():
    scene = Scene("mallory")
    scene.connect(
        "mallory",
        {"token": "eyJhbGci…"},
        {"message": "Invalid token", "data": {"code": "invalid_token", "retry": False}},
    )
    assert rows(timeline(*scene.actors)) == [
        "mallory → server  connect token: <token>",
        "server → mallory  ✗ refused Invalid token (invalid_token)",
    ]


def test_connecting_is_left_out_while_everybody_just_gets_in():
    scene = Scene("alice", "bob")
    scene.connect("alice")
    scene.connect("bob")
    hello(scene)
    assert rows(timeline(*scene.actors)) == ['alice → server  send-message "hello"']
    assert len(rows(timeline(*scene.actors, only=("connect", "send-message")))) == 5


def test_connecting_is_shown_when_somebody_is_refused_comes_back_or_gets_no_answer():
    refused, back, silent = Scene("alice", "bob"), Scene("alice"), Scene("alice")
    refused.connect("alice")
    hello(refused)
    refused.connect("bob", None, {"message": "no"})
    back.connect("alice")
    hello(back)
    back.connect("alice")
    silent.up("alice", None, packet="connect")
    hello(silent)
    for scene in (refused, back, silent):
        assert "alice → server  connect" in rows(timeline(*scene.actors))


def test_the_end_of_a_connection_is_not_told_twice():
    scene = Scene("alice")
    hello(scene)
    scene.up("alice", None, packet="disconnect")
    scene.alice.add("disconnected", conn="alice", text="client disconnect")
    scene.server.add("disconnected", conn="alice")
    assert rows(timeline(*scene.actors))[1:] == ["alice → server  disconnect"]


def test_ack_numbers_that_start_again_after_a_reconnect_are_not_confused():
    scene = Scene("alice")
    scene.connect("alice")
    hello(scene, vanish=True)
    scene.connect("alice")
    hello(scene)
    scene.ack("alice", 1, {"ok": True})
    told = rows(timeline(*scene.actors, hide="connect"))
    assert told == [
        'alice → ✗ server  send-message "hello" · did not arrive',
        'alice → server  send-message "hello"',
        "server → alice  ack ok: true",
    ]


def test_a_late_packet_leaves_and_arrives_in_rows_of_their_own(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    scene = Scene("alice")
    fields = {"conn": "alice", "packet": "event", "name": "send-message", "data": "hello"}
    scene.alice.add("send", **fields, to_server=True, id=1)
    now[0] = 0.5
    scene.timeout("alice", "send-message", 1)
    now[0] = 0.6
    scene.server.add("receive", **fields, to_server=True, id=1)
    scene.ack("alice", 1, "ok")
    assert rows(timeline(*scene.actors)) == [
        'alice → server  send-message "hello" [1: on its way]',
        "alice  ✗ waited 0.5 s for an answer to send-message",
        'alice → server  send-message "hello" [1: arrives]',
        'server → alice  ack "ok"',
    ]


def test_what_a_server_sends_after_a_rest_stands_after_what_happened_meanwhile(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    scene = Scene("alice", "bob")
    hello(scene)
    scene.ack("alice", 1, "ok")
    scene.up("alice", "typing")
    now[0] = 0.3
    scene.down("bob", "new-message", {"text": "hello"})
    assert rows(timeline(*scene.actors))[1:] == [
        'server → alice  ack "ok"',
        "alice → server  typing",
        'server → bob  new-message "hello"',
    ]


def test_what_reaches_a_socket_before_it_is_refused_stands_before_the_refusal():
    scene = Scene("eve")
    scene.up("eve", None, packet="connect")
    scene.down("eve", "announcement", "the code is 0815")
    scene.down("eve", None, {"message": "Invalid token"}, packet="connect_error")
    assert rows(timeline(*scene.actors))[1:] == [
        'server → eve  announcement "the code is 0815"',
        "server → eve  ✗ refused Invalid token",
    ]


def test_a_long_run_of_like_rounds_is_folded_and_counted():
    scene = Scene("alice")
    for number in range(20):
        hello(scene, number=number)
        scene.ack("alice", number, {"ok": True, "seq": number})
    told = rows(timeline(*scene.actors))
    assert len(told) == 2 * 3 + 1
    assert told[4] == "… 17 more rounds like these"
    assert told[-1] == "server → alice  ack ok: true, seq: 19"


def test_a_server_without_records_is_said_to_have_none_and_nothing_is_called_lost():
    scene = Scene("alice")
    scene.alice.add("send", packet="event", name="send-message", data="hi", to_server=True)
    for actors in ((scene.alice,), (scene.alice, scene.server)):
        drawing = timeline(*actors)
        assert repr(drawing).startswith("alice │ server (not recorded)")
        assert rows(drawing) == ['alice → server  send-message "hi"']


def test_an_empty_scene_says_so():
    assert rows(timeline(Recorder("alice", "client"))) == ["(nothing happened)"]


# -- lanes -----------------------------------------------------------------------------------------


def test_the_first_client_stands_left_of_the_server_and_the_others_right():
    scene = Scene("alice", "bob", "carol")
    assert lanes(timeline(*scene.actors)) == ["alice", "server", "bob", "carol"]


def test_a_wire_stands_beside_the_clients_that_it_carries():
    scene = Scene("alice", "bob", wired=("bob",))
    hello(scene)
    hello(scene, client="bob")
    assert lanes(timeline(*scene.actors)) == ["bob", "wire", "server", "alice"]


def test_a_client_given_after_the_server_keeps_its_place():
    scene = Scene("alice", "bob", "carol")
    given = (scene.alice, scene.bob, scene.server, scene.carol)
    assert lanes(timeline(*given)) == ["alice", "bob", "server", "carol"]


def test_without_clients_the_lanes_are_those_that_the_server_knows():
    scene = Scene("alice", "bob")
    hello(scene)
    hello(scene, client="bob")
    drawing = timeline(scene.server)
    assert repr(drawing).startswith("alice (not recorded) │ server │ bob (not recorded)")


def test_what_others_do_is_not_drawn_when_they_are_not_given():
    scene = Scene("alice", "bob")
    hello(scene)
    hello(scene, client="bob")
    assert len(rows(timeline(scene.alice, scene.server))) == 1


def test_objects_with_a_recorder_and_recorders_are_both_taken():
    class Client:
        recorder = Recorder("alice", "client")

    assert lanes(timeline(Client())) == ["alice", "server"]
    with pytest.raises(TypeError, match="timeline draws"):
        timeline("alice")
    with pytest.raises(ValueError, match="both called 'x'"):
        timeline(Recorder("x", "client"), Recorder("x", "server"))


# -- choosing --------------------------------------------------------------------------------------


def test_only_and_hide_choose_by_event_name_or_kind():
    scene = Scene("alice")
    hello(scene)
    scene.ack("alice", 1, {"ok": True})
    scene.up("alice", "typing", True)
    assert len(rows(timeline(*scene.actors, only="send-message"))) == 2
    assert len(rows(timeline(*scene.actors, hide="ack"))) == 2
    assert rows(timeline(*scene.actors, hide=("send-message",))) == ["alice → server  typing true"]


def test_walls_and_notes_belong_to_every_choice_and_goodbyes_do_not():
    scene = Scene("alice", wired=("alice",))
    hello(scene)
    scene.mute()
    scene.alice.add("note", text="into a tunnel")
    scene.alice.add("disconnected", conn="alice")
    assert [r.split("  ")[1] for r in rows(timeline(*scene.actors, only="send-message"))][1:] == [
        "▒ silent",
        "· into a tunnel",
    ]
    assert len(rows(timeline(*scene.actors, only=("send-message", "disconnect")))) == 4


def test_the_clock_is_shown_only_when_asked_for():
    scene = Scene("alice")
    hello(scene)
    assert "+0.000 s" not in repr(timeline(*scene.actors))
    assert rows(timeline(*scene.actors, clock=True))[0].startswith("+0.000 s")


async def test_settled_returns_when_nothing_new_is_recorded():
    scene = Scene("alice")
    hello(scene)
    started = time.monotonic()
    await settled(*scene.actors)
    assert time.monotonic() - started > 0.04


async def test_settled_goes_on_while_something_is_recorded():
    scene = Scene("alice")
    recorder = scene.alice

    async def speak():
        for number in range(20):
            recorder.add("note", text=str(number))
            await asyncio.sleep(0.01)

    speaking = asyncio.create_task(speak())
    await settled(*scene.actors, quiet=0.2, limit=30)
    assert speaking.done()


async def test_settled_waits_for_a_thread_that_was_not_let_run():
    scene = Scene("alice")
    thread = LoopThread("late")
    try:
        thread.loop.call_soon_threadsafe(time.sleep, 0.3)
        thread.loop.call_soon_threadsafe(scene.alice.add, "note")
        await settled(*scene.actors, limit=30)
        assert len(scene.alice.entries) == 1
    finally:
        thread.close()


# -- two servers -----------------------------------------------------------------------------------


def test_two_readers_on_two_servers_are_drawn_in_the_order_that_each_saw(monkeypatch):
    """Each server serves its own client first, and the other's message comes much later."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    alice, bob = Recorder("alice", "client"), Recorder("bob", "client")
    a, b = Recorder("server A", "server"), Recorder("server B", "server")
    places = {"alice": (alice, a), "bob": (bob, b)}

    def carry(name, text, *, up):
        client, server = places[name]
        event = "send-message" if up else "new-message"
        fields = {"conn": name, "to_server": up, "packet": "event", "name": event}
        ends = (client, server) if up else (server, client)
        for recorder, kind in zip(ends, ("send", "receive"), strict=True):
            recorder.add(kind, data={"text": text}, **fields)

    carry("alice", "at 8?", up=True)
    carry("bob", "at 9?", up=True)
    carry("alice", "at 8?", up=False)
    carry("bob", "at 9?", up=False)
    now[0] = 0.3
    carry("bob", "at 8?", up=False)
    carry("alice", "at 9?", up=False)
    assert rows(timeline(alice, a, b, bob))[2:] == [
        'server A → alice  new-message "at 8?"',
        'server B → bob  new-message "at 9?"',
        'server B → bob  new-message "at 8?"',
        'server A → alice  new-message "at 9?"',
    ]
