"""Servers, a Valkey and a balancer as one object: each part breaks alone, and all of them end."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import redis

from chatlab.lab import Cluster, Proxy, Refused, raw_client, settled, timeline, valkey
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Valkey runs on POSIX systems")


@pytest.fixture(autouse=True)
def of_our_own(monkeypatch):
    monkeypatch.delenv("CHATLAB_REDIS_URL", raising=False)


@pytest.fixture(scope="module")
def stock():
    """A cluster for the tests that leave it as it was, on a Valkey that was there before."""
    with valkey(name="mine") as store:
        with Cluster(2, stock="redis", name="shared", valkey=store) as cluster:
            assert cluster.store is store
            yield cluster
        assert store.running, "what a cluster was given outlives it"


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.asynccontextmanager
async def joined(cluster, part, name, room="general", **options):
    client = await raw_client(part, name=name, auth={"token": cluster.token(name)}, **options)
    try:
        assert (await client.call("join-room", room, timeout=5))["ok"]
        yield client
    finally:
        await client.aclose()


async def send(client, text):
    answer = await client.call("send-message", {"text": text}, timeout=5)
    assert answer["ok"], answer
    return answer


def heard(client):
    return client.received.of("new-message")


# -- what it is ------------------------------------------------------------------------------------


async def test_its_servers_are_one_chat_and_stay_so_when_one_is_killed_and_comes_back():
    async with Cluster(2, balancer="caddy") as cluster:
        async with joined(cluster, cluster.servers[1], "bob") as bob:
            async with joined(cluster, cluster.servers[0], "alice") as alice:
                assert (await send(alice, "hi"))["seq"] == 1
                await bob.wait_for("new-message")
                cluster.kill(0)
                await alice.wait_until_disconnected()
            assert (await send(bob, "still here"))["seq"] == 2
            async with joined(cluster, cluster, "carol") as carol:  # through the balancer
                assert (await send(carol, "me too"))["seq"] == 3
            cluster.restart(0)
            async with joined(cluster, cluster.servers[0], "alice") as alice:
                assert (await send(alice, "back"))["seq"] == 4
            await bob.wait_for("new-message", 3)
            assert heard(bob).texts == ["hi", "me too", "back"]


async def test_stock_servers_share_their_rooms_through_their_manager(stock):
    async with (
        joined(stock, stock.servers[0], "alice") as alice,
        joined(stock, stock.servers[1], "bob") as bob,
    ):
        answers = {}
        while not heard(bob):  # what is sent before the other server has subscribed is gone
            answer = await send(alice, "hi")
            answers[answer["id"]] = answer
            with contextlib.suppress(TimeoutError):
                await bob.wait_for("new-message", timeout=1)
        message = heard(bob)[0].data
        assert message == {
            "id": message["id"],
            "room": "general",
            "user": "alice",
            "text": "hi",
            "timestamp": answers[message["id"]]["timestamp"],
        }
        await settled(alice, bob)
        assert not heard(alice)


async def test_stock_servers_alone_are_as_many_chats_as_servers():
    async with Cluster(2, stock="alone") as cluster:
        assert cluster.store is None
        async with (
            joined(cluster, cluster.servers[0], "alice") as alice,
            joined(cluster, cluster.servers[0], "carol") as carol,
            joined(cluster, cluster.servers[1], "bob") as bob,
        ):
            await send(alice, "hi")
            await carol.wait_for("new-message")
            await settled(alice, bob, carol)
            assert not heard(bob)


async def test_a_stock_server_answers_as_most_do(stock):
    where = stock.servers[0]
    forged = stock.token("alice", aud="elsewhere")
    with pytest.raises(Refused, match="Invalid token"):
        await raw_client(where, auth={"token": forged})
    client = await raw_client(where, name="anybody", auth={"name": "anybody"})
    answer = await client.call("send-message", {"text": "hi"}, timeout=5)
    assert answer["code"] == "not_in_room"
    assert (await client.call("join-room", {"room": "one"}, timeout=5))["room"] == "one"
    assert (await client.call("leave-room", "one", timeout=5))["ok"]
    await client.aclose()


async def test_every_server_takes_its_tokens(stock):
    for server in stock.servers:
        async with joined(stock, server, "alice", room="tokens"):
            pass
        assert server.token("alice").count(".") == 2


async def test_a_wire_may_stand_before_all_of_it_or_before_one_server(stock):
    with Proxy(stock, name="wire") as wire, Proxy(stock.servers[1], name="other") as other:
        async with (
            joined(stock, wire, "alice", room="wires") as alice,
            joined(stock, other, "bob", room="wires") as bob,
        ):
            await send(alice, "hi")
            await bob.wait_for("new-message")
            drawn = repr(timeline(alice, wire, other, bob, *stock.servers, stock.store))
            assert "hi" in drawn
            assert "shared server 1" in drawn


# -- breaking it -----------------------------------------------------------------------------------


def test_each_part_breaks_alone_and_its_card_shows_which():
    with Cluster(2, stock="redis", balancer="haproxy" if sys.platform == "linux" else "caddy") as c:
        assert repr(c).splitlines()[:3] == [
            "✓ cluster · running",
            "  clients ── balancer ─┬─ server 0 ─┬─ valkey",
            "                       └─ server 1 ─┘",
        ]
        assert c.url == c.balancer.url
        urls = [c.url, *(server.url for server in c.servers), c.store.url]

        c.kill(1).freeze("valkey")
        assert repr(c).startswith("✗ cluster · without server 1, valkey\n")
        assert "✗ server 1  ended by SIGKILL  http://127.0.0.1:" in repr(c)
        assert c._repr_html_().count("✗") == 3
        c.thaw("valkey").restart(1).kill("valkey").restart("valkey").restart("balancer")
        assert repr(c).startswith("✓ cluster · running\n")

        c.stop(0)
        wait_until(lambda: not c.servers[0].running)
        assert "ended with exit code 0" in repr(c)
        c.restart(-2)
        assert [c.url, *(server.url for server in c.servers), c.store.url] == urls

        c.add()
        assert len(c.servers) == 3
        assert c.servers[2].url.removeprefix("http://") in c.balancer.config
        assert "                       ├─ server 1 ─┤" in repr(c)
        said = repr(c).splitlines()[-1]
        assert said.startswith(
            "  servers: stock python-socketio with its Redis manager · balancer: "
        )
        assert said.strip() in c._repr_html_()
    assert repr(c).startswith("○ cluster · stopped\n")
    assert c.stop() is c
    with pytest.raises(RuntimeError, match="is stopped"):
        c.add()


async def test_a_second_cluster_of_the_same_name_stops_the_first():
    first = Cluster(1, stock="alone")
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    second = await asyncio.to_thread(Cluster, 1, stock="alone")
    assert not first.servers[0].running
    assert second.servers[0].running
    ticking = asyncio.create_task(tick())
    await second.aclose()
    ticking.cancel()
    assert ticks > 1, "it was stopped without blocking the loop"
    assert "○ cluster · stopped" in repr(second)


def test_what_makes_no_sense_is_refused_before_anything_starts():
    for options, words in (
        ({"servers": 0}, "one server or more"),
        ({"stock": "node"}, "'redis' or 'alone'"),
        ({"stock": "redis", "valkey": False}, "leave valkey=True"),
        ({"balancer": "nginx"}, "'caddy' or 'haproxy'"),
    ):
        with pytest.raises(ValueError, match=words):
            Cluster(**options)


# -- the store -------------------------------------------------------------------------------------


async def test_clusters_on_one_foreign_store_do_not_hear_each_other(monkeypatch):
    with valkey(name="theirs", arguments=("--requirepass", "s3cret")) as theirs:
        monkeypatch.setenv("CHATLAB_REDIS_URL", theirs.url)
        with Cluster(1, stock="redis") as one, Cluster(1, stock="redis", name="two") as two:
            assert "names: faults are not possible" in repr(one.store)
            assert "s3cret" not in repr(one) + repr(one.servers[0]) + one._repr_html_()
            with pytest.raises(RuntimeError, match="CHATLAB_REDIS_URL"):
                one.kill("valkey")
            async with joined(one, one, "alice") as alice, joined(two, two, "bob") as bob:
                await send(alice, "hi")
                await settled(alice, bob)
                assert not heard(bob)
            with redis.Redis.from_url(theirs.url) as asked:
                assert len(asked.pubsub_channels()) == 2
        with Cluster(1) as chat:
            assert "s3cret" not in repr(chat) + repr(chat.servers[0])
            assert "s3cret" not in " ".join(psutil.Process(chat.servers[0].pid).cmdline())
            async with joined(chat, chat, "alice") as alice:
                await send(alice, "hi")
            with redis.Redis.from_url(theirs.url) as asked:
                assert {key.partition(b":")[0][:8] for key in asked.scan_iter()} == {b"chatlab-"}
        assert theirs.running


# -- the end ---------------------------------------------------------------------------------------


def test_where_a_server_does_not_start_nothing_of_it_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RuntimeError, match=r"server \d ended with exit code 2(.|\n)*no-such"):
        Cluster(2, stock="redis", balancer="caddy", arguments=("--no-such-option",))
    assert set(psutil.Process().children(recursive=True)) == before
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name.startswith("lab: cluster")]


def test_a_taken_port_is_left_alone_and_a_part_that_it_has_not_is_named(monkeypatch):
    from chatlab.lab import cluster as module

    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        ports = iter([busy])
        free_port = module.free_port
        monkeypatch.setattr(module, "free_port", lambda: next(ports, None) or free_port())
        with Cluster(1, stock="alone") as cluster:
            assert str(busy) not in cluster.url
            for target, error, words in (
                (1, IndexError, "no server 1: they are 0 to 0"),
                ("valkey", RuntimeError, "has no valkey"),
                ("balancer", RuntimeError, "has no balancer"),
                ("redis", ValueError, "'valkey' or 'balancer', not 'redis'"),
            ):
                with pytest.raises(error, match=words):
                    cluster.kill(target)


DRIVER = """
import json, signal, sys, threading, time
import psutil
from chatlab.lab import Cluster

signal.signal(signal.SIGINT, signal.default_int_handler)

def watch():
    # Everything is under way, and nothing is ready yet.
    while True:
        try:
            under = psutil.Process().children(recursive=True)
            # Two servers, each with its watchdog.
            if sum("stock.py" in " ".join(one.cmdline()) for one in under) >= 4:
                break
        except psutil.Error:
            pass
    print(json.dumps([one.pid for one in under]), flush=True)

threading.Thread(target=watch, daemon=True).start()
try:
    cluster = Cluster(2, stock="redis", balancer="caddy")
except KeyboardInterrupt:
    print(json.dumps([one.pid for one in psutil.Process().children(recursive=True)]), flush=True)
    sys.stdin.read()
print("up", flush=True)
"""


@contextlib.contextmanager
def kernel(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        yield running, json.loads(running.stdout.readline())
    finally:
        running.stdin.close()
        running.kill()
        running.wait()
        running.stdout.close()


def nothing_left(pids, folder: Path):
    wait_until(lambda: not any(map(alive, pids)) and not list(folder.iterdir()))


def test_a_kernel_that_is_killed_half_way_through_leaves_nothing(tmp_path):
    with kernel(tmp_path) as (running, pids):
        assert len(pids) > 4
        running.kill()
        nothing_left(pids, tmp_path)


def test_an_interrupt_half_way_through_leaves_nothing(tmp_path):
    with kernel(tmp_path) as (running, pids):
        running.send_signal(signal.SIGINT)
        assert json.loads(running.stdout.readline()) == []
        nothing_left(pids, tmp_path)


def test_it_ends_with_python(tmp_path):
    with kernel(tmp_path) as (running, pids):
        assert running.stdout.readline() == "up\n"
        assert running.wait(30) == 0
        assert running.stdout.read() == ""
        nothing_left(pids, tmp_path)
