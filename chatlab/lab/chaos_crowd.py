"""The thirty clients of a chaos run: they talk, wander between rooms and try closed doors.

What they do and see goes into a history. Nothing here breaks anything, and nothing judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from chatlab.backoff import Backoff
from chatlab.client import ChatClient
from chatlab.errors import ChatError, Forbidden, NotInRoom, SendFailed
from chatlab.lab.history import History
from chatlab.protocol import Message

__all__ = ["BELL", "ROOMS", "ChatMember", "Crowd", "Member", "may_enter", "rooms_of"]

ROOMS: Final = (*(f"room-{number}" for number in range(7)), "private-0", "private-1")
"""With 30 clients in 2 or 3 rooms each: 8 or 9 in a room, 1,700 deliveries for 200 messages."""

BELL: Final = "the bell"
_IN_HAND: Final = 10  # sends of one client that wait for their answers; the limits allow 20
_ROOMS_AT_ONCE: Final = 3
_PATIENT, _ONCE = 60, 0  # retries


def may_enter(number: int, room: str) -> bool:
    """Whether client `number` has a token for `room`."""
    return not room.startswith("private-") or number % 3 == int(room[-1])


def rooms_of(number: int, chance: random.Random) -> list[str]:
    """The two or three rooms in which client `number` begins."""
    open_to = [room for room in ROOMS if may_enter(number, room)]
    return chance.sample(open_to, 2 + number % 2)


class Member:
    """One client of the crowd. `home` are the rooms in which it is, as far as it knows."""

    def __init__(self, number: int, history: History, home: Iterable[str]) -> None:
        self.number = number
        self.name = f"u{number:02}"
        self.history = history
        self.home = set(home)
        self.bells: set[str] = set()
        self.gave_up: list[str] = []  # what it tried to say for a minute

    @property
    def connected(self) -> bool:
        """Whether it has a connection now."""
        raise NotImplementedError

    async def enter(self) -> None:
        """Connect and join."""
        raise NotImplementedError

    async def say(self, room: str, text: str, *, retries: int) -> None:
        """Send; what goes wrong is in the history."""
        raise NotImplementedError

    async def move(self, chance: random.Random) -> None:
        """Leave a room and join one."""
        raise NotImplementedError

    async def trespass(self, room: str) -> bool:
        """Try to enter a room without a token for it. Returns whether it was let in."""
        return False

    async def close(self) -> None:
        """Leave for good."""
        raise NotImplementedError


class ChatMember(Member):
    """A `ChatClient`."""

    def __init__(
        self,
        number: int,
        history: History,
        home: Iterable[str],
        *,
        url: Any,
        token: Callable[..., str],
    ) -> None:
        super().__init__(number, history, home)
        claims = [room for room in ROOMS if room.startswith("private-") and may_enter(number, room)]
        self.client = ChatClient(
            url,
            # A minute and a half: in a long run every token is refreshed, often during a fault.
            lambda: token(self.name, ttl=90.0, rooms=claims),
            name=self.name,
            timeout=2.5,
            recorder=history.recorder(self.name),
            backoff=Backoff(base=0.1, cap=1.0),
        )
        self._reading: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.client.connected

    async def enter(self) -> None:
        await self.client.connect()
        self._reading = asyncio.create_task(self._read())
        for room in sorted(self.home):
            await self.client.join(room)

    async def _read(self) -> None:
        async for entry in self.client.messages():
            self.history.entry(self.name, entry)
            if isinstance(entry, Message) and entry.text.startswith(BELL):
                self.bells.add(entry.room)

    async def say(self, room: str, text: str, *, retries: int) -> None:
        try:
            await self.client.send(text, room, retries=retries)
        except SendFailed as error:
            # Who has left the room meanwhile cannot find out any more, and nobody is to blame.
            if retries == _PATIENT and not isinstance(error.last, NotInRoom):
                self.gave_up.append(f"{text!r}: {error}")
        except ChatError:
            pass  # it left the room meanwhile, or was refused; the history has it

    async def move(self, chance: random.Random) -> None:
        away = sorted(room for room in ROOMS if may_enter(self.number, room))
        here = sorted(self.home)
        if len(here) > 1:
            gone = chance.choice(here)
            with contextlib.suppress(ChatError):
                await self.client.leave(gone)
            # Whether it was heard may be unknown: the client says where it believes to be.
            self.home = set(self.client.rooms)
            await asyncio.sleep(0.2)
        new = [room for room in away if room not in self.home]
        if len(self.home) < _ROOMS_AT_ONCE and new:
            with contextlib.suppress(ChatError):
                await self.client.join(chance.choice(new))
        self.home = set(self.client.rooms)

    async def trespass(self, room: str) -> bool:
        try:
            await self.client.join(room)
        except Forbidden:
            return False
        except ChatError:
            return False
        return True

    async def close(self) -> None:
        await self.client.close()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)


class Crowd:
    """All members, and the tasks that make them talk and move. `rate` is messages a second."""

    def __init__(self, members: Sequence[Member], chance: random.Random, *, rate: float) -> None:
        self.members = list(members)
        self.problems: list[str] = []
        self._moving_on = True
        self._chance = chance
        self._pause = len(self.members) / rate
        self._talking: list[asyncio.Task[None]] = []
        self._moving: list[asyncio.Task[None]] = []
        self._in_hand: set[asyncio.Task[None]] = set()

    async def enter(self) -> None:
        """Everybody connects and joins, a few at a time."""
        for first in range(0, len(self.members), 10):
            await asyncio.gather(*(m.enter() for m in self.members[first : first + 10]))

    def talk(self) -> None:
        """Begin to send, to move about and to try closed doors."""
        self._talking = [asyncio.create_task(self._talk(member)) for member in self.members]
        self._moving = [asyncio.create_task(self._wander()), asyncio.create_task(self._trespass())]

    async def hush(self, *, timeout: float) -> None:
        """Send nothing new, and wait for what is in hand."""
        for task in self._talking:
            task.cancel()
        ending = set(self._moving) | self._in_hand
        self._moving_on = False
        if ending:
            _, late = await asyncio.wait(ending, timeout=timeout)
            if late:
                self.problems.append(f"{len(late)} calls unanswered {timeout:g} s after the calm")
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for task in self._moving:
            if task.done() and not task.cancelled():
                task.result()

    async def ring(self, *, timeout: float) -> list[str]:
        """A last message in every room; returns who has not seen all of theirs in time.

        It is what tells a client that something before it is missing.
        """
        rooms = {room for member in self.members for room in member.home}
        ringers = {
            room: next(m for m in self.members if room in m.home and m.connected)
            for room in sorted(rooms)
            if any(room in m.home and m.connected for m in self.members)
        }
        await asyncio.gather(
            *(m.say(room, f"{BELL} of {room}", retries=_PATIENT) for room, m in ringers.items())
        )

        def waiting() -> list[str]:
            return [m.name for m in self.members if not (m.home & set(ringers)) <= m.bells]

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while waiting():  # noqa: ASYNC110 - of thirty clients, each with its own event
                    await asyncio.sleep(0.05)
        return waiting()

    async def close(self) -> None:
        """Everybody leaves."""
        await asyncio.gather(*(member.close() for member in self.members))

    # --- what they do --------------------------------------------------------------------------

    async def _talk(self, member: Member) -> None:
        in_hand: set[asyncio.Task[None]] = set()
        clock = asyncio.get_running_loop().time
        due = clock() + self._chance.uniform(0.0, self._pause)
        number = 0
        while True:
            await asyncio.sleep(max(0.0, due - clock()))
            # Who could not send for a while does not make up for it in one burst.
            due = max(due + self._pause, clock() - 1.0)
            if not member.home or len(in_hand) >= _IN_HAND:
                continue
            number += 1
            room = self._chance.choice(sorted(member.home))
            # One in twenty gives up after the first try: nobody will know whether it was stored.
            retries = _ONCE if self._chance.random() < 0.05 else _PATIENT
            text = f"{member.name} says {number}"
            task = asyncio.create_task(member.say(room, text, retries=retries))
            for tasks in (in_hand, self._in_hand):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _wander(self) -> None:
        while self._moving_on:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5))
            await self._chance.choice(self.members).move(self._chance)

    async def _trespass(self) -> None:
        while self._moving_on:
            await asyncio.sleep(self._chance.uniform(1.0, 2.0))
            member = self._chance.choice(self.members)
            closed = [room for room in ROOMS if not may_enter(member.number, room)]
            room = self._chance.choice(closed)
            if await member.trespass(room):
                self.problems.append(f"{member.name} was let into {room}")
