"""The level Lesson, authentication: who somebody is, is known before the connection is accepted.

Refusals are told apart by their message, as the lesson's client does; codes belong to the level
Contract.
"""

from __future__ import annotations

from chatlab.grade.judge import must, must_refuse
from chatlab.grade.promise import AUTHENTICATION, Level, NotJudged, promise
from chatlab.grade.target import Target
from chatlab.grade.tokens import altered, unsigned

_LESSON = Level.LESSON
REQUIRED = "Authentication required"
INVALID = "Invalid token"
UNKNOWN = "User not found"


@promise(
    "admits",
    AUTHENTICATION,
    _LESSON,
    "A client with a good token in `auth: {token}` is let in.",
    users=1,
)
async def admits(target: Target) -> None:
    alice = await target.knock({"token": await target.token()})
    told = alice.refusal.get("message") if isinstance(alice.refusal, dict) else None
    how = f"with {told!r}" if alice.refused else "by closing the connection"
    hint = "are the secret, issuer, audience and claims right?"
    must(alice.accepted is not None, f"a good token was refused {how}; {hint}")


@promise(
    "no-token-refused",
    AUTHENTICATION,
    _LESSON,
    "Without a token the connection is refused: `Authentication required`.",
    users=0,
)
async def no_token_refused(target: Target) -> None:
    for auth in (None, {}, {"token": ""}):
        client = await target.knock(auth)
        must_refuse(client, "a client without a token", message=REQUIRED)


@promise(
    "garbage-refused",
    AUTHENTICATION,
    _LESSON,
    "What is not a token is refused: `Invalid token`.",
    users=0,
)
async def garbage_refused(target: Target) -> None:
    for token in ("garbage", "a.b.c"):
        client = await target.knock({"token": token})
        must_refuse(client, "a client with garbage for a token", message=INVALID)


@promise(
    "forged-refused",
    AUTHENTICATION,
    _LESSON,
    "A token whose signature is not the server's is refused: `Invalid token`.",
    users=1,
    needs=("admits",),
)
async def forged_refused(target: Target) -> None:
    good = await target.token()
    try:
        forged = altered(good)
    except ValueError:
        raise NotJudged("the tokens are no JWTs with readable claims") from None
    client = await target.knock({"token": forged})
    must_refuse(client, "another name under an old signature", message=INVALID)
    try:
        other = await target.token(kind="other-secret")
    except NotJudged:
        return
    client = await target.knock({"token": other})
    must_refuse(client, "a token signed with another secret", message=INVALID)


@promise(
    "unsigned-refused",
    AUTHENTICATION,
    _LESSON,
    "A token with `alg: none` is refused: `Invalid token`.",
    users=1,
    needs=("admits",),
)
async def unsigned_refused(target: Target) -> None:
    try:
        token = unsigned(await target.token())
    except ValueError:
        raise NotJudged("the tokens are no JWTs with readable claims") from None
    client = await target.knock({"token": token})
    must_refuse(client, "a token without a signature", message=INVALID)


@promise(
    "expired-refused",
    AUTHENTICATION,
    _LESSON,
    "An expired token is refused: `Invalid token`.",
    users=1,
    needs=("admits",),
)
async def expired_refused(target: Target) -> None:
    client = await target.knock({"token": await target.token(kind="expired", ttl=-60)})
    must_refuse(client, "an expired token", message=INVALID)


@promise(
    "unknown-user-refused",
    AUTHENTICATION,
    _LESSON,
    "A token of a user whom the directory does not have is refused: `User not found`.",
    users=0,
    needs=("admits",),
)
async def unknown_user_refused(target: Target) -> None:
    client = await target.knock({"token": await target.token(user_id=target.nobody())})
    if client.accepted is not None:
        raise NotJudged("the server admits any user whom a valid token names")
    must_refuse(client, "a user who does not exist", message=UNKNOWN)


@promise(
    "user-of-token",
    AUTHENTICATION,
    _LESSON,
    "`user` is always the token's, never taken from a payload.",
    needs=("delivered",),
)
async def user_of_token(target: Target) -> None:
    alice, bob = await target.joined(target.room(), 0, 1)
    await alice.ask("send-message", {"text": "lie", "user": "mallory", "userId": "mallory"})
    await alice.say("truth")
    message = await bob.expect_text("truth")
    for data in [message, *bob.of("new-message")]:
        told = data.get("user")
        must(told == alice.user, f"a message of {alice.user!r} came under the name {told!r}")


@promise(
    "stranger-deaf",
    AUTHENTICATION,
    _LESSON,
    "A socket that was not let in receives no event, and none of its events is handled.",
    needs=("delivered",),
)
async def stranger_deaf(target: Target) -> None:
    room = target.room()
    alice, bob = await target.joined(room, 0, 1)
    refused = await target.socket(name="refused")
    await refused.connect({})
    strangers = [await target.socket(name="silent")]
    if refused.accepted is None:  # else that is the fault, and judged by itself
        strangers.append(refused)
    for stranger in strangers:
        await stranger.emit("join-room", room)
        await stranger.emit("send-message", {"text": f"from {stranger.name}"})
    await alice.say("between us")
    await bob.expect_text("between us")
    await target.quiet()
    for stranger in strangers:
        heard = stranger.heard or stranger.acks
        must(not heard, "a socket that was not let in received events")
        said = f"from {stranger.name}" in [*bob.texts, *alice.texts]
        must(not said, "a socket that was not let in was heard in a room")
