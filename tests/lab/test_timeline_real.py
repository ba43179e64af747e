"""Scenes with a real server, a real wire and real clients: drawn and judged as they were."""

import pytest
import socketio

from chatlab.lab import Proxy, Refused, background, raw_client, settled, timeline, verdict


def naive_chat():
    """Keeps what it is sent and passes it on, as lesson 01's first server does."""
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", {"text": data["text"]}, skip_sid=sid)
        return {"ok": True}

    return sio


async def test_five_calls_five_times_success_three_messages():
    with background(naive_chat) as server, Proxy(server, mute_after=3) as wire:
        async with raw_client(wire, name="alice") as alice:
            for n in range(5):
                await alice.emit("send-message", {"text": f"message {n}"})
            await server.wait_for(3)
            await settled(alice, wire, server)
            assert repr(timeline(alice, wire, server)).splitlines() == [
                "alice │ wire │ server",
                'alice → server  send-message "message 0"',
                'alice → server  send-message "message 1"',
                'alice → server  send-message "message 2"',
                "wire            ▒ silent",
                'alice → ✗ wire  send-message "message 3" · swallowed',
                'alice → ✗ wire  send-message "message 4" · swallowed',
            ]
            assert repr(verdict(alice, server)) == (
                "sent 5 · arrived 3 · lost: some · duplicated: 0 · out of order: 0\n"
                "  lost: 'message 3' of alice was sent and never arrived"
            )


@pytest.mark.parametrize("lost", ["ack", "message"])
async def test_a_lost_message_and_a_lost_ack_look_the_same_to_the_sender(lost):
    what = "ack" if lost == "ack" else "send-message"
    with background(naive_chat) as server, Proxy(server, drop=what, at=1) as wire:
        async with raw_client(wire, name="alice") as alice, raw_client(server, name="bob") as bob:
            with pytest.raises(socketio.exceptions.TimeoutError):
                await alice.call("send-message", {"text": "pay 10"}, timeout=0.3)
            await alice.call("send-message", {"text": "pay 10"}, timeout=5)
            await settled(alice, bob, wire, server)
            told = repr(timeline(alice, bob, wire, server)).splitlines()
            found = verdict(alice, bob, server)
            alone = repr(timeline(alice)).splitlines()[1:]
    assert told[0] == "alice │ wire │ server │ bob"
    if lost == "ack":
        assert told[1:4] == [
            'alice → server   send-message "pay 10"',
            "server → ✗ wire  ack ok: true · swallowed",
            'server → bob     new-message "pay 10"',
        ]
        assert found.duplicated == 1
    else:
        assert told[1] == 'alice → ✗ wire  send-message "pay 10" · swallowed'
        assert found.ok
    assert [line.split("  ")[0] for line in alone] == [
        "alice → server",
        "alice",
        "alice → server",
        "server → alice",
    ]


async def test_a_wire_that_is_cut_is_noticed_at_both_ends():
    with background(naive_chat) as server, Proxy(server, cut_after=1) as wire:
        async with raw_client(wire, name="alice") as alice:
            for n in range(3):
                await alice.emit("send-message", {"text": f"message {n}"})
            await wire.wait_for("cut")
            await settled(alice, wire, server)
            told = repr(timeline(alice, wire, server)).splitlines()[1:]
    assert [line.split("  ")[0] for line in told] == [
        "alice → server",
        "alice → ✗ wire",
        "wire",
        "alice → ✗ server",
        "alice and server",
    ]


async def test_who_is_refused_and_who_gets_in():
    def guarded():
        sio = naive_chat()

        @sio.on("connect")
        async def connect(sid, environ, auth):
            if auth != {"token": "right"}:
                raise socketio.exceptions.ConnectionRefusedError("Invalid token")

        return sio

    with background(guarded) as server:
        with pytest.raises(Refused) as refusal:
            await raw_client(server, name="mallory", auth={"token": "wrong"})
        async with raw_client(server, name="alice", auth={"token": "right"}) as alice:
            await settled(alice, server)
            assert repr(timeline(refusal.value, server, alice)).splitlines() == [
                "mallory │ server │ alice",
                "mallory → server  connect token: wrong",
                "server → mallory  ✗ refused Invalid token",
                "alice → server    connect token: right",
                "server → alice    accepted",
            ]
