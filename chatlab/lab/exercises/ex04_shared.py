"""The check of exercise 04's stretch: one bucket in Redis for all servers, decided in one step.

The learner's function is run against a real Valkey, over two clients at once and over clients that
die after any command. What a bucket is, is checked in `ex04.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from redis import asyncio as redis

from chatlab.lab.checks import check, expect, written
from chatlab.lab.valkey import valkey

__all__ = ["one_bucket_for_all_servers"]

Take = Callable[..., Awaitable[Any]]

AT_ONCE = 30  # events from each of two servers
SLOW = 0.01  # tokens a second: none comes during a probe
COMMANDS = 4  # after which a server may die


class _Dying(redis.Redis):
    """A server's client that lets so many commands pass; then the server is dead."""

    left = 1_000

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.left <= 0:
            raise _Died
        self.left -= 1
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class _Died(Exception):
    """The server ended here."""


@check("one bucket for all servers, and no key for ever", task=3, lesson="04", stretch=True)
async def one_bucket_for_all_servers(take: Take) -> None:
    """`await take(server, user, rate, burst)` says whether an event may pass."""
    expect(asyncio.iscoroutinefunction(take), "`take` is not `async` — begin it with `async def`")
    store = await asyncio.to_thread(valkey, persist=False, name="check 04")
    try:
        async with redis.from_url(store.url) as one, redis.from_url(store.url) as two:
            await _is_a_bucket(take, one)
            await _is_one_bucket(take, one, two)
            await _flows(take, one)
            await _goes_away(take, one)
            await _goes_away_when_a_server_dies(take, one, store.url)
    finally:
        await store.aclose()


def _user() -> str:
    return f"mallory-{uuid.uuid4().hex}"


async def _through(take: Take, server: Any, user: str, rate: float, burst: int, events: int) -> int:
    return sum(
        [bool(written(await take(server, user, rate, burst), "take")) for _ in range(events)]
    )


async def _is_a_bucket(take: Take, server: Any) -> None:
    user = _user()
    through = await _through(take, server, user, SLOW, 5, 8)
    expect(
        through == 5,
        f"of 8 events at one moment {through} got through, and the burst is 5 — give `True` for "
        "an event that may pass, and `False` for one that may not",
    )
    through = await _through(take, server, _user(), SLOW, 5, 2)
    expect(through == 2, "another user was refused — the user belongs into the key")
    through = await _through(take, server, user, SLOW, 5, 2)
    expect(through == 0, "the bucket was empty, and somebody else's event filled it")


async def _is_one_bucket(take: Take, one: Any, two: Any) -> None:
    user = _user()
    tries = [take(server, user, SLOW, 10) for _ in range(AT_ONCE) for server in (one, two)]
    through = sum(map(bool, await asyncio.gather(*tries)))
    expect(
        through <= 10,
        f"two servers asked at the same time, and {through} events got through instead of 10 — "
        "between reading and writing somebody else has read: do both in one script (`server.eval`)",
    )
    expect(through == 10, f"two servers asked at the same time, and only {through} of 10 passed")


async def _flows(take: Take, server: Any) -> None:
    rate, burst = 5, 4
    user = _user()
    # Twice: a clock of whole seconds may happen to strike during the first. A round in which the
    # machine stood still for long shows nothing.
    telling = 0
    for _ in range(6):
        full = time.monotonic()
        await _through(take, server, user, rate, burst, burst)
        start = asked = time.monotonic()
        while not await take(server, user, rate, burst):
            expect(
                asked - start < 0.5,
                "at a rate of 5 an empty bucket had no token after half a second — work out what "
                "has flowed in since, parts of a second too (`TIME` gives microseconds)",
            )
            await asyncio.sleep(0.01)
            asked = time.monotonic()
        more = await _through(take, server, user, rate, burst, burst)
        expect(
            1 + more <= (time.monotonic() - full) * rate + 1,
            f"right after the first new token {more} more were there, at a rate of 5 — only what "
            "has flowed in since the last look is added, and parts of a second count",
        )
        telling += time.monotonic() - full < 2 / rate
        if telling == 2:
            break


async def _goes_away(take: Take, server: Any) -> None:
    before = await _keys(server)
    rate, burst = 1, 10
    await _through(take, server, _user(), rate, burst, burst)
    mine = await _keys(server) - before
    expect(mine, "nothing is kept in Redis — two servers share nothing else")
    for key in mine:
        left = await server.pttl(key)
        expect(
            left != -1,
            "the key stays in Redis for ever — let it expire when the bucket would be full",
        )
        expect(
            left == -2 or left >= 900 * burst / rate or len(mine) > 1,
            f"the key of an empty bucket is gone after {left / 1000:.1f} s, and only after "
            f"{burst / rate:g} s it would be full — who waits for that has a full one too early",
        )


async def _goes_away_when_a_server_dies(take: Take, server: Any, url: str) -> None:
    for commands in range(1, COMMANDS + 1):
        before = await _keys(server)
        dying = _Dying.from_url(url)
        async with dying:
            dying.left = commands  # type: ignore[attr-defined]
            with contextlib.suppress(_Died):
                await take(dying, _user(), 1, 10)
        for key in await _keys(server) - before:
            expect(
                await server.pttl(key) != -1,
                "a server died between two commands, and now a key stays for ever — write and "
                "let expire in one step: one script, or one `pipeline(transaction=True)`",
            )


async def _keys(server: Any) -> set[bytes]:
    return {key async for key in server.scan_iter(count=1000)}
