"""The level Lesson, scaling: rooms work, on one server and on several, as if they were one."""

from __future__ import annotations

import asyncio
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import must, must_say_yes
from chatlab.grade.promise import SCALING, Level, Silent, promise
from chatlab.grade.target import Target

_LESSON = Level.LESSON
_ROUNDS = 8


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
    listeners, said = await _talk_on_both(target)
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
    first, second = (await _talk_on_both(target))[0]
    same = list(dict.fromkeys(first.texts)) == list(dict.fromkeys(second.texts))
    must(same, f"{first.name} and {second.name}, on two servers, saw two orders")


async def _talk_on_both(target: Target) -> tuple[list[Client], set[str]]:
    """Two people send at once, each on a server of their own; two listen, one on each.

    Messages are told apart by their texts: whether ids differ is judged elsewhere.
    """
    room = target.room()
    talkers = [(await target.joined(room, n, server=n))[0] for n in (0, 1)]
    listeners = [(await target.joined(room, n + 2, server=n))[0] for n in (0, 1)]

    async def talk(person: Client) -> None:
        numbers = [
            await person.begin("send-message", {"text": f"{person.name} {turn}"})
            for turn in range(_ROUNDS)
        ]
        for number in numbers:
            must_say_yes(await person.answer(number), "a message")

    await asyncio.gather(*(talk(person) for person in talkers))
    said = {f"{person.name} {turn}" for person in talkers for turn in range(_ROUNDS)}
    for person in listeners:
        everything = await person.wait(lambda p=person: said <= set(p.texts) or None)  # type: ignore[misc]
        if everything is None:
            raise Silent(f"{person.name} did not receive every message")
    await target.quiet()
    return listeners, said


def _somebody(data: Any) -> bool:
    # Whether it is the right name is judged with the token that it comes from.
    return isinstance(data, dict) and isinstance(data.get("user"), str)
