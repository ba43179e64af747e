"""The level Contract, scaling: rooms, what a member gets of them, and who may know who is in.

All of it on one server; what several servers must share is in `contract_servers`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import is_yes, must, must_say_yes
from chatlab.grade.promise import SCALING, Level, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "send-to-last-room",
    SCALING,
    _CONTRACT,
    "Without `room` a message goes to the room joined last; with it, to that one.",
    users=3,
    needs=("delivered",),
)
async def send_to_last_room(target: Target) -> None:
    first, last = target.room(), target.room()
    (alice,) = await target.joined(first, 0)
    await alice.join(last)
    (bob,) = await target.joined(first, 1)
    (carol,) = await target.joined(last, 2)
    await alice.say("to the last")
    await alice.say("to the first", room=first)
    await carol.expect_text("to the last")
    await bob.expect_text("to the first")
    await target.quiet()
    must(carol.texts == ["to the last"], f"the last room received {carol.texts}")
    must(bob.texts == ["to the first"], f"the first room received {bob.texts}")


@promise(
    "own-sockets-told",
    SCALING,
    _CONTRACT,
    "Of the sender's sockets only the one that sent is skipped: the others receive `new-message`.",
    users=1,
    needs=("delivered",),
)
async def own_sockets_told(target: Target) -> None:
    room = target.room()
    phone, laptop = await target.joined(room, 0, 0)
    await phone.say("from the phone", room=room)
    await laptop.expect_text("from the phone")


@promise(
    "join-after-ack",
    SCALING,
    _CONTRACT,
    "Joining is atomic with the feed: `new-message` comes only for `seq` above the ack's, and "
    "only after the ack.",
    needs=("join-tells", "delivered"),
)
async def join_after_ack(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    bob = await target.enter(1)
    number = -1
    for turn in range(16):
        await alice.begin("send-message", {"text": f"message {turn}"}, hurry=True)
        if turn == 7:
            number = await bob.begin("join-room", room)
    ack = must_say_yes(await bob.answer(number), "joining while somebody sends")
    await bob.wait(lambda: _seqs(bob)[-1:] == [16] or ack["seq"] == 16 or None)
    packets = bob.packets
    acked = next(n for n, text in enumerate(packets) if text.startswith(f"43{number}["))
    early = [text for text in packets[:acked] if text.startswith('42["new-message"')]
    must(not early, "a message came before the ack of the join")
    wanted = list(range(ack["seq"] + 1, 17))
    got = _seqs(bob)
    must(got == wanted, f"after a join acked with seq {ack['seq']} the messages {got} came")


@promise(
    "rejoin-silent",
    SCALING,
    _CONTRACT,
    "Joining again announces nothing, and neither does a second socket of somebody who is there.",
    needs=("join-announced", "delivered"),
)
async def rejoin_silent(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    (bob,) = await target.joined(room, 1)
    await bob.join(room)
    (second,) = await target.joined(room, 1)
    await second.close()
    await bob.say("marker")
    await alice.expect_text("marker")
    await target.quiet()
    must(len(alice.of("user-joined")) == 1, f"it came {len(alice.of('user-joined'))} times")
    must(not alice.of("user-left"), "somebody who is still there was said to have left")


@promise(
    "presence-named",
    SCALING,
    _CONTRACT,
    "`user-joined` and `user-left` are `{user, room}`, and go to everybody there but that user.",
    needs=("join-announced", "leave-announced"),
)
async def presence_named(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    bobs = [(await target.joined(room, 1))[0] for _ in range(2)]
    wanted = {"user": bobs[0].user, "room": room}
    told = await alice.expect("user-joined")
    must(told == wanted, f"`user-joined` came as {told!r}")
    for bob in bobs:
        await bob.ask("leave-room", room)
    told = await alice.expect("user-left")
    must(told == wanted, f"`user-left` came as {told!r}")
    await target.quiet()
    heard = [event for bob in bobs for event in (*bob.of("user-joined"), *bob.of("user-left"))]
    must(not heard, "a user was told of themself")


@promise(
    "who-is-the-truth",
    SCALING,
    _CONTRACT,
    "`who` gives the `users` of a room, each once, and their `count`.",
    needs=("join-acked",),
)
async def who_is_the_truth(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    await target.joined(room, 1)
    ack = must_say_yes(await alice.ask("who", {"room": room}), "`who`")
    users, wanted = sorted(ack["users"]), sorted([alice.user, bob.user])
    must(users == wanted, f"of two users, one with two sockets, `who` gives {len(users)}")
    must(ack["count"] == 2, f"`count` is {ack['count']!r}")
    await alice.close()

    async def left() -> bool:
        return bool((await bob.ask("who", {"room": room})).get("users") == [bob.user])

    for _ in range(10):
        if await left():
            return
        await asyncio.sleep(0.3)
    must(await left(), "somebody who has gone is still there")


@promise(
    "private-rooms",
    SCALING,
    _CONTRACT,
    "A room whose name begins with `private-` is for tokens whose `rooms` have it, by name or by "
    "glob; else `forbidden`.",
    users=3,
    needs=("join-acked",),
)
async def private_rooms(target: Target) -> None:
    room = target.room("private-grade")
    bob = await target.enter(1)
    ack = await bob.ask("join-room", room)
    refused = isinstance(ack, dict) and ack.get("ok") is False
    must(refused, "somebody without an entry was let into a private room")
    must(ack.get("code") == "forbidden", f"the refusal's code is {ack.get('code')!r}")
    for user, entry in ((0, room), (2, "private-grade-*")):
        person = await target.enter(user, token=await target.token(user, rooms=[entry]))
        ack = await person.ask("join-room", room)
        must(is_yes(ack), f"a token with the entry {entry!r} did not open {room!r}")


def _seqs(person: Client) -> list[Any]:
    return [message.get("seq") for message in person.of("new-message")]
