"""Engine.IO messages there and back, on every transport: what is sent is what arrives."""

from __future__ import annotations

import pytest

from tests.protocol.peers import (
    ENGINE,
    SEPARATOR,
    Polling,
    Socket,
    Way,
    ask,
    every_way,
    session,
    target,
)
from tests.protocol.world import World

TEXTS = [
    "hello",
    "",
    "Grüße, \N{SNOWMAN} und \N{GRINNING FACE}",
    "\x00\x01\x7f",
    "4",
    '"]}',
    "b64?",
    "line\nbreak\r\n",
    "\N{LINE SEPARATOR}\N{ZERO WIDTH NO-BREAK SPACE}",
]


@every_way
@pytest.mark.parametrize("text", TEXTS)
async def test_text_comes_back_as_it_was_sent(calm: World, way: Way, text: str) -> None:
    peer = await session(calm, way, ENGINE)
    await peer.send("4" + text)
    assert await peer.packet() == "4" + text


@every_way
@pytest.mark.parametrize("data", [b"\x01\x02\x03\x04", b"", bytes(range(256)), b"\x1e" * 3])
async def test_bytes_come_back_as_they_were_sent(calm: World, way: Way, data: bytes) -> None:
    peer = await session(calm, way, ENGINE)
    await peer.send(data)
    assert await peer.packet() == data


@every_way
async def test_text_and_bytes_keep_their_order(calm: World, way: Way) -> None:
    peer = await session(calm, way, ENGINE)
    sent: list[str | bytes] = ["4one", b"two", "4three", "4four", b"five"]
    await peer.send(*sent)
    assert [await peer.packet() for _ in sent] == sent


@every_way
async def test_two_hundred_messages_in_one_write_come_back_in_order(calm: World, way: Way) -> None:
    peer = await session(calm, way, ENGINE)
    sent = [f"4{number}" for number in range(200)]
    for start in range(0, 200, 40):
        await peer.send(*sent[start : start + 40])
    assert [await peer.packet() for _ in sent] == sent


@every_way
@pytest.mark.parametrize("filling", ["x", "é", "\N{GRINNING FACE}"])
async def test_200_kilobytes_come_back_whole(calm: World, way: Way, filling: str) -> None:
    peer = await session(calm, way, ENGINE)
    text = "4" + filling * (200_000 // len(filling.encode()))
    await peer.send(text)
    assert await peer.packet() == text
    await peer.send(text.encode())
    assert await peer.packet() == text.encode()


async def test_a_record_separator_within_a_websocket_message_separates_nothing(calm: World) -> None:
    peer = await Socket.open(calm, ENGINE)
    await peer.send("4one\x1e4two")
    assert await peer.packet() == "4one\x1e4two"


async def test_one_body_of_several_packets_is_answered_by_one_of_several(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    for body in ("4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="):
        answer = await peer.post(body)
        assert (answer.status, answer.text) == (200, "ok")
        assert (await peer.get()).text == body


async def test_a_poll_that_waits_is_answered_with_the_next_message(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    line = await calm.line()
    await line.send(f"GET {peer.url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await peer.send("4hello")
    assert (await line.answer()).text == "4hello"


async def test_one_connection_carries_poll_and_post_and_poll(calm: World) -> None:
    line = await calm.line()
    opening = await line.request("GET", target(ENGINE, "polling"))
    where = Polling(calm, ENGINE, opening).url
    for text in ("4one", "4two"):
        assert (await line.request("POST", where, text.encode())).text == "ok"
        assert (await line.request("GET", where)).text == text


async def test_a_poll_takes_no_more_packets_than_every_client_reads(calm: World) -> None:
    # python-engineio's client 4.15.1 drops the connection at more than 16 in one body.
    peer = await Polling.open(calm, ENGINE)
    sent = [f"4{number}" for number in range(40)]
    await peer.send(*sent)
    received: list[str] = []
    while len(received) < 40:
        packets = await peer.poll()
        assert len(packets) <= 16
        received += packets
    assert received == sent


async def test_sessions_do_not_hear_each_other(calm: World) -> None:
    peers = [await session(calm, way, ENGINE) for way in ("polling", "websocket", "upgrade")]
    for number, peer in enumerate(peers):
        await peer.send(f"4{number}")
    assert [await peer.packet() for peer in peers] == ["40", "41", "42"]


async def test_a_message_for_a_session_that_is_gone_is_refused(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    await peer.send("1")
    assert (await ask(calm, "POST", peer.url, "4hello")).status == 400
    assert SEPARATOR not in (await ask(calm, "GET", peer.url)).text
