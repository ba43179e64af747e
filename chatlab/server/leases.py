"""A user's rate over several servers: tokens leased from the shared bucket, spent without asking.

Most events are admitted at once on a token that is here already. What a lease costs in exactness is
its size: a user may get ahead by one lease on each server.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from chatlab.errors import RateLimited, Unavailable
from chatlab.server.limits import TokenBucket, refused
from chatlab.settings import Rate
from chatlab.storage.base import fail
from chatlab.storage.shared import Buckets

__all__ = ["LeasedBuckets"]

log = logging.getLogger(__name__)

SILENCE: Final = 0.25  # seconds that an event waits for Redis, then the local bucket decides
LATE: Final = 0.05  # seconds by which the loop is late: this process stood still
ASK_AGAIN: Final = 0.1  # seconds between two attempts to reach a Redis that is away


@dataclass(slots=True, eq=False)
class _Lease:
    """What this server knows of a user's bucket. Times are the loop's."""

    used: float
    tokens: int = 0
    refused_until: float = 0.0
    asking: bool = False
    silence: asyncio.Handle = field(init=False)
    waiting: deque[Future[None]] = field(default_factory=deque)
    local: TokenBucket | None = None


class LeasedBuckets:
    """The users' buckets as one server sees them; `rate` is that of `buckets`.

    `lease` tokens are taken at a time, and as many are held at most. `local` is True while Redis is
    away: then each user has a bucket of the same rate on this server alone.
    """

    SWEEP_EVERY = 1024  # new users between two looks for who can be forgotten

    def __init__(self, buckets: Buckets, rate: Rate, lease: int = 10) -> None:
        self.local = False
        buckets.back = self.back
        self._buckets = buckets
        self._rate = rate
        self._size = max(1, min(lease, rate.burst))
        self._low = self._size // 3
        self._leases: dict[str, _Lease] = {}
        self._sweep_at = self.SWEEP_EVERY
        self._tasks: set[asyncio.Task[None]] = set()
        self._try_at = 0.0

    def __len__(self) -> int:
        return len(self._leases)

    def spend(self, user: str, now: float) -> Future[None] | None:
        """Take one of the user's tokens; `now` is the loop's time.

        Returns None when it was here, or a future that is done when Redis has answered: with None,
        or with `RateLimited`. Whoever asks while another event of the user waits, waits behind it.
        Raises `RateLimited` where it is known that there are no tokens.
        """
        lease = self._leases.get(user)
        if lease is None:
            if len(self._leases) >= self._sweep_at:
                self.sweep(now)
            lease = self._leases[user] = _Lease(now)
        lease.used = now
        if lease.tokens > 0:
            lease.tokens -= 1
            if lease.tokens <= self._low and now >= lease.refused_until and not self.local:
                self._ask(user, lease)
            return None
        if self.local and not lease.waiting:
            self._try_again(user, lease, now)
            self._spend_locally(lease, now)
            return None
        if not lease.waiting and now < lease.refused_until:
            raise refused(lease.refused_until - now)
        future: Future[None] = asyncio.get_running_loop().create_future()
        lease.waiting.append(future)
        self._ask(user, lease)
        return future

    def back(self) -> None:
        """Redis is there (again): ask it rather than the local buckets."""
        self.local = False

    def sweep(self, now: float) -> None:
        """Forget every user whose shared bucket is full again: what is held of it is as good."""
        full_after = self._rate.burst / self._rate.per_second
        self._leases = {
            user: lease
            for user, lease in self._leases.items()
            if lease.asking or lease.waiting or now - lease.used < full_after
        }
        self._sweep_at = len(self._leases) + self.SWEEP_EVERY

    async def close(self) -> None:
        """Ask no more; who still waits is cancelled."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lease in self._leases.values():
            for future in lease.waiting:
                future.cancel()
            lease.waiting.clear()

    # --- asking ------------------------------------------------------------------------------

    def _ask(self, user: str, lease: _Lease) -> None:
        if lease.asking:
            return
        lease.asking = True
        task = asyncio.get_running_loop().create_task(self._lease(user, lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lease(self, user: str, lease: _Lease) -> None:
        try:
            wanted = 1
            while wanted:
                wanted = max(self._size - lease.tokens, len(lease.waiting))
                if wanted and await self._take(user, lease, wanted):
                    self._serve(lease)
                    wanted = len(lease.waiting)
                else:
                    self._serve_locally(lease)
                    wanted = 0
        finally:
            lease.asking = False

    async def _take(self, user: str, lease: _Lease, wanted: int) -> bool:
        """Whether Redis has answered."""
        self._listen(lease)
        try:
            taken, wait = await self._buckets.take(user, wanted)
        except Unavailable:
            self._is_away()
            return False
        except Exception:
            log.exception("a lease could not be taken")
            self._is_away()
            return False
        finally:
            lease.silence.cancel()
        self.local = False
        # Those who waited when it was asked for may have been admitted locally since.
        lease.tokens = min(lease.tokens + taken, max(self._size, len(lease.waiting)))
        if taken < wanted:
            lease.refused_until = asyncio.get_running_loop().time() + wait
        return True

    def _listen(self, lease: _Lease) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + SILENCE
        lease.silence = loop.call_at(due, self._silent, lease, due)

    def _silent(self, lease: _Lease, due: float) -> None:
        """Redis has said nothing until `due`: do without. What it says later is as good."""
        # Where the loop is late, the silence was this process's own: the answer may lie in the
        # socket already, and is looked at before the next time.
        if asyncio.get_running_loop().time() <= due + LATE:
            self._is_away()
            self._serve_locally(lease)
        self._listen(lease)

    def _serve(self, lease: _Lease) -> None:
        """Admit who waits, in order; refuse the rest where there are no more tokens."""
        left = lease.refused_until - asyncio.get_running_loop().time()
        while lease.waiting and (lease.tokens > 0 or left > 0):
            future = lease.waiting.popleft()
            if future.done():
                continue  # nobody waits for it any more
            if lease.tokens > 0:
                lease.tokens -= 1
                future.set_result(None)
            else:
                fail(future, refused(left))

    # --- without Redis -----------------------------------------------------------------------

    def _is_away(self) -> None:
        if not self.local:
            log.warning("Redis does not answer: users are limited on each server by itself")
        self.local = True
        self._try_at = asyncio.get_running_loop().time() + ASK_AGAIN

    def _try_again(self, user: str, lease: _Lease, now: float) -> None:
        """One attempt at a time, for whichever user comes by."""
        if now >= self._try_at:
            self._try_at = now + SILENCE + ASK_AGAIN
            self._ask(user, lease)

    def _spend_locally(self, lease: _Lease, now: float) -> None:
        if lease.local is None:
            lease.local = TokenBucket(self._rate, now)
        wait = lease.local.take(now)
        if wait:
            raise refused(wait)

    def _serve_locally(self, lease: _Lease) -> None:
        now = asyncio.get_running_loop().time()
        while lease.waiting:
            future = lease.waiting.popleft()
            if future.done():
                continue
            try:
                self._spend_locally(lease, now)
            except RateLimited as error:
                fail(future, error)
            else:
                future.set_result(None)
