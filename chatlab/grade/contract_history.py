"""The level Contract, scaling: what somebody who was away catches up with, and how it is paged."""

from __future__ import annotations

import asyncio
from typing import Any

from chatlab.grade.judge import is_yes, must, must_say_yes
from chatlab.grade.promise import SCALING, Level, Unready, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "join-catches-up",
    SCALING,
    _CONTRACT,
    "Joining with `after` and `epoch` gives the messages from `after` + 1 without gap.",
    needs=("join-tells", "delivered"),
)
async def join_catches_up(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    for turn in range(5):
        await alice.say(f"message {turn}", room=room)
    seen = await bob.ask("join-room", {"room": room})
    await bob.close()
    bob = await target.enter(1)
    payload = {"room": room, "after": 2, "epoch": seen["epoch"]}
    ack = must_say_yes(await bob.ask("join-room", payload), "joining with `after`")
    got = [message["seq"] for message in ack["messages"]]
    must(got == [3, 4, 5], f"after 2 of 5 the messages {got} came")
    must(ack["messages"][0]["text"] == "message 2", "they carry other texts than were sent")
    must(ack["lost"] is False and ack["more"] is False, "it was called lost, or not all")


@promise(
    "join-newest",
    SCALING,
    _CONTRACT,
    "Joining without `after` gives the newest 50.",
    users=4,
    needs=("join-catches-up",),
)
async def join_newest(target: Target) -> None:
    room, _ = await _room_of(target, 54)
    (dave,) = [await target.enter(3)]
    ack = must_say_yes(await dave.ask("join-room", room), "joining")
    got = [message["seq"] for message in ack["messages"]]
    must(got == list(range(5, 55)), f"of 54 messages {len(got)} came, from {got[:1]} to {got[-1:]}")
    must(ack["lost"] is False, "a room joined for the first time was called lost")


@promise(
    "catch-up-bounded",
    SCALING,
    _CONTRACT,
    "A join with `after` gives at most 200 messages, `more` when there are more; `history` gives "
    "the rest.",
    users=4,
    needs=("join-catches-up", "history-pages"),
    floods=True,
)
async def catch_up_bounded(target: Target) -> None:
    room, epoch = await _room_of(target, 204, sockets=3)
    dave = await target.enter(3)
    payload = {"room": room, "after": 1, "epoch": epoch}
    ack = must_say_yes(await dave.ask("join-room", payload), "joining with `after`")
    got = [message["seq"] for message in ack["messages"]]
    must(got == list(range(2, 2 + len(got))), "the messages have a gap, or do not begin at 2")
    must(0 < len(got) <= 200, f"{len(got)} messages came at once")
    must(ack["more"] is True, "it does not say `more`")
    page = must_say_yes(await dave.ask("history", {"room": room, "after": got[-1]}), "`history`")
    rest = [message["seq"] for message in page["messages"]]
    must(rest == list(range(got[-1] + 1, 205)), f"`history` gave {rest[:1]} to {rest[-1:]}")


@promise(
    "lost-told",
    SCALING,
    _CONTRACT,
    "`lost` is true, and the newest come, when `epoch` is another one or `after` is above the "
    "newest `seq`.",
    needs=("join-catches-up",),
)
async def lost_told(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    for turn in range(3):
        await alice.say(f"message {turn}", room=room)
    epoch = (await alice.ask("join-room", {"room": room}))["epoch"]
    for what, payload in (
        ("another epoch", {"room": room, "after": 1, "epoch": epoch + "x"}),
        ("an `after` above the newest", {"room": room, "after": 9, "epoch": epoch}),
    ):
        bob = await target.enter(1)
        ack = must_say_yes(await bob.ask("join-room", payload), f"joining with {what}")
        must(ack["lost"] is True, f"joining with {what} was not told `lost`")
        got = [message["seq"] for message in ack["messages"]]
        must(got == [1, 2, 3], f"joining with {what} gave the messages {got}")


@promise(
    "history-pages",
    SCALING,
    _CONTRACT,
    "`history` gives `messages`, `more`, `epoch`: after or before a `seq`, `limit` at a time, 50 "
    "by default.",
    users=4,
    needs=("join-catches-up",),
)
async def history_pages(target: Target) -> None:
    room, _ = await _room_of(target, 54)
    (dave,) = await target.joined(room, 3)
    for asked, first, last, more in (
        ({"after": 0, "limit": 10}, 1, 10, True),
        ({"after": 50}, 51, 54, False),
        ({"before": 11, "limit": 10}, 1, 10, False),
        ({"before": 40, "limit": 5}, 35, 39, True),
        ({}, 5, 54, True),
    ):
        ack = must_say_yes(await dave.ask("history", {"room": room, **asked}), "`history`")
        got = [message["seq"] for message in ack["messages"]]
        wanted = list(range(first, last + 1))
        must(
            got == wanted, f"`history` with {asked} gave {got[:1]} to {got[-1:]}, {len(got)} in all"
        )
        must(ack["more"] is more, f"`history` with {asked} says `more: {ack['more']}`")
        must(isinstance(ack.get("epoch"), str), "`history` gives no `epoch`")


async def _room_of(target: Target, count: int, *, sockets: int = 1) -> tuple[str, str]:
    """A room with so many messages, and its epoch: of three users, within everybody's limits.

    More `sockets` of each are for more than 54 messages; it then takes its time.
    """
    room = target.room()
    people = [(await target.joined(room, user))[0] for _ in range(sockets) for user in range(3)]
    epoch = (await people[0].join(room)).get("epoch", "")
    done = 0
    while done < count:
        share = min(count - done, 18 * 3)
        sends = [
            (person, await person.begin("send-message", _text(done + turn), hurry=True))
            for turn, person in zip(range(share), people * share, strict=False)
        ]
        for person, number in sends:
            if not is_yes(await person.answer(number)):
                raise Unready("a message that comes first was refused")
        done += share
        if done < count:
            await asyncio.sleep(2.0)  # until a bucket of 40 that gave 18 is full again
    return room, epoch


def _text(turn: int) -> dict[str, Any]:
    return {"text": f"message {turn}"}
