"""How long to wait before trying again: exponential backoff with full jitter.

It computes delays and never sleeps. Whether trying again can help at all is the error's own
business (`ChatError.retry`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The schedule `random(0, min(cap, base * 2**attempt))`, in seconds.

    "Full jitter" of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
    of the schedules compared there it makes the least work for the server, because clients that
    failed together do not come back together. `random` returns a number from [0, 1).
    """

    base: float = 0.2
    cap: float = 5.0
    random: Callable[[], float] = random.random

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failure number `attempt` (from 0).

        With `retry_after` (what the server asked for, in seconds) the wait is at least that long;
        the jitter comes on top, so that those who were told the same do not return as one.
        """
        longest = min(self.cap, self.base * 2.0 ** min(attempt, 60))
        wait = self.random() * longest
        if retry_after is not None and math.isfinite(retry_after):
            wait += max(0.0, retry_after)
        return wait
