"""The level Contract, acknowledgements: delivered and read, and who is typing."""

from __future__ import annotations

import time
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import must, must_say_no, must_say_yes
from chatlab.grade.promise import ACKNOWLEDGEMENTS, Level, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "delivered-receipts",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`mark-delivered` tells the room: `receipts {room, users: {id: {delivered, read}}}`.",
    needs=("delivered",),
)
async def delivered_receipts(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    await alice.say("hello")
    must_say_yes(await bob.ask("mark-delivered", {"room": room, "seq": 1}), "`mark-delivered`")
    await _expect_receipt(alice, room, bob.user, delivered=1, read=0)


@promise(
    "read-receipts",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`mark-read` implies delivered, and tells the room likewise.",
    needs=("delivered",),
)
async def read_receipts(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    await alice.say("hello")
    must_say_yes(await bob.ask("mark-read", {"room": room, "seq": 1}), "`mark-read`")
    await _expect_receipt(alice, room, bob.user, delivered=1, read=1)


@promise(
    "cursor-kept",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "A cursor is the user's and never goes back: `read` of the next join's ack gives it.",
    needs=("read-receipts", "join-tells"),
)
async def cursor_kept(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    for text in ("one", "two"):
        await alice.say(text)
    for seq in (2, 1):
        ack = await bob.ask("mark-read", {"room": room, "seq": seq})
        must_say_yes(ack, "`mark-read`")
    await bob.close()
    again = (await target.enter(1)).join(room)
    found = (await again).get("read")
    must(found == 2, f"`read` is {found!r} after marking 2 and then 1")


@promise(
    "no-receipt-ahead",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "Marking above the newest `seq` is `invalid_payload`.",
    users=1,
    needs=("send-acked",),
)
async def no_receipt_ahead(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await alice.say("hello")
    for event in ("mark-delivered", "mark-read"):
        ack = await alice.ask(event, {"room": room, "seq": 2})
        must_say_no(ack, f"`{event}` above the newest", code="invalid_payload", retry=False)


@promise(
    "receipts-gathered",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`receipts` come at most once a second per room.",
    needs=("read-receipts",),
)
async def receipts_gathered(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    for number in range(6):
        await alice.say(f"message {number}", room=room)
    began = time.monotonic()
    for number in range(6):
        await bob.begin("mark-read", {"room": room, "seq": number + 1}, hurry=True)
    await _expect_receipt(alice, room, bob.user, delivered=6, read=6)
    seconds = time.monotonic() - began
    count = len(alice.of("receipts"))
    must(count <= seconds + 2, f"{count} came in {seconds:.1f} s")


@promise(
    "typing-told",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`typing` reaches the room but the sender: `{room, user, typing}`.",
    needs=("delivered",),
)
async def typing_told(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    wanted = {"room": room, "user": alice.user, "typing": True}
    must_say_yes(await alice.ask("typing", {"room": room, "typing": True}), "`typing`")
    told = await bob.expect("typing")
    must(told == wanted, f"`typing` came as {told!r}")
    await bob.say("marker")
    await alice.expect_text("marker")
    await target.quiet()
    must(not alice.of("typing"), "`typing` came back to its sender")


async def _expect_receipt(
    person: Client, room: str, user: str, *, delivered: int, read: int
) -> None:
    wanted = {"delivered": delivered, "read": read}

    def told(data: Any) -> bool:
        return bool(data["room"] == room and data["users"].get(user) == wanted)

    await person.expect("receipts", told)
