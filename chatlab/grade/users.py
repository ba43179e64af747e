"""Who a trial may be: users of its own, made up, or taken from those that the server knows."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from typing import Final

from chatlab.grade.promise import NotJudged

__all__ = ["Users"]

_REST: Final = 4.0  # seconds until a bucket of the contract is full again after a flood


class Users:
    """Lends each trial users that nobody else has meanwhile.

    `known` are the ids that the server knows; without any, ids are made up. `closed` is why made-up
    ones are of no use, if they are not.
    """

    def __init__(self, known: Sequence[str] = (), *, closed: str = "") -> None:
        self._known = tuple(known)
        self._closed = closed
        self._free = list(known)
        self._rested = dict.fromkeys(known, -_REST)
        self._changed = asyncio.Condition()
        self._mark = secrets.token_hex(3)
        self._made = 0

    def made_up(self) -> str:
        """The id of a user who does not exist."""
        self._made += 1
        return f"grade-{self._mark}-{self._made}"

    async def borrow(self, count: int, *, fresh: bool = False) -> list[str]:
        """`count` users; `fresh` ones have done nothing for a while.

        Raises `NotJudged` where there are not that many.
        """
        if not count:
            return []
        if not self._known:
            if self._closed:
                raise NotJudged(self._closed)
            return [self.made_up() for _ in range(count)]
        if count > len(self._known):
            times = "once" if count == 1 else f"{count} times"
            raise NotJudged(f"needs {count} users that the server knows: give --user {times}")
        async with self._changed:
            while True:
                now = time.monotonic()
                ready = [user for user in self._free if self._is_ready(user, now, fresh)]
                if len(ready) >= count:
                    for user in ready[:count]:
                        self._free.remove(user)
                    return ready[:count]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self._changed.wait()

    def _is_ready(self, user: str, now: float, fresh: bool) -> bool:
        return self._rested[user] + (_REST if fresh else 0.0) <= now

    async def give_back(self, users: Sequence[str], *, tired: bool) -> None:
        """End a loan; `tired` users rest until their limits allow everything again."""
        if not self._known:
            return
        async with self._changed:
            for user in users:
                self._free.append(user)
                self._rested[user] = time.monotonic() + (_REST if tired else 0.0)
            self._changed.notify_all()
