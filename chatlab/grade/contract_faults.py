"""The level Contract, what holds while a part fails: only with `--control`, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from chatlab.grade.contract_http import get
from chatlab.grade.judge import must, must_refuse, must_say_no, must_say_yes
from chatlab.grade.lesson_errors import served_again
from chatlab.grade.promise import ERRORS, SCALING, Level, NotJudged, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
_STORAGE = ("stop-storage", "start-storage")
_IN_TIME = 2.0  # seconds that `unavailable` takes at most
_SLACK = 1.0  # seconds that this machine may add
_PRESENCE = 15.0  # seconds after which a dead server's users are gone


@promise(
    "unavailable-in-time",
    ERRORS,
    _CONTRACT,
    "While storage is away `send-message` is answered within 2 s: `unavailable`, `retry: true`.",
    control=_STORAGE,
    needs=("storage-failure-acked",),
    alone=True,
)
async def unavailable_in_time(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    async with _without_storage(target):
        began = time.monotonic()
        ack = await alice.ask("send-message", {"text": "meanwhile"}, timeout=target.timeout + 5)
        seconds = time.monotonic() - began
        must_say_no(ack, "a message while storage is away", code="unavailable", retry=True)
        if seconds > _IN_TIME + _SLACK:
            raise Silent(f"the answer took {seconds:.1f} s")
        must(alice.closing is None, "the socket was closed")


@promise(
    "refusal-while-away",
    ERRORS,
    _CONTRACT,
    "Where the directory cannot be reached the connection is refused: `Server unavailable`, "
    "`unavailable`, `retry: true`.",
    users=1,
    control=_STORAGE,
    needs=("admits",),
    alone=True,
)
async def refusal_while_away(target: Target) -> None:
    async with _without_storage(target):
        client = await target.socket()
        await client.connect({"token": await target.token()}, timeout=target.timeout + 5)
        what = "a client while storage is away"
        refusal = must_refuse(client, what, message="Server unavailable")
        data = refusal.get("data")
        given = {name: data.get(name) for name in ("code", "retry")} if data else None
        must(given == {"code": "unavailable", "retry": True}, f"the refusal says {given}")


@promise(
    "outage-loses-nothing",
    ERRORS,
    _CONTRACT,
    "What was acked before storage went away is there when it is back; what is retried with its "
    "key is stored once.",
    control=_STORAGE,
    needs=("unavailable-in-time", "key-answers-again", "join-catches-up"),
    alone=True,
)
async def outage_loses_nothing(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    await alice.say("before", room=room)
    payload = {"text": "meanwhile", "room": room, "key": "k"}
    async with _without_storage(target):
        await alice.ask("send-message", payload, timeout=target.timeout + 5)

    async def sent() -> bool:
        (again,) = await target.joined(room, 0)
        ack = await again.ask("send-message", payload)
        return isinstance(ack, dict) and ack.get("ok") is True

    await _until(sent, 3 * target.timeout, "the retry was not taken after storage was back")
    (bob,) = [await target.enter(1)]
    messages = (await bob.join(room)).get("messages", [])
    texts = [message["text"] for message in messages]
    must(texts == ["before", "meanwhile"], f"the room holds {texts}")


@promise(
    "health-without-storage",
    SCALING,
    _CONTRACT,
    "`GET /healthz` is 503 while storage is away, and 200 again afterwards.",
    control=_STORAGE,
    needs=("health",),
    alone=True,
)
async def health_without_storage(target: Target) -> None:
    async def is_status(wanted: int) -> bool:
        return (await get(target, "/healthz"))[0] == wanted

    async with _without_storage(target):
        await _until(lambda: is_status(503), 10, "`GET /healthz` is still 200")
    await _until(lambda: is_status(200), 3 * target.timeout, "`GET /healthz` is still 503")


@promise(
    "stop-says-closing",
    ERRORS,
    _CONTRACT,
    "A server that is asked to finish says `closing`, closes the transport, and its clients "
    "return.",
    control=("stop", "start"),
    needs=("admits",),
    alone=True,
)
async def stop_says_closing(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    try:
        await target.control("stop", "0")
        end = await alice.ended(timeout=2 * target.timeout)
    finally:
        await _start(target, 0)
    if end is None:
        raise Silent("a client of a server that was stopped is still connected")
    must(alice.of("closing"), "the client was closed without being told `closing`")
    must(not end.dismissed, "it was closed by a DISCONNECT: the client will not return by itself")
    await served_again(target)


@promise(
    "acked-survives-restart",
    ERRORS,
    _CONTRACT,
    "An ack means stored: what was acked is there after the server was killed.",
    control=("kill", "start"),
    needs=("join-catches-up",),
    alone=True,
)
async def acked_survives_restart(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0)
    epoch = (await alice.join(room))["epoch"]
    acked = [
        await alice.begin("send-message", {"text": f"message {n}"}, hurry=True) for n in range(8)
    ]
    count = len([must_say_yes(await alice.answer(number), "a message") for number in acked])
    await _kill(target, 0)
    await _start(target, 0)
    await served_again(target)
    bob = await target.enter(1)
    payload = {"room": room, "after": 0, "epoch": epoch}
    ack = must_say_yes(await bob.ask("join-room", payload), "joining after the restart")
    texts = [message["text"] for message in ack["messages"]]
    must(texts == [f"message {n}" for n in range(count)], f"of {count} acked it has {len(texts)}")
    must(ack["lost"] is False, "it says `lost`")


@promise(
    "catch-up-elsewhere",
    SCALING,
    _CONTRACT,
    "When a server is killed, its clients catch up on another, and nothing acked is lost.",
    servers=2,
    control=("kill", "start"),
    needs=("history-across-servers",),
    alone=True,
)
async def catch_up_elsewhere(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    bob = await target.enter(1, server=1)
    epoch = (await bob.join(room))["epoch"]
    await alice.say("one")
    await bob.expect_text("one")
    await bob.say("two")
    await _kill(target, 1)
    try:
        await alice.say("three")
        again = await target.enter(1, server=0)
        payload = {"room": room, "after": 1, "epoch": epoch}
        ack = must_say_yes(await again.ask("join-room", payload), "joining on another server")
    finally:
        await _start(target, 1)
    texts = [message["text"] for message in ack["messages"]]
    must(texts == ["two", "three"] and ack["lost"] is False, f"it caught up with {texts}")


@promise(
    "dead-server-leaves",
    SCALING,
    _CONTRACT,
    "The users of a server that was killed leave: `user-left` comes, and `who` forgets them.",
    servers=2,
    control=("kill", "start"),
    needs=("who-across-servers",),
    alone=True,
)
async def dead_server_leaves(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    (bob,) = await target.joined(room, 1, server=1)
    await alice.expect("user-joined")
    await _kill(target, 1)
    try:
        patience = _PRESENCE + 5 + target.timeout
        await alice.expect("user-left", lambda data: data["user"] == bob.user, timeout=patience)
        users = (await alice.ask("who", {"room": room})).get("users")
    finally:
        await _start(target, 1)
    must(users == [alice.user], f"`who` still names {users!r}")


@asynccontextmanager
async def _without_storage(target: Target) -> AsyncIterator[None]:
    await target.control("stop-storage")
    try:
        yield
    finally:
        await target.control("start-storage")
        await served_again(target)


async def _kill(target: Target, server: int) -> None:
    try:
        await target.control("kill", str(server))
    except NotJudged:
        await _start(target, server)
        raise


async def _start(target: Target, server: int) -> None:
    await target.control("start", str(server))

    async def answers() -> bool:
        return await target.reachable(server)

    await _until(answers, 3 * target.timeout, "a server that was started does not answer")


async def _until(holds: Callable[[], Awaitable[Any]], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if await holds():
                return
        except (NotJudged, Silent):
            pass
        if time.monotonic() > deadline:
            raise Silent(otherwise)
        await asyncio.sleep(0.2)
