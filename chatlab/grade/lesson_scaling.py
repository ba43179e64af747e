"""The level Lesson, scaling: rooms work, on one server and on several, as if they were one."""

from __future__ import annotations

import asyncio
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import must, must_say_yes
from chatlab.grade.promise import SCALING, Level, Silent, promise
from chatlab.grade.target import Target

_LESSON = Level.LESSON
_AT_ONCE = 5  # messages of one talker; so many go at once behind a join, by the client's pace
# Two orders are a race, which a busy machine may hide: with six busy processes on two cores, one
# talk showed it in 80 of 100 trials, six talks in 100 of 100.
_TALKS = 6
_REST = 1.25  # seconds after which so many go at once again


@promise(
    "room-keeps",
    SCALING,
    _LESSON,
    "A message reaches the members of its room, and nobody else.",
    users=4,
    needs=("delivered",),
)
async def room_keeps(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    (carol,) = await target.joined(target.room(), 2)
    dave = await target.enter(3)
    await alice.say("for this room")
    await bob.expect_text("for this room")
    await target.quiet()
    for person in (carol, dave):
        must("for this room" not in person.texts, f"{person.name}, who is not in it, received it")


@promise(
    "join-announced",
    SCALING,
    _LESSON,
    "Who joins a room is announced to the others in it: `user-joined {user}`.",
    needs=("join-acked",),
)
async def join_announced(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await target.joined(room, 1)
    await alice.expect("user-joined", _somebody)


@promise(
    "leave-announced",
    SCALING,
    _LESSON,
    "Who disconnects is announced to the others in the room: `user-left {user}`.",
    needs=("join-acked",),
)
async def leave_announced(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    await bob.close()
    await alice.expect("user-left", _somebody)


@promise(
    "rooms-span-servers",
    SCALING,
    _LESSON,
    "A message reaches the members of its room on every server.",
    servers=2,
    needs=("delivered",),
)
async def rooms_span_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    (bob,) = await target.joined(room, 1, server=1)
    await alice.say("from the first")
    await bob.expect_text("from the first")
    await bob.say("from the second")
    await alice.expect_text("from the second")


@promise(
    "announced-across-servers",
    SCALING,
    _LESSON,
    "Who joins or leaves is announced to the room's members on every server.",
    servers=2,
    needs=("join-announced", "rooms-span-servers"),
)
async def announced_across_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    (bob,) = await target.joined(room, 1, server=1)
    await alice.expect("user-joined", _somebody)
    await bob.close()
    await alice.expect("user-left", _somebody)


@promise(
    "each-once-across-servers",
    SCALING,
    _LESSON,
    "However many servers there are, each member receives a message once.",
    users=4,
    servers=2,
    needs=("rooms-span-servers",),
)
async def each_once_across_servers(target: Target) -> None:
    pairs = await _pairs(target)
    for turn, (talkers, listeners) in enumerate((pairs, pairs[::-1])):
        said = await _talk_at_once(talkers, listeners, turn)
        await target.quiet()
        for person in listeners:
            twice = len(person.texts) - len(set(person.texts))
            must(not twice, f"{person.name} received {twice} messages twice")
            missing = len(said - set(person.texts))
            must(not missing, f"{person.name} missed {missing} of {len(said)} messages")


@promise(
    "one-order-across-servers",
    SCALING,
    _LESSON,
    "The members of a room see one order, whichever server they are on.",
    users=4,
    servers=2,
    needs=("rooms-span-servers",),
)
async def one_order_across_servers(target: Target) -> None:
    pairs = await _pairs(target)
    for turn in range(_TALKS):
        talkers, listeners = pairs if turn % 2 == 0 else pairs[::-1]
        if turn and talkers is pairs[0]:
            await asyncio.sleep(_REST)
        said = await _talk_at_once(talkers, listeners, turn)
        orders = [[text for text in dict.fromkeys(p.texts) if text in said] for p in listeners]
        first, second = (person.name for person in listeners)
        must(orders[0] == orders[1], f"{first} and {second}, on two servers, saw two orders")


async def _pairs(target: Target) -> list[list[Client]]:
    """Two pairs in one room; of each, one is on each of two servers."""
    room = target.room()
    people = [(await target.joined(room, n, server=n % 2))[0] for n in range(4)]
    return [people[:2], people[2:]]


async def _talk_at_once(talkers: list[Client], listeners: list[Client], turn: int) -> set[str]:
    """Who talks begins at once, each on a server of their own; what was said, once all heard it.

    Messages are told apart by their texts: whether ids differ is judged elsewhere.
    """
    texts = {p: [f"{p.name} {turn}.{n}" for n in range(_AT_ONCE)] for p in talkers}

    async def talk(person: Client) -> None:
        numbers = [await person.begin("send-message", {"text": text}) for text in texts[person]]
        for number in numbers:
            must_say_yes(await person.answer(number), "a message")

    await asyncio.gather(*(talk(person) for person in talkers))
    said = {text for each in texts.values() for text in each}
    for person in listeners:
        everything = await person.wait(lambda p=person: said <= set(p.texts) or None)  # type: ignore[misc]
        if everything is None:
            raise Silent(f"{person.name} did not receive every message")
    return said


def _somebody(data: Any) -> bool:
    # Whether it is the right name is judged with the token that it comes from.
    return isinstance(data, dict) and isinstance(data.get("user"), str)
