"""The level Lesson, rate limiting: one client with thousands of events harms nobody but itself.

No number is asked for: a server whose limit is another one than the contract's is judged as well.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import is_yes, must, must_say_no
from chatlab.grade.promise import RATE_LIMITING, Broken, Level, Silent, Unready, promise
from chatlab.grade.target import Target

_LESSON = Level.LESSON
_FLOOD = 200  # events; far over every limit of the lesson and the contract
# Five sockets that each had a limit of their own would get five times what one gets.
_EVASION = 4.0
# By the contract they get twice as much, half of one's from each server, which may be ahead by a
# lease, and in each second as much again as one at once.
_HONEST = 2.0
_LEASE = 0.5
_QUIET = 0.2  # seconds without an answer after which none is expected any more


@promise(
    "flood-limited",
    RATE_LIMITING,
    _LESSON,
    "What one client may send in a time is limited: of a flood, not everything is handled.",
    users=1,
    needs=("send-acked",),
    floods=True,
)
async def flood_limited(target: Target) -> None:
    alice, _ = await _flooded(target)
    count = sum(is_yes(acks[0]) for acks in alice.acks.values()) - 1
    must(count < _FLOOD, f"all of {_FLOOD} messages that were sent at once were taken")


@promise(
    "flood-told",
    RATE_LIMITING,
    _LESSON,
    "A client whose event was refused for being one too many is told so.",
    users=1,
    needs=("flood-limited",),
    floods=True,
)
async def flood_told(target: Target) -> None:
    alice, numbers = await _flooded(target)
    refusals = [alice.acks[each][0] for each in numbers if each in alice.acks]
    told = [ack for ack in refusals if not is_yes(ack)] + alice.of("error")
    must(told, "nothing said that events of a flood were refused")


@promise(
    "flood-acked",
    RATE_LIMITING,
    _LESSON,
    "An event that is refused for being one too many is answered by its ack: `ok: false`.",
    users=1,
    needs=("flood-limited",),
    floods=True,
)
async def flood_acked(target: Target) -> None:
    alice, numbers = await _flooded(target)
    silent = [number for number in numbers if number not in alice.acks]
    if silent:
        raise Silent(f"{len(silent)} of {len(numbers)} events of a flood were never answered")
    for number in numbers:
        ack = alice.acks[number][0]
        if not is_yes(ack):
            must_say_no(ack, "a message too many")


@promise(
    "flood-ends",
    RATE_LIMITING,
    _LESSON,
    "A client that slows down is served again.",
    users=1,
    needs=("flood-limited",),
    floods=True,
)
async def flood_ends(target: Target) -> None:
    alice, _ = await _flooded(target)
    deadline = time.monotonic() + max(10.0, 2 * target.timeout)
    while time.monotonic() < deadline and not alice.closing:
        await asyncio.sleep(0.5)
        number = await alice.begin("send-message", {"text": "slowly now"}, hurry=True)
        if is_yes((await alice.wait(lambda n=number: alice.acks.get(n), 1.0) or [None])[0]):  # type: ignore[misc]
            return
    raise Silent("after a flood and a pause the same socket was not served again")


@promise(
    "flood-spares-others",
    RATE_LIMITING,
    _LESSON,
    "While one client floods, the others are served.",
    users=3,
    needs=("flood-limited", "delivered"),
    floods=True,
)
async def flood_spares_others(target: Target) -> None:
    mallory = (await target.joined(target.room(), 0))[0]
    bob, carol = await target.joined(target.room(), 1, 2)
    for turn in range(4):
        await _flood([mallory], _FLOOD // 2)
        ack = await bob.ask("send-message", {"text": f"may I {turn}"})
        must(is_yes(ack), "another user's message was refused during a flood")
        await carol.expect_text(f"may I {turn}")


@promise(
    "sockets-share-limit",
    RATE_LIMITING,
    _LESSON,
    "The limit is the user's: more sockets are no way round it.",
    needs=("flood-limited",),
    floods=True,
)
async def sockets_share_limit(target: Target) -> None:
    one = await _at_once(target)
    room = target.room()
    five = [(await target.joined(room, 1))[0] for _ in range(5)]
    await asyncio.sleep(1.0)  # joining counts as well
    began = time.monotonic()
    together = await _taken(five, one + 20)
    _must_share(target, one, together, time.monotonic() - began, "at once")


@promise(
    "reconnecting-no-way-round",
    RATE_LIMITING,
    _LESSON,
    "The limit is the user's: connecting again is no way round it.",
    needs=("flood-limited",),
    floods=True,
)
async def reconnecting_no_way_round(target: Target) -> None:
    one = await _at_once(target)
    began, together = time.monotonic(), 0
    for _ in range(5):
        client = await target.enter(1)
        # Without waiting for an answer: under a limit the join itself may be refused.
        await client.begin("join-room", target.room(), hurry=True)
        together += await _taken([client], one + 20)
        await client.close()
    _must_share(target, one, together, time.monotonic() - began, "one after the other")


def _must_share(target: Target, one: int, together: int, seconds: float, how: str) -> None:
    if together <= _EVASION * one:
        return
    if together <= (_HONEST + _LEASE * len(target.urls) + seconds) * one:
        # In that time an honest limit lets as much through.
        raise Unready(f"five floods took {seconds:.1f} s: too slow to tell")
    raise Broken(f"one connection got {one} messages through, five of one user {how} {together}")


async def _flooded(target: Target) -> tuple[Client, list[int]]:
    """A client that has sent a flood, and the numbers of its acks, which have come or will not."""
    (alice,) = await target.joined(target.room(), 0)
    numbers = await _flood([alice], _FLOOD)
    await _settled([alice], numbers, sure=True)
    return alice, numbers[0]


async def _at_once(target: Target) -> int:
    """How many of a flood were acked with `ok: true` before the first that was not.

    What came through later tells how long the flood took, and a busy machine takes long.
    """
    alice, numbers = await _flooded(target)
    run = itertools.takewhile(lambda number: is_yes(alice.acks.get(number, [None])[0]), numbers)
    return max(1, len(list(run)))


async def _taken(clients: list[Client], most: int) -> int:
    """How many of a flood over these clients, `most` events each, were acked with `ok: true`."""
    numbers = await _flood(clients, most)
    await _settled(clients, numbers)
    return sum(
        is_yes(client.acks[number][0])
        for client, mine in zip(clients, numbers, strict=True)
        for number in mine
        if number in client.acks
    )


async def _flood(clients: list[Client], count: int) -> list[list[int]]:
    numbers: list[list[int]] = [[] for _ in clients]
    for turn in range(count):
        for mine, client in zip(numbers, clients, strict=True):
            mine.append(await client.begin("send-message", {"text": f"flood {turn}"}, hurry=True))
    return numbers


async def _settled(clients: list[Client], numbers: list[list[int]], *, sure: bool = False) -> None:
    """Wait until all acks are there, or none has come for a while.

    A pause is not yet a silence: to be `sure`, what is missing is waited for as long as any answer.
    """

    async def settle(client: Client, mine: list[int]) -> None:
        def answered() -> int:
            acks = sum(number in client.acks for number in mine)
            return acks + len(client.of("error"))

        quiet = max(_QUIET, client.timeout if not answered() else 0.0)
        while (before := answered()) < len(mine) and client.closing is None:
            changed: Any = await client.wait(lambda: answered() > before or None, quiet)
            if changed is not None:
                quiet = _QUIET
            elif sure and quiet < client.timeout:
                quiet = client.timeout
            else:
                return

    await asyncio.gather(*(settle(c, mine) for c, mine in zip(clients, numbers, strict=True)))
