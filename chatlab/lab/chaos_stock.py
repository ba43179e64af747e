"""A client of stock python-socketio in a chaos run, written as its documentation has it.

It reconnects, joins its rooms again and sends again what was not answered. What was said meanwhile
it cannot ask for: nothing on such a server could tell it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import socketio

from chatlab.lab.chaos_crowd import BELL, ROOMS, Member
from chatlab.lab.history import Delivered, History
from chatlab.lab.part import url_of

__all__ = ["StockMember"]

_PATIENCE: Final = 2.5


class StockMember(Member):
    """python-socketio's `AsyncClient` with its own reconnection."""

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
        history.client(self.name)
        self._url, self._token = url_of(url), token
        self._sends = itertools.count(1)
        self._joining: set[asyncio.Task[None]] = set()
        self._sio = socketio.AsyncClient(
            reconnection_delay=0.1, reconnection_delay_max=1.0, handle_sigint=False
        )
        self._sio.on("connect", self._connected)
        self._sio.on("disconnect", lambda *_: history.disconnected(self.name))
        self._sio.on("new-message", self._heard)

    @property
    def connected(self) -> bool:
        return bool(self._sio.connected)

    async def enter(self) -> None:
        await self._sio.connect(
            self._url,
            auth=lambda: {"token": self._token(self.name, ttl=3600.0)},
            transports=["websocket"],
        )

    def _connected(self) -> None:
        self.history.connected(self.name)
        task = asyncio.get_running_loop().create_task(self._join_all())
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join_all(self) -> None:
        for room in sorted(self.home):
            await self._ask("join-room", room)

    async def _ask(self, event: str, room: str) -> None:
        joining = event == "join-room"
        (self.history.joining if joining else self.history.leaving)(self.name, room)
        with contextlib.suppress(socketio.exceptions.SocketIOError):
            await self._sio.call(event, room, timeout=_PATIENCE)
            (self.history.joined if joining else self.history.left)(self.name, room)

    def _heard(self, data: dict[str, Any]) -> None:
        got = Delivered(data["room"], data["user"], data["text"], data["id"])
        self.history.arrived(self.name, got)
        if got.text.startswith(BELL):
            self.bells.add(got.room)

    async def say(self, room: str, text: str, *, retries: int) -> None:
        # The key is not for the server, which knows none: it tells the checker what is one message.
        key = f"{self.name}: {text}"
        for _ in range(min(retries, 5) + 1):
            number = next(self._sends)
            self.history.sent(self.name, number, room, text, key=key)
            try:
                answer = await self._sio.call(
                    "send-message", {"room": room, "text": text}, timeout=_PATIENCE
                )
            except socketio.exceptions.SocketIOError:
                await asyncio.sleep(0.5)
                continue
            self.history.acked(self.name, number, id=answer["id"])
            if text.startswith(BELL):
                self.bells.add(room)
            return

    async def move(self, chance: random.Random) -> None:
        gone = chance.choice(sorted(self.home))
        new = chance.choice([r for r in ROOMS if r not in self.home and r[:4] == "room"])
        self.home.discard(gone)
        await self._ask("leave-room", gone)
        self.home.add(new)
        await self._ask("join-room", new)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(3):
                await self._sio.disconnect()
