"""Hardened: one client that reads too little or sends too much, and all the others."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from chatlab.grade.hardened_peers import Gone, Socket
from chatlab.grade.hardened_trials import enter, hardened, joined
from chatlab.grade.hardened_websocket import PING, TEXT, frame
from chatlab.grade.hardened_wire import Door, Refused
from chatlab.grade.judge import is_yes, must
from chatlab.grade.promise import RATE_LIMITING, Broken, NotJudged
from chatlab.grade.target import Target

LONG: Final = "\N{GRINNING FACE}" * 3_900  # 15.6 KB, below the contract's 4,000 code points
UNREAD: Final = 12_000_000  # bytes that nobody has to keep for one client: systems buffer some too
LINES: Final = 5  # sockets that talk where the server keeps no history to ask for
STUFFING: Final = 20.0  # seconds until it is given up


class Slow:
    """A client that has stopped reading, and is sent more and more.

    `sent` counts the bytes that wait for it, `dropped` says whether the server has cut it off.
    """

    def __init__(self, target: Target, door: Door) -> None:
        self.target, self.door = target, door
        self.room = target.room()
        self.sent = 0
        self.dropped = False
        self._peer: Socket

    async def stuff(self) -> None:
        """Fill it up until it is dropped, or `UNREAD` bytes wait. Raises `NotJudged`."""
        talker = await joined(self.target, self.door, self.room, 0)
        self._peer = await joined(self.target, self.door, self.room, 1, buffer=4096)
        loop = asyncio.get_running_loop()
        for _ in range(17):
            if not is_yes(await talker.call("send-message", {"text": LONG})):
                raise NotJudged("messages of 3,900 characters are not taken")
        page = None
        with contextlib.suppress(TimeoutError):  # not every server has it
            page = await talker.call("history", {"room": self.room, "limit": 200})
        self._end = loop.time() + STUFFING
        if isinstance(page, dict) and page.get("messages"):
            await self._ask(sum(len(str(each).encode()) for each in page["messages"]))
        else:
            await self._be_told()
        if not self.dropped and self.sent < UNREAD:
            raise NotJudged(f"only {self.sent:,} bytes could be sent to it in {STUFFING:g} s")

    async def _ask(self, size: int) -> None:
        """Let it ask for the room's history again and again."""
        while await self._goes_on():
            event = f'42{self.sent}["history",{{"room":"{self.room}","limit":200}}]'
            await self._write(frame(TEXT, event.encode()))
            self.sent += size
            # As fast as the contract lets a socket; what is over the limit is a short answer.
            await asyncio.sleep(0.02 if self.sent < 20 * size else 0.11)

    async def _be_told(self) -> None:
        """Let others talk in its room."""
        crowd = []
        for number in range(LINES):
            # Users of the server's own are as many as they are; where any will do, several.
            name = f"{self.target.users[0]}-{number}"
            with contextlib.suppress(NotJudged, Gone, Refused):
                peer = await Socket.open(self.door, f"talker {number}")
                await peer.connect(await self.target.token(0, user_id=name))
                if is_yes(await peer.call("join-room", self.room)):
                    crowd.append(peer)
        if not crowd:
            raise NotJudged("nobody could be let in to talk")
        await asyncio.gather(*(self._talk(peer) for peer in crowd))

    async def _talk(self, peer: Socket) -> None:
        with contextlib.suppress(Gone):
            while await self._goes_on():
                await self._write(frame(PING, b""))
                peer.events.clear()
                try:
                    said = is_yes(await peer.call("send-message", {"text": LONG}, patience=1.0))
                except TimeoutError:  # some limits drop in silence
                    continue
                if said:
                    self.sent += len(LONG.encode())
                else:
                    await asyncio.sleep(0.05)

    async def _goes_on(self) -> bool:
        loop = asyncio.get_running_loop()
        return not self.dropped and self.sent < UNREAD and loop.time() < self._end

    async def _write(self, data: bytes) -> None:
        """Writing tells of a connection that was cut, where nobody reads."""
        transport = self._peer.ws.line.writer.transport
        if transport.is_closing():
            self.dropped = True
            return
        with contextlib.suppress(ConnectionError):
            transport.write(data)


@hardened(
    "slow-reader-dropped",
    RATE_LIMITING,
    "A client that reads nothing while megabytes wait for it is dropped.",
    floods=True,
    alone=True,
    needs=("send-acked",),
)
async def slow_reader_dropped(target: Target, door: Door) -> None:
    slow = Slow(target, door)
    await slow.stuff()
    waiting = f"{slow.sent:,} bytes"
    target.trace.remark(f"{waiting} sent to a client that reads nothing; dropped: {slow.dropped}")
    must(slow.dropped, f"{waiting} wait for a client that reads nothing, and it is not dropped")


@hardened(
    "slow-reader-harms-nobody",
    RATE_LIMITING,
    "While one client reads nothing, the others in its room are answered.",
    users=3,
    floods=True,
    alone=True,
    needs=("send-acked",),
)
async def slow_reader_harms_nobody(target: Target, door: Door) -> None:
    slow = Slow(target, door)
    other = await joined(target, door, slow.room, 2)
    stuffing = asyncio.create_task(slow.stuff())
    try:
        while not stuffing.done():
            await _must_answer(other, slow.room, "a client that reads nothing")
            await asyncio.sleep(0.3)
        await stuffing
    finally:
        stuffing.cancel()
    await _must_answer(other, slow.room, "a client that reads nothing")


@hardened(
    "flood-of-frames",
    RATE_LIMITING,
    "Tens of thousands of tiny frames of one user keep nobody else from being answered.",
    floods=True,
    alone=True,
    needs=("join-acked",),
)
async def flood_of_frames(target: Target, door: Door) -> None:
    victim = await joined(target, door, target.room(), 1)
    attackers = [await enter(target, door, 0) for _ in range(3)]
    batch = frame(TEXT, b"3") * 1_000
    target.trace.remark("three sockets of alice send pongs as fast as they are taken")
    floods = [asyncio.create_task(_flood(peer, batch)) for peer in attackers]
    try:
        for _ in range(6):
            await _must_answer(victim, target.room(), "a flood of tiny frames")
            await asyncio.sleep(0.15)
    finally:
        for flood in floods:
            flood.cancel()


async def _flood(peer: Socket, batch: bytes) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(30):
            await peer.ws.line.send(batch)
            await asyncio.sleep(0.03)


async def _must_answer(peer: Socket, room: str, during: str) -> Any:
    try:
        return await peer.call("join-room", room)
    except TimeoutError:
        raise Broken(f"during {during} others should be answered, and are not") from None
    except Gone:
        raise Broken(f"during {during} the connection of another was ended") from None
