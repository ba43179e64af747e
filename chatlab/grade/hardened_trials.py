"""What the trials of the level Hardened share: their connections, and who is let in by them.

A trial here gets, beside its target, a door: raw connections, all broken off when it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from chatlab.grade.hardened_peers import Gone, Peer, Polling, Socket
from chatlab.grade.hardened_wire import Door, Refused
from chatlab.grade.promise import Broken, Level, NotJudged, Promise, Silent, Unready, promise
from chatlab.grade.target import NAMES, Target

__all__ = [
    "closed",
    "enter",
    "gone_from",
    "hardened",
    "joined",
    "must_close",
    "opened",
    "polling",
    "still_serves",
]

Trial = Callable[[Target, Door], Awaitable[None]]

NO_POLLING: Final = "the server offers no HTTP long-polling"


@contextlib.asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Door]:
    """A door to the graded server."""
    door = Door(target.urls[0], target.place.path, target.trace, patience=target.timeout)
    try:
        yield door
    finally:
        door.hang_up()


def hardened(id: str, concern: str, sentence: str, **options: Any) -> Callable[[Trial], Promise]:
    """Make a promise of the level Hardened of a trial that takes a target and a door."""

    def make(trial: Trial) -> Promise:
        async def tried(target: Target) -> None:
            async with opened(target) as door:
                try:
                    await trial(target, door)
                except TimeoutError:
                    raise Silent("something should have been answered, and nothing came") from None
                except Gone as gone:
                    how = "" if gone.code is None else f" (websocket close {gone.code})"
                    raise Broken(f"the server ended a session that may go on{how}") from None
                except Refused as refused:
                    raise NotJudged(_refusal(refused)) from None
                except OSError as error:
                    raise Broken(f"a connection broke off or was not made: {error}") from None

        needs = ("admits",) if options.get("users", 2) else ()
        return promise(id, concern, Level.HARDENED, sentence, **{"needs": needs, **options})(tried)

    return make


def _refusal(refused: Refused) -> str:
    if refused.answer is None:
        return "the server opened no session: it closed the connection"
    return f"the server opened no session: it answered HTTP {refused.answer.status}"


async def polling(door: Door, who: str) -> Polling:
    """A session over polling. Raises `NotJudged` where the server has none."""
    try:
        return await Polling.open(door, who)
    except Refused:
        raise NotJudged(NO_POLLING) from None


async def enter(
    target: Target, door: Door, user: int = 0, *, way: str = "websocket", **options: Any
) -> Any:
    """A session that was let in, over `way`: websocket or polling. Raises `NotJudged`."""
    name = NAMES[user % len(NAMES)]
    token = await target.token(user)
    peer: Peer
    if way == "polling":
        peer = await polling(door, name)
    else:
        peer = await Socket.open(door, name, **options)
    try:
        await peer.connect(token)
    except Gone:
        raise Unready(f"the server did not let {name} in") from None
    return peer


async def joined(
    target: Target, door: Door, room: str, user: int = 0, *, way: str = "websocket", **options: Any
) -> Any:
    """A session that was let in and has joined `room`. Raises `NotJudged`."""
    peer = await enter(target, door, user, way=way, **options)
    ack = await peer.call("join-room", room)
    if not (isinstance(ack, dict) and ack.get("ok") is True):
        raise Unready(f"join-room, which comes first, was answered with {ack!r}")
    return peer


async def closed(peer: Peer, *, patience: float | None = None) -> tuple[bool, int | None]:
    """Whether the server ends the session in time, and the websocket's close code."""
    try:
        return True, await peer.ended(patience=patience)
    except TimeoutError:
        return False, None


async def must_close(peer: Peer, what: str, *, code: int | None = None) -> None:
    """Raise `Broken` unless the server ends the session; with `code`, by that close code."""
    ended, told = await closed(peer)
    if not ended:
        raise Broken(f"{what} should close the socket, and did not")
    if code is not None and told != code:
        how = "without a close code" if told is None else f"with {told}"
        raise Broken(f"{what} should close the websocket with {code}, and closed it {how}")


def _left(event: list[Any], room: str, user: str) -> bool:
    """Whether an event says that this user has left (the lesson's does not name the room)."""
    told = event[1] if len(event) > 1 else None
    return (
        event[0] == "user-left"
        and isinstance(told, dict)
        and told.get("user") == user
        and told.get("room", room) == room
    )


async def gone_from(witness: Peer, room: str, user: str, *, patience: float) -> bool:
    """Whether a user is no more in a room within `patience` seconds.

    `who` says so, or `user-left` does: not every server has both.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    number = await witness.ask("who", {"room": room})
    while not any(_left(event, room, user) for event in witness.events):
        if witness.answered(number):
            ack = await witness.ack(number)
            if isinstance(ack, dict) and ack.get("ok") is True:
                if user not in ack.get("users", ()):
                    return True
                await asyncio.sleep(0.2)
                number = await witness.ask("who", {"room": room})
        try:
            await witness.packet(max(0.001, end - loop.time()))
        except TimeoutError:
            return False
    return True


async def still_serves(target: Target, door: Door, user: int, what: str) -> None:
    """Raise `Broken` unless somebody new is let in and answered after `what`."""
    try:
        peer = await enter(target, door, user)
        ack = await peer.call("join-room", target.room())
    except (TimeoutError, NotJudged, Refused, Gone, OSError):
        raise Broken(f"after {what} the server serves nobody any more") from None
    peer.abort()
    if not (isinstance(ack, dict) and "ok" in ack):
        raise Broken(f"after {what} the server answers no more as it should")
