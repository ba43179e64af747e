"""A server in the background: it answers, shows what it received, keeps its log, and ends."""

import asyncio
import logging
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request

import pytest
import socketio
from aiohttp import web

from chatlab.lab import Server, background, raw_client
from chatlab.server.app import create_app
from chatlab.settings import Settings
from tests.waiting import until

SECRET = "a secret for this test that is long enough"


def naive_chat():
    """The server of the first lessons: it acks, and passes messages on to everybody else."""
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", data, skip_sid=sid)
        return {"ok": True, "length": len(data["text"])}

    return sio


def hello_app():
    async def hello(_request):
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/hello", hello)
    return app


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def lab_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("lab: ")]


def kinds(actor):
    return [(e.kind, e.conn, e.packet, e.name) for e in actor.recorder.entries]


def test_it_answers_while_this_thread_blocks():
    with background(hello_app) as server:
        assert fetch(server.url + "/hello") == "hello"


async def test_it_shows_the_events_that_its_handlers_were_given():
    async with (
        background(naive_chat()) as server,
        raw_client(server, name="alice") as alice,
        raw_client(server, name="bob") as bob,
    ):
        for n in range(3):
            await alice.emit("send-message", {"text": f"message {n}"})
        await server.wait_for(3)
        assert server.received_texts == ["message 0", "message 1", "message 2"]
        assert repr(server.received[0]) == "alice: send-message {'text': 'message 0'}"
        assert repr(server.received).count("\n") == 2
        await bob.emit("send-message", {"text": "mine"})
        await server.wait_for("send-message", 4)
        await server.wait_for(lambda received: received[-1].client == "bob")
        await alice.wait_for(1)
        server.clear()
        assert server.received == []
        assert server.recorder.entries == []


async def test_waiting_ends_when_the_handlers_have_finished():
    sio = socketio.AsyncServer(async_mode="aiohttp")
    stored = []

    @sio.on("slow")
    async def slow(_sid, data):
        await asyncio.sleep(0.02)
        stored.append(data)

    async with background(sio) as server, raw_client(server) as client:
        await client.emit("slow", 1)
        await client.emit("slow", 2)
        await server.wait_for(2)
        assert stored == [1, 2]


async def test_waiting_does_not_hang_on_a_handler_that_never_ends():
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.on("hang")
    async def hang(_sid):
        await asyncio.Event().wait()

    async with background(sio) as server, raw_client(server) as client:
        await client.emit("hang")
        await server.wait_for("hang", timeout=2)


async def test_waiting_in_vain_says_what_was_received():
    async with background(naive_chat()) as server, raw_client(server, name="alice") as alice:
        with pytest.raises(TimeoutError, match=r"waited 0.05 s for 3 events; server received noth"):
            await server.wait_for(3, timeout=0.05)
        await alice.call("send-message", {"text": "hi"}, timeout=5)
        with pytest.raises(TimeoutError, match="received 1: 1 × send-message from alice"):
            await server.wait_for("join-room", timeout=0.05)
        with pytest.raises(TypeError, match="a number, an event's name or a function"):
            await server.wait_for(None)


async def test_it_records_every_packet_under_the_name_of_its_client():
    async with background(naive_chat()) as server:
        async with (
            raw_client(server, name="alice") as alice,
            raw_client(server, name="bob", transports=["polling", "websocket"]) as bob,
        ):
            await alice.call("send-message", {"text": "hi"}, timeout=5)
            await bob.wait_for("new-message")
        await asyncio.sleep(0)
        seen = kinds(server)
    assert ("receive", "alice", "connect", None) in seen
    start = seen.index(("receive", "alice", "event", "send-message"))
    assert seen[start + 1 : start + 3] == [
        ("send", "bob", "event", "new-message"),
        ("send", "alice", "ack", None),
    ]
    ack = next(e for e in server.recorder.entries if e.packet == "ack")
    assert (ack.data, ack.id, ack.to_server) == ({"ok": True, "length": 2}, 1, False)


async def test_a_client_without_a_name_is_called_by_its_number():
    async with background(naive_chat()) as server:
        for _ in range(2):
            client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
            await client.connect(server.url, transports=["websocket"])
            await client.call("send-message", {"text": "hi"}, timeout=5)
            await client.disconnect()
        assert [item.client for item in server.received] == ["user-1", "user-2"]


async def test_binary_payloads_are_received_whole():
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.on("upload")
    async def upload(sid, data):
        await sio.emit("copy", data, to=sid)

    async with background(sio) as server, raw_client(server) as client:
        await client.emit("upload", {"file": b"\x00\xff", "more": [b"abc"]})
        await client.wait_for("copy")
        assert server.received[0].data == {"file": b"\x00\xff", "more": [b"abc"]}
        assert client.received[0].data == server.received[0].data
        sent = [e for e in server.recorder.entries if e.kind == "send" and e.packet == "event"]
        assert [e.data for e in sent] == [{"file": b"\x00\xff", "more": [b"abc"]}]


async def test_it_listens_in_on_chatlabs_own_server():
    settings = Settings(dev=True, jwt_secret=SECRET)
    async with (
        background(lambda: create_app(settings)) as server,
        raw_client(server, name="alice", auth={"token": server.token("alice")}) as alice,
    ):
        await alice.call("join-room", "general", timeout=5)
        answer = await alice.call("send-message", {"text": "hi"}, timeout=5)
        assert answer["ok"]
        await server.wait_for("send-message")
        assert server.received_texts == ["general", "hi"]
        assert ("send", "alice", "ack", None) in kinds(server)
        assert "whoever has a token" in repr(server)
        assert "secret" not in repr(server)


async def test_it_finds_the_socketio_server_that_was_attached_to_an_application():
    app, sio = hello_app(), naive_chat()
    sio.attach(app)
    async with background(app) as server, raw_client(server) as client:
        assert server.sio is sio
        await client.call("send-message", {"text": "hi"}, timeout=5)
        assert server.received_texts == ["hi"]
    with background(hello_app) as server:
        assert server.sio is None
        assert "no python-socketio server was found" in repr(server)


async def test_a_crash_in_a_handler_is_in_the_log_and_not_on_the_screen(capfd):
    async with background(naive_chat()) as server, raw_client(server) as client:
        with pytest.raises(socketio.exceptions.TimeoutError):
            await client.call("send-message", {"no text": 1}, timeout=0.2)
        await until(server.logs)
        assert repr(server.logs()) == (
            "error: Task exception was never retrieved\n"
            '  in send_message: return {"ok": True, "length": len(data["text"])}\n'
            "  KeyError: 'text'"
        )
        assert "Traceback" in server.logs(full=True)[0]
    assert capfd.readouterr() == ("", "")


async def test_a_crash_in_the_connect_handler_is_in_the_log(capfd):
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.event
    async def connect(_sid, _environ, auth):
        return auth["token"] == "right"

    async with background(sio) as server:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await raw_client(server, auth={"wrong": 1}, timeout=0.2)
        await until(server.logs)
        assert "KeyError: 'token'" in repr(server.logs())
    assert capfd.readouterr() == ("", "")


async def test_what_a_handler_logs_goes_to_its_own_servers_log(caplog):
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.on("speak")
    async def speak(_sid, data):
        logging.getLogger("my.chat").warning("somebody said %s", data)
        return True

    async with (
        background(sio) as server,
        background(naive_chat(), name="other") as other,
        raw_client(server) as client,
    ):
        await client.call("speak", "hello", timeout=5)
        assert server.logs() == ["warning: somebody said hello"]
        assert repr(other.logs()) == "(the log is empty)"
    handlers = logging.getLogger().handlers
    assert not [h for h in handlers if "Router" in type(h).__name__]


def test_logging_elsewhere_is_as_if_no_server_ran(capfd, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    with background(hello_app, name="quiet"):
        logging.getLogger("mine").warning("from a cell")
        logging.getLogger("mine").info("too quiet to show")
    assert capfd.readouterr().err == "from a cell\n"


def test_a_second_server_of_the_same_name_stops_the_first():
    first = background(hello_app, name="twice")
    with background(hello_app, name="twice") as second:
        assert not first.running
        assert second.running
        with pytest.raises(urllib.error.URLError):
            fetch(first.url + "/hello")
        assert fetch(second.url + "/hello") == "hello"


async def test_the_same_socketio_server_can_be_started_again():
    sio = naive_chat()
    for _ in range(3):
        server = background(sio)
        client = await raw_client(server)
        answer = await client.call("send-message", {"text": "again"}, timeout=5)
        assert answer == {"ok": True, "length": 5}
    server.stop()
    await client.aclose()


async def test_after_it_has_stopped_the_socketio_server_is_as_it_was():
    sio = naive_chat()
    before = (dict(sio.eio.handlers), sio.logger, sio.eio.logger, set(vars(sio)))
    async with background(sio) as server, raw_client(server) as client:
        await client.call("send-message", {"text": "x"}, timeout=5)
    assert (dict(sio.eio.handlers), sio.logger, sio.eio.logger, set(vars(sio))) == before


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_stopping_waits_for_nobody_and_leaves_nothing(transports, caplog):
    server = background(naive_chat())
    client = await raw_client(server, transports=transports)
    shown = server.stop()
    assert not caplog.records  # as there would be had it run out of its time
    assert shown is server
    assert "stopped" in repr(shown)
    assert lab_threads() == []
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))
    await client.wait_until_disconnected()
    assert not client.connected
    server.stop()
    await server.aclose()


async def test_a_client_that_asks_nothing_more_does_not_hold_it_up(caplog):
    async with background(naive_chat()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read(100)
        await server.aclose()
        assert not caplog.records  # as there would be had it run out of its time
        assert "stopped" in repr(server)
        writer.close()


def test_what_goes_wrong_at_the_start_is_raised_here():
    def broken():
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        background(broken)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            background(hello_app, port=taken.getsockname()[1])
    assert lab_threads() == []


def test_what_it_cannot_run_is_refused_with_a_sentence():
    with pytest.raises(TypeError, match=r"a socketio\.AsyncServer, an aiohttp Application or a f"):
        background(42)
    with pytest.raises(TypeError, match="made a dict, not a server"):
        background(dict)
    with pytest.raises(ValueError, match='async_mode="aiohttp"'):
        background(socketio.AsyncServer(async_mode="asgi"))
    app = hello_app()
    background(app).stop()
    with pytest.raises(ValueError, match="a function that makes a new one"):
        background(app)
    assert lab_threads() == []


async def test_an_async_function_may_make_the_server():
    async def make():
        await asyncio.sleep(0)
        return naive_chat()

    async with background(make) as server, raw_client(server) as client:
        answer = await client.call("send-message", {"text": "x"}, timeout=5)
        assert answer["ok"]


async def test_code_runs_on_the_servers_loop_on_request():
    sio = naive_chat()
    async with background(sio) as server, raw_client(server) as client:
        await server.call(sio.emit, "tick", 1)
        server.call_blocking(sio.emit, "tick", 2)
        await client.wait_for("tick", 2)
        assert client.received_texts == [1, 2]


async def test_a_call_from_its_own_thread_is_refused_instead_of_hanging():
    sio = socketio.AsyncServer(async_mode="aiohttp")
    said = []

    @sio.on("stop-yourself")
    async def stop_yourself(_sid):
        for call in (server.stop, lambda: server.call_blocking(asyncio.sleep, 0)):
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))
        try:
            await server.aclose()
        except RuntimeError as error:
            said.append(str(error))
        return True

    async with background(sio) as server, raw_client(server) as client:
        await client.call("stop-yourself", timeout=5)
        assert server.running
    assert len(said) == 3
    assert all("already runs on the thread of 'server'" in text for text in said)
    with pytest.raises(RuntimeError, match="has been stopped"):
        server.call_blocking(asyncio.sleep, 0)


def test_its_card_says_the_same_as_html_and_as_text():
    with background(naive_chat()) as server:
        text, page = repr(server), server._repr_html_()
    assert text.startswith("✓ server · running\n  address      http://127.0.0.1:")
    assert "handles      send-message" in text
    assert "who gets in  everybody" in text
    words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page)).strip()
    assert words == re.sub(r"\s+", " ", text)
    assert "var(--jp-" in page
    assert not re.search(r"0x[0-9a-f]+", text)


def test_a_server_may_be_made_without_the_helper():
    assert isinstance(background(hello_app, name="kind").stop(), Server)


async def test_a_handler_that_blocks_its_thread_is_left_alone_and_shown():
    sio = socketio.AsyncServer(async_mode="aiohttp")
    entered, release = threading.Event(), threading.Event()

    @sio.on("block")
    def block(_sid):
        entered.set()
        release.wait(30)

    server = background(sio, name="stuck")
    client = await raw_client(server)
    await client.emit("block")
    while not entered.is_set():
        await asyncio.sleep(0.005)
    began = time.monotonic()
    await server.aclose()
    assert time.monotonic() - began < 10
    assert repr(server).startswith("✗ stuck · does not end: a handler blocks its thread")
    release.set()
    await client.aclose()
    while lab_threads():
        await asyncio.sleep(0.005)


def test_a_script_that_forgets_to_stop_ends_without_a_word():
    script = """
        import asyncio, socketio
        from chatlab.lab import Proxy, background, raw_client
        sio = socketio.AsyncServer(async_mode="aiohttp")
        sio.on("echo", lambda sid, data: data)
        server = background(sio)
        wire = Proxy(server)
        async def main():
            async with raw_client(wire) as client:
                print(await client.call("echo", "heard", timeout=5))
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("heard\n", "", 0)
