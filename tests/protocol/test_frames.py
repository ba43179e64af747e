"""Websocket frames by hand: fragments, control frames, closes, sizes and compression.

Every fault that a frame can have is tried by the fuzzers beside this folder; here are those that
decide how a socket goes on or ends.
"""

from __future__ import annotations

import asyncio
import zlib
from itertools import pairwise

import pytest

from tests.protocol.peers import ENGINE, Socket, target
from tests.protocol.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    deflate,
    frame,
    inflate,
    whole,
)
from tests.protocol.world import World, strict
from tests.waiting import until

LIMIT = 10_000
OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
DEFLATED_END = b"\x00\x00\xff\xff"  # which RFC 7692 leaves out
PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009


async def test_a_message_in_fragments_is_one_message(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    text = "4Grüße \N{GRINNING FACE}".encode()
    for cuts in ([3], [1, 2, 3], [0, len(text)], [5, 6, 7, 12], list(range(1, len(text)))):
        edges = [0, *cuts, len(text)]
        pieces = [text[one:two] for one, two in pairwise(edges)]
        last = len(pieces) - 1
        for number, piece in enumerate(pieces):
            kind = CONTINUATION if number else TEXT
            await peer.ws.line.send(frame(kind, piece, final=number == last))
        assert await peer.packet() == text.decode()


async def test_a_binary_message_in_fragments_is_one_message(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(BINARY, b"\x00\xff", final=False))
    await peer.ws.line.send(frame(CONTINUATION, b"", final=False))
    await peer.ws.line.send(frame(CONTINUATION, b"\x01"))
    assert await peer.packet() == b"\x00\xff\x01"


async def test_a_ping_is_answered_at_once_even_within_a_fragmented_message(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(TEXT, b"4one ", final=False) + frame(PING, b"are you there"))
    assert await peer.ws.frame() == Frame(PONG, b"are you there", True, False)
    await peer.ws.line.send(frame(CONTINUATION, b"two"))
    assert await peer.packet() == "4one two"


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
async def test_a_ping_of_any_length_is_answered_with_its_payload(
    calm: World, payload: bytes
) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(PING, payload))
    assert await peer.ws.frame() == Frame(PONG, payload, True, False)


async def test_a_pong_that_nobody_asked_for_is_ignored(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(PONG, b"hello?"))
    await peer.send("4hello")
    assert await peer.packet() == "4hello"


async def test_frames_may_come_byte_by_byte_or_all_in_one_segment(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    for byte in whole("4" + "é" * 100):
        await peer.ws.line.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await peer.packet() == "4" + "é" * 100
    await peer.ws.line.send(b"".join(whole(f"4{number}") for number in range(50)))
    assert [await peer.packet() for _ in range(50)] == [f"4{number}" for number in range(50)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
async def test_every_way_of_writing_a_length_is_read_and_written(calm: World, size: int) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.send(b"x" * size)
    assert await peer.packet() == b"x" * size


async def test_masks_are_looked_for_wherever_a_frame_is_cut(calm: World) -> None:
    sizes = (5, 125, 126, 300, 65_535, 70_000)
    wrong = frame(TEXT, b"4unmasked", masked=False)
    # Small frames by the byte, long ones in greater pieces.
    for step, count in ((1, 4), (2, 4), (3, 4), (7, 4), (1000, 6), (65_536, 6)):
        peer = await Socket.open(calm, ENGINE)
        sent = b"".join(frame(TEXT, b"4" + b"x" * size) for size in sizes[:count])
        for start in range(0, len(sent), step):
            await peer.ws.line.send(sent[start : start + step])
            await asyncio.sleep(0)
        for size in sizes[:count]:
            assert await peer.packet() == "4" + "x" * size
        for byte in wrong:
            await peer.ws.line.send(bytes([byte]))
        assert await peer.ended() == PROTOCOL_ERROR


FAULTS = [
    (frame(TEXT, b"4hello", reserved=1), PROTOCOL_ERROR),
    (frame(TEXT, b"4hello", reserved=4), PROTOCOL_ERROR),
    (frame(0x3, b"4hello"), PROTOCOL_ERROR),
    (frame(0xB, b""), PROTOCOL_ERROR),
    (frame(CONTINUATION, b"4hello"), PROTOCOL_ERROR),
    (frame(TEXT, b"4a", final=False) + frame(TEXT, b"4b"), PROTOCOL_ERROR),
    (frame(PING, b"", final=False), PROTOCOL_ERROR),
    (frame(PING, b"x" * 126), PROTOCOL_ERROR),
    (frame(TEXT, b"4hello", masked=False), PROTOCOL_ERROR),
    (frame(TEXT, b"4hello") + frame(TEXT, b"4" * 200, masked=False), PROTOCOL_ERROR),
    (frame(TEXT, b"4" * 300) + frame(PING, b"", masked=False), PROTOCOL_ERROR),
    (frame(CLOSE, b"x"), PROTOCOL_ERROR),
    (frame(CLOSE, (999).to_bytes(2, "big")), PROTOCOL_ERROR),
    (frame(TEXT, b"4\xff"), INVALID_TEXT),
    (frame(TEXT, b"4\xed\xa0\x80"), INVALID_TEXT),
    (frame(TEXT, b"4\xc3"), INVALID_TEXT),
]


@pytest.mark.parametrize(("sent", "code"), FAULTS, ids=[str(each[0][:8]) for each in FAULTS])
async def test_a_frame_that_breaks_the_websocket_protocol_closes_with_its_code(
    calm: World, sent: bytes, code: int
) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(sent)
    assert await peer.ended() == code
    await until(lambda: not calm.sessions())


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_close_is_answered_with_a_close_and_the_end(calm: World, code: int) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(CLOSE, code.to_bytes(2, "big") + b"bye"))
    assert await peer.ended() in (code, 1000)
    assert await peer.ws.frame() is None
    assert not calm.sessions()


async def test_a_close_without_a_code_is_a_close(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(CLOSE, b""))
    await peer.ended()
    await until(lambda: not calm.sessions())


async def test_nothing_after_a_close_is_heard(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.ws.line.send(frame(CLOSE, b"") + whole("4hello"))
    while (answer := await peer.ws.frame()) is not None:
        assert answer.opcode == CLOSE


async def test_a_connection_that_just_ends_ends_the_session(calm: World) -> None:
    for ending in ("abort", "half"):
        peer = await Socket.open(calm, ENGINE)
        await peer.ws.line.send(frame(TEXT, b"4half a message", final=False)[:7])
        if ending == "abort":
            peer.ws.line.abort()
        else:
            peer.ws.line.writer.write_eof()
        await until(lambda: not calm.sessions())


@pytest.mark.parametrize("kind", [TEXT, BINARY])
async def test_a_frame_over_the_limit_is_refused_by_its_length_alone(kind: int) -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Socket.open(world, ENGINE)
        await peer.ws.line.send(frame(kind, b"4" + b"x" * LIMIT)[:20])
        assert await peer.ended() == TOO_BIG
        await until(lambda: not world.sessions())


async def test_fragments_are_counted_together_against_the_limit() -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Socket.open(world, ENGINE)
        await peer.ws.line.send(frame(TEXT, b"4" + b"x" * (LIMIT // 2), final=False))
        await peer.ws.line.send(frame(CONTINUATION, b"x" * (LIMIT // 2)))
        assert await peer.ended() == TOO_BIG


async def test_endless_fragments_are_refused_at_the_limit() -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Socket.open(world, ENGINE)
        await peer.ws.line.send(frame(TEXT, b"4", final=False))
        for _ in range(11):
            await peer.ws.line.send(frame(CONTINUATION, b"x" * 1000, final=False))
        assert await peer.ended() == TOO_BIG


async def test_a_message_of_the_limit_is_read_and_one_byte_more_is_not() -> None:
    async with strict(max_http_buffer_size=LIMIT) as world:
        peer = await Socket.open(world, ENGINE)
        await peer.send("4" + "x" * (LIMIT - 1))
        assert await peer.packet() == "4" + "x" * (LIMIT - 1)
        half = (LIMIT - 1) // 2
        await peer.ws.line.send(frame(TEXT, b"4" + b"y" * half, final=False))
        await peer.ws.line.send(frame(CONTINUATION, b"y" * half))
        assert await peer.packet() == "4" + "y" * (2 * half)
        await peer.send("4" + "x" * LIMIT)
        assert await peer.ended() == TOO_BIG


async def test_compression_is_off_although_it_is_offered(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE, headers=OFFER)
    assert peer.ws.agreed is None
    await peer.send("4" + "x" * 5000)
    answer = await peer.ws.frame()
    assert answer == Frame(TEXT, b"4" + b"x" * 5000, True, False)
    await peer.ws.line.send(frame(TEXT, deflate(b"4hello"), reserved=4))
    assert await peer.ended() == PROTOCOL_ERROR


async def test_compression_can_be_switched_on() -> None:
    async with strict(compression=True) as world:
        peer = await Socket.open(world, ENGINE, headers=OFFER)
        assert peer.ws.agreed is not None
        assert peer.ws.agreed.startswith("permessage-deflate")
        await peer.ws.line.send(frame(TEXT, deflate(b"4" + b"x" * 5000), reserved=4))
        answer = await peer.ws.frame()
        assert answer is not None
        payload = inflate(answer.payload) if answer.compressed else answer.payload
        assert payload == b"4" + b"x" * 5000
        assert answer.compressed
        # One who does not offer it is served without.
        plain = await Socket.open(world, ENGINE)
        assert plain.ws.agreed is None
        await plain.send("4" + "x" * 5000)
        assert await plain.packet() == "4" + "x" * 5000


async def test_a_window_is_kept_over_messages_unless_the_client_forbids_it() -> None:
    async with strict(compression=True) as world:
        peer = await Socket.open(world, ENGINE, headers=OFFER)
        window = zlib.decompressobj(wbits=-15)
        for _ in range(3):
            await peer.send("4" + "hello " * 100)
            answer = await peer.ws.frame()
            assert answer is not None
            payload = window.decompress(answer.payload + DEFLATED_END)
            assert payload == b"4" + b"hello " * 100
        forbidding = [(OFFER[0][0], "permessage-deflate; server_no_context_takeover")]
        peer = await Socket.open(world, ENGINE, headers=forbidding)
        assert "server_no_context_takeover" in str(peer.ws.agreed)
        for _ in range(3):
            await peer.send("4" + "hello " * 100)
            assert await peer.packet() == "4" + "hello " * 100  # each unpacked by itself


async def test_a_small_frame_that_unpacks_to_a_large_one_is_refused() -> None:
    async with strict(compression=True, max_http_buffer_size=LIMIT) as world:
        peer = await Socket.open(world, ENGINE, headers=OFFER)
        bomb = deflate(b"4" + bytes(5_000_000))
        assert len(bomb) < LIMIT
        await peer.ws.line.send(frame(TEXT, bomb, reserved=4))
        assert await peer.ended() == TOO_BIG
        await until(lambda: not world.sessions())


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-WebSocket-Version", "8")],
        [("Sec-WebSocket-Key", "short")],
        [("Sec-WebSocket-Key", "")],
    ],
)
async def test_a_websocket_handshake_that_is_wrong_opens_no_session(
    calm: World, headers: list[tuple[str, str]]
) -> None:
    asked = dict(
        [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
         ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), *headers]
    )  # fmt: skip
    line = await calm.line()
    answer = await line.request("GET", target(ENGINE, "websocket"), headers=asked.items())
    assert answer.status in (400, 426)
    assert not calm.sessions()


async def test_frames_that_come_with_the_handshake_are_read(calm: World) -> None:
    line = await calm.line()
    asked = (
        f"GET {target(ENGINE, 'websocket')} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await line.send(asked.encode() + whole("4early") + whole("4bird"))
    answer = await line.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    ws = WebSocket(line, None)
    assert str(await ws.message()).startswith("0")
    assert [await ws.message(), await ws.message()] == ["4early", "4bird"]
