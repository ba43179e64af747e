"""One Redis: two links and a pair of ears, which are up together or not at all.

Appends go out on a link of their own, so that they wait for nobody's page of history. Which keys it
has is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from chatlab.storage.redis_connect import Connect
from chatlab.storage.redis_link import Link
from chatlab.storage.redis_subscriber import Subscriber

__all__ = ["Node"]

log = logging.getLogger(__name__)


class Node:
    """One Redis: a link for what is stored, one for everything else, and what is heard of it.

    `lost` is called when a part of it goes away, `back` when all of it is there (again).
    """

    def __init__(self, name: str, connect: Connect, *, stalled_after: float, sharded: bool) -> None:
        self.name = name
        self.writes = Link(connect, stalled_after=stalled_after)
        self.others = Link(connect, stalled_after=stalled_after)
        self.ears = Subscriber(connect, stalled_after=stalled_after, sharded=sharded)
        self.lost: Callable[[], None] = lambda: None
        self.back: Callable[[], None] = lambda: None
        self._was_up = False
        for part in (self.writes, self.others, self.ears):
            part.changed = self._changed

    @property
    def up(self) -> bool:
        """Whether commands are answered and every channel is heard."""
        return self.writes.up and self.others.up and self.ears.up

    def start(self) -> None:
        """Begin to connect."""
        for part in (self.writes, self.others, self.ears):
            part.start()

    def reconnect(self, reason: str) -> None:
        """Make every connection anew: the server is at another address now."""
        for part in (self.writes, self.others, self.ears):
            part.reconnect(reason)

    async def close(self) -> None:
        """Let go of the connections."""
        for part in (self.writes, self.others, self.ears):
            part.changed = lambda: None
            await part.close()

    def _changed(self) -> None:
        was_up, self._was_up = self._was_up, self.up
        if was_up and not self._was_up:
            log.warning("Redis at %s is away: %s", self.name, self.reason)
            for link in (self.writes, self.others):
                link.check()
            self.lost()
        elif self._was_up and not was_up:
            log.info("Redis at %s is there", self.name)
            self.back()

    @property
    def reason(self) -> str:
        """Why it is away."""
        return self.writes.reason or self.others.reason or self.ears.reason or "not there yet"
