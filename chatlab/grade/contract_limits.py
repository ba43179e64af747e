"""The level Contract, rate limiting: the contract's own figures, as they are by default."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.judge import is_overload, is_yes, must, must_say_no
from chatlab.grade.promise import RATE_LIMITING, Level, Silent, Unready, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT
TOO_MANY = "Too many requests. Slow down."
_FLOOD = 100
_JOINS = 38  # at once: under the burst of 50, and under the user's 40
_MINUTE = 60.0
_LATER = ("rate_limited", "unavailable")  # codes after which one tries again


@promise(
    "limit-code",
    RATE_LIMITING,
    _CONTRACT,
    "An event too many is answered with `rate_limited`, `Too many requests. Slow down.`, "
    "`retry: true` and `retryAfter`.",
    users=1,
    needs=("flood-acked",),
    floods=True,
)
async def limit_code(target: Target) -> None:
    for ack in await _refusals(target):
        must_say_no(ack, "an event too many", code="rate_limited", error=TOO_MANY, retry=True)
        after = ack.get("retryAfter")
        good = isinstance(after, int | float) and not isinstance(after, bool) and 0 < after < 60
        must(good, f"`retryAfter` is {after!r}")


@promise(
    "retry-after-true",
    RATE_LIMITING,
    _CONTRACT,
    "After `retryAfter` seconds the event is taken.",
    users=1,
    needs=("limit-code",),
    floods=True,
)
async def retry_after_true(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    acks = await _flood(alice)
    refused = [ack for ack in acks if not is_yes(ack)]
    await asyncio.sleep(refused[-1]["retryAfter"] + 0.05)
    ack = await alice.answer(await alice.begin("send-message", {"text": "now"}, hurry=True))
    must(is_yes(ack), "an event was refused after the wait that it had been told")


@promise(
    "socket-burst",
    RATE_LIMITING,
    _CONTRACT,
    "A socket may send a burst of 20 events, and 10 a second after that.",
    users=1,
    needs=("flood-acked",),
    floods=True,
)
async def socket_burst(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    await asyncio.sleep(0.3)
    began = time.monotonic()
    taken = sum(is_yes(ack) for ack in await _flood(alice))
    seconds = time.monotonic() - began
    must(taken >= 20, f"of {_FLOOD} events at once only {taken} were taken")
    most = 20 + 10 * seconds + 1
    must(taken <= most, f"{taken} events were taken in {seconds:.2f} s, at most {most:.0f} may be")


@promise(
    "user-burst",
    RATE_LIMITING,
    _CONTRACT,
    "A user may send a burst of 40 over all sockets, and 20 a second after that.",
    users=1,
    needs=("flood-acked",),
    floods=True,
)
async def user_burst(target: Target) -> None:
    room = target.room()
    sockets = [(await target.joined(room, 0))[0] for _ in range(4)]
    await asyncio.sleep(1.0)  # joining counts as well
    began = time.monotonic()
    floods = await asyncio.gather(*(_flood(each, 40) for each in sockets))
    taken = sum(is_yes(ack) for acks in floods for ack in acks)
    seconds = time.monotonic() - began
    must(taken >= 40, f"of {4 * 40} events over four sockets only {taken} were taken")
    # A server may overshoot by one lease of 10.
    most = 40 + 20 * seconds + 10
    must(taken <= most, f"{taken} events were taken in {seconds:.2f} s, at most {most:.0f} may be")


@promise(
    "joins-apart",
    RATE_LIMITING,
    _CONTRACT,
    "Joins and leaves have a bucket of their own, burst 50: a client that returns rejoins its "
    "rooms.",
    users=1,
    needs=("join-acked",),
    floods=True,
)
async def joins_apart(target: Target) -> None:
    alice = await target.enter(0)
    acks = await _joins(target, alice)
    taken = sum(is_yes(ack) for ack in acks)
    must(taken == len(acks), f"of {len(acks)} joins at once only {taken} were taken")


@promise(
    "rooms-per-socket",
    RATE_LIMITING,
    _CONTRACT,
    "A socket is in 50 rooms at most.",
    users=1,
    needs=("joins-apart",),
    floods=True,
)
async def rooms_per_socket(target: Target) -> None:
    alice = await target.enter(0)
    acks = await _joins(target, alice)
    taken, deadline = sum(is_yes(ack) for ack in acks), time.monotonic() + _MINUTE
    while taken <= 50 and time.monotonic() < deadline:
        ack = await alice.ask("join-room", target.room())
        if is_yes(ack):
            taken += 1
        elif isinstance(ack, dict) and ack.get("code") in _LATER and taken < 50:
            await asyncio.sleep(0.5)
        else:
            break
    must(taken >= 50, f"a socket was let into {taken} rooms only")
    must(taken <= 50, f"a socket was let into {taken} rooms")


@promise(
    "limited-error-event",
    RATE_LIMITING,
    _CONTRACT,
    "Without an ack it is told by `error`, for `rate_limited` at most once a second per socket.",
    users=1,
    needs=("limit-code",),
    floods=True,
    risky=True,
)
async def limited_error_event(target: Target) -> None:
    (alice,) = await target.joined(target.room(), 0)
    began = time.monotonic()
    for number in range(_FLOOD):
        await alice.emit("send-message", {"text": f"flood {number}"}, hurry=True)
    told = await alice.expect("error", lambda data: data.get("code") == "rate_limited")
    must(told.get("message") == TOO_MANY, f"`error` said {told.get('message')!r}")
    must("retryAfter" in told, "`error` gives no `retryAfter`")
    # Whatever is asked last is answered after all of them.
    await alice.answer(await alice.begin("who", {"room": "none"}, hurry=True))
    count, seconds = len(alice.of("error")), time.monotonic() - began
    must(count <= seconds + 1, f"{count} came in {seconds:.1f} s")


async def _joins(target: Target, client: Client) -> list[Any]:
    numbers = [await client.begin("join-room", target.room(), hurry=True) for _ in range(_JOINS)]
    return _unless_overloaded([await client.answer(number) for number in numbers])


async def _refusals(target: Target) -> list[Any]:
    (alice,) = await target.joined(target.room(), 0)
    refused = [ack for ack in await _flood(alice) if not is_yes(ack)]
    if not refused:
        raise Unready("nothing of a flood was refused")
    return refused


async def _flood(client: Client, count: int = _FLOOD) -> list[Any]:
    numbers = [
        await client.begin("send-message", {"text": f"flood {number}"}, hurry=True)
        for number in range(count)
    ]
    try:
        return _unless_overloaded([await client.answer(number) for number in numbers])
    except Silent:
        raise Silent("events of a flood were not answered") from None


def _unless_overloaded(acks: list[Any]) -> list[Any]:
    if any(is_overload(ack) for ack in acks):
        raise Unready("the server was too busy: it answered with `unavailable`")
    return acks
