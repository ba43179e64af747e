"""Hardened: how sessions are watched, bounded and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from chatlab.grade.hardened_peers import Gone, Socket, endpoint
from chatlab.grade.hardened_trials import enter, gone_from, hardened, joined
from chatlab.grade.hardened_websocket import TEXT, frame
from chatlab.grade.hardened_wire import Door, Refused
from chatlab.grade.judge import is_yes, must
from chatlab.grade.promise import (
    ACKNOWLEDGEMENTS,
    RATE_LIMITING,
    SCALING,
    Broken,
    NotJudged,
    Unready,
)
from chatlab.grade.target import Target

LONGEST_WAIT: Final = 90.0  # seconds that a promise about pings may take
AT_ONCE: Final = 32  # connections that are made together
UNAUTHENTICATED: Final = 256  # sessions of one address that nobody needs to hold open


def heartbeat(peer: Socket) -> tuple[float, float]:
    """The ping interval and timeout that were announced, in seconds. Raises `Broken`."""
    told = [peer.handshake.get(name) for name in ("pingInterval", "pingTimeout")]
    if not all(isinstance(each, (int, float)) and each > 0 for each in told):
        raise Broken(f"pingInterval and pingTimeout should be announced in ms, not as {told}")
    interval, timeout = (float(str(each)) / 1000 for each in told)
    return interval, timeout


@hardened(
    "pings-come",
    ACKNOWLEDGEMENTS,
    "A ping comes in the announced interval, and who answers it stays.",
    users=1,
    needs=("join-acked",),
)
async def pings_come(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    interval, _ = heartbeat(peer)
    if interval > LONGEST_WAIT:
        raise NotJudged(f"a ping comes every {interval:g} s only")
    try:
        async with asyncio.timeout(interval + target.timeout):
            while await peer.bare(interval + target.timeout) != "2":
                pass
    except TimeoutError:
        raise Broken(f"a ping was announced for every {interval:g} s, and none came") from None
    await peer.send("3")
    must(is_yes(await peer.call("join-room", target.room())), "who answers a ping should stay")


@hardened(
    "silence-ends",
    ACKNOWLEDGEMENTS,
    "Who answers no ping is closed after the announced timeout, and is in no room any more.",
    needs=("join-acked",),
)
async def silence_ends(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    silent = await joined(target, door, room, 1)
    interval, timeout = heartbeat(silent)
    whole = interval + timeout + target.timeout
    if whole > LONGEST_WAIT:
        raise NotJudged(f"a session without a pong may last {interval + timeout:g} s")
    watching = asyncio.create_task(gone_from(witness, room, target.users[1], patience=whole))
    try:
        async with asyncio.timeout(whole):
            while True:
                await silent.bare(whole)
    except Gone:
        pass
    except TimeoutError:
        watching.cancel()
        raise Broken(
            f"who answers no ping should be closed after {interval + timeout:g} s, and stays"
        ) from None
    must(await watching, "whose session has ended for silence should be in no room any more")


@hardened(
    "nobody-lingers",
    SCALING,
    "However a socket ends, its user leaves the room with it.",
    needs=("join-acked",),
)
async def nobody_lingers(target: Target, door: Door) -> None:
    user = target.users[1]
    witness = await enter(target, door, 0)
    ways = {
        "breaks off": lambda peer: peer.abort(),
        "closes its websocket": lambda peer: peer.ws.send_frames(
            frame(8, (1000).to_bytes(2, "big")), told="(closes with 1000)"
        ),
        "ends its half of the connection": lambda peer: peer.ws.line.writer.write_eof(),
        "sends DISCONNECT": lambda peer: peer.send("41"),
        "sends Engine.IO's CLOSE": lambda peer: peer.send("1"),
        "sends what does not parse": lambda peer: peer.send("4zzz"),
        "breaks off within a frame": _half_a_frame,
    }
    for how, end in ways.items():
        room = target.room()
        must(is_yes(await witness.call("join-room", room)), "join-room should be answered")
        peer = await joined(target, door, room, 1)
        done = end(peer)
        if done is not None:
            await done
        must(
            await gone_from(witness, room, user, patience=target.timeout),
            f"who {how} should leave the room at once",
        )
        peer.abort()


async def _half_a_frame(peer: Socket) -> None:
    await peer.ws.send_frames(frame(TEXT, b"4" * 500)[:50], told="a part of a frame")
    peer.abort()


@hardened(
    "unauthenticated-bounded",
    RATE_LIMITING,
    "Sessions that have not connected are bounded: one address cannot hold hundreds open.",
    users=1,
    alone=True,
    needs=("join-acked",),
)
async def unauthenticated_bounded(target: Target, door: Door) -> None:
    room = target.room()
    before = await joined(target, door, room)
    async with _Crowd(door) as crowd:
        while await crowd.grows():
            must(
                is_yes(await before.call("join-room", room)),
                "who is connected should be served while others crowd the door",
            )
        must(crowd.full, f"one address holds {crowd.size} sessions open that have not connected")
    await crowd.dispersed()


@hardened(
    "forwarded-for",
    RATE_LIMITING,
    "`X-Forwarded-For` of anybody makes nobody another address.",
    users=0,
    alone=True,
    needs=("unauthenticated-bounded",),
)
async def forwarded_for(target: Target, door: Door) -> None:
    async with _Crowd(door) as crowd:
        while await crowd.grows():
            pass
        if not crowd.full:
            raise NotJudged("the door could not be crowded")
        admitted = 0
        for last in range(1, 5):
            hop = ("X-Forwarded-For", f"203.0.113.{last}")
            answer = await door.ask("mallory", "GET", endpoint(door, "polling"), None, hop)
            admitted += answer.status == 200
        # While the first of the crowd leave, for having waited too long, others may come.
        must(admitted < 4, "another X-Forwarded-For should not open a door that is shut")
    await crowd.dispersed()


class _Crowd:
    """Sessions that never connect, as many as the server takes; `full` when it takes no more."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._peers: list[Socket] = []
        self._opened = 0
        self.full = False

    @property
    def size(self) -> int:
        """How many are open now: some servers end them after a while."""
        return sum(not peer.ws.line.reader.at_eof() for peer in self._peers)

    async def __aenter__(self) -> _Crowd:
        return self

    async def grows(self) -> bool:
        """Let some more come; whether there may be still more. Raises `NotJudged`."""
        arrivals = [Socket.open(self._door, "mallory") for _ in range(AT_ONCE)]
        for peer in await asyncio.gather(*arrivals, return_exceptions=True):
            if isinstance(peer, Socket):
                self._peers.append(peer)
            elif isinstance(peer, (Refused, Gone, OSError)):
                self.full = True
            else:
                raise peer
        self._opened += AT_ONCE
        self._door.trace.remark(f"{self.size} sessions are open that have not connected")
        if self.full or self.size >= UNAUTHENTICATED:
            return False
        if self._opened >= 8 * UNAUTHENTICATED:
            raise NotJudged("they are ended faster than they can be opened")
        return True

    async def __aexit__(self, *_failure: object) -> None:
        for peer in self._peers:
            peer.abort()

    async def dispersed(self) -> None:
        """Wait until there is room again, so that what comes next is not refused for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._door.patience):
                while True:
                    try:
                        (await Socket.open(self._door, "somebody")).abort()
                    except (Refused, Gone, OSError):
                        await asyncio.sleep(0.1)
                    else:
                        return


@hardened(
    "well-afterwards",
    SCALING,
    "After all this the server is healthy and serves: two meet in a room, and nobody else is in.",
    risky=True,
)
async def well_afterwards(target: Target, door: Door) -> None:
    health = await door.ask("operator", "GET", f"{door.base}/healthz")
    must(health.status in (200, 404), f"/healthz should be 200 after all this: {health.status}")
    room = target.room()
    try:
        first = await joined(target, door, room, 0)
        second = await joined(target, door, room, 1, way="polling")
    except NotJudged as error:
        if isinstance(error, Unready):
            raise Broken(f"after all this nobody new is served: {error}") from None
        second = await joined(target, door, room, 1)
    await second.call("send-message", {"text": "still there?"})
    await first.hear(lambda event: event[0] == "new-message")
    must(first.texts() == ["still there?"], f"one message was sent, and {first.texts()} arrived")
    who: Any = None
    with contextlib.suppress(TimeoutError):  # not every server has it
        who = await first.call("who", {"room": room})
    if is_yes(who):
        must(
            sorted(who.get("users", ())) == sorted(target.users),
            f"two are in the room, and `who` says {who.get('users')}",
        )
