"""What the tests do with a log, in few words; and what its feed carried."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from chatlab.protocol import Message
from chatlab.storage.base import Appended, Cursor, Delivery, Page, RoomLog, Snapshot
from chatlab.storage.memory import MemoryLog
from chatlab.storage.redis import RedisLog
from chatlab.storage.redis_url import locate
from chatlab.storage.sqlite import SqliteLog
from tests.waiting import until

EVERYTHING = 10**9


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Rooms:
    """A log and the record of its feed; `again` closes and opens it where that means anything."""

    def __init__(self, kind: str, store: Path | str, **options: Any) -> None:
        self.kind, self.store, self.options = kind, store, options
        self.clock: Clock = options.setdefault("clock", Clock())
        self.fed: dict[str, list[Delivery]] = defaultdict(list)
        self.log: RoomLog = self._make()

    def _make(self) -> RoomLog:
        log: RoomLog
        if self.kind == "memory":
            log = MemoryLog(**self.options)
        elif self.kind == "redis":
            log = RedisLog(locate(str(self.store)), **self.options)
        else:
            log = SqliteLog(Path(self.store), **self.options)
        log.feed = self._feed
        return log

    def _feed(self, room: str, deliveries: Sequence[Delivery]) -> None:
        self.fed[room] += deliveries

    async def fed_with(self, count: int, room: str = "general") -> bool:
        """Wait until the feed has had `count` messages; false when it has had more."""
        await until(lambda: len(self.fed[room]) >= count)
        return len(self.fed[room]) == count

    async def __aenter__(self) -> Self:
        await self.log.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.log.close()

    async def again(self, **options: Any) -> None:
        """Close and open, as a restart of the server does; a log in memory would be empty."""
        if self.kind == "memory":
            return
        await self.log.close()
        self.options |= options
        self.log = self._make()
        await self.log.open()

    async def send(
        self,
        text: str = "hello",
        *,
        room: str = "general",
        user: str = "alice",
        key: str | None = None,
        origin: str = "",
    ) -> Appended:
        return await self.log.append(room, user, text, key, origin)

    async def fill(self, count: int, *, room: str = "general", user: str = "alice") -> None:
        sent = [self.log.append(room, user, str(number + 1), None, "") for number in range(count)]
        await asyncio.gather(*sent)

    async def join(
        self,
        room: str = "general",
        user: str = "bob",
        *,
        after: int | None = None,
        epoch: str | None = None,
        newest: int = 50,
        limit: int = 200,
        max_bytes: int = EVERYTHING,
    ) -> Snapshot:
        return await self.log.snapshot(
            room, user, after=after, epoch=epoch, newest=newest, limit=limit, max_bytes=max_bytes
        )

    async def page(
        self,
        room: str = "general",
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 50,
        max_bytes: int = EVERYTHING,
    ) -> Page:
        return await self.log.page(
            room, after=after, before=before, limit=limit, max_bytes=max_bytes
        )

    async def mark(
        self, user: str = "bob", *, delivered: int = 0, read: int = 0, room: str = "general"
    ) -> tuple[Cursor, Cursor]:
        return await self.log.mark(room, user, delivered=delivered, read=read)

    async def everything(self, room: str = "general") -> list[Message]:
        """The whole room, paged as a client would."""
        messages: list[Message] = []
        more = True
        while more:
            after = messages[-1].seq if messages else 0
            page = await self.page(room, after=after, limit=200)
            messages += page.messages
            more = page.more
        return messages


def seqs(messages: Sequence[Message]) -> list[int]:
    return [message.seq for message in messages]
