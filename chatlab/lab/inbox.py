"""What an actor of a scene has received, and waiting until it has.

Filled from the actor's own thread, read and awaited from a cell. Drawing is `timeline`'s work.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatlab.lab.portal import turned

__all__ = ["Inbox", "Received", "ReceivedList"]

# How long `wait_for` lets the handlers of what has arrived finish. A handler that only stores is
# done long before; one that sleeps on purpose is not waited for.
HANDLERS_GRACE = 0.1
# And how long, in seconds, for a thread that the machine did not let run meanwhile.
LATE_THREAD = 0.5


@dataclass(frozen=True, slots=True, repr=False)
class Received:
    """One event that arrived: its name, its payload, and the name of the client it came from.

    `data` is the payload, a tuple where the event had several, None where it had none. `client`
    is None for what a client received from a server.
    """

    event: str
    data: Any = None
    client: str | None = None

    @property
    def text(self) -> Any:
        """The message's text: `data["text"]` where there is one, else the whole payload."""
        return self.data.get("text", self.data) if isinstance(self.data, dict) else self.data

    def __repr__(self) -> str:
        shown = "" if self.data is None else f" {self.data!r}"
        return (f"{self.client}: " if self.client else "") + self.event + shown


class ReceivedList(list[Received]):
    """A list of `Received` that shows one per line."""

    @property
    def texts(self) -> list[Any]:
        """The text of each, in order of arrival."""
        return [item.text for item in self]

    def of(self, event: str) -> ReceivedList:
        """Only the events of this name."""
        return ReceivedList(item for item in self if item.event == event)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "(nothing received)"


Condition = Callable[[ReceivedList], bool]


class Inbox:
    """The events that arrived at `owner`, in order; any thread may add."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._items: list[Received] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def items(self) -> ReceivedList:
        """A copy of what has arrived so far."""
        return ReceivedList(self._items)

    def clear(self) -> None:
        """Forget what has arrived."""
        with self._lock:
            self._items.clear()

    def add(self, event: str, data: Any = None, client: str | None = None) -> None:
        """Note an arrival and wake whoever waits."""
        with self._lock:
            self._items.append(Received(event, data, client))
        self.wake()

    def handler_started(self) -> None:
        """A handler has been given an event and has not finished."""
        with self._lock:
            self._busy += 1

    def handler_finished(self) -> None:
        """The counterpart of `handler_started`."""
        with self._lock:
            self._busy -= 1
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again: something has changed."""
        with self._lock:
            waiters = list(self._waiters)
        for loop, event in waiters:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                continue  # that loop was closed while it waited: nobody is left to wake

    async def wait_for(
        self, what: int | str | Condition, count: int = 1, *, timeout: float = 5.0
    ) -> None:
        """Wait until enough has arrived, counted from the start (or from `clear`).

        `what` is a number of events, an event's name with `count` of them, or a function of the
        list of what has arrived. Handlers of those events get a moment to finish. Raises
        `TimeoutError`, saying what did arrive, after `timeout` seconds.
        """
        enough, wanted = _condition(what, count)
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        deadline = time.monotonic() + timeout
        waiter = (loop, event)
        with self._lock:
            self._waiters.append(waiter)
        try:
            while not enough(self.items()):
                event.clear()
                if enough(self.items()):
                    break
                if not await _set_before(event, deadline):
                    raise TimeoutError(
                        f"waited {timeout:g} s for {wanted}; {self._owner} {self._summary()}"
                    )
            grace = time.monotonic() + HANDLERS_GRACE
            while self._busy:
                event.clear()
                if not self._busy:
                    break
                if not await _set_before(event, grace):
                    await turned(LATE_THREAD)
                    break
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def _summary(self) -> str:
        items = self.items()
        if not items:
            return "received nothing"
        counts = Counter((item.event, item.client) for item in items)
        parts = [
            f"{number} × {event}" + (f" from {client}" if client else "")
            for (event, client), number in counts.items()
        ]
        return f"received {len(items)}: " + ", ".join(parts)


def _condition(what: int | str | Condition, count: int) -> tuple[Condition, str]:
    if isinstance(what, bool) or not (isinstance(what, int | str) or callable(what)):
        raise TypeError(f"wait_for takes a number, an event's name or a function, not {what!r}")
    if isinstance(what, int):
        return (lambda items: len(items) >= what), f"{what} event{'' if what == 1 else 's'}"
    if isinstance(what, str):
        return (lambda items: len(items.of(what)) >= count), f"{count} × {what}"
    return what, "a condition that never became true"


async def _set_before(event: asyncio.Event, deadline: float) -> bool:
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            await event.wait()
    except TimeoutError:
        return False
    return True
