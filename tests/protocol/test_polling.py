"""Polling bodies: whatever way their bytes arrive, they are read whole, or refused whole."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from tests.protocol.peers import ENGINE, Gone, Polling, ask, connected
from tests.protocol.wire import Line, chunked, head
from tests.protocol.world import Gate, World, strict
from tests.waiting import until


async def waiting(world: World, peer: Polling) -> Line:
    """A poll of this session that waits at the server."""
    line = await world.line()
    await line.send(head("GET", peer.url))
    await until(lambda: world.sessions()[peer.sid].polling)
    return line


@pytest.mark.parametrize("cut", [0, 1, 5, 1000, -1])
async def test_a_body_in_two_segments_is_read_whole(calm: World, cut: int) -> None:
    peer = await Polling.open(calm, ENGINE)
    body = ("4é" + "x" * 3000 + "\x1e4end").encode()
    line = await calm.line()
    await line.send(head("POST", peer.url, body) + body[:cut])
    await asyncio.sleep(0)  # the rest is another write: another segment, on loopback
    await line.send(body[cut:])
    assert (await line.answer()).text == "ok"
    assert await peer.packet() == "4é" + "x" * 3000
    assert await peer.packet() == "4end"


async def test_a_body_that_comes_in_drops_is_read_whole(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    for byte in head("POST", peer.url, "4héllo".encode()) + "4héllo".encode():
        await line.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await line.answer()).text == "ok"
    assert await peer.packet() == "4héllo"


@pytest.mark.parametrize("size", [1, 2, 700, 100_000])
async def test_a_chunked_body_is_read_whole(calm: World, size: int) -> None:
    peer = await Polling.open(calm, ENGINE)
    text = "4" + "é\N{SNOWMAN}" * (30 if size < 10 else 30_000)
    data = text.encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    line = await calm.line()
    await line.send(head("POST", peer.url, b"", [("Transfer-Encoding", "chunked")]))
    for piece in chunked(*pieces).splitlines(keepends=True) if size < 10 else [chunked(*pieces)]:
        await line.send(piece)
    assert (await line.answer()).text == "ok"
    assert await peer.packet() == text


async def test_three_hundred_kilobytes_in_a_body_arrive(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    await peer.send("4" + "x" * 300_000)
    assert await peer.packet() == "4" + "x" * 300_000


async def test_forty_packets_in_a_body_are_forty_messages(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    await peer.send(*(f"4{number}" for number in range(40)))
    assert [await peer.packet() for _ in range(40)] == [f"4{number}" for number in range(40)]


MALFORMED = [
    "abc",
    "",
    "\x1e",
    "4good\x1e",
    "4good\x1eabc",
    "7",
    "9hello",
    "b!!!",
    "bAQ",
    "bAQID BA==",
    "2",
    "2probe",
    "5",
    "6",
    "0{}",
    "\N{FULLWIDTH DIGIT FOUR}hello",
    b"\xff\xfe",
    b"4\xc3",
    b"4\xed\xa0\x80",
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_body_ends_the_session_with_400(calm: World, body: str | bytes) -> None:
    peer = await Polling.open(calm, ENGINE)
    assert (await peer.post(body)).status == 400
    assert (await peer.get()).status == 400
    assert not calm.sessions()


async def test_a_malformed_body_ends_a_poll_that_waits(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await waiting(calm, peer)
    assert (await peer.post("abc")).status == 400
    answer = await line.answer()
    assert (answer.status, answer.text) == (200, "1")


async def test_a_second_poll_ends_the_session_and_the_first_is_told(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await waiting(calm, peer)
    assert (await peer.get()).status == 400
    answer = await line.answer()
    assert (answer.status, answer.text) == (200, "1")
    assert (await peer.get()).status == 400


async def test_a_poll_that_is_cancelled_ends_the_session(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await waiting(calm, peer)
    line.abort()
    assert (await peer.get()).status == 400
    await until(lambda: not calm.sessions())


LIMIT = 10_000


@pytest.mark.parametrize("over", [1, 100, 1_000_000])
async def test_a_body_over_the_limit_is_refused_by_its_length_alone(over: int) -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Polling.open(world, ENGINE)
        line = await world.line()
        length = [("Content-Length", str(LIMIT + over))]
        await line.send(head("POST", peer.url, headers=length) + b"4")
        assert (await line.answer()).status == 413
        assert (await peer.get()).status == 400


async def test_a_chunked_body_over_the_limit_is_refused_before_its_end() -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Polling.open(world, ENGINE)
        line = await world.line()
        await line.send(head("POST", peer.url, b"", [("Transfer-Encoding", "chunked")]))
        await line.send(b"%x\r\n%b\r\n" % (LIMIT + 1, b"4" + b"x" * LIMIT))
        assert (await line.answer()).status == 413
        assert (await peer.get()).status == 400


@pytest.mark.parametrize("filling", ["x", "é"])
async def test_a_body_of_the_limit_is_read_and_the_limit_counts_bytes(filling: str) -> None:
    async with strict(max_http_buffer_size=LIMIT + 1) as world:
        peer = await Polling.open(world, ENGINE)
        text = "4" + filling * (LIMIT // len(filling.encode()))
        await peer.send(text)
        assert await peer.packet() == text
        assert (await peer.post(text + filling)).status == 413


@pytest.mark.parametrize("encoding", ["deflate", "gzip"])
async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(encoding: str) -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Polling.open(world, ENGINE)
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        bomb = packer.compress(b"4" + bytes(5_000_000)) + packer.flush()
        assert len(bomb) < LIMIT
        answer = await peer.post(bomb, **{"Content-Encoding": encoding})
        assert answer.status in (400, 413)
        assert (await peer.get()).status == 400


@pytest.mark.parametrize("encoding", ["deflate", "gzip"])
async def test_a_body_that_cannot_be_unpacked_ends_the_session(calm: World, encoding: str) -> None:
    peer = await Polling.open(calm, ENGINE)
    answer = await peer.post(b"4 this was never packed", **{"Content-Encoding": encoding})
    assert answer.status == 400
    assert (await peer.get()).status == 400


async def test_a_body_that_trickles_is_waited_for_no_longer_than_a_pong() -> None:
    async with strict(ping_interval=60.0, ping_timeout=0.1) as world:
        peer = await Polling.open(world, ENGINE)
        line = await world.line()
        await line.send(head("POST", peer.url, headers=[("Content-Length", "100")]) + b"4half")
        assert (await line.answer()).status == 408
        await until(lambda: not world.sessions())


async def test_a_body_that_never_ends_does_not_hold_the_session(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(head("POST", peer.url, headers=[("Content-Length", "100")]) + b"4half")
    await peer.send("4meanwhile")
    assert await peer.packet() == "4meanwhile"
    line.abort()
    await peer.send("4afterwards")
    assert await peer.packet() == "4afterwards"


async def test_a_second_body_while_one_is_handled_ends_the_session(calm: World) -> None:
    gate = Gate(calm)
    peer = await connected(calm, "polling")
    assert isinstance(peer, Polling)
    posting = asyncio.create_task(peer.post('42["message",1]\x1e42["message",2]'))
    await gate.reached.wait()
    assert (await peer.post('42["message",3]')).status == 400
    gate.open()
    assert (await posting).status in (200, 400)
    await until(lambda: calm.suite.closed)
    assert ("message", [3]) not in calm.suite.events
    assert ("message", [2]) not in calm.suite.events


async def test_half_a_body_is_no_message(calm: World, caplog: pytest.LogCaptureFixture) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(head("POST", peer.url, headers=[("Content-Length", "100")]) + b"4one\x1e4two")
    line.abort()
    try:
        await peer.send("4whole")
        assert await peer.packet() == "4whole"
    except Gone:
        pass
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_poll_that_has_a_body_is_a_poll(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(head("GET", peer.url, b"4ignored") + b"4igno")
    await until(lambda: calm.sessions()[peer.sid].polling)
    await line.send(b"red")
    await peer.send("4hello")
    assert (await line.answer()).text == "4hello"
    await peer.send("4and on")
    assert (await line.request("GET", peer.url)).text == "4and on"


async def test_a_client_may_ask_whether_its_body_is_wanted(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(head("POST", peer.url, b"4hello", [("Expect", "100-continue")]))
    assert (await line.answer()).status == 100
    await line.send(b"4hello")
    assert (await line.answer()).text == "ok"
    assert await peer.packet() == "4hello"


async def test_requests_of_one_connection_are_answered_in_their_order(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    sent = b"".join(head("POST", peer.url, b"4%d" % n) + b"4%d" % n for n in range(5))
    await line.send(sent + head("GET", peer.url))
    assert [(await line.answer()).text for _ in range(5)] == ["ok"] * 5
    assert (await line.answer()).text == "\x1e".join(f"4{number}" for number in range(5))


async def test_a_poll_that_waits_in_a_pipeline_is_cancelled_with_its_connection(
    calm: World,
) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(head("GET", peer.url) + head("POST", peer.url, b"4hello") + b"4hello")
    await until(lambda: calm.sessions()[peer.sid].polling)
    line.abort()
    await until(lambda: not calm.sessions())


async def test_what_is_not_asked_for_compressed_is_not(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    await peer.send("4" + "x" * 5000)
    answer = await ask(calm, "GET", peer.url, **{"Accept-Encoding": "gzip, deflate"})
    assert "content-encoding" not in answer.headers
    assert answer.text == "4" + "x" * 5000
