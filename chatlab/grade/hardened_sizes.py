"""Hardened: how much a frame or a body may hold, however it is sent or packed."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from chatlab.grade.hardened_peers import Gone, Peer, Socket
from chatlab.grade.hardened_trials import closed, enter, hardened, must_close
from chatlab.grade.hardened_websocket import CONTINUATION, TEXT, frame, packed
from chatlab.grade.hardened_wire import Door
from chatlab.grade.judge import must
from chatlab.grade.promise import ERRORS, NotJudged
from chatlab.grade.target import Target

PROTOCOL_ERROR, TOO_BIG = 1002, 1009
LIMIT: Final = 65_536  # bytes of a frame: the contract's


def limit_of(peer: Peer) -> int:
    """The longest message that the server says it takes. Raises `NotJudged` without one."""
    limit = peer.handshake.get("maxPayload")
    if not isinstance(limit, int) or not 0 < limit <= 16_000_000:
        raise NotJudged(f"the handshake announces maxPayload as {limit!r}")
    return limit


@hardened(
    "size-limit",
    ERRORS,
    "The server takes no frame over 64 KB, and says so as `maxPayload` of its handshake.",
    users=0,
)
async def size_limit(target: Target, door: Door) -> None:
    peer = await Socket.open(door, "mallory")
    limit: Any = peer.handshake.get("maxPayload")
    must(isinstance(limit, int), f"the handshake should name maxPayload in bytes, not {limit!r}")
    must(limit <= LIMIT, f"maxPayload should be at most {LIMIT} bytes, and is {limit}")


@hardened(
    "frame-too-long",
    ERRORS,
    "A frame longer than `maxPayload` is neither parsed nor acked: the websocket closes with 1009.",
    users=1,
)
async def frame_too_long(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    limit, room = limit_of(peer), target.room()
    event = f'4275["join-room","{room}"]'
    event += " " * (limit + 1 - len(event))  # JSON all the same
    with contextlib.suppress(ConnectionError):  # it may be refused before it is read to its end
        await peer.ws.send_frames(frame(TEXT, event.encode()), told=f"{len(event)} bytes: {event}")
    await _must_be_refused(peer, "a frame that is too long")
    # The length alone is enough: nothing behind it has to be waited for.
    other = await enter(target, door)
    long = frame(TEXT, b"4" * (limit + 1))[:14]
    await other.ws.send_frames(long, told=f"the first bytes of a frame of {limit + 1}")
    await must_close(other, "a frame that announces too great a length", code=TOO_BIG)


@hardened(
    "fragments-too-long",
    ERRORS,
    "Fragments are counted together: past `maxPayload` the websocket closes with 1009.",
    users=1,
)
async def fragments_too_long(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    limit = limit_of(peer)
    event = f'4275["join-room","{target.room()}"]'.encode()
    step = limit // 4
    pieces = [event, *[b" " * step] * 4]
    last = len(pieces) - 1
    frames = [
        frame(CONTINUATION if number else TEXT, piece, final=number == last)
        for number, piece in enumerate(pieces)
    ]
    total = sum(map(len, pieces))
    with contextlib.suppress(ConnectionError):
        await peer.ws.send_frames(*frames, told=f"an event in five fragments, {total} bytes")
    await _must_be_refused(peer, "a message whose fragments are too long together")


async def _must_be_refused(peer: Socket, what: str) -> None:
    ended, code = await closed(peer)
    must(not peer.answered(75), f"{what} should not be parsed, and was acked")
    must(ended, f"{what} should close the websocket, and did not")
    # What is still on its way may cut the connection before the close can be read.
    must(code in (TOO_BIG, None), f"{what} should close the websocket with {TOO_BIG}, not {code}")


@hardened(
    "compression-bomb",
    ERRORS,
    "A small frame that unpacks to more than `maxPayload` is refused.",
    users=0,
)
async def compression_bomb(target: Target, door: Door) -> None:
    alone = "server_no_context_takeover; client_no_context_takeover"
    offer = [("Sec-WebSocket-Extensions", f"permessage-deflate; {alone}")]
    peer = await Socket.open(door, "mallory", headers=offer)
    bomb = packed(b"4" + bytes(min(limit_of(peer) * 40, 64_000_000)))
    agreed = peer.ws.agreed is not None and "permessage-deflate" in peer.ws.agreed
    peer.ws.note("←", f"Sec-WebSocket-Extensions: {peer.ws.agreed or '(none)'}")
    if agreed and len(bomb) > limit_of(peer):
        raise NotJudged("the bomb would be refused for its own length")
    code = TOO_BIG if agreed else PROTOCOL_ERROR
    what = f"a frame of {len(bomb)} bytes that unpacks to {40 * limit_of(peer)}"
    with contextlib.suppress(Gone, ConnectionError):
        await peer.ws.send_frames(frame(TEXT, bomb, reserved=4), told=what)
    await must_close(peer, what, code=code)
