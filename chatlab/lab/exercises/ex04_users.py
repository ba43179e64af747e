"""Check of exercise 04's second task: a limit that neither more sockets nor a reconnect evades.

The learner's limits stand in a server of the check's own and are tried over real sockets, under a
clock that the check moves.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import check, expect, written
from chatlab.lab.clients import RawClient, raw_client

__all__ = ["nobody_gets_around_it"]

START = 1000.0  # seconds; what the check's clock shows first
BURST = 5
PATIENCE = 3.0  # seconds for an answer, or for a goodbye to be noticed
VISITORS = 12


class _Bucket:
    """What the learner's limits are made with: one token in ten seconds, five fit."""

    def __init__(self, now: float) -> None:
        self.tokens, self.at = float(BURST), now

    def _flow(self, now: float) -> None:
        self.tokens = min(BURST, self.tokens + max(0.0, now - self.at) / 10)
        self.at = now

    def take(self, now: float) -> float:
        self._flow(now)
        if self.tokens < 1:
            return (1 - self.tokens) * 10
        self.tokens -= 1
        return 0

    def full(self, now: float) -> bool:
        self._flow(now)
        return self.tokens >= BURST


class _Shop:
    """A server that asks the learner's limits about each `buy`, and tells them who has left."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.now = START
        self.buckets: weakref.WeakSet[_Bucket] = weakref.WeakSet()
        self._told: Callable[[], object] = bool
        self.crash: Exception | None = None
        self.limits = make(self._new_bucket)

    def _new_bucket(self, now: float) -> _Bucket:
        bucket = _Bucket(now)
        self.buckets.add(bucket)
        return bucket

    def server(self) -> Any:
        sio = socketio.AsyncServer(async_mode="aiohttp")

        async def connect(sid: str, environ: Any, auth: Any) -> None:
            await sio.save_session(sid, {"user": auth["user"]})

        async def buy(sid: str) -> Any:
            user = (await sio.get_session(sid))["user"]
            return {"wait": self._guarded(lambda: self.limits.take(sid, user, self.now))}

        async def disconnect(sid: str, reason: str) -> None:
            user = (await sio.get_session(sid))["user"]
            self._guarded(lambda: self.limits.left(sid, user, self.now))
            self._told()

        for handler in (connect, buy, disconnect):
            sio.on(handler.__name__, handler)
        return sio

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self.crash = self.crash or error
            return 0

    async def buy(self, client: RawClient, events: int) -> int:
        """How many of so many events are let through."""
        through = 0
        for _ in range(events):
            wait = (await client.call("buy", timeout=PATIENCE))["wait"]
            self.look()
            through += written(wait, "take") == 0
        return through

    async def leave(self, client: RawClient) -> None:
        """Close the socket, and wait until the limits have been told."""
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        self._told = lambda: loop.call_soon_threadsafe(told.set)
        await client.aclose()
        async with asyncio.timeout(PATIENCE):
            await told.wait()
        self._told = bool  # others may leave later, when this loop is closed
        self.look()

    def look(self) -> None:
        """Raise what the learner's code raised."""
        if self.crash is not None:
            raise self.crash

    def kept(self) -> int:
        gc.collect()
        return len(self.buckets)


def _enter(server: Server, user: str) -> Any:
    return raw_client(server, name=user, auth={"user": user})


@check("neither more sockets nor coming back gives a user more", task=2, lesson="04")
async def nobody_gets_around_it(make: Callable[..., Any]) -> None:
    """`make(new_bucket)` gives limits with `take(sid, user, now)` and `left(sid, user, now)`."""
    for probe in (_each_has_their_own, _many_sockets, _coming_back, _one_of_two_leaves, _forgets):
        shop = _Shop(make)
        async with background(shop.server(), name="check 04") as server:
            await probe(shop, server)


async def _each_has_their_own(shop: _Shop, server: Server) -> None:
    async with _enter(server, "mallory") as mallory, _enter(server, "bob") as bob:
        through = await shop.buy(mallory, 8)
        expect(
            through == BURST,
            f"of 8 events at one moment {through} got through, and a bucket holds {BURST} — ask "
            "the same bucket each time: `bucket.take(now)`",
        )
        expect(
            await shop.buy(bob, 3) == 3,
            "mallory had used up her bucket, and bob was refused — each user has their own",
        )
        shop.now += 10.1
        expect(
            await shop.buy(mallory, 3) == 1,
            "the bucket had a new token, and mallory could not take it — hand it the `now` that "
            "you are given",
        )


async def _many_sockets(shop: _Shop, server: Server) -> None:
    async with _enter(server, "mallory") as one, _enter(server, "mallory") as two:
        through = await shop.buy(one, 6) + await shop.buy(two, 6)
    expect(
        through == BURST,
        f"mallory opened two sockets, and {through} events got through instead of {BURST} — keep "
        "the bucket under the user, not under the sid",
    )


async def _coming_back(shop: _Shop, server: Server) -> None:
    mallory = await _enter(server, "mallory")
    through = await shop.buy(mallory, 6)
    await shop.leave(mallory)
    async with _enter(server, "mallory") as again:
        through += await shop.buy(again, 6)
    expect(
        through == BURST,
        f"mallory left and came back, and {through} events got through instead of {BURST} — keep "
        "the bucket until it is full, also when its user has left",
    )


async def _one_of_two_leaves(shop: _Shop, server: Server) -> None:
    two = await _enter(server, "mallory")
    async with _enter(server, "mallory") as one:
        through = await shop.buy(one, 6)
        await shop.leave(two)
        through += await shop.buy(one, 6)
    expect(
        through == BURST,
        f"mallory closed one of two sockets, and {through} events got through instead of {BURST} "
        "— what one socket does at its end must not refill the bucket",
    )


async def _forgets(shop: _Shop, server: Server) -> None:
    for number in range(VISITORS):
        visitor = await _enter(server, f"visitor {number}")
        await shop.buy(visitor, 1)
        await shop.leave(visitor)
    shop.now += 3600
    last = await _enter(server, "the last one")
    await shop.buy(last, 1)
    await shop.leave(last)
    expect(
        shop.kept() <= 2,
        f"{VISITORS} users have left, an hour has passed, and {shop.kept()} buckets are still kept "
        "— a bucket that is full (`bucket.full(now)`) can be forgotten when somebody leaves",
    )
