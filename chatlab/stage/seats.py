"""Finds the seats of the windows: words for which the balancer has chosen a certain server.

The balancer's choice depends on its servers' addresses, which stay what they are, so one search at
the start is enough; after a server's return it may take a second until it is chosen again.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from typing import Final
from urllib.parse import urlsplit

from chatlab.stage.world import World

__all__ = ["seat_at", "wait_for"]

_SEATS: Final = 40  # each has one chance in two
_BACK: Final = 3.0  # seconds until the balancer knows a server again
_PAUSE: Final = 0.05  # seconds


def seat_at(world: World, number: int, prefix: str) -> str:
    """A seat at server `number`, from 1, that begins with `prefix`. Blocks.

    Raises `RuntimeError` when the balancer sends nobody there.
    """
    deadline = time.monotonic() + _BACK
    while time.monotonic() < deadline:
        for seat in (f"{prefix}{n}" for n in range(_SEATS)):
            if _chosen(world, seat) == _place(world, number):
                return seat
        time.sleep(_PAUSE)
    raise RuntimeError(f"the balancer sends nobody to server {number}")


def wait_for(world: World, number: int, seat: str) -> bool:
    """Wait, blocking, until the balancer sends `seat` to server `number`; says whether it does."""
    deadline = time.monotonic() + _BACK
    while _chosen(world, seat) != _place(world, number):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _place(world: World, number: int) -> str:
    return urlsplit(world.inner[number - 1].url).netloc


def _chosen(world: World, seat: str) -> str:
    """Where the balancer sends a seat now, or "" where it sends it nowhere."""
    where = urlsplit("" if world.balancer is None else world.balancer.url)
    asking = http.client.HTTPConnection("127.0.0.1", where.port or 80, timeout=1)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asking):
        asking.request("GET", f"/healthz?seat={seat}")
        return asking.getresponse().getheader("X-Lab-Server", "")
    return ""
