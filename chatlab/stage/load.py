"""The flooding user and the quiet one, each in a process of its own: `load.py flood|probe URL`.

What they measure goes to stdout, a JSON object a line; the token comes in STAGE_TOKEN. A busy
stage must not be what makes a message late, so nothing here runs inside it.
"""

# Started by path, where importing chatlab would only cost time.
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from typing import Any

import aiohttp

SOCKETS = 4  # of the flooding user: each has a limit of its own, and all have one together
UNANSWERED = 500  # messages of one socket on the way, past which it waits
REPORT = 0.25  # seconds between two lines
PAUSE = 0.2  # seconds between two messages of the quiet one
PATIENCE = 1.0  # seconds for its ack
PROBE = "probe: "

Handle = Any


class Socket:
    """A Socket.IO connection, as little of one as is needed."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, answered: Handle) -> None:
        self.ws = ws
        self._answered = answered
        self._number = 0

    @classmethod
    async def enter(
        cls, session: aiohttp.ClientSession, url: str, token: str, room: str, answered: Handle
    ) -> Socket:
        """Connect, and be in `room`. Raises `OSError` where that does not work."""
        async with asyncio.timeout(3):
            address = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
            ws = await session.ws_connect(address, max_msg_size=0)
            self = cls(ws, answered)
            await self._expect("0")
            await ws.send_str("40" + json.dumps({"token": token}))
            await self._expect("40")
            await ws.send_str("42" + "0" + json.dumps(["join-room", {"room": room}]))
            await self._expect("430")
        return self

    async def _expect(self, start: str) -> None:
        while True:
            message = await self.ws.receive()
            if message.type is not aiohttp.WSMsgType.TEXT or message.data.startswith("44"):
                raise ConnectionError("not let in")
            if message.data == "2":
                await self.ws.send_str("3")
            elif message.data.startswith(start):
                return

    async def say(self, room: str, text: str) -> int:
        """Send, and return the number that the answer will have."""
        self._number += 1
        data = json.dumps(["send-message", {"room": room, "text": text}])
        await self.ws.send_str(f"42{self._number}{data}")
        return self._number

    async def read(self) -> None:
        """Read until the connection ends."""
        async for message in self.ws:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            data = message.data
            if data == "2":
                await self.ws.send_str("3")
            elif data.startswith("43"):
                start = data.index("[")
                self._answered(int(data[2:start]), data[start:])


def say(**what: Any) -> None:
    """One line for the stage."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def flood(url: str, token: str) -> None:
    """Send as fast as the server reads."""
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()

    async def one(session: aiohttp.ClientSession) -> None:
        waiting: set[int] = set()
        room_again = asyncio.Event()

        def answered(number: int, answer: str) -> None:
            waiting.discard(number)
            room_again.set()
            if '"ok":true' in answer or '"ok": true' in answer:
                counts["ok"] += 1
            else:
                code = json.loads(answer)[0].get("code", "no")
                refused[str(code)] += 1

        while True:
            with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError):
                socket = await Socket.enter(session, url, token, "flood", answered)
                waiting.clear()
                reading = asyncio.create_task(socket.read())
                try:
                    while not reading.done():
                        number = await socket.say("flood", "spam spam spam spam spam")
                        waiting.add(number)
                        counts["sent"] += 1
                        if number % 20 == 0:
                            await asyncio.sleep(0)
                        while len(waiting) > UNANSWERED and not reading.done():
                            room_again.clear()
                            with contextlib.suppress(TimeoutError):
                                async with asyncio.timeout(0.2):
                                    await room_again.wait()
                finally:
                    reading.cancel()
                    await socket.ws.close()
            await asyncio.sleep(0.3)

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT)
            say(sent=counts["sent"], ok=counts["ok"], refused=dict(refused))
            counts.clear()
            refused.clear()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(report(), *(one(session) for _ in range(SOCKETS)))


async def probe(url: str, token: str) -> None:
    """Say something five times a second, and how long the ack took."""
    numbers: dict[int, asyncio.Future[float]] = {}

    def answered(number: int, _answer: str) -> None:
        waiting = numbers.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(time.perf_counter())

    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError):
                socket = await Socket.enter(session, url, token, "probe", answered)
                reading = asyncio.create_task(socket.read())
                try:
                    while not reading.done():
                        await _measured(socket, numbers)
                        await asyncio.sleep(PAUSE)
                finally:
                    reading.cancel()
                    await socket.ws.close()
            say(ms=None)
            await asyncio.sleep(0.3)


async def _measured(socket: Socket, numbers: dict[int, asyncio.Future[float]]) -> None:
    began = time.perf_counter()
    number = await socket.say("probe", f"{PROBE}{began:.3f}")
    numbers[number] = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(PATIENCE):
            ended = await numbers[number]
    except TimeoutError:
        numbers.pop(number, None)
        say(ms=None)
        raise
    say(ms=round(1_000 * (ended - began), 3))


def main(arguments: list[str]) -> int:
    """Run until killed."""
    what, url = arguments[1:3]
    work = flood if what == "flood" else probe
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(url, os.environ["STAGE_TOKEN"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
