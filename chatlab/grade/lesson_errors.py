"""The level Lesson, error handling: what breaks is answered, and breaks nothing else."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from chatlab.grade.judge import INTERNAL, is_yes, must, must_say_no
from chatlab.grade.promise import ERRORS, Level, NotJudged, Silent, promise
from chatlab.grade.target import Target

_LESSON = Level.LESSON

ODD: Final[tuple[tuple[str, Any], ...]] = (
    ("a message without `text`", {}),
    ("a number for a text", {"text": 5}),
    ("`null` for a text", {"text": None}),
    ("a list for a text", {"text": ["hello"]}),
    ("`null` for a message", None),
)
_LEAK: Final = re.compile(
    r"Traceback|\b\w*(?:Error|Exception)\b: |Cannot read propert|is not a function|NoneType"
    r"|object has no attribute|not supported between|has no len\(\)|\.(?:py|js)\b[:\"]| at 0x"
)


@promise(
    "empty-refused",
    ERRORS,
    _LESSON,
    "A message without text is acked with `ok: false` and `Message cannot be empty`.",
    users=1,
    needs=("send-acked",),
)
async def empty_refused(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    for text in ("", "  \n\t "):
        ack = await alice.ask("send-message", {"text": text})
        must_say_no(ack, "an empty message", error="Message cannot be empty")


@promise(
    "trimmed",
    ERRORS,
    _LESSON,
    "A message's text is trimmed.",
    needs=("delivered",),
)
async def trimmed(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    ack = await alice.say("  hello \n")
    message = await bob.expect("new-message", lambda data: data.get("id") == ack.get("id"))
    must(message["text"] == "hello", f"the text arrived as {message['text']!r}")


@promise(
    "failure-acked",
    ERRORS,
    _LESSON,
    "Whatever goes wrong with an event, its ack comes, with `ok: false` and an `error`.",
    users=1,
    needs=("send-acked",),
)
async def failure_acked(target: Target) -> None:
    for what, ack in await _odd_acks(target):
        must_say_no(ack, what)


@promise(
    "validated",
    ERRORS,
    _LESSON,
    "Invalid or missing fields are found before processing: the ack says what is wrong.",
    users=1,
    needs=("failure-acked",),
)
async def validated(target: Target) -> None:
    for what, ack in await _odd_acks(target):
        told = ack.get("error")
        must(told != INTERNAL, f"{what} was found by a crash: the ack says only {told!r}")


@promise(
    "cause-not-sent",
    ERRORS,
    _LESSON,
    "What went wrong inside the server is logged, never sent.",
    users=1,
    needs=("failure-acked",),
)
async def cause_not_sent(target: Target) -> None:
    for what, ack in await _odd_acks(target):
        leak = _LEAK.search(str(ack.get("error")))
        must(leak is None, f"{what} was answered with the text of an exception")


@promise(
    "goes-on",
    ERRORS,
    _LESSON,
    "After an event that failed the same socket is served as before.",
    needs=("delivered",),
)
async def goes_on(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    numbers = [await alice.begin("send-message", payload) for _what, payload in ODD]
    # Whether each of them is answered is judged elsewhere.
    await alice.wait(lambda: all(number in alice.acks for number in numbers) or None, 1.0)
    await target.quiet()
    must(alice.closing is None, "the socket was closed for it")
    ack = await alice.ask("send-message", {"text": "still here"})
    must(is_yes(ack), "a good message after bad ones was not acked with `ok: true`")
    await bob.expect_text("still here")


@promise(
    "stranger-unheard",
    ERRORS,
    _LESSON,
    "A message of somebody who has joined no room reaches nobody.",
    users=4,
    needs=("delivered",),
)
async def stranger_unheard(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    outsider, listener = await target.enter(2), await target.enter(3)
    number = await outsider.begin("send-message", {"text": "let me in"})
    # A server that does not answer this one is judged elsewhere.
    await outsider.wait(lambda: outsider.acks.get(number), 1.0)
    await alice.say("marker")
    await bob.expect_text("marker")
    await target.quiet()
    for person in (alice, bob, listener):
        must("let me in" not in person.texts, f"{person.name} received it")


@promise(
    "storage-failure-acked",
    ERRORS,
    _LESSON,
    "Where storage fails, the ack comes with `ok: false`; when it is back, messages are stored.",
    control=("stop-storage", "start-storage"),
    needs=("send-acked",),
    alone=True,
)
async def storage_failure_acked(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    await alice.say("before")
    try:
        await target.control("stop-storage")
        patience = max(10.0, target.timeout)
        ack = await alice.ask("send-message", {"text": "meanwhile"}, timeout=patience)
        must_say_no(ack, "a message while storage is away")
    finally:
        await target.control("start-storage")
    await served_again(target)


@promise(
    "stays-up",
    ERRORS,
    _LESSON,
    "No event of a client ends the server, whatever it carries and whether or not it wants an ack.",
    needs=("admits",),
    risky=True,
)
async def stays_up(target: Target) -> None:
    must(await target.reachable(), "the server went away while other promises were tried")
    watcher = await target.enter(1)
    room = target.room()
    odd: list[tuple[Any, ...]] = [(), (None,), ({},), (5,), ([],), ({"text": 5},), (room,)]
    try:
        for event in ("join-room", "send-message", "leave-room"):
            client = await target.enter(0)
            for payload in odd:
                if client.closing:  # a server may close for it, as long as it stays
                    client = await target.enter(0)
                await client.emit(event, *payload)
        last = await target.enter(0)
        await last.emit("join-room", room)
        await last.emit("send-message", {"text": "no ack wanted"})
        await last.begin("join-room")
        await last.begin("send-message")
        await target.quiet()
    except NotJudged:
        # A client was not let in any more: because there is nobody left to let it in?
        if await target.reachable():
            raise
    must(await target.reachable(), "the server is gone: events such as these ended it")
    must(watcher.closing is None, "somebody else's connection was closed")
    await target.enter(0)


async def served_again(target: Target) -> None:
    """Wait until a new client can join and send. Raises `Silent` where it cannot in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 3 * target.timeout
    while True:
        try:
            (person,) = await target.joined(target.room(), len(target.users) - 1)
            await person.say("is anybody there")
        except NotJudged as error:
            if loop.time() > deadline:
                raise Silent(f"a new client is not served: {error}") from None
            await asyncio.sleep(0.5)
        else:
            return


async def _odd_acks(target: Target) -> list[tuple[str, Any]]:
    (alice,) = await target.joined(target.room(), 0)
    acks = []
    for what, payload in ODD:
        try:
            acks.append((what, await alice.ask("send-message", payload)))
        except Silent:
            raise Silent(f"{what} was not answered: its ack never came") from None
    return acks
