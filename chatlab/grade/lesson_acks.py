"""The level Lesson, acknowledgements: the sender knows what became of a message.

Rooms are joined by their bare name and messages carry only a text, as the lesson's client does.
"""

from __future__ import annotations

from chatlab.grade.judge import ISO, must, must_say_yes
from chatlab.grade.promise import ACKNOWLEDGEMENTS, Level, promise
from chatlab.grade.target import Target

_LESSON = Level.LESSON


@promise(
    "join-acked",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "`join-room` with a room's name is acked with `ok: true`.",
    users=1,
    needs=("admits",),
)
async def join_acked(target: Target) -> None:
    alice = await target.enter(0)
    must_say_yes(await alice.ask("join-room", target.room()), "joining a room")


@promise(
    "send-acked",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "`send-message` is acked with `ok: true` and the message's `id`.",
    users=1,
    needs=("join-acked",),
)
async def send_acked(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    ack = must_say_yes(await alice.ask("send-message", {"text": "hello"}), "a message")
    must(ack.get("id") not in (None, ""), "the ack of a message has no `id`")


@promise(
    "acked-once",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "Every event answers its ack exactly once.",
    users=1,
    needs=("send-acked",),
)
async def acked_once(target: Target) -> None:
    alice = await target.enter(0)
    numbers = [await alice.begin("join-room", target.room())]
    for text in ("one", "", "two"):
        numbers.append(await alice.begin("send-message", {"text": text}))
    for number in numbers:
        await alice.answer(number)
    # A second answer would come before the answer to what is asked after it, or shortly after.
    await alice.say("three")
    await target.quiet()
    for number in numbers:
        must(len(alice.acks[number]) == 1, f"ack {number} came {len(alice.acks[number])} times")


@promise(
    "ids-differ",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "The acked `id` names one message: no two messages share it.",
    users=4,
    needs=("send-acked",),
)
async def ids_differ(target: Target) -> None:
    people = await target.joined(target.room(), 0, 1, 2, 3)
    sends = [
        (person, await person.begin("send-message", {"text": f"message {number}"}, hurry=True))
        for number in range(5)
        for person in people
    ]
    acks = [must_say_yes(await person.answer(sent), "a message") for person, sent in sends]
    ids = [ack["id"] for ack in acks]
    count = len({repr(id) for id in ids})
    must(count == len(ids), f"{len(ids)} messages were acked with only {count} different ids")


@promise(
    "delivered",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "The others in the room receive `new-message` with `id`, `user`, `text`, `room`, `timestamp`.",
    needs=("send-acked",),
)
async def delivered(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    await alice.say("hello")
    message = await bob.expect_text("hello")
    missing = [name for name in ("id", "user", "text", "room", "timestamp") if name not in message]
    must(not missing, f"`new-message` has no {', '.join(missing)}")
    must(message["room"] == room, f"`new-message` names the room {message['room']!r}")


@promise(
    "ack-names-message",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "The ack's `id` and `timestamp` are those of the `new-message` that the others receive.",
    needs=("delivered",),
)
async def ack_names_message(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    ack = await alice.say("hello")
    message = await bob.expect_text("hello")
    for name in ("id", "timestamp"):
        same = ack.get(name) == message.get(name) and ack.get(name) is not None
        must(same, f"the ack's `{name}` is {ack.get(name)!r}, the message's {message.get(name)!r}")


@promise(
    "timestamps",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "Times are ISO 8601 UTC with milliseconds and `Z`, as `Date.toISOString()` prints them.",
    needs=("delivered",),
)
async def timestamps(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    ack = await alice.say("hello")
    message = await bob.expect_text("hello")
    for where, moment in (("ack", ack.get("timestamp")), ("message", message.get("timestamp"))):
        good = isinstance(moment, str) and ISO.fullmatch(moment)
        must(good, f"the {where}'s `timestamp` is {moment!r}")


@promise(
    "sender-skipped",
    ACKNOWLEDGEMENTS,
    _LESSON,
    "The sender has the ack and does not receive the own message as `new-message` as well.",
    needs=("delivered",),
)
async def sender_skipped(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    await alice.say("mine")
    await bob.expect_text("mine")
    await bob.say("yours")
    await alice.expect_text("yours")
    await target.quiet()
    must("mine" not in alice.texts, "the sender received the own message")
