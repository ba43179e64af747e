"""How many raw frames a user may send over all of their sockets on this server.

Whatever a frame holds, it costs time to read, and fifty sockets pass any limit of one. Past the
budget the sockets are not read: nothing is refused, the client waits. Events have their own limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatlab.settings import Rate

__all__ = ["FrameBudget"]


class FrameBudget:
    """A token bucket for each user: `rate.per_second` frames flow in, `rate.burst` fit.

    `user_of(sid)` is whose a socket is, None when it is gone. Kept is the time at which a bucket is
    full again (the generic cell rate algorithm, ITU-T I.371); of a full one nothing is.
    """

    SWEEP_EVERY = 1024  # new users between two looks for full buckets

    def __init__(
        self,
        rate: Rate,
        user_of: Callable[[str], str | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._user_of = user_of
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._sweep_at = self.SWEEP_EVERY

    def __len__(self) -> int:
        return len(self._full_at)

    def allowance(self, sid: str, frames: int) -> float:
        """Take `frames` from what the socket's user may send. Returns 0.0, or without taking any
        the seconds until they can be had.

        Out of a full bucket more are given than fit, on credit: else they could never be had.
        """
        user = self._user_of(sid)
        if user is None:
            return 0.0
        now = self._clock()
        full_at = self._full_at.get(user, now)
        wait = full_at - now + (frames - self._rate.burst) / self._rate.per_second
        if wait > 0.0 and full_at > now:
            return min(wait, full_at - now)
        if user not in self._full_at and len(self._full_at) >= self._sweep_at:
            self._sweep(now)
        self._full_at[user] = max(now, full_at) + frames / self._rate.per_second
        return 0.0

    def _sweep(self, now: float) -> None:
        self._full_at = {user: full for user, full in self._full_at.items() if full > now}
        self._sweep_at = len(self._full_at) + self.SWEEP_EVERY
