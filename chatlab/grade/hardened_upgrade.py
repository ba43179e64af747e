"""Hardened: from polling to a websocket, while messages come and go on both."""

from __future__ import annotations

import asyncio
import contextlib

from chatlab.grade.hardened_peers import SEPARATOR, Gone, Peer, Polling, Socket, endpoint
from chatlab.grade.hardened_trials import closed, hardened, joined
from chatlab.grade.hardened_websocket import WebSocket
from chatlab.grade.hardened_wire import Answer, Door, Refused
from chatlab.grade.judge import is_yes, must
from chatlab.grade.promise import ACKNOWLEDGEMENTS, AUTHENTICATION, Broken, NotJudged
from chatlab.grade.target import Target


async def upgradable(target: Target, door: Door, room: str, user: int) -> Polling:
    """A polling session in `room` that may go on by websocket. Raises `NotJudged`."""
    peer: Polling = await joined(target, door, room, user, way="polling")
    if "websocket" not in peer.handshake.get("upgrades", ()):
        raise NotJudged("the server offers no upgrade from polling to websocket")
    return peer


@hardened(
    "upgrade-keeps-order",
    ACKNOWLEDGEMENTS,
    "What is sent to a client during its upgrade arrives once and in order.",
    needs=("delivered",),
)
async def upgrade_keeps_order(target: Target, door: Door) -> None:
    room = target.room()
    talker = await joined(target, door, room, 0)
    peer = await upgradable(target, door, room, 1)
    said: list[str] = []

    async def say() -> None:
        said.append(f"tick {len(said)}")
        await talker.call("send-message", {"text": said[-1]})

    await say()
    await say()
    # The poll that waits when the websocket comes, as the official client has one.
    polls = asyncio.create_task(_poll_on(peer))
    await say()
    ws = await WebSocket.open(
        door, "bob", endpoint(door, "websocket", peer.handshake["sid"]), peer.headers
    )
    await say()
    await ws.send("2probe")
    answer = await ws.frame()
    must(answer is not None and answer.payload == b"3probe", "a probe should be answered")
    ws.note("←", "3probe")
    await say()
    await asyncio.wait({polls}, timeout=target.timeout)
    must(polls.done(), "the poll that waits should be answered when the upgrade begins")
    await say()
    await ws.send("5")
    socket = peer.on(ws)
    await say()
    await say()
    with contextlib.suppress(TimeoutError, Gone):
        while said[-1] not in socket.texts():
            await socket.packet()
    heard = socket.texts()
    lost = [text for text in said if text not in heard]
    must(not lost, f"messages sent during an upgrade were lost: {', '.join(lost)}")
    twice = [text for text in said if heard.count(text) > 1]
    must(not twice, f"messages sent during an upgrade came twice: {', '.join(twice)}")
    must(heard == said, "messages sent during an upgrade came in another order")


async def _poll_on(peer: Polling) -> None:
    """Poll as long as polls bring anything: a NOOP says that the upgrade has begun."""
    while True:
        try:
            answer = await peer.get()
        except TimeoutError:
            continue
        except ConnectionError:
            return
        if answer.status != 200:
            return
        packets = answer.text.split(SEPARATOR)
        for packet in packets:
            if packet == "2":
                await peer.send("3")
            peer.keep(packet)
        if "6" in packets:
            return


@hardened(
    "upgrade-keeps-order-of-sends",
    ACKNOWLEDGEMENTS,
    "What a client posts before its upgrade is handled before what it sends after.",
    needs=("delivered",),
)
async def upgrade_keeps_order_of_sends(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    peer = await upgradable(target, door, room, 1)
    said = ["posted", "posted during the probe", "sent at once", "sent after"]
    await peer.ask("send-message", {"text": said[0]})
    ws = await peer.probe()
    await peer.ask("send-message", {"text": said[1]})
    await ws.send("5", f'4290["send-message",{{"text":"{said[2]}"}}]')
    socket = peer.on(ws)
    must(
        is_yes(await socket.call("send-message", {"text": said[3]})),
        "after an upgrade the session should go on",
    )
    with contextlib.suppress(TimeoutError):
        while said[-1] not in witness.texts():
            await witness.packet()
    heard = witness.texts()
    must(heard == said, f"sent around an upgrade: {said}; what arrived: {heard}")


@hardened(
    "upgraded-is-no-polling",
    ACKNOWLEDGEMENTS,
    "After the upgrade polling requests of the session are refused and change nothing.",
    users=1,
    needs=("join-acked",),
)
async def upgraded_is_no_polling(target: Target, door: Door) -> None:
    room = target.room()
    peer = await upgradable(target, door, room, 0)
    socket = await peer.upgraded()
    must(is_yes(await socket.call("join-room", room)), "after an upgrade it should go on")
    for answer, what in (
        (await peer.post(f'4279["join-room","{room}"]'), "a body"),
        (await _at_once(peer), "a poll"),
    ):
        status = "nothing" if answer is None else answer.status
        must(status == 400, f"{what} after the upgrade should be answered 400, not {status}")
    must(is_yes(await socket.call("join-room", room)), "the websocket should go on all the same")
    must(not socket.answered(79), "a body after the upgrade should not be handled")


async def _at_once(peer: Polling) -> Answer | None:
    try:
        return await peer.get()
    except TimeoutError:
        return None


@hardened(
    "one-websocket",
    AUTHENTICATION,
    "A second websocket for a session takes nothing over.",
    users=1,
    needs=("join-acked",),
)
async def one_websocket(target: Target, door: Door) -> None:
    room = target.room()
    peer = await joined(target, door, room, 0)
    try:
        ws = await WebSocket.open(
            door, "mallory", endpoint(door, "websocket", peer.handshake["sid"]), peer.headers
        )
    except Refused:
        pass
    else:
        other = Socket(door, "mallory", ws, peer.handshake)
        with contextlib.suppress(Gone):
            await other.send("2probe", "5", f'4279["join-room","{room}"]')
        ended, _ = await closed(other)
        must(not other.answered(79), "a second websocket should not speak for the session")
        must(ended, "a second websocket for a session should be closed, and stays open")
    must(is_yes(await peer.call("join-room", room)), "the first websocket should go on")


@hardened(
    "upgrade-that-fails",
    ACKNOWLEDGEMENTS,
    "An upgrade that breaks off leaves its session polling, with all that was sent to it.",
    needs=("delivered",),
)
async def upgrade_that_fails(target: Target, door: Door) -> None:
    room = target.room()
    talker = await joined(target, door, room, 0)
    peer = await upgradable(target, door, room, 1)
    ws = await peer.probe()
    await talker.call("send-message", {"text": "into the gap"})
    ws.line.abort()
    await talker.call("send-message", {"text": "behind it"})
    await _hear(peer, "behind it")
    must(
        peer.texts() == ["into the gap", "behind it"],
        f"two messages were sent around an upgrade that failed; what arrived: {peer.texts()}",
    )
    must(
        is_yes(await peer.call("join-room", room)),
        "after an upgrade that failed the session should go on polling",
    )


async def _hear(peer: Peer, text: str) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + peer.door.patience
    while text not in peer.texts():
        try:
            # Polls are answered with NOOPs until the server has noticed.
            if await peer.packet(max(0.01, end - loop.time())) == "6":
                await asyncio.sleep(0.05)
        except Gone:
            raise Broken("an upgrade that broke off should leave its session polling") from None
        if loop.time() > end:
            return
