"""The raw client: python-socketio's, without reconnection, with a record."""

import asyncio

import pytest
import socketio

from chatlab.lab import Refused, background, raw_client

BOTH = pytest.mark.parametrize("transports", [["websocket"], ["polling"]])


def chat():
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.event
    async def connect(_sid, _environ, auth):
        if auth == {"token": "bad"}:
            raise socketio.exceptions.ConnectionRefusedError(
                "Invalid token", {"code": "invalid_token", "retry": False}
            )
        if auth == {"token": "crash"}:
            raise ZeroDivisionError

    @sio.on("echo")
    async def echo(_sid, *data):
        return data

    @sio.on("silence")
    async def silence(_sid):
        await asyncio.Event().wait()

    @sio.on("ask-me")
    async def ask_me(sid):
        asyncio.get_running_loop().create_task(sio.call("question", "?", to=sid))

    return sio


def kinds(actor):
    return [(e.kind, e.packet, e.name, e.id) for e in actor.recorder.entries]


@BOTH
async def test_call_gives_the_answer_and_records_both_ways(transports):
    async with (
        background(chat()) as server,
        raw_client(server, name="alice", transports=transports) as alice,
    ):
        assert await alice.call("echo", {"a": 1}, timeout=5) == {"a": 1}
        assert await alice.call("echo", (1, 2), timeout=5) == (1, 2)
        assert await alice.call("echo", timeout=5) is None
        assert kinds(alice)[:5] == [
            ("send", "connect", None, None),
            ("receive", "connect", None, None),
            ("connected", None, None, None),
            ("send", "event", "echo", 1),
            ("receive", "ack", None, 1),
        ]
        assert alice.recorder.entries[4].data == {"a": 1}
        assert {e.conn for e in alice.recorder.entries} == {"alice"}


async def test_a_callback_is_recorded_as_call_is():
    async with background(chat()) as server, raw_client(server) as client:
        answered = asyncio.get_running_loop().create_future()
        await client.emit("echo", "x", callback=answered.set_result)
        assert await asyncio.wait_for(answered, 5) == "x"
        assert kinds(client)[-1] == ("receive", "ack", None, 1)


async def test_a_call_without_an_answer_times_out_as_in_python_socketio():
    async with background(chat()) as server, raw_client(server) as client:
        await client.call("echo", timeout=5)
        with pytest.raises(socketio.exceptions.TimeoutError, match=r"no answer to silence within"):
            await client.call("silence", timeout=0.05)
        assert kinds(client)[-1] == ("timeout", "event", "silence", 2)


async def test_events_and_their_handlers_ack_are_recorded():
    async with background(chat()) as server, raw_client(server) as client:

        @client.on("question")
        async def question(text):
            return text + "!"

        await client.emit("ask-me")
        await client.wait_for("question")
        assert repr(client.received) == "question '?'"
        assert kinds(client)[-2:] == [
            ("receive", "event", "question", 1),
            ("send", "ack", None, 1),
        ]


@BOTH
async def test_a_refusal_carries_what_the_server_said(transports):
    async with background(chat()) as server:
        with pytest.raises(Refused, match="Invalid token") as caught:
            await raw_client(server, auth={"token": "bad"}, transports=transports)
    assert caught.value.message == "Invalid token"
    assert caught.value.code == "invalid_token"
    assert caught.value.data == {"code": "invalid_token", "retry": False}
    assert isinstance(caught.value, socketio.exceptions.ConnectionError)
    entries = caught.value.client.recorder.entries
    assert [e.kind for e in entries][:3] == ["send", "receive", "refused"]
    assert (entries[2].text, entries[2].data["code"]) == ("Invalid token", "invalid_token")
    assert repr(caught.value.client).startswith("client (refused: Invalid token")


async def test_without_waiting_it_may_stay_neither_accepted_nor_refused():
    async with (
        background(chat()) as server,
        raw_client(server, auth={"token": "crash"}, wait=False) as client,
    ):
        await server.wait_for_log("ZeroDivisionError")
        assert client.refused is None
        with pytest.raises(socketio.exceptions.BadNamespaceError):
            await client.emit("echo")
        # The fault that lesson 02 shows: what names no room reaches whoever was never accepted.
        await server.call(server.sio.emit, "secret", "for members")
        await client.wait_for("secret")


async def test_a_server_that_is_not_there_is_an_error_and_leaves_nothing_open():
    server = background(chat())
    server.stop()
    for transport in ("websocket", "polling"):
        with pytest.raises(socketio.exceptions.ConnectionError):
            await raw_client(server, transports=[transport])
    with pytest.raises(TypeError, match="expected a server, a wire or an address"):
        await raw_client(42)


@BOTH
async def test_it_never_reconnects_by_itself(transports):
    server = background(chat())
    client = await raw_client(server, transports=transports)
    port = server.port
    await server.aclose()
    await client.wait_until_disconnected()
    with background(chat(), port=port) as again:
        await asyncio.sleep(0.05)
        assert not again.recorder.entries
    assert not client.connected
    assert client._reconnect_task is None
    assert kinds(client)[-1][0] == "disconnected"
    await client.aclose()
    await client.aclose()


async def test_the_token_is_not_shown_in_full():
    long = "x" * 200
    async with background(chat()) as server, raw_client(server, auth={"token": long}) as client:
        for actor in (client, server):
            assert long not in repr(actor.recorder.entries)
        assert client.recorder.entries[0].data == {"token": "xxxxxxxx…"}


async def test_auth_may_be_a_function_and_a_name_any_text():
    async with (
        background(chat()) as server,
        raw_client(server, name="Zoë ❤", auth=lambda: {"token": "fresh"}) as client,
    ):
        await client.call("echo", timeout=5)
        assert server.received[0].client == "Zoë ❤"
        assert client.recorder.entries[0].data == {"token": "fresh"}


async def test_what_the_library_would_print_is_in_its_log(capfd):
    async with background(chat()) as server, raw_client(server) as client:

        @client.on("question")
        async def question(_text):
            raise ValueError("a bug in the lesson")

        await client.emit("ask-me")
        await client.wait_for_log("a bug in the lesson")
    assert capfd.readouterr() == ("", "")


async def test_waiting_for_the_end_of_a_connection_that_does_not_end_times_out():
    async with background(chat()) as server, raw_client(server, name="alice") as alice:
        with pytest.raises(TimeoutError, match="alice still believes to be connected"):
            await alice.wait_until_disconnected(timeout=0.05)
