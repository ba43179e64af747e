"""The level Contract, authentication: the token's life while somebody is connected."""

from __future__ import annotations

import time
from typing import Final

from chatlab.grade.judge import ISO, must, must_say_no, must_say_yes
from chatlab.grade.promise import AUTHENTICATION, Level, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
_LIFE: Final = 4.0  # seconds of a token whose end is waited for


@promise(
    "expiring-told",
    AUTHENTICATION,
    _CONTRACT,
    "`token-expiring {expiresAt}` comes before the token ends: 60 s, or half of its remaining "
    "life.",
    users=1,
    needs=("admits",),
)
async def expiring_told(target: Target) -> None:
    alice = await target.enter(0, token=await target.token(ttl=_LIFE))
    told = await alice.expect("token-expiring", timeout=_LIFE + target.timeout)
    must(not alice.of("token-expired"), "it came after the end")
    moment = told.get("expiresAt")
    must(isinstance(moment, str) and ISO.fullmatch(moment), f"`expiresAt` is {moment!r}")


@promise(
    "expiry-closes",
    AUTHENTICATION,
    _CONTRACT,
    "At `exp`: `token-expired`, then the transport is closed, so that the client returns.",
    users=1,
    needs=("admits",),
)
async def expiry_closes(target: Target) -> None:
    alice = await target.enter(0, token=await target.token(ttl=_LIFE))
    end = await alice.ended(timeout=_LIFE + target.timeout)
    if end is None:
        raise Silent("a socket whose token has expired is still connected")
    must(alice.of("token-expired"), "the socket was closed without being told `token-expired`")
    must(not end.dismissed, "it was closed by a DISCONNECT: the client will not return by itself")


@promise(
    "refresh-prolongs",
    AUTHENTICATION,
    _CONTRACT,
    "`refresh-token` is acked with `expiresAt`, and the session goes on past the first token's "
    "end.",
    users=1,
    needs=("admits",),
)
async def refresh_prolongs(target: Target) -> None:
    began = time.monotonic()
    alice = await target.enter(0, token=await target.token(ttl=_LIFE))
    ack = await alice.ask("refresh-token", {"token": await target.token(ttl=900)})
    moment = must_say_yes(ack, "`refresh-token`").get("expiresAt")
    must(isinstance(moment, str) and ISO.fullmatch(moment), f"`expiresAt` is {moment!r}")
    left = _LIFE + 0.5 - (time.monotonic() - began)
    must(await alice.ended(timeout=max(0.1, left)) is None, "it was closed all the same")
    # Where the machine pauses, the end may be as late as this look at it; it comes before an ack.
    ack = await alice.ask("refresh-token", {"token": await target.token(ttl=900)})
    must_say_yes(ack, "`refresh-token` after the first token's end")
    must(not alice.of("token-expired"), "`token-expired` came all the same")


@promise(
    "refresh-same-user",
    AUTHENTICATION,
    _CONTRACT,
    "`refresh-token` with another user's token is `forbidden`, and changes nothing.",
    needs=("refresh-prolongs", "delivered"),
)
async def refresh_same_user(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    ack = await alice.ask("refresh-token", {"token": await target.token(1)})
    must_say_no(ack, "another user's token", code="forbidden", retry=False)
    await alice.say("who am I")
    told = (await bob.expect_text("who am I")).get("user")
    must(told == alice.user, f"after it the user was {told!r}")


@promise(
    "refresh-checked",
    AUTHENTICATION,
    _CONTRACT,
    "`refresh-token` with a bad token is `invalid_token` or `token_expired`, and the session goes "
    "on.",
    users=1,
    needs=("refresh-prolongs", "send-acked"),
)
async def refresh_checked(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    ack = await alice.ask("refresh-token", {"token": "garbage"})
    must_say_no(ack, "garbage for a token", code="invalid_token", retry=False)
    expired = await target.token(kind="expired", ttl=-60)
    ack = await alice.ask("refresh-token", {"token": expired})
    must_say_no(ack, "an expired token", code="token_expired", retry=False)
    must_say_yes(await alice.ask("send-message", {"text": "still here"}), "a message after that")


@promise(
    "refresh-narrows",
    AUTHENTICATION,
    _CONTRACT,
    "Narrower `rooms` in the new token make the socket leave the rooms that it lost.",
    needs=("refresh-prolongs", "private-rooms", "delivered"),
)
async def refresh_narrows(target: Target) -> None:
    room = target.room("private-grade")
    alice = await target.enter(0, token=await target.token(rooms=[room]))
    bob = await target.enter(1, token=await target.token(1, rooms=[room]))
    for person in (alice, bob):
        await person.join(room)
    must_say_yes(
        await alice.ask("refresh-token", {"token": await target.token(rooms=["private-other"])}),
        "`refresh-token`",
    )
    ack = await alice.ask("send-message", {"text": "hi", "room": room})
    must_say_no(ack, "a message to a room that was lost", code="not_in_room")
    await bob.say("among ourselves")
    await target.quiet()
    must("among ourselves" not in alice.texts, "it still received what was said there")
