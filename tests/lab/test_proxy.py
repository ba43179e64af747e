"""The wire: it goes silent, is cut, swallows and is late at the chosen packet, and not before."""

import asyncio
import contextlib
import io
import re
import threading
import time

import aiohttp
import pytest
import socketio
from aiohttp import web

from chatlab.lab import Proxy, RawClient, background, raw_client
from tests.waiting import PATIENCE_S, until

NoAnswer = socketio.exceptions.TimeoutError
TRANSPORTS = pytest.mark.parametrize(
    "transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join
)


def chat():
    sio = socketio.AsyncServer(async_mode="aiohttp", max_http_buffer_size=8_000_000)

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", data, skip_sid=sid)
        return {"ok": True}

    @sio.on("upload")
    async def upload(_sid, data):
        return len(data["file"])

    @sio.on("big")
    async def big(_sid, size):
        return "x" * size

    return sio


@contextlib.asynccontextmanager
async def scene(transports=("websocket",), **faults):
    async with (
        background(chat()) as server,
        Proxy(server, **faults) as wire,
        raw_client(wire, name="alice", transports=transports) as alice,
    ):
        yield server, wire, alice
        assert wire.logs() == []


async def say(client, text, timeout=5.0):
    return await client.call("send-message", {"text": text}, timeout=timeout)


async def say_in_vain(client, text):
    with pytest.raises(NoAnswer):
        await say(client, text, timeout=0.15)


def wire_kinds(wire):
    return [e.kind for e in wire.recorder.entries]


# -- silence ---------------------------------------------------------------------------------------


@TRANSPORTS
async def test_after_three_events_nothing_arrives_and_nothing_is_closed(transports):
    async with scene(transports, mute_after=3) as (server, wire, alice):
        for n in range(5):
            await alice.emit("send-message", {"text": f"message {n}"})
        await wire.wait_for("drop", 2)
        await server.wait_for(3)
        assert server.received_texts == ["message 0", "message 1", "message 2"]
        assert wire.dropped.texts == ["message 3", "message 4"]
        assert wire_kinds(wire)[-3:] == ["mute", "drop", "drop"]
        assert [e.conn for e in wire.recorder.entries if e.kind == "mute"] == ["alice"]
        assert "silent both ways" in repr(wire)
        assert alice.connected
        assert "disconnected" not in [e.kind for e in server.recorder.entries]


@TRANSPORTS
async def test_the_message_or_the_ack_is_lost_at_will(transports):
    async with scene(transports) as (server, wire, alice):
        await say(alice, "before")
        wire.drop("send-message", at=1)
        await say_in_vain(alice, "lost message")
        assert server.received_texts == ["before"]
        await say(alice, "between")
        wire.drop("ack", at=1)
        await say_in_vain(alice, "lost ack")
        await server.wait_for(3)
        assert server.received_texts == ["before", "between", "lost ack"]
        assert (await say(alice, "after"))["ok"]
        assert [item.event for item in wire.dropped] == ["send-message", "ack"]


@TRANSPORTS
async def test_only_the_chosen_packets_are_swallowed(transports):
    async with scene(transports, drop="send-message", at=[2, 4]) as (server, wire, alice):
        for n in range(1, 7):
            await alice.emit("send-message", {"text": n})
        await server.wait_for(4)
        assert server.received_texts == [1, 3, 5, 6]
        assert wire.dropped.texts == [2, 4]
        assert wire.passed.texts == [1, 3, 5, 6]


async def test_every_ack_is_swallowed_and_everything_else_arrives():
    async with (
        scene(drop="ack") as (server, wire, alice),
        raw_client(wire, name="bob") as bob,
    ):
        await say_in_vain(alice, "one")
        await say_in_vain(alice, "two")
        await bob.wait_for("new-message", 2)
        assert server.received_texts == ["one", "two"]


@TRANSPORTS
async def test_it_is_silent_to_the_client_from_the_first_ack_on(transports):
    faults = {"mute_after": 0, "only": "ack", "direction": "to_client"}
    async with scene(transports, **faults) as (server, wire, alice):
        await say_in_vain(alice, "one")
        assert "silent to the client" in repr(wire)
        if transports == ["websocket"]:
            await say_in_vain(alice, "two")
            assert server.received_texts == ["one", "two"]


async def test_it_is_silent_to_the_server_only():
    # By websocket: a polling client has to ask for what it receives.
    async with (
        scene() as (server, wire, alice),
        raw_client(server, name="bob") as bob,
    ):
        await say(alice, "before")
        wire.mute("to_server")
        await say_in_vain(alice, "lost")
        await say(bob, "hello")
        await alice.wait_for("new-message")
        assert server.received_texts == ["before", "hello"]


async def test_the_count_may_be_of_one_event_or_of_what_comes_back():
    async with (
        scene() as (server, wire, alice),
        raw_client(wire, name="bob") as bob,
    ):
        wire.mute(after=1, only="new-message", count="to_client")
        await say(bob, "one")
        await alice.wait_for("new-message")
        await bob.emit("send-message", {"text": "two"})
        await wire.wait_for("mute")
        await server.wait_for(2)
        assert alice.received_texts == ["one"]


async def test_a_silence_ends_by_healing_and_the_connection_goes_on():
    async with scene() as (server, wire, alice):
        wire.mute()
        await say_in_vain(alice, "lost")
        wire.heal()
        assert (await say(alice, "found"))["ok"]
        assert server.received_texts == ["found"]
        assert wire_kinds(wire)[-4:] == ["drop", "heal", "pass", "pass"]
        assert "works" in repr(wire)


async def test_a_silence_may_be_given_its_length():
    async with scene() as (server, wire, alice):
        wire.mute(seconds=0.1)
        await alice.emit("send-message", {"text": "lost"})
        await wire.wait_for("heal")
        await say(alice, "found")
        assert server.received_texts == ["found"]


async def test_healing_also_takes_back_what_has_not_struck():
    async with scene(mute_after=1, drop="ack", at=1, delay=0.05) as (server, wire, alice):
        wire.heal()
        for n in range(3):
            await say(alice, n, timeout=5)
        assert len(server.received) == 3
        assert "will happen" not in repr(wire)


async def test_behind_a_silent_wire_new_connections_hang_until_it_heals():
    async with scene() as (_server, wire, _alice):
        wire.mute()
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        wire.heal()
        assert await asyncio.wait_for(reader.read(1), 5) == b""
        writer.close()
        async with raw_client(wire, name="bob") as bob:
            assert (await say(bob, "hello"))["ok"]


@TRANSPORTS
async def test_a_client_behind_a_silent_wire_can_still_be_closed(transports):
    async with scene(transports) as (_server, wire, alice):
        wire.mute()
        async with asyncio.timeout(PATIENCE_S / 2):  # a ping's time is longer than that
            await alice.disconnect()
        assert not alice.connected


# -- cuts ------------------------------------------------------------------------------------------


@TRANSPORTS
async def test_it_is_cut_at_the_fourth_event(transports):
    async with scene(transports, cut_after=3) as (server, wire, alice):
        for n in range(5):
            with contextlib.suppress(socketio.exceptions.BadNamespaceError):
                await alice.emit("send-message", {"text": f"message {n}"})
        await alice.wait_until_disconnected()
        await server.wait_for(3)
        assert server.received_texts == ["message 0", "message 1", "message 2"]
        assert wire.dropped.texts[:1] == ["message 3"]
        with pytest.raises(socketio.exceptions.BadNamespaceError):
            await alice.emit("send-message", {"text": "late"})
        with pytest.raises(socketio.exceptions.ConnectionError):
            await raw_client(wire, transports=transports)
        wire.heal()
        async with raw_client(wire, transports=transports) as again:
            assert (await say(again, "again"))["ok"]


async def test_a_cut_of_no_length_closes_only_what_is_open():
    async with scene() as (_server, wire, alice):
        wire.cut(seconds=0)
        await alice.wait_until_disconnected()
        async with raw_client(wire, name="bob") as bob:
            assert (await say(bob, "hello"))["ok"]
        assert wire_kinds(wire).count("cut") == 1


async def test_half_a_cut_tells_one_side_only():
    async with scene() as (server, wire, alice):
        wire.cut("to_server")
        await alice.wait_until_disconnected()  # the server hung up, as it does at an end of stream
        await until(lambda: "disconnected" in [e.kind for e in server.recorder.entries])


# -- lateness --------------------------------------------------------------------------------------


@TRANSPORTS
async def test_everything_is_late_but_not_slower_and_stays_in_order(transports):
    async with scene(transports) as (server, wire, alice):
        wire.delay(0.3, "to_server")
        began = time.monotonic()
        for n in range(12):  # python-engineio drops a POST of more than 16 packets
            await alice.emit("send-message", {"text": n})
        await say(alice, 12)
        took = time.monotonic() - began
        assert 0.3 <= took < 12 * 0.3  # not one after the other
        assert server.received_texts == list(range(13))
        wire.delay(0)
        await say(alice, "behind what was still on its way")

        async def quick() -> bool:
            began = time.monotonic()
            await say(alice, "quick")
            return time.monotonic() - began < 0.3

        await until(quick)  # the machine may take its time once, a late wire does each time


async def test_both_ways_late_is_twice_as_late():
    async with scene(delay=0.06) as (_server, _wire, alice):
        began = time.monotonic()
        await say(alice, "x")
        assert time.monotonic() - began >= 0.12


async def test_it_is_late_from_the_third_event_on():
    async with scene(delay=0.3, delay_after=2, direction="to_server") as (server, wire, alice):
        for n in range(2):
            await say(alice, n)
        assert not [e for e in wire.recorder.entries if e.kind == "note"]
        began = time.monotonic()
        await say(alice, 2)
        assert time.monotonic() - began >= 0.3
        assert [e.text for e in wire.recorder.entries if e.kind == "note"] == [
            "0.3 s late to the server"
        ]
        assert server.received_texts == [0, 1, 2]


async def test_a_cut_at_an_event_may_be_given_its_length():
    async with scene(cut_after=1, seconds=0.1) as (_server, wire, alice):
        await say(alice, "one")
        await alice.emit("send-message", {"text": "two"})
        await alice.wait_until_disconnected()
        await wire.wait_for("heal")
        async with raw_client(wire) as again:
            assert (await say(again, "three"))["ok"]


# -- what passes unharmed --------------------------------------------------------------------------


@TRANSPORTS
async def test_binary_and_long_messages_pass_and_are_counted(transports):
    async with scene(transports) as (server, wire, alice):
        wire.drop("upload", at=3)
        # python-engineio reads only the beginning of a long POST.
        long = 3_000_000 if "websocket" in transports else 3_000
        assert await alice.call("upload", {"file": bytes(10)}, timeout=10) == 10
        assert await alice.call("upload", {"file": bytes(long)}, timeout=10) == long
        with pytest.raises(NoAnswer):
            await alice.call("upload", {"file": bytes(long)}, timeout=0.3)
        assert await alice.call("upload", {"file": b"abc"}, timeout=10) == 3
        assert await alice.call("big", 3_000_000, timeout=10) == "x" * 3_000_000
        assert [e.name for e in wire.recorder.entries if e.kind == "pass" and e.name] == [
            item.event for item in server.received
        ]


async def test_a_client_that_offers_compression_can_still_be_read():
    async with scene() as (server, wire, _alice), aiohttp.ClientSession() as session:
        url = wire.url + "/socket.io/?EIO=4&transport=websocket"
        async with session.ws_connect(url, compress=15) as socket:
            assert not socket.compress
            await socket.receive()
            await socket.send_str("40")
            await socket.receive()
            await socket.send_str('42["send-message",{"text":"hi"}]')
            await server.wait_for(1)
            assert wire.passed.of("send-message")[0].client == "user-1"
            assert server.received[0].client == "user-1"


async def test_other_http_traffic_passes_as_it_is():
    async def chunks(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(3):
            await answer.write(b"abc" * 1000)
        await answer.write_eof()
        return answer

    async def echo(request):
        return web.Response(body=await request.read())

    async def hello(_request):
        return web.Response(text="hello")

    app = web.Application(client_max_size=10_000_000)
    app.router.add_get("/chunks", chunks)
    app.router.add_post("/echo", echo)
    app.router.add_get("/hello", hello)

    async def pieces():
        for _ in range(5):
            yield b"12345" * 100

    async with (
        background(app) as server,
        Proxy(server) as wire,
        aiohttp.ClientSession(wire.url) as session,
    ):
        for _ in range(2):  # over one connection
            async with session.get("/chunks") as answer:
                assert await answer.read() == b"abc" * 3000
            async with session.head("/hello") as answer:
                assert answer.status == 200
            async with session.post("/echo", data=pieces()) as answer:
                assert await answer.read() == b"12345" * 500
            async with session.post("/echo", data=io.BytesIO(bytes(3_000_000))) as answer:
                assert len(await answer.read()) == 3_000_000
        assert wire.logs() == []


async def test_names_of_polling_clients_are_kept_over_connections():
    async with background(chat()) as server, Proxy(server) as wire:
        async with RawClient("unnamed") as client:
            await client.connect(wire.url, transports=["polling"])  # without the name's header
            await client.call("send-message", {"text": "hi"}, timeout=5)
        assert {e.conn for e in wire.recorder.entries} == {"user-1"}
        assert {e.conn for e in server.recorder.entries} == {"user-1"}


# -- bytes and sockets -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw_server(handle):
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_silent_wire_passes_no_end_of_stream_until_it_heals():
    begun, ended = asyncio.Event(), asyncio.Event()
    arrived = []

    async def handle(reader, writer):
        arrived.append(await reader.readexactly(len(b"\x00hello")))
        begun.set()
        arrived.append(await reader.read())
        ended.set()
        writer.close()

    async with raw_server(handle) as url, Proxy(url) as wire:
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"\x00hello")
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        wire.mute()
        writer.write(b" lost")
        writer.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.1)
        wire.heal()
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        assert arrived == [b"\x00hello", b""]


async def test_a_reset_is_a_reset():
    begun = asyncio.Event()

    async def handle(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readexactly(1)
            begun.set()
            await reader.read()
        writer.close()

    async with raw_server(handle) as url, Proxy(url) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"\x00")
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        wire.cut(rst=True)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()


async def test_what_is_not_http_passes_both_ways():
    async def handle(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async with raw_server(handle) as url, Proxy(url) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        sent = bytes(range(256)) * 400
        writer.write(sent)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == sent
        writer.close()


@pytest.mark.parametrize("late", [0.0, 30.0])
async def test_a_reader_that_stops_holds_up_the_writer(late):
    written = 0

    async def handle(_reader, writer):
        nonlocal written
        block = bytes(64 * 1024)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(block)
                await writer.drain()
                written += len(block)
        writer.close()

    async with raw_server(handle) as url, Proxy(url, delay=late) as wire:
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port, limit=1024)
        writer.write(b"\x00")
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.2)
        assert 0 < written < 30_000_000
        writer.transport.abort()


async def test_a_server_that_is_away_closes_the_connection():
    with background(chat()) as server:
        pass
    async with Proxy(server) as wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_wires_can_be_put_one_behind_the_other():
    async with (
        background(chat()) as server,
        Proxy(server, name="second") as second,
        Proxy(second, name="first", drop="send-message", at=1) as first,
        raw_client(first) as client,
    ):
        await say_in_vain(client, "lost")
        await say(client, "found")
        assert second.passed.texts[0] == "found"


# -- the object itself -----------------------------------------------------------------------------


async def test_stopping_leaves_nothing_and_a_second_wire_stops_the_first():
    with background(chat()) as server:
        first = Proxy(server)
        client = await raw_client(first)
        second = Proxy(server)
        await client.wait_until_disconnected()
        assert "stopped" in repr(first)
        assert second.stop() is second
        second.stop()
        with pytest.raises(RuntimeError, match="has been stopped"):
            second.mute()
    assert not [t for t in threading.enumerate() if t.name.startswith("lab: ")]


def test_its_card_says_what_will_happen():
    with background(chat()) as server:
        described = {
            "goes silent after 3 events to the server": {"mute_after": 3},
            "goes silent at the first ack to the client, to the client": {
                "mute_after": 0,
                "only": "ack",
                "direction": "to_client",
            },
            "is cut after 1 send-message to the server": {"cut_after": 1, "only": "send-message"},
            "swallows ack 1 to the client": {"drop": "ack", "at": 1},
            "is 0.2 s late after 3 events to the server": {"delay": 0.2, "delay_after": 3},
            "swallows every new-message to the client": {
                "drop": "new-message",
                "direction": "to_client",
            },
        }
        for sentence, faults in described.items():
            with Proxy(server, **faults) as wire:
                assert f"will happen  {sentence}" in repr(wire)
                words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", wire._repr_html_())).strip()
                assert words == re.sub(r"\s+", " ", repr(wire))


def test_what_makes_no_sense_is_refused_with_a_sentence():
    with background(chat()) as server:
        with pytest.raises(ValueError, match="'to_server', 'to_client' or 'both'"):
            Proxy(server, mute_after=1, direction="sideways")
        with pytest.raises(ValueError, match="counted from 1"):
            Proxy(server, drop="ack", at=0)
        with pytest.raises(ValueError, match="give drop= too"):
            Proxy(server, at=1)
        with pytest.raises(ValueError, match="0 or more"):
            Proxy(server, mute_after=-1)
        with pytest.raises(ValueError, match="0 seconds or more"):
            Proxy(server, delay=-1)
        with pytest.raises(TypeError, match="expected a server, a wire or an address"):
            Proxy("localhost")
