"""Hardened: websocket frames (RFC 6455), whole, in pieces, and such as nobody may send."""

from __future__ import annotations

import asyncio
from typing import Final

from chatlab.grade.hardened_peers import Socket
from chatlab.grade.hardened_trials import enter, hardened, must_close
from chatlab.grade.hardened_websocket import CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from chatlab.grade.hardened_wire import Door
from chatlab.grade.judge import is_yes, must
from chatlab.grade.promise import ACKNOWLEDGEMENTS, ERRORS, Broken
from chatlab.grade.target import Target

PROTOCOL_ERROR, INVALID_TEXT = 1002, 1007


@hardened(
    "frames-in-pieces",
    ACKNOWLEDGEMENTS,
    "A message in fragments, or whose bytes come one by one, is one message.",
    users=1,
    needs=("join-acked",),
)
async def frames_in_pieces(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    text = f'42["join-room","{target.room()}"]'
    pieces = list(text.replace("42", "4271", 1).encode())
    kinds = [TEXT] + [CONTINUATION] * (len(pieces) - 1)
    last = len(pieces) - 1
    frames = [
        frame(kind, bytes([piece]), final=number == last)
        for number, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    ]
    await peer.ws.send_frames(*frames, told=f"{text}, in fragments of a byte")
    must(is_yes(await peer.ack(71)), "an event in fragments should be handled as a whole one")
    whole = frame(TEXT, text.replace("42", "4272", 1).encode())
    peer.ws.note("→", f"{text}, a byte at a time")
    for byte in whole:
        await peer.ws.line.send(bytes([byte]))
        await asyncio.sleep(0)
    must(is_yes(await peer.ack(72)), "an event that trickles should be handled as a whole one")


@hardened(
    "websocket-ping",
    ACKNOWLEDGEMENTS,
    "A websocket ping is answered with its payload, even within a fragmented message.",
    users=1,
    needs=("join-acked",),
)
async def websocket_ping(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    event = f'4273["join-room","{target.room()}"]'.encode()
    await peer.ws.send_frames(
        frame(TEXT, event[:9], final=False),
        frame(PING, b"are you there"),
        told="the first half of an event, and a websocket ping",
    )
    while (got := await peer.ws.frame()) is not None and got.opcode == TEXT:
        pass
    if got is None or got.opcode != PONG:
        raise Broken("a websocket ping between two fragments should be answered by a pong")
    must(got.payload == b"are you there", "a pong should bear the payload of its ping")
    await peer.ws.send_frames(frame(CONTINUATION, event[9:]), told="the second half")
    must(is_yes(await peer.ack(73)), "the event around the ping should be handled")


@hardened(
    "closing-handshake",
    ACKNOWLEDGEMENTS,
    "A websocket close is answered by a close, and nothing after it is heard.",
    users=1,
)
async def closing_handshake(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    await peer.ws.send_frames(
        frame(CLOSE, (1000).to_bytes(2, "big") + b"bye"),
        frame(TEXT, f'4274["join-room","{target.room()}"]'.encode()),
        told="(closes with 1000), and an event behind it",
    )
    got = await peer.ws.frame()
    while got is not None and got.opcode == TEXT:
        must(not got.payload.startswith(b"4374"), "an event behind a close should not be heard")
        got = await peer.ws.frame()
    must(got is not None, "a websocket close should be answered by a close, not by cutting")
    must(await peer.ws.frame() is None, "after both have closed the connection should end")


FAULTS: Final = (
    ("a frame with a reserved bit", [frame(TEXT, b"40", reserved=1)]),
    ("a frame of an unknown kind", [frame(0x3, b"40")]),
    ("a control frame of an unknown kind", [frame(0xB, b"")]),
    ("a continuation of nothing", [frame(CONTINUATION, b"40")]),
    (
        "a new message within a fragmented one",
        [frame(TEXT, b"4", final=False), frame(TEXT, b"40")],
    ),
    ("a fragmented control frame", [frame(PING, b"", final=False)]),
    ("a control frame of 126 bytes", [frame(PING, b"x" * 126)]),
    ("a close with half a code", [frame(CLOSE, b"x")]),
    ("a close with the code 999", [frame(CLOSE, (999).to_bytes(2, "big"))]),
)


@hardened(
    "frame-faults",
    ERRORS,
    "A frame that breaks the websocket protocol closes the socket with 1002.",
    users=0,
)
async def frame_faults(target: Target, door: Door) -> None:
    for what, frames in FAULTS:
        await _must_close_with(door, what, frames, PROTOCOL_ERROR)


@hardened(
    "unmasked-frame",
    ERRORS,
    "A client's frame that is not masked closes the socket with 1002.",
    users=0,
)
async def unmasked_frame(target: Target, door: Door) -> None:
    await _must_close_with(
        door, "a frame without a mask", [frame(TEXT, b"40", masked=False)], PROTOCOL_ERROR
    )


@hardened("bad-utf8", ERRORS, "Text that is not UTF-8 closes the socket with 1007.", users=0)
async def bad_utf8(target: Target, door: Door) -> None:
    for text in (b"4\xff", b"4\xed\xa0\x80", b"4\xc3"):
        what = f"a text frame of the bytes {text.hex(' ')}"
        await _must_close_with(door, what, [frame(TEXT, text)], INVALID_TEXT)


async def _must_close_with(door: Door, what: str, frames: list[bytes], code: int) -> None:
    peer = await Socket.open(door, "mallory")
    await peer.ws.send_frames(*frames, told=what)
    await must_close(peer, what, code=code)
    peer.abort()
