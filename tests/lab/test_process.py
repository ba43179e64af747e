"""A server as a process: it is killed, frozen and started again for real, and never left behind."""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import socketio

from chatlab.lab import Proxy, Refused, process, raw_client

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]


def sleeper(**options):
    return process(command=SLEEPER, ready="ready", **options)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pid, within=5.0):
    deadline = time.monotonic() + within
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


async def join(server, name="alice"):
    client = await raw_client(server, name=name, auth={"token": server.token(name)})
    answer = await client.call("join-room", "general", timeout=5)
    assert answer["ok"]
    return client


async def test_chatlab_serves_in_a_process_of_its_own():
    async with process() as server:
        async with await join(server) as alice:
            assert (await alice.call("send-message", {"text": "hi"}, timeout=5))["ok"]
        assert server.url.startswith("http://127.0.0.1:")
        assert server.pid != os.getpid()
        assert server.logs()[0] == f"listening on {server.url}"
        with pytest.raises(Refused, match="Invalid token"):
            await raw_client(server, auth={"token": server.token("alice", ttl=-1)})
        with pytest.raises(Refused, match="Invalid token"):
            await raw_client(server, auth={"token": server.token("alice", aud="other")})
    assert not server.running
    assert "stopped" in repr(server)
    assert gone(server.pid)


async def test_killed_it_is_gone_at_once_and_started_again_it_has_the_same_address():
    async with process() as server:
        alice = await join(server)
        first, url = server.pid, server.url
        server.kill()
        assert not alive(first)
        assert server.returncode == -signal.SIGKILL
        assert "✗ server · ended by SIGKILL" in repr(server)
        await alice.wait_until_disconnected()
        with pytest.raises(RuntimeError, match="does not run"):
            server.kill()
        server.restart()
        assert server.url == url
        async with await join(server):
            pass
        assert [e.text for e in server.recorder.entries] == ["killed", "started again"]


@POSIX
async def test_frozen_it_is_silent_and_thawed_it_goes_on():
    async with process() as server, await join(server) as alice:
        server.freeze()
        assert "frozen" in repr(server)
        with pytest.raises(socketio.exceptions.TimeoutError):
            await alice.call("send-message", {"text": "hi"}, timeout=0.2)
        server.thaw()
        assert (await alice.call("who", {"room": "general"}, timeout=5))["ok"]
        server.freeze()
    assert gone(server.pid)


async def test_told_to_finish_it_finishes_by_itself():
    async with process() as server, await join(server) as alice:
        server.terminate()
        await alice.wait_until_disconnected()
        assert await server.exited() == 0
        assert "ended with exit code 0" in repr(server)
        server.restart()
        assert server.running


async def test_a_process_that_goes_on_is_waited_for_in_vain():
    with sleeper() as server, pytest.raises(TimeoutError, match="still runs after"):
        await server.exited(timeout=0.05)


def test_one_that_ignores_sigterm_is_stopped_all_the_same(monkeypatch):
    # By its module: `chatlab.lab.process` names the function.
    monkeypatch.setattr(importlib.import_module("chatlab.lab.process"), "_PATIENCE", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', "
    with process(
        command=[sys.executable, "-c", deaf + "flush=True); time.sleep(600)"], ready="ready"
    ) as server:
        server.stop()
        assert gone(server.pid)


def test_a_second_process_of_the_same_name_stops_the_first():
    with sleeper() as first, sleeper() as second:
        assert gone(first.pid)
        assert second.running
        assert second.stop() is second
        second.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("lab: ")]


def test_one_that_does_not_start_says_why():
    with pytest.raises(RuntimeError, match=r"exit code 3 before it was ready.*\nno storage today"):
        process(command=[sys.executable, "-c", "print('no storage today'); raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="not ready within 0.2 s"):
        process(
            command=[sys.executable, "-c", "import time; time.sleep(600)"],
            timeout=0.2,
        )
    with pytest.raises(RuntimeError, match="exit code 2 before it was ready"):
        process("--no-such-option")
    with pytest.raises(RuntimeError, match="cannot run no-such-command-anywhere"):
        process(command=["no-such-command-anywhere"])
    assert not [t for t in threading.enumerate() if t.name.startswith("lab: ")]


def test_any_command_runs_and_its_environment_can_be_added_to():
    show = "import os; print(os.environ['COLOUR'], flush=True); import time; time.sleep(600)"
    with process(
        command=[sys.executable, "-c", show], env={"COLOUR": "green"}, ready="gre+n"
    ) as server:
        assert server.logs() == ["green"]
        with pytest.raises(RuntimeError, match="its tokens are its own affair"):
            server.token("alice")
    with process(command=SLEEPER, ready=None) as server:
        assert server.running


async def test_a_wire_may_stand_in_front_of_it():
    async with process() as server, Proxy(server) as wire:
        alice = await raw_client(wire, name="alice", auth={"token": server.token("alice")})
        await alice.call("join-room", "general", timeout=5)
        server.kill()
        await alice.wait_until_disconnected()
        server.restart()
        again = await raw_client(wire, name="alice", auth={"token": server.token("alice")})
        assert (await again.call("join-room", "general", timeout=5))["ok"]
        await again.aclose()


def test_its_card_shows_no_secret_and_no_number_of_this_run():
    with process("--no-limits", name="chat") as server:
        text = repr(server)
        assert str(server.pid) not in text.replace(server.url, "")
        assert server._env["CHATLAB_JWT_SECRET"] not in text + server._repr_html_()
    assert text.splitlines()[0] == "✓ chat · running"
    assert "storage  memory: a restart forgets every message" in text
    assert "limits   off" in text


# -- when the notebook's kernel does not stop it ---------------------------------------------------

DRIVER = """
import json, signal, sys, time
from chatlab.lab import process
# A kernel does so too; what runs the tests in the background may have had SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
server = process(command={command!r}, ready="ready")
{more}
try:
    print(json.dumps(server.pid), flush=True)
    time.sleep({seconds})
except KeyboardInterrupt:
    print(json.dumps(server.running), flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def driver(more="", seconds=600):
    code = DRIVER.format(command=SLEEPER, more=more, seconds=seconds)
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield running, json.loads(running.stdout.readline())
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


@POSIX
@pytest.mark.parametrize("more", ["", "server.freeze()"], ids=["running", "frozen"])
def test_it_does_not_outlive_a_kernel_that_is_killed(more):
    with driver(more) as (kernel, pid):
        assert alive(pid)
        kernel.kill()
        assert gone(pid)


@POSIX
def test_it_survives_the_interrupt_of_a_cell():
    with driver() as (kernel, pid):
        os.killpg(kernel.pid, signal.SIGINT)
        assert json.loads(kernel.stdout.readline()) is True
        assert alive(pid)
    assert gone(pid)


def test_it_ends_with_a_kernel_that_ends():
    with driver(seconds=0) as (kernel, pid):
        assert kernel.wait(10) == 0
        assert gone(pid)


async def test_its_output_is_kept_to_the_newest_lines():
    count = "print('ready'); print(*range(5000), sep='\\n', flush=True); import time; "
    with process(
        command=[sys.executable, "-c", count + "time.sleep(600)"], ready="^4999$"
    ) as server:
        await asyncio.sleep(0)
        assert len(server.logs()) == 2000
        assert server.logs()[-1] == "4999"
