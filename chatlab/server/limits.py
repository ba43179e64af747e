"""Rate limits: a token bucket per socket, one per user over all sockets, and caps on sockets.

A bucket needs no timer: it works out what has flowed in when it is asked. A user's bucket outlives
their sockets until it is full again, so that reconnecting does not refill it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from chatlab.errors import RateLimited, TooManyConnections
from chatlab.settings import Rate

__all__ = ["ConnectionCaps", "TokenBucket", "UserBuckets"]


class TokenBucket:
    """`rate.per_second` tokens flow in, `rate.burst` fit; it starts full.

    Algorithm: the token bucket as a meter (RFC 2697's, with one rate). `now` is in seconds of any
    clock; one that steps back adds nothing and takes nothing.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate.per_second
        self._burst = self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take one token. Returns 0.0, or without taking one the seconds until there is one."""
        if now > self._at:
            tokens = self._tokens + (now - self._at) * self._rate
            self._tokens = tokens if tokens < self._burst else self._burst
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def full(self, now: float) -> bool:
        """Whether a new bucket would be no different from this one."""
        return self._tokens + max(0.0, now - self._at) * self._rate >= self._burst


def refused(wait: float) -> RateLimited:
    """The refusal of who has to wait so many seconds: `retry_after` is rounded up to ms."""
    return RateLimited(retry_after=math.ceil(max(wait, 0.001) * 1000) / 1000)


class UserBuckets:
    """One bucket per user, for as long as it differs from a new one."""

    SWEEP_EVERY = 1024  # new users between two looks for full buckets
    local = False  # there are no others, whose part would have to be done here

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[str, TokenBucket] = {}
        self._sweep_at = self.SWEEP_EVERY

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, user: str, now: float) -> None:
        """Take one of the user's tokens or raise `RateLimited`. There is nothing to wait for."""
        bucket = self._buckets.get(user)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self.sweep(now)
            bucket = self._buckets[user] = TokenBucket(self._rate, now)
        wait = bucket.take(now)
        if wait:
            raise refused(wait)

    async def close(self) -> None:
        """Nobody is asked, so nobody waits."""

    def sweep(self, now: float) -> None:
        """Forget every bucket that is full: a new one is the same."""
        self._buckets = {
            user: bucket for user, bucket in self._buckets.items() if not bucket.full(now)
        }
        self._sweep_at = len(self._buckets) + self.SWEEP_EVERY


@dataclass(slots=True)
class ConnectionCaps:
    """How many sockets one user, and one address, may have at a time; 0 is no limit."""

    per_user: int
    per_address: int
    users: Counter[str]
    addresses: Counter[str]

    RETRY_AFTER = 5.0  # seconds; when another socket closes is not known

    @classmethod
    def of(cls, per_user: int, per_address: int) -> ConnectionCaps:
        return cls(per_user, per_address, Counter(), Counter())

    def take(self, user: str, address: str) -> None:
        """Count one socket in or raise `TooManyConnections`."""
        if (self.per_user and self.users[user] >= self.per_user) or (
            self.per_address and self.addresses[address] >= self.per_address
        ):
            raise TooManyConnections(retry_after=self.RETRY_AFTER)
        self.users[user] += 1
        self.addresses[address] += 1

    def release(self, user: str, address: str) -> None:
        """Count one socket out."""
        for counter, name in ((self.users, user), (self.addresses, address)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
