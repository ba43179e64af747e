"""Hardened: HTTP long-polling with bodies cut, doubled, in pieces, and requests that are none."""

from __future__ import annotations

import asyncio
import contextlib

from chatlab.grade.hardened_peers import SEPARATOR, Gone, Polling
from chatlab.grade.hardened_sizes import limit_of
from chatlab.grade.hardened_trials import closed, enter, hardened, joined, polling
from chatlab.grade.hardened_wire import Door
from chatlab.grade.judge import must
from chatlab.grade.promise import ACKNOWLEDGEMENTS, ERRORS, Broken, Silent
from chatlab.grade.target import Target


@hardened(
    "bad-requests",
    ERRORS,
    "A request that is not Engine.IO's is answered 400.",
    users=0,
)
async def bad_requests(target: Target, door: Door) -> None:
    await polling(door, "mallory")
    path = door.path
    wrong = (
        ("GET", f"{path}?EIO=4", "a request without a transport"),
        ("GET", f"{path}?EIO=4&transport=carrier-pigeon", "a transport that does not exist"),
        ("GET", f"{path}?EIO=3&transport=polling", "an old version of the protocol"),
        ("GET", f"{path}?transport=polling", "no version of the protocol"),
        ("PUT", f"{path}?EIO=4&transport=polling", "PUT"),
        ("POST", f"{path}?EIO=4&transport=polling", "a body without a session"),
        ("GET", f"{path}?EIO=4&transport=websocket", "a websocket that is not asked for"),
    )
    for method, address, what in wrong:
        answer = await door.ask("mallory", method, address)
        must(answer.status == 400, f"{what} should be answered 400, not {answer.status}")
        must("Traceback" not in answer.text, f"the answer to {what} shows the server's inside")


@hardened(
    "bad-body",
    ERRORS,
    "A polling body that does not parse ends its session.",
    users=1,
)
async def bad_body(target: Target, door: Door) -> None:
    for body in ("zzz", "4zzz", "42{}"):
        peer = await enter(target, door, way="polling")
        with contextlib.suppress(ConnectionError):  # nor does it have to be answered
            await peer.post(body)
        ended, _ = await closed(peer)
        must(ended, f"the body {body} should end its session, and it goes on")


@hardened(
    "body-too-long",
    ERRORS,
    "A polling body longer than `maxPayload` is answered 413 and not acked.",
    users=1,
    needs=("join-acked",),
)
async def body_too_long(target: Target, door: Door) -> None:
    peer = await enter(target, door, way="polling")
    event = f'4276["join-room","{target.room()}"]'
    try:
        answer = await peer.post(event + " " * (limit_of(peer) + 1 - len(event)))
    except TimeoutError:
        raise Silent("a body that is too long should be answered 413, and never was") from None
    must(answer.status == 413, f"a body that is too long: 413 was due, not {answer.status}")
    with contextlib.suppress(Gone):
        await peer.call("join-room", target.room())
    must(not peer.answered(76), "a body that is too long should not be parsed, and was acked")


@hardened(
    "many-packets-in-a-body",
    ACKNOWLEDGEMENTS,
    "Twenty packets in one polling body are all handled, each acked.",
    users=1,
    needs=("join-acked",),
)
async def many_packets(target: Target, door: Door) -> None:
    peer = await enter(target, door, way="polling")
    numbers, answered = range(100, 120), 0
    room = target.room()
    await peer.send(*(f'42{number}["join-room","{room}"]' for number in numbers))
    with contextlib.suppress(TimeoutError, Gone):
        for number in numbers:
            await peer.ack(number)
            answered += 1
    # A server may answer those over its rate by an event instead.
    told = sum(event[0] == "error" for event in peer.events)
    must(
        answered + told >= len(numbers),
        f"each of twenty events in one body should be answered, and {answered + told} were",
    )


@hardened(
    "body-in-pieces",
    ACKNOWLEDGEMENTS,
    "A polling body that comes in several segments, or chunked, is read to its end.",
    users=1,
    needs=("join-acked",),
)
async def body_in_pieces(target: Target, door: Door) -> None:
    peer = await enter(target, door, way="polling")
    body = f'4277["join-room","{target.room()}"]'.encode()
    line = await door.line("alice")
    await line.send(line.head("POST", peer.url, body, peer.headers) + body[:10])
    await asyncio.sleep(0.05)
    await line.send(body[10:])
    answer = await line.answer()
    must(answer.status == 200, f"a body in two segments should be taken, not {answer.status}")
    await _acked(peer, 77, "an event whose body came in two segments")
    body = f'4278["join-room","{target.room()}"]'.encode()
    await line.send(
        line.head("POST", peer.url, body, [("Transfer-Encoding", "chunked"), *peer.headers])
    )
    for piece in (body[:10], body[10:], b""):
        await line.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(0.02)
    answer = await line.answer()
    must(answer.status == 200, f"a chunked body should be taken, not {answer.status}")
    await _acked(peer, 78, "an event whose body was chunked")


async def _acked(peer: Polling, number: int, what: str) -> None:
    try:
        await peer.ack(number)
    except (TimeoutError, Gone):
        raise Broken(f"{what} was answered 200 and should be acked, but was lost") from None


@hardened(
    "half-a-body",
    ACKNOWLEDGEMENTS,
    "A polling body whose connection breaks off is no message.",
    needs=("delivered",),
)
async def half_a_body(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    peer = await joined(target, door, room, 1, way="polling")
    line = await door.line("bob")
    body = b'4281["send-message",{"text":"cut"}]' + SEPARATOR.encode() + b'42["send-mess'
    await line.send(
        line.head("POST", peer.url, headers=[("Content-Length", "999"), *peer.headers]) + body
    )
    await asyncio.sleep(0.05)
    line.abort()
    with contextlib.suppress(Gone, TimeoutError):
        await peer.call("send-message", {"text": "whole"})
    await witness.call("join-room", room)
    must("cut" not in witness.texts(), "half a body should be no message, and was delivered")


@hardened(
    "two-polls",
    ERRORS,
    "A second poll while one waits is answered 400.",
    users=1,
)
async def two_polls(target: Target, door: Door) -> None:
    peer = await enter(target, door, way="polling")
    first, second = await door.line("alice"), await door.line("alice")
    await first.send(first.head("GET", peer.url, headers=peer.headers))
    await asyncio.sleep(0.1)
    try:
        answer = await second.request("GET", peer.url, headers=peer.headers)
    except TimeoutError:
        raise Broken(
            "a second poll should be refused at once, and waits beside the first"
        ) from None
    must(answer.status == 400, f"a second poll should be answered 400, not {answer.status}")


@hardened(
    "poll-ends-with-session",
    ACKNOWLEDGEMENTS,
    "A poll that waits is answered when its session ends.",
    users=1,
)
async def poll_ends_with_session(target: Target, door: Door) -> None:
    peer = await enter(target, door, way="polling")
    line = await door.line("alice")
    await line.send(line.head("GET", peer.url, headers=peer.headers))
    await asyncio.sleep(0.05)
    await peer.post("1")
    try:
        await line.answer()
    except TimeoutError:
        raise Broken("a poll should be answered when its session ends, and waits on") from None
    except ConnectionError:
        return


@hardened(
    "cut-poll",
    ACKNOWLEDGEMENTS,
    "A poll whose connection breaks off ends its session or loses nothing.",
    needs=("delivered",),
)
async def cut_poll(target: Target, door: Door) -> None:
    room = target.room()
    talker = await joined(target, door, room, 0)
    peer = await joined(target, door, room, 1, way="polling")
    line = await door.line("bob")
    await line.send(line.head("GET", peer.url, headers=peer.headers))
    await asyncio.sleep(0.1)
    line.abort()
    await asyncio.sleep(0.1)
    await talker.call("send-message", {"text": "into the cut"})
    await talker.call("send-message", {"text": "behind it"})
    try:
        while "behind it" not in peer.texts():
            await peer.packet()
    except Gone:
        return
    must(
        "into the cut" in peer.texts(),
        "after a cut poll the session went on as if nothing were, and a message was lost",
    )
