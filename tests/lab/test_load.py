"""The load generator: what it counts is right, and what cannot be measured is a sentence."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatlab.lab import Cluster, background, load, load_system, process, raw_client
from chatlab.lab.load_command import main
from chatlab.lab.load_counts import Counts
from chatlab.lab.load_frames import split, text_frame
from chatlab.lab.load_process import Generator
from chatlab.lab.load_row import Row, bottleneck, quantile
from chatlab.lab.load_wire import Wire
from chatlab.lab.process import Process

SHORT: dict[str, Any] = {"seconds": 1.0, "warm_up": 0.1}


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with process("--no-limits", name="loaded") as running:
        yield running


def row(**more: Any) -> Row:
    usual: dict[str, Any] = {
        "scenario": "acks",
        "server": "server",
        "unit": "messages",
        "clients": 50,
        "count": 5_000,
        "seconds": 2.0,
        "server_cpu_seconds": 1.0,
        "generator_cpu_share": 0.2,
        "memory_mb": 60.0,
        "peak_mb": 70.0,
    }
    return Row(**{**usual, **more})


# -- the figures -----------------------------------------------------------------------------------


async def test_acks_are_counted_and_timed(server: Process) -> None:
    found = await load.acks(server, clients=5, in_flight=4, **SHORT)
    assert found.unit == "messages"
    assert found.clients == 5
    assert found.count > 0
    assert found.missing == 0
    assert found.seconds > 0
    assert found.per_second == pytest.approx(found.count / found.seconds)
    assert found.p50_ms is not None
    assert found.p99_ms is not None
    assert 0 <= found.p50_ms <= found.p99_ms
    assert found.server_cpu_seconds > 0
    assert found.generator_cpu_share > 0
    assert found.peak_mb >= found.memory_mb * 0.5 > 1


async def test_what_is_counted_is_what_the_server_stored(server: Process) -> None:
    before = await newest(server, "alone-0")
    found = await load.acks(server, clients=1, in_flight=3, **SHORT)
    stored = await newest(server, "alone-0") - before
    assert found.missing == 0
    assert found.count < found.sent == stored


async def newest(server: Process, room: str) -> int:
    auth = {"token": server.token("reader")}
    async with await raw_client(server, name="reader", auth=auth) as reader:
        seq: int = (await reader.call("join-room", room))["seq"]
        return seq


async def test_every_delivery_of_a_room_is_counted_once(server: Process) -> None:
    for senders in (1, 3):
        found = await load.fanout(server, room=6, senders=senders, in_flight=2, **SHORT)
        assert found.unit == "deliveries"
        assert found.count > 0
        assert found.missing == 0


async def test_rooms_of_which_all_members_send_lose_nothing(server: Process) -> None:
    found = await load.rooms(server, rooms=3, size=4, **SHORT)
    assert found.clients == 12
    assert found.count > 0
    assert found.missing == 0


async def test_a_steady_rate_is_that_rate(server: Process) -> None:
    found = await load.steady(server, rate=200, rooms=2, size=3, seconds=1.0, warm_up=0.2)
    assert found.missing == 0
    # Far too many or too few: what a busy machine delays comes all the same.
    assert 0.3 < found.count / (200 * found.seconds) < 3


async def test_connections_are_made_and_counted(server: Process) -> None:
    found = await load.connects(server, at_a_time=4, **SHORT)
    assert found.unit == "connections"
    assert 0 < found.count <= found.clients
    assert found.p50_ms is not None
    assert found.p50_ms > 0


async def test_connections_can_be_so_few_that_they_are_all_made(server: Process) -> None:
    found = await load.connects(server, at_a_time=2, most=5, seconds=5.0, warm_up=0.0)
    assert found.count == found.clients == 5


async def test_parked_connections_take_memory_and_closing_them_takes_time(server: Process) -> None:
    idle, gone = await load.park(server, connections=300, first=20, rest=0.3)
    assert (idle.scenario, gone.scenario) == ("idle", "disconnects")
    assert idle.count == gone.count == 300
    assert idle.kb_per_connection is not None
    assert gone.server_cpu_seconds > 0


@pytest.mark.skipif(sys.platform == "win32", reason="no Valkey for Windows")
async def test_what_is_said_at_one_server_is_timed_at_the_other() -> None:
    with Cluster(2, arguments=["--no-limits"], name="loaded cluster") as cluster:
        most = await load.across(cluster, in_flight=4, **SHORT)
        given = await load.across(cluster, rate=100, seconds=0.5, warm_up=0.1)
    for found in (most, given):
        assert found.servers == 2
        assert found.count > 0
        assert found.missing == 0
        assert found.p50_ms is not None


async def test_across_wants_two_servers(server: Process) -> None:
    with pytest.raises(ValueError, match="between two servers"):
        await load.across([server])


async def test_a_server_of_the_notebooks_own_process_can_be_loaded() -> None:
    from chatlab.server import create_app
    from chatlab.settings import Settings

    settings = Settings(dev=True, no_limits=True)
    async with background(lambda: create_app(settings), name="inside") as server:
        found = await load.acks(server, clients=2, in_flight=2, **SHORT)
    assert found.count > 0
    assert not found.pinned


# -- what cannot be measured -----------------------------------------------------------------------


async def test_a_stopped_server_is_said_to_be_stopped() -> None:
    server = process(name="gone")
    server.stop()
    with pytest.raises(load.LoadError, match="gone does not run"):
        await load.acks(server, **SHORT)


async def test_an_address_where_nobody_answers_is_named(server: Process) -> None:
    class Elsewhere:
        name = "elsewhere"
        pid = server.pid
        url = "http://127.0.0.1:9"
        token = server.token

    with pytest.raises(load.LoadError, match=r"elsewhere: no connection to http://127\.0\.0\.1:9"):
        await load.acks(Elsewhere(), **SHORT)


async def test_a_server_that_dies_in_the_middle_is_a_sentence() -> None:
    with process("--no-limits", name="mortal") as server:
        pid = server.pid or 0
        before = load_system.cpu_seconds(pid)
        measuring = asyncio.create_task(load.acks(server, clients=3, seconds=30, warm_up=0))
        while load_system.cpu_seconds(pid) < before + 0.5:  # it works: clients are there
            await asyncio.sleep(0.01)
        server.kill()
        with pytest.raises(load.LoadError, match=r"mortal: the server"):
            await measuring


async def test_a_server_that_limits_rates_is_said_to_need_no_limits() -> None:
    with process(name="limited") as server:
        with pytest.raises(load.LoadError, match="--no-limits"):
            await load.acks(server, clients=1, in_flight=16, **SHORT)


async def test_a_refused_token_is_the_servers_own_words(server: Process) -> None:
    class Stranger:
        name = "guarded"
        pid = server.pid
        url = server.url

        def token(self, user: str, *, ttl: float = 0.0, **claims: Any) -> str:
            return server.token(user, ttl=-60)

    with pytest.raises(load.LoadError, match="refused the connection: Invalid token"):
        await load.acks(Stranger(), clients=2, **SHORT)


@pytest.mark.parametrize(
    ("timeout", "said"), [(20.0, "ended without an answer"), (0.0, "no answer within 0 s")]
)
def test_a_generator_that_gives_no_answer_is_an_error_itself(timeout: float, said: str) -> None:
    generator = Generator({"nonsense": True})
    try:
        assert said in generator.answer(timeout)["error"]
    finally:
        generator.end()


def test_a_generator_that_is_ended_while_its_answer_is_waited_for_gives_one() -> None:
    generator = Generator({"nonsense": True})
    generator._process.send_signal(signal.SIGSTOP)  # it would end by itself
    said: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: said.append(generator.answer(20.0)))
    waiting.start()
    while not generator._reading.locked():
        time.sleep(0.001)
    generator.end()
    waiting.join()
    assert "ended without an answer" in said[0]["error"]
    assert generator.answer(20.0) == {"error": "the generator was ended"}


async def test_a_cancelled_measurement_leaves_no_generator_behind(server: Process) -> None:
    measuring = asyncio.create_task(load.acks(server, clients=2, seconds=60))
    before = children()
    while not (mine := children() - before):
        await asyncio.sleep(0.01)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert not mine & children()


def children() -> set[int]:
    psutil = pytest.importorskip("psutil")
    return {
        child.pid
        for child in psutil.Process().children()
        if "load_child.py" in " ".join(child.cmdline())
    }


def test_a_generator_whose_parent_is_dead_ends() -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", load.__file__.replace("load.py", "load_child.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(20) is not None


async def test_a_pinned_server_may_go_everywhere_again_afterwards(server: Process) -> None:
    if load_system.two_cpus() is None or server.pid is None:
        pytest.skip("this machine has no two CPUs to choose")
    before = os.sched_getaffinity(server.pid)
    found = await load.acks(server, clients=1, **SHORT)
    assert found.pinned
    assert os.sched_getaffinity(server.pid) == before


# -- whose limit it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server_share", "generator_share", "cores", "whose"),
    [
        (0.99, 0.40, 1, "server"),
        (0.35, 0.98, 1, "generator"),
        (0.97, 0.96, 1, "both"),
        (0.30, 0.20, 1, "neither"),
        (0.99, 0.40, 2, "neither"),
        (1.95, 0.40, 2, "server"),
        (0.99, 0.97, 2, "generator"),
    ],
)
def test_the_limit_is_whoever_was_busy_all_the_time(
    server_share: float, generator_share: float, cores: int, whose: str
) -> None:
    assert bottleneck(server_share, generator_share, cores=cores) == whose


def test_a_row_says_that_the_generator_was_the_limit() -> None:
    found = row(server_cpu_seconds=0.8, generator_cpu_share=0.99)
    assert found.bottleneck == "generator"
    assert "the generator was the limit, the server can do more" in repr(found)


def test_a_row_tells_rates_of_time_and_of_cpu_time() -> None:
    found = row(p50_ms=1.234, p99_ms=20.0, missing=3)
    assert found.per_second == 2_500
    assert found.per_cpu_second == 5_000
    assert repr(found) == (
        "acks on server: 5,000 messages in 2.0 s: 2,500/s, 5,000 a CPU-second; "
        "p50 1.23 ms, p99 20.00 ms; server 50% of a core, generator 20%: neither was at its limit; "
        "3 never came"
    )


def test_a_row_comes_back_from_json_as_it_was() -> None:
    found = row(p50_ms=1.5)
    assert Row.from_dict(found.as_dict()) == found


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile(list(range(1, 101)), 0.99) == 99
    assert quantile([5.0, 1.0, 3.0], 0.5) == 3.0


# -- frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536])
def test_a_frame_of_any_size_is_masked_and_whole(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[1] & 0x80
    assert frame.endswith(b"\0\0\0\0" + b"x" * size)
    unmasked = frame[:1] + bytes([frame[1] & 0x7F]) + frame[2 : len(frame) - size - 4] + b"x" * size
    assert split(unmasked) == ([b"x" * size], b"")


class Deaf:
    """A transport for a wire whose bytes come from a test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        pass


def sent_by_a_server(payload: str) -> bytes:
    body = payload.encode()
    if len(body) < 126:
        return bytes([0x81, len(body)]) + body
    return bytes([0x81, 126]) + len(body).to_bytes(2) + body


@pytest.fixture
async def wire() -> Wire:
    made = Wire(Counts(), "host", "token")
    made.transport = Deaf()
    made.count_only("hello", in_flight=4)
    return made


STREAM = b"".join(
    [
        sent_by_a_server('42["new-message",{"text":"' + "long " * 40 + '"}]'),
        sent_by_a_server('43100[{"ok":true,"id":"1"}]'),
        sent_by_a_server("2"),
        sent_by_a_server('42["user-joined",{"user":"new-message"}]'),
        sent_by_a_server('42["new-message",{"text":"short"}]'),
        sent_by_a_server('43101[{"ok":true}]'),
        sent_by_a_server("2"),
    ]
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(STREAM)])
async def test_the_same_is_counted_however_the_bytes_arrive(wire: Wire, size: int) -> None:
    wire.send(2)
    del wire.transport.written[:]
    for first in range(0, len(STREAM), size):
        wire.data_received(STREAM[first : first + size])
    assert (wire.counts.acks, wire.counts.deliveries) == (2, 2)
    assert wire.transport.written == [text_frame(b"3")] * 2
    assert len(wire.counts.latencies) == 2
    assert min(wire.counts.latencies) >= 0


async def test_a_refused_message_is_counted_with_its_reason(wire: Wire) -> None:
    wire.send(1)
    wire.data_received(sent_by_a_server('43100[{"ok":false,"code":"rate_limited"}]'))
    assert wire.counts.refused == 1
    assert "rate_limited" in wire.counts.trouble


async def test_so_many_messages_are_sent_each_in_a_frame_of_its_own(wire: Wire) -> None:
    wire.send(3)
    wire.send(40)
    frames = b"".join(wire.transport.written)
    assert wire.counts.sent == 43
    assert frames.count(b'["send-message",{"text":"hello"}]') == 43


# -- the system ------------------------------------------------------------------------------------


def test_the_cpu_time_of_a_process_is_its_own() -> None:
    import time

    mine = time.process_time()
    assert load_system.cpu_seconds(os.getpid()) >= mine > 0
    assert load_system._from_stat(os.getpid()) == pytest.approx(mine, abs=1.0)


def test_a_process_that_is_not_there_has_no_cpu_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        load_system.cpu_seconds(child.pid)
    with pytest.raises(ProcessLookupError):
        load_system.memory(child.pid)


# -- the command -----------------------------------------------------------------------------------


def test_the_command_measures_a_server_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acks", "connects", "--clients", "2", "--seconds", "0.2", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["scenario"] for row in told] == ["acks", "connects"]
    assert all(row["count"] > 0 for row in told)


def test_the_command_says_which_scenarios_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["everything"]) == 2
    assert "they are acks, fanout, rooms" in capsys.readouterr().err


def test_the_command_says_why_a_server_did_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--storage", "floppy://a"]) == 1
    assert "floppy" in capsys.readouterr().err
