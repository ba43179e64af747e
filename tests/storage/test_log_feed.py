"""Reading while messages are being written: nothing is missed, doubled or torn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chatlab.storage.base import Delivery
from tests.storage.rooms import Rooms, seqs

MESSAGES = 1_500


class Member:
    """Joins as the server does: keeps what the feed brings, then asks for the snapshot."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.fed: list[int] = []
        self.joined: list[int] = []
        self.seq = 0

    async def join(self) -> None:
        snapshot = await self.rooms.join(newest=50)
        self.joined, self.seq = seqs(snapshot.messages), snapshot.seq

    @property
    def got(self) -> list[int]:
        return self.joined + [seq for seq in self.fed if seq > self.seq]


async def write(rooms: Rooms, sent: list[asyncio.Future[Any]]) -> None:
    """Messages in bursts of different sizes, with the loop running in between."""
    burst = 1
    while len(sent) < MESSAGES:
        for _ in range(burst):
            sent.append(rooms.log.append("general", "alice", str(len(sent) + 1), None, ""))
        burst = burst % 17 + 1
        await (sent[-1] if burst % 5 == 0 else asyncio.sleep(0))
    await asyncio.gather(*sent)


async def test_who_joins_in_the_middle_gets_every_message_once(rooms):
    members: list[Member] = []

    def feed(room: str, deliveries: Sequence[Delivery]) -> None:
        for member in members:
            member.fed += [delivery.message.seq for delivery in deliveries]

    rooms.log.feed = feed
    sent: list[asyncio.Future[Any]] = []
    writing = asyncio.create_task(write(rooms, sent))
    joining = []
    while not writing.done():
        members.append(Member(rooms))
        joining.append(asyncio.create_task(members[-1].join()))
        enough = len(sent) + MESSAGES // 20
        while len(sent) < enough and not writing.done():
            await asyncio.sleep(0)
    await writing
    await asyncio.gather(*joining)
    newest = (await rooms.join()).seq
    assert len(members) > 3
    for member in members:
        assert member.got == list(range(member.got[0], newest + 1))


async def test_readers_see_whole_stretches_while_old_messages_are_dropped(kind, store):
    async with Rooms(kind, store, history=100) as rooms:
        writing = asyncio.create_task(write(rooms, []))
        looked = 0
        while not writing.done():
            for page in (await rooms.page(after=0, limit=200), await rooms.page(limit=200)):
                got = seqs(page.messages)
                assert not got or got == list(range(got[0], got[-1] + 1))
                assert len(got) in (100, got[-1] if got else 0)
            looked += 1
            await asyncio.sleep(0)
        await writing
        assert looked > 3
