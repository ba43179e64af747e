"""The level Contract, acknowledgements: a retry with the same key is the same message."""

from __future__ import annotations

from typing import Any

from chatlab.grade.judge import must, must_say_no, must_say_yes
from chatlab.grade.promise import ACKNOWLEDGEMENTS, Level, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "key-answers-again",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "A second send with the same `key` is answered with the first one's `id`, `seq`, `timestamp` "
    "and `duplicate: true`.",
    users=1,
    needs=("send-acked",),
)
async def key_answers_again(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    payload = {"text": "once", "room": room, "key": "k"}
    first = must_say_yes(await alice.ask("send-message", payload), "a message with a key")
    again = must_say_yes(await alice.ask("send-message", payload), "its retry")
    _must_be_same(first, again)
    must(first.get("duplicate") is False, "the first send with a key was called a duplicate")


@promise(
    "key-stores-once",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "However often a message is sent with one `key`, at once or again, it is stored and delivered "
    "once.",
    needs=("delivered",),
)
async def key_stores_once(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    payload = {"text": "once", "room": room, "key": "k"}
    numbers = [await alice.begin("send-message", payload, hurry=True) for _ in range(4)]
    for number in numbers:
        must_say_yes(await alice.answer(number), "a message with a key")
    await alice.say("marker", room=room)
    await bob.expect_text("marker")
    await target.quiet()
    count = bob.texts.count("once")
    must(count == 1, f"one message, sent four times with one key, was delivered {count} times")


@promise(
    "key-outlives-socket",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "The key is the user's, not the socket's: a retry over a new connection is the same message.",
    users=1,
    needs=("key-answers-again",),
)
async def key_outlives_socket(target: Target) -> None:
    room = target.room()
    payload = {"text": "once", "room": room, "key": "k"}
    acks = []
    for _ in range(2):
        (alice,) = await target.joined(room, 0)
        acks.append(must_say_yes(await alice.ask("send-message", payload), "a message with a key"))
        await alice.close()
    _must_be_same(*acks)


@promise(
    "key-is-the-users",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "A key is unique per user and room: another user's, or in another room, is another message.",
    needs=("key-answers-again",),
)
async def key_is_the_users(target: Target) -> None:
    room, other = target.room(), target.room()
    alice, bob = await target.joined(room, 0, 1)
    await alice.join(other)
    acks = [
        must_say_yes(
            await person.ask("send-message", {"text": "hello", "room": where, "key": "k"}),
            "a message with a key",
        )
        for person, where in ((alice, room), (bob, room), (alice, other))
    ]
    must(not any(ack.get("duplicate") for ack in acks), "one of them was called a duplicate")
    must(len({ack["id"] for ack in acks}) == 3, "two of them have one id")


@promise(
    "key-with-other-text",
    ACKNOWLEDGEMENTS,
    _CONTRACT,
    "A known `key` with another text is `invalid_payload`.",
    users=1,
    needs=("key-answers-again",),
)
async def key_with_other_text(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await alice.say("one text", room=room, key="k")
    ack = await alice.ask("send-message", {"text": "another text", "room": room, "key": "k"})
    must_say_no(ack, "a known key with another text", code="invalid_payload", retry=False)


def _must_be_same(first: dict[str, Any], again: dict[str, Any]) -> None:
    for name in ("id", "seq", "timestamp"):
        one, two = first.get(name), again.get(name)
        must(one == two, f"the retry was answered with `{name}` {two!r}, the first with {one!r}")
    must(again.get("duplicate") is True, "the retry was not called a duplicate")
