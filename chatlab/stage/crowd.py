"""A few people who chat in the windows' room, so that the checker has something to judge.

They are the lab's own clients; what they see and do goes into the stage's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from chatlab.backoff import Backoff
from chatlab.client import ChatClient
from chatlab.errors import ChatError
from chatlab.lab.crowd import Person
from chatlab.stage.record import Record

__all__ = ["PEOPLE", "SEAT", "Crowd"]

PEOPLE: Final = ("carol", "dave", "erin", "frank")
SEAT: Final = "crowd-"
"""How the seats begin that they ask the balancer for."""

_RATE: Final = 2.0  # messages a second, of all together
_PATIENCE: Final = 2.0  # seconds for an ack
_LEAVING: Final = 3.0
_SAYINGS: Final = (
    "hello",
    "who is here?",
    "did you see that?",
    "still here",
    "what happened?",
    "I missed nothing",
    "and now?",
    "let us see",
)


class Crowd:
    """`url` is the balancer's, `token` makes one for a user; `seats` come once it is up."""

    def __init__(self, record: Record, *, url: str, token: Callable[[str], str], room: str) -> None:
        self._record = record
        self.url = url
        self.seats: dict[str, str] = {}
        self._token = token
        self._room = room
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def on(self) -> bool:
        """Whether they chat."""
        return bool(self._tasks)

    def start(self, *, stock: bool) -> None:
        """Let them come; whoever cannot enter tries again."""
        if not self._tasks:
            live = self._live_stock if stock else self._live
            self._tasks = [
                asyncio.create_task(live(name, self.seats[name]), name=f"stage: {name}")
                for name in PEOPLE
            ]

    async def stop(self) -> None:
        """Let them go."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LEAVING)
        for name in PEOPLE:
            self._record.forget_client(name)

    async def _live(self, name: str, seat: str) -> None:
        while True:
            client = ChatClient(
                f"{self.url}/?seat={seat}",
                self._token(name),
                name=name,
                timeout=_PATIENCE,
                retries=20,
                recorder=self._record.recorder(name),
                backoff=Backoff(base=0.2, cap=1.0),
            )
            reading: asyncio.Task[None] | None = None
            try:
                with contextlib.suppress(ChatError, OSError):
                    await client.connect()
                    await client.join(self._room)
                    reading = asyncio.create_task(self._record.read(client))
                    await self._talk(name, functools.partial(client.send, room=self._room))
            finally:
                await _let_go(client.close, reading)
            await asyncio.sleep(1.0)

    async def _live_stock(self, name: str, seat: str) -> None:
        def token(user: str) -> str:
            return self._token(user)

        world: Any = SimpleNamespace(
            room=self._room,
            history=self._record,
            cluster=SimpleNamespace(token=token),
            wire=SimpleNamespace(url=f"{self.url}/?seat={seat}"),
        )
        while True:
            person = Person(name, world)
            try:
                with contextlib.suppress(Exception):
                    await person.enter()
                    await self._talk(name, person.say)
            finally:
                await _let_go(person.leave, None)
            await asyncio.sleep(1.0)

    async def _talk(self, name: str, say: Callable[[str], Any]) -> None:
        for number in itertools.count(1):
            pause = len(PEOPLE) / _RATE
            await asyncio.sleep(random.uniform(0.5, 1.5) * pause)  # noqa: S311
            saying = _SAYINGS[(number * 3 + len(name)) % len(_SAYINGS)]
            await say(f"{saying} ({name} {number})")


async def _let_go(leave: Callable[[], Any], reading: asyncio.Task[None] | None) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_LEAVING):
            await leave()
    if reading is not None:
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.exception()
