"""Checks of exercise 06: a client that misses nothing, however it was cut off.

The client is python-socketio's, the line is a real one and is cut for real. Shutting down is
checked in `ex06_shutdown.py`, the learner's own checker in `ex06_checker.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect
from chatlab.lab.clients import RawClient
from chatlab.lab.exercises.ex06_checker import finds_what_is_wrong
from chatlab.lab.exercises.ex06_shutdown import (
    goes_without_a_loss,
    hang_up,
    leave,
    returning_client,
    sids,
)
from chatlab.lab.proxy import Proxy

__all__ = [
    "finds_what_is_wrong",
    "goes_without_a_loss",
    "hang_up",
    "misses_nothing",
    "sids",
]

Message = dict[str, Any]
Follow = Callable[[Any, Callable[[Any], None]], Any]

PAGE = 3  # messages that `history` gives at once
PATIENCE = 3.0  # seconds until what is not there is missing; only a wrong solution uses them up


class Room:
    """A chat with one room: a log, what is said, and what is asked for."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="aiohttp")
        self.log: list[Message] = []
        self.asked = 0
        self.asked_outside = False
        self.meanwhile: list[str] = []  # what is said while a question is being answered
        self.sio.on("join-room", self._join)
        self.sio.on("history", self._history)

    async def say(self, text: str, heard: bool = True) -> None:
        """Store a message and, if it is to be heard, send it to those who are in the room."""
        message = {"seq": len(self.log) + 1, "text": text}
        self.log.append(message)
        if heard:
            await self.sio.emit("new-message", message, to="general")

    async def say_crossed(self, first: str, second: str) -> None:
        """Two messages whose packets overtake each other."""
        await self.say(first, heard=False)
        await self.say(second)
        await self.sio.emit("new-message", self.log[-2], to="general")

    async def _join(self, sid: str, room: Any = None) -> Any:
        if room != "general":
            return {"ok": False, "error": "The room is called general"}
        await self.sio.enter_room(sid, "general")
        return {"ok": True}

    async def _history(self, sid: str, after: Any = None) -> Any:
        if isinstance(after, bool) or not isinstance(after, int) or after < 0:
            return {"ok": False, "error": "Say behind which number, from 0 on"}
        self.asked += 1
        self.asked_outside |= "general" not in self.sio.rooms(sid)
        found = self.log[after:]
        while self.meanwhile:
            await self.say(self.meanwhile.pop(0))
        return {"ok": True, "messages": found[:PAGE], "more": len(found) > PAGE}


class Scene:
    """The room's server, a wire, and the learner's client behind it."""

    def __init__(self, room: Room, server: Server, wire: Proxy, client: RawClient) -> None:
        self.room, self.server, self.wire, self.client = room, server, wire, client
        self.shown: list[Any] = []
        self._news = asyncio.Event()

    def show(self, message: Any) -> None:
        """What the learner's code calls."""
        self.shown.append(message)
        self._news.set()

    async def expect_all(self, when: str, remedy: str) -> None:
        """Wait until the screen has the whole log, and nothing else."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while len(self.shown) < len(self.room.log):
                    self._news.clear()
                    await self._news.wait()
        # A second copy would follow at once.
        await asyncio.sleep(0.05)
        self._judge(when, remedy)

    async def joined(self, times: int) -> None:
        """Wait until the client has joined so often."""
        with contextlib.suppress(TimeoutError):
            await self.server.wait_for("join-room", times, timeout=PATIENCE)
            return
        advice(
            "after a cut the client was in no room any more — "
            "join again on each `connect`: a new connection begins anew"
        )

    def _judge(self, when: str, remedy: str) -> None:
        shown: list[int] = []
        for message in self.shown:
            seq = message.get("seq") if isinstance(message, dict) else None
            expect(seq is not None, f"`show` got `{message!r}` — hand it each message as it came")
            shown.append(int(seq or 0))
        due = [message["seq"] for message in self.room.log]
        twice = next((seq for seq in shown if shown.count(seq) > 1), None)
        expect(
            twice is None,
            f"{when}, #{twice} was shown twice — a message can come as news and as history: "
            "show it only when its number is above the last one that you showed",
        )
        missing = [seq for seq in due if seq not in shown]
        if missing and self.trouble():
            advice(f"{when}, your code raised `{self.trouble()}`")
        early = missing and max(shown, default=0) > missing[0]
        expect(
            not early,
            f"{when}, #{max(shown, default=0)} was shown, and {_numbers(missing or [0])} before it "
            "was not — keep what comes before its turn, and show it when everything before it has "
            "been shown",
        )
        if missing:
            advice(f"{when}, {_numbers(missing)} was never shown — {remedy}")
        expect(
            shown == due,
            f"{when}, #{_first_wrong(shown)} was shown too early — keep what comes before its "
            "turn, and show it when everything before it has been shown",
        )

    def trouble(self) -> str:
        """The exception of a handler of the learner's, if there was one."""
        raised = [line.strip() for line in str(self.client.logs()).splitlines()]
        found = [line for line in raised if "Error" in line and "connection" not in line.lower()]
        return found[-1] if found else ""


def _numbers(missing: list[int]) -> str:
    return f"#{missing[0]} to #{missing[-1]}" if len(missing) > 1 else f"#{missing[0]}"


def _first_wrong(shown: list[int]) -> int:
    return next(
        (a for a, b in zip(shown, sorted(shown), strict=True) if a != b),
        shown[0] if shown else 0,
    )


@contextlib.asynccontextmanager
async def _scene(
    follow: Follow, before: int, meanwhile: Sequence[str] = ()
) -> AsyncIterator[Scene]:
    """Somebody enters a room in which `before` messages have been said.

    What is said `meanwhile` comes while their first question is being answered.
    """
    room = Room()
    room.meanwhile += meanwhile
    for number in range(before):
        await room.say(f"message {number + 1}", heard=False)
    client = returning_client("reader")
    async with background(room.sio, name="check 06") as server, Proxy(server) as wire:
        scene = Scene(room, server, wire, client)
        follow(client, scene.show)
        expect(
            client.handlers,
            "`follow` does nothing yet — write handlers for `connect` and `new-message`",
        )
        try:
            await client.connect(wire.url, transports=["websocket"])
            yield scene
        finally:
            await leave(client)


@check("nothing is missed, and nothing is shown twice or out of turn", task=1, lesson="06")
async def misses_nothing(follow: Follow) -> None:
    """`follow(client, show)` sets up a client that is not connected yet."""
    await _arriving(follow)
    await _being_away(follow)
    await _asking_while_others_talk(follow)
    await _a_hole(follow)


async def _arriving(follow: Follow) -> None:
    async with _scene(follow, 2) as scene:
        await scene.expect_all(
            "when the client entered a room with two messages",
            "on `connect`, join the room, then ask for `history` behind 0",
        )
        await scene.server.call(scene.room.say, "hello")
        await scene.expect_all(
            "when a message came", "show what comes as `new-message` when it is its turn"
        )


async def _being_away(follow: Follow) -> None:
    async with _scene(follow, 1) as scene:
        await scene.expect_all("when the client entered a room", "ask for `history` behind 0")
        scene.wire.cut()
        await scene.client.wait_until_disconnected()
        for number in range(2 * PAGE + 1):
            await scene.server.call(scene.room.say, f"meanwhile {number}")
        scene.wire.heal()
        await scene.expect_all(
            f"after a cut during which {2 * PAGE + 1} messages were said",
            f"an answer has at most {PAGE} messages: ask again, behind the last one, while it "
            "says `more`",
        )
        await scene.joined(2)
        await scene.server.call(scene.room.say, "welcome back")
        await scene.expect_all("after the client was back", "show what comes then, too")


async def _asking_while_others_talk(follow: Follow) -> None:
    for before in (1, PAGE + 1):
        async with _scene(follow, before, ["said during the question"]) as scene:
            with contextlib.suppress(TimeoutError):
                await scene.server.wait_for("history", timeout=PATIENCE)
            remedy = "what comes as `new-message` in the meantime must not be thrown away"
            if scene.room.asked_outside:
                remedy = (
                    "join first and then ask: before you have joined, nobody tells you anything"
                )
            await scene.expect_all(
                "when a message was said while history was being fetched", remedy
            )


async def _a_hole(follow: Follow) -> None:
    async with _scene(follow, 1) as scene:
        await scene.expect_all("when the client entered a room", "ask for `history` behind 0")
        await scene.server.call(scene.room.say_crossed, "first", "second")
        await scene.expect_all(
            "when #3 came before #2", "keep #3 until #2 has been shown, and then show it"
        )
        await scene.server.call(scene.room.say, "lost on its way", False)
        await scene.server.call(scene.room.say, "the next one")
        await scene.expect_all(
            "when #4 did not come, and #5 did, over a connection that was never cut",
            "a number that was left out is a reason to ask, too: not only `connect` is",
        )
        before = scene.room.asked
        for number in range(5):
            await scene.server.call(scene.room.say, f"one after the other {number}")
        await scene.expect_all("when five more came", "show them")
        expect(
            scene.room.asked <= before + 1,
            "five messages came in order, and history was asked for "
            f"{scene.room.asked - before} times — ask only when something is missing",
        )
