"""What one client can make the server hold, against clients that try: small limits, raw sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.frames import BINARY, CONTINUATION, TEXT, Frame
from tests.fuzz.play import HANDSHAKE, Witness, encoded, request
from tests.fuzz.target import Target
from tests.fuzz.wire import Wire, connect
from tests.server.child import child

POLLING = "EIO=4&transport=polling"
# So high that only the limit that a test is about can be reached.
FREELY = {"rate": 1e6, "rate_burst": 10**6, "user_rate": 1e6, "user_burst": 10**6}
UNBUDGETED = {"user_frame_rate": 1e6, "user_frame_burst": 10**6}
MEGABYTE = 2**20


async def websocket(target: Target, user: str | None = None, *packets: str) -> Wire:
    """A websocket, of a user who has been let in if there is one."""
    wire = await connect(target.port)
    wire.write(HANDSHAKE.format(sid="").encode())
    await wire.until(lambda: wire.packets or wire.statuses)
    if user is not None:
        wire.write(encoded("40" + json.dumps({"token": target.token(user)})))
        await wire.until(lambda: any(packet.startswith("40") for packet in wire.packets))
        wire.write(b"".join(map(encoded, packets)))
    return wire


async def ask(target: Target, data: bytes) -> Wire:
    """What the server answers to one request."""
    wire = await connect(target.port)
    wire.write(data)
    await wire.until(lambda: wire.statuses)
    wire.end()
    return wire


async def post(target: Target, sid: str, *packets: str) -> int:
    wire = await ask(target, request("POST", f"{POLLING}&sid={sid}", "\x1e".join(packets).encode()))
    return wire.statuses[0]


async def polling(target: Target, user: str | None = None, *packets: str) -> str:
    """The sid of a session that polls, or would; of a user who has been let in if there is one."""
    opened = await ask(target, request("GET", POLLING))
    sid = str(json.loads(opened.packets[0][1:])["sid"])
    if user is not None:
        await post(target, sid, "40" + json.dumps({"token": target.token(user)}), *packets)
    return sid


async def witnessed(target: Target, user: str = "witness") -> Witness:
    witness = Witness(target.port, user, target.token(user) or None)
    await witness.arrive()
    return witness


# --- what waits to be read -----------------------------------------------------------------------


async def flood(target: Target, condition: Callable[[], Any]) -> int:
    """Have a room of the slow filled with 4 KB messages until `condition()`; how many it took."""
    wire = await websocket(target, "busy", '420["join-room","slow"]')
    text = json.dumps(["send-message", {"text": "x" * 4000, "room": "slow"}])
    for number in range(1, 10_000):
        wire.write(encoded(f"42{number}{text}"))
        if number % 50 == 0:
            await wire.until(
                lambda end=f"43{number}[": any(p.startswith(end) for p in wire.packets)
            )
            if condition():
                wire.end()
                return number
    raise AssertionError("it took everything")


def test_a_websocket_that_does_not_read_is_dropped_and_what_waited_for_it_is_given_back() -> None:
    options = {**FREELY, **UNBUDGETED, "max_unread": 262_144, "history": 50}

    async def scenario(target: Target) -> None:
        deaf = await websocket(target, "deaf", '420["join-room","slow"]')
        deaf.transport.pause_reading()
        await flood(target, lambda: "deaf disconnected: slow reader" in target.ask("logged"))
        deaf.transport.abort()

    with Target("chat", **options) as target:
        target.warm_up()
        before = target.ask("memory")["rss"]
        target.run(scenario(target))
        assert target.left(10) == []
        assert target.ask("memory")["rss"] - before < 8 * MEGABYTE
        assert target.complained() == []


def test_a_polling_client_that_does_not_poll_is_dropped_likewise() -> None:
    options = {**FREELY, **UNBUDGETED, "max_unread": 262_144, "history": 50}

    async def scenario(target: Target) -> None:
        sid = await polling(target, "deaf", '420["join-room","slow"]')
        took = await flood(target, lambda: "deaf disconnected: slow reader" in target.ask("logged"))
        assert took <= 150
        assert await post(target, sid, "3") == 400

    with Target("chat", **options) as target:
        target.warm_up()
        target.run(scenario(target))
        assert target.left(10) == []
        assert target.complained() == []


# --- how much at a time --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[Target]:
    """A chat server with small limits."""
    limits = {"max_payload_packets": 10, "max_frame": 2048, "max_unread": 4096}
    with Target("chat", connect_timeout=1.0, **limits) as target:
        target.warm_up()
        yield target


@pytest.fixture(scope="module")
def suite() -> Iterator[Target]:
    """The server of the official suites, which takes ten attachments and two namespaces."""
    with Target("suite", max_http_buffer_size=65_536) as target:
        target.warm_up()
        yield target


def test_a_polling_body_has_so_many_packets_and_no_more(small: Target) -> None:
    async def scenario() -> None:
        sid = await polling(small, "alice")
        assert await post(small, sid, *["3"] * 10) == 200
        assert await post(small, sid, *["3"] * 11) == 400
        assert await post(small, sid, "3") == 400

    small.run(scenario())
    assert small.left(10) + small.complained() == []


def test_a_body_over_the_limit_is_refused_with_413_before_it_has_come(small: Target) -> None:
    async def scenario() -> None:
        target = f"/socket.io/?{POLLING}&sid="
        endless = b"800\r\n" + b"3" * 2048 + b"\r\n"
        for head, part in (
            ("Content-Length: 2049", b"3"),
            ("Content-Length: 999999999999", b"3"),
            ("Transfer-Encoding: chunked", endless),
        ):
            sid = await polling(small, "alice")
            start = f"POST {target}{sid} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
            wire = await connect(small.port)
            wire.write(start + part)
            for _ in range(5):
                if "chunked" in head and not wire.statuses:
                    wire.write(part)
                await asyncio.sleep(0)
            await wire.until(lambda wire=wire: wire.statuses)
            assert wire.statuses == [413]
            assert await post(small, sid, "3") == 400
            wire.end()
            await wire.closed()

    small.run(scenario())
    assert small.left(10) + small.complained() == []


@pytest.mark.parametrize(
    "frames",
    [
        (Frame(TEXT, b"4" + b"x" * 2048),),
        (Frame(BINARY, b"x" * 2049),),
        (Frame(TEXT, b"4" * 2000, fin=False), Frame(CONTINUATION, b"4" * 49)),
        (Frame(TEXT, b"4", claims=2**40, width=9),),
        (Frame(TEXT, b"4", claims=2049),),
    ],
    ids=["text", "binary", "fragments", "claimed", "claimed by one"],
)
def test_a_message_over_the_limit_closes_the_websocket_with_1009(
    small: Target, frames: tuple[Frame, ...]
) -> None:
    async def scenario() -> None:
        wire = await websocket(small, "alice")
        for frame in frames:
            wire.write(frame.encode())
        await wire.until(lambda: wire.close_code)
        assert wire.close_code == 1009
        wire.end()
        assert await wire.closed()

    small.run(scenario())
    assert small.left(10) + small.complained() == []


# --- attachments and namespaces ------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "11", "999", "999999"])
def test_attachments_beyond_the_limit_close_the_socket_before_one_has_come(
    small: Target, count: str
) -> None:
    async def scenario() -> None:
        wire = await websocket(small, "alice")
        wire.write(encoded(f'45{count}-["message",{{"_placeholder":true,"num":0}}]'))
        assert await wire.closed()

    small.run(scenario())
    assert small.left(10) + small.complained() == []


def test_attachments_that_are_claimed_and_never_complete_are_forgotten_with_the_socket(
    suite: Target,
) -> None:
    before = suite.ask("memory")["rss"]

    async def scenario() -> None:
        wires = [await websocket(suite) for _ in range(20)]
        for wire in wires:
            wire.write(encoded("40") + encoded('4510-["message",{"_placeholder":true,"num":0}]'))
            for _ in range(9):
                wire.write(encoded(b"x" * 60_000))
        witness = await witnessed(suite)
        # Ten frames a socket are the most that can be held, and nothing else is taken in between.
        assert suite.ask("memory")["rss"] - before < (20 * 10 * 65_536) * 1.5
        for wire in wires[:10]:
            wire.write(encoded("42" + '["message",1]'))
            assert await wire.closed()
        for wire in wires[10:]:
            wire.end()
            assert await wire.closed()
        await witness.ask()
        await witness.go()

    suite.run(scenario())
    assert suite.left(10) + suite.complained() == []


@pytest.mark.parametrize("kind", ["small", "suite"])
def test_a_socket_that_asks_for_one_namespace_after_another_is_closed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    target: Target = request.getfixturevalue(kind)

    async def scenario() -> None:
        wire = await websocket(target)
        for number in range(50):
            wire.write(encoded(f"40/namespace{number},"))
        assert await wire.closed()
        refusals = [packet for packet in wire.packets if packet.startswith("44/namespace")]
        assert 1 <= len(refusals) < 50

    target.run(scenario())
    assert target.left(10) + target.complained() == []


# --- who has not come in yet ---------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["max_unauthenticated", "max_unauthenticated_per_address"])
def test_sockets_without_connect_are_refused_past_the_limit_until_there_is_room(
    setting: str,
) -> None:
    async def scenario(target: Target) -> None:
        witness = await witnessed(target)  # who is in does not count
        idle = [await websocket(target) for _ in range(3)]
        await polling(target)
        for refused in (
            await ask(target, request("GET", POLLING)),
            await ask(target, HANDSHAKE.format(sid="").encode()),
        ):
            assert refused.statuses == [503]
            assert int(refused.headers[0]["retry-after"]) >= 1
        await witness.ask()
        for wire in idle:
            assert await wire.closed()  # the connect timeout
        while (await ask(target, request("GET", POLLING))).statuses == [503]:
            await asyncio.sleep(0.01)
        await witness.ask()
        await witness.go()

    with Target("chat", connect_timeout=1.0, **{setting: 4}) as target:
        target.warm_up()
        target.run(scenario(target))
        assert target.left(10) + target.complained() == []


@pytest.mark.parametrize("kept_busy_by", [(), ("3",), ("40",), ("40/nope,",)])
def test_nothing_but_an_accepted_connect_puts_the_connect_timeout_off(
    small: Target, kept_busy_by: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        wire, sid = await websocket(small), await polling(small)
        status = 200
        async with asyncio.timeout(10):
            while not wire.ended or status == 200:
                wire.write(b"".join(map(encoded, kept_busy_by)))
                status = await post(small, sid, *(kept_busy_by or ("3",)))
                await asyncio.sleep(0.02)

    small.run(scenario())
    assert small.left(10) + small.complained() == []


# --- raw frames of a user ------------------------------------------------------------------------


def test_a_user_who_floods_over_several_sockets_is_read_slowly_and_disturbs_nobody() -> None:
    each = 400
    budget = {"user_frame_rate": 200.0, "user_frame_burst": 100}

    async def scenario(target: Target) -> None:
        witness = await witnessed(target)
        wires = [await websocket(target, "mallory") for _ in range(3)]
        answers = [0] * len(wires)

        def count(which: int, packet: str) -> None:
            answers[which] += packet.startswith("43")

        for which, wire in enumerate(wires):
            wire.on_packet = lambda packet, which=which: count(which, packet)
            for number in range(each):
                wire.write(encoded(f'42{number}["who",{{"room":"general"}}]'))
        await witness.ask()
        assert sum(answers) < each * len(wires), "the sockets were read as fast as they sent"
        for _ in range(10):
            await witness.ask()
        for which, wire in enumerate(wires):
            assert await wire.until(lambda which=which: answers[which] == each, 30)
            wire.end()
        await witness.go()

    with Target("chat", **budget) as target:
        target.warm_up()
        target.run(scenario(target))
        assert target.left(10) + target.complained() == []


# --- the log -------------------------------------------------------------------------------------


def test_a_bad_client_gets_a_few_lines_of_the_log_however_often_it_comes() -> None:
    junk = ["zzz", "", "4[[[", "42{}", '42["disconnect"]', "40[", '4599-["x"]', "7", "b!", "4" * 40]

    async def scenario(port: int, token: str) -> None:
        for number in range(300):
            wire = await connect(port)
            packets = [junk[number % len(junk)]]
            if number % 2:
                packets.insert(0, "40" + json.dumps({"token": token}))
            wire.write(HANDSHAKE.format(sid="").encode() + b"".join(map(encoded, packets)))
            assert await wire.closed()
            wire = await connect(port)
            wire.write(b"\x16\x03\x01 no HTTP at all\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            assert await wire.closed()

    with child("--dev", "--connect-timeout", "1") as serving:
        port = int(serving.url.rpartition(":")[2])
        asyncio.run(scenario(port, serving.token("mallory")))
        serving.process.terminate()
        serving.end()
    lines = serving.errors.splitlines()
    assert "Traceback" not in serving.errors
    assert len(lines) < 100, lines[:10]
