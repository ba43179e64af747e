"""How the servers of the lab stop to listen: whoever has been accepted by then is taken in first.

asyncio accepts a connection in one pass of its loop and makes its transport in a later one. A
server that is closed between the two loses it: CPython 3.11.7 and 3.13.0 fail there
(`Server._attach`), and a loop that ends cancels it. Its socket then stays open, and its client
waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

__all__ = ["stop_accepting"]

_PASSES = 3  # the transport, its protocol's connection_made, the end of the task that made it


class Listening(Protocol):
    """A socket, or what an `asyncio.Server` shows of one."""

    def fileno(self) -> int:
        """The number of its file descriptor."""


async def stop_accepting(listening: Iterable[Listening]) -> None:
    """Accept nobody more on these sockets, and wait until those who were accepted are connected.

    The sockets stay open: what closes them must come next.
    """
    loop = asyncio.get_running_loop()
    for one in listening:
        with contextlib.suppress(NotImplementedError):  # Windows' loop
            loop.remove_reader(one.fileno())
    for _ in range(_PASSES):
        await asyncio.sleep(0)
