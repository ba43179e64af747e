"""Finds the seats of the windows: words for which the balancer has chosen a certain server.

The balancer's choice depends on its servers' addresses, which stay what they are, so one look at
the start is enough.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from typing import Final

from chatlab.stage.world import World

__all__ = ["seat_at"]

_SEATS: Final = 40  # each has one chance in two
_TRIES: Final = 20
_PAUSE: Final = 0.1  # seconds


def seat_at(world: World, window: str, number: int) -> str:
    """A seat for `window` at server `number`, from 1. Blocks.

    Raises `RuntimeError` when the balancer sends nobody there.
    """
    wanted = _server_at(f"{world.inner[number - 1].url}/healthz")
    for seat in (f"{window}{n}" for n in range(_SEATS)):
        if _server_at(f"{world.wires[window].url}/healthz?seat={seat}") == wanted:
            return seat
    raise RuntimeError(f"the balancer sends nobody to server {number}")


def _server_at(address: str) -> str:
    """The name that a server gives itself, or "" where none answers."""
    for _ in range(_TRIES):
        with (
            contextlib.suppress(urllib.error.URLError, OSError, ValueError),
            urllib.request.urlopen(address, timeout=1) as answer,  # noqa: S310
        ):
            return str(json.load(answer).get("server", ""))
        time.sleep(_PAUSE)
    return ""
