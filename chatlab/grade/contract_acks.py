"""The level Contract, acknowledgements: what an ack says, keys, and the order of acks."""

from __future__ import annotations

from typing import Any, Final

from chatlab.grade.judge import ISO, must, must_be_envelope, must_say_no, must_say_yes
from chatlab.grade.promise import ACKNOWLEDGEMENTS, Level, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
EVENTS: Final = (
    "join-room",
    "leave-room",
    "send-message",
    "history",
    "mark-delivered",
    "mark-read",
    "typing",
    "who",
    "refresh-token",
)
"""The contract's events from client to server."""


@promise(
    "every-event-acked",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "Every event answers its ack with `ok`; where it is false, with `error`, `code` and `retry`.",
    users=1,
    needs=("send-acked",),
)
async def every_event_acked(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    for event in EVENTS:
        for payload in ({}, {"room": room, "text": "hi"}):
            try:
                ack = await alice.ask(event, payload)
            except Silent:
                raise Silent(f"`{event}` was not answered") from None
            must_be_envelope(ack, f"`{event}`")


@promise(
    "join-tells",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "The ack of `join-room` gives `room`, `seq`, `epoch`, `users`, `count`, `messages`, `more`, "
    "`lost` and `read`.",
    users=1,
    needs=("join-acked",),
)
async def join_tells(target: Target) -> None:
    room = target.room()
    alice = await target.enter(0)
    for payload in (room, {"room": room}):
        ack = must_say_yes(await alice.ask("join-room", payload), "joining a room")
        wanted: dict[str, Any] = {
            "room": room,
            "seq": 0,
            "users": [alice.user],
            "count": 1,
            "messages": [],
            "more": False,
            "lost": False,
            "read": 0,
        }
        _must_have(ack, wanted, "the ack of joining an empty room")
        good = isinstance(ack.get("epoch"), str) and ack["epoch"]
        must(good, f"`epoch` is {ack.get('epoch')!r}")


@promise(
    "send-tells",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "The ack of `send-message` gives `id`, `seq`, `timestamp` and `duplicate`.",
    users=1,
    needs=("send-acked",),
)
async def send_tells(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    ack = await alice.say("hello")
    must(isinstance(ack.get("id"), str) and ack["id"], f"`id` is {ack.get('id')!r}, not a string")
    moment = ack.get("timestamp")
    must(isinstance(moment, str) and ISO.fullmatch(moment), f"`timestamp` is {moment!r}")
    _must_have(ack, {"seq": 1, "duplicate": False}, "the ack of the first message in a room")


@promise(
    "leave-acked",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`leave-room`, with `{room}` or the bare name, is acked with `room`; nothing of the room comes "
    "afterwards.",
    users=3,
    needs=("delivered",),
)
async def leave_acked(target: Target) -> None:
    room = target.room()
    alice, bob, carol = await target.joined(room, 0, 1, 2)
    for person, payload in ((bob, {"room": room}), (carol, room)):
        ack = must_say_yes(await person.ask("leave-room", payload), "leaving a room")
        _must_have(ack, {"room": room}, "the ack of leaving a room")
        must_say_no(
            await person.ask("send-message", {"text": "still here", "room": room}),
            "a message after leaving",
            code="not_in_room",
        )
    await alice.say("among ourselves")
    await alice.ask("who", {"room": room})
    await target.quiet()
    for person in (bob, carol):
        must("among ourselves" not in person.texts, f"{person.name}, who had left, received it")


@promise(
    "message-fields",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`new-message` is `{id, seq, room, user, text, timestamp}`: where a field is not listed it "
    "does not exist.",
    needs=("delivered",),
)
async def message_fields(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    ack = await alice.say("hello")
    message = await bob.expect_text("hello")
    fields = {"id", "seq", "room", "user", "text", "timestamp"}
    missing, unknown = fields - set(message), set(message) - fields
    must(not missing, f"`new-message` has no {', '.join(sorted(missing))}")
    must(not unknown, f"`new-message` has fields of no contract: {', '.join(sorted(unknown))}")
    wanted = {"seq": ack.get("seq"), "room": room, "user": alice.user}
    _must_have(message, wanted, "`new-message`")


@promise(
    "seq-counts",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "`seq` starts at 1 and grows by 1 in each room, without gap.",
    needs=("delivered",),
)
async def seq_counts(target: Target) -> None:
    for room in (target.room(), target.room()):
        alice, bob = await target.joined(room, 0, 1)
        numbers = [(await person.say("hello", room=room)).get("seq") for person in (alice, bob) * 2]
        must(numbers == [1, 2, 3, 4], f"four messages of a room were numbered {numbers}")


@promise(
    "acks-in-order",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "Acks leave in the order in which the events arrived, whatever takes how long.",
    users=1,
    needs=("send-acked",),
)
async def acks_in_order(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    events: list[tuple[str, Any]] = [
        ("send-message", {"text": "one"}),
        ("history", {"room": room}),
        ("who", {"room": room}),
        ("send-message", {"text": ""}),
        ("send-message", {"text": "two"}),
        ("typing", {"room": room, "typing": True}),
    ]
    numbers = [await alice.begin(event, payload, hurry=True) for event, payload in events * 2]
    for number in numbers:
        await alice.answer(number)
    came = [number for number in alice.acks if number in numbers]
    must(came == numbers, f"events {numbers} were answered in the order {came}")


@promise(
    "sends-in-order",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "The messages of one socket are stored in the order in which they were sent.",
    needs=("delivered",),
)
async def sends_in_order(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    texts = [f"message {number}" for number in range(12)]
    for text in texts:
        await alice.begin("send-message", {"text": text}, hurry=True)
    await bob.expect_text(texts[-1])
    must(bob.texts == texts, f"they arrived as {bob.texts}")


def _must_have(data: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    for name, value in wanted.items():
        must(name in data, f"{what} has no `{name}`")
        given = data[name]
        same = given == value and isinstance(given, bool) == isinstance(value, bool)
        must(same, f"`{name}` of {what} is {given!r}, not {value!r}")
