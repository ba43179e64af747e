"""Delivered and read: cumulative, never backwards, told at most once a second."""

from __future__ import annotations

import asyncio

from chatlab.server.receipts import Receipts
from tests.server.peer import Running
from tests.waiting import PATIENCE_S


async def test_a_reader_moves_forward_only_and_the_room_is_told(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    await alice.join()
    await bob.join()
    for text in ("one", "two", "three"):
        await alice.say(text)
    assert await bob.call("mark-delivered", {"room": "general", "seq": 3}) == {"ok": True}
    assert await bob.call("mark-read", {"room": "general", "seq": 2}) == {"ok": True}
    (first, *_rest) = await alice.got("receipts")
    assert first["room"] == "general"
    assert first["users"]["bob"]["delivered"] == 3
    assert await bob.call("mark-read", {"room": "general", "seq": 1}) == {"ok": True}
    assert (await bob.join())["read"] == 2
    assert (await bob.call("mark-read", {"room": "general", "seq": 4}))["field"] == "seq"


async def test_read_implies_delivered(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    await alice.join()
    await bob.join()
    await alice.say("one")
    await bob.call("mark-read", {"room": "general", "seq": 1})
    (receipt,) = await alice.got("receipts")
    assert receipt["users"] == {"bob": {"delivered": 1, "read": 1}}


async def test_receipts_of_a_second_are_told_together() -> None:
    told: list[tuple[dict[str, dict[str, int]], int]] = []
    both = asyncio.Event()

    def tell(users: dict[str, dict[str, int]], mine: dict[str, dict[str, int]], since: int) -> None:
        told.append((users, since))
        assert set(mine) == set(users) - {"dora"}
        if len(told) == 2:
            both.set()

    receipts = Receipts(tell)
    receipts.EVERY = 0.05  # type: ignore[misc]
    receipts.add("bob", since=0, delivered=1, read=0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    receipts.add("bob", since=1, delivered=2, read=1)
    receipts.add("carol", since=5, delivered=6, read=6)
    receipts.add("dora", since=5, delivered=6, read=6, mine=False)
    receipts.add("bob", since=2, delivered=3, read=3)
    await asyncio.wait_for(both.wait(), PATIENCE_S)
    assert told[-1][0]["bob"] == {"delivered": 3, "read": 3}
    assert sum(len(users) for users, _ in told) <= 4
    receipts.close()


async def test_in_a_large_room_only_the_authors_are_told(chat: Running) -> None:
    author, reader, other = [await chat.connect(user) for user in ("author", "reader", "other")]
    for peer in (author, reader, other):
        await peer.join()
    await author.say("hello")
    room = chat.server.rooms._rooms["general"]
    room.users.update({f"user-{number}": 1 for number in range(100)})
    await reader.call("mark-read", {"room": "general", "seq": 1})
    assert (await author.got("receipts"))[0]["users"] == {"reader": {"delivered": 1, "read": 1}}
    await other.call("who", {"room": "general"})
    assert other.of("receipts") == []
