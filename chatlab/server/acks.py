"""Every event is answered exactly once, in order, whatever its handler does.

Each socket has an `Inbox`. A `send-message` starts without waiting for earlier ones to be stored;
any other event waits for all before it. Answers leave in the order in which the events came.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatlab.errors import ChatError, Closing, InternalError, Unavailable
from chatlab.protocol import Request
from chatlab.server.sessions import Session

__all__ = ["Event", "Inbox", "within"]

log = logging.getLogger(__name__)

OVERTAKING = "send-message"
"""The one event that does not wait for its like."""


@dataclass(slots=True, eq=False)
class Event:
    """One event on its way. `arrived` is the loop's clock; storage has until `deadline`.

    `admitted` is there when the limits have to ask another server; it may fail.
    """

    session: Session
    name: str
    ack_id: int | None
    arrived: float
    deadline: float
    request: Request | None = None
    admitted: asyncio.Future[None] | None = None
    answer: Any = None
    done: bool = False
    task: asyncio.Task[None] | None = None
    afterwards: list[Callable[[bool], None]] = field(default_factory=list)

    def after(self, callback: Callable[[bool], None]) -> None:
        """Call back once the ack has been written, with whether the event succeeded."""
        self.afterwards.append(callback)


async def within(deadline: float, work: Awaitable[Any]) -> Any:
    """The result of `work`, or `Unavailable` at `deadline` (the loop's clock).

    `work` is never cancelled: what was asked of storage may still happen.
    """
    future = asyncio.ensure_future(work)
    if not future.done():
        future.add_done_callback(_retrieve)
        remaining = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({future}, timeout=max(0.0, remaining))
        if not future.done():
            raise Unavailable
    return future.result()


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody waits any more; keep asyncio from reporting it


class Inbox:
    """The events of one socket.

    `handle(event)` returns an answer or raises; `reply(event, answer)` writes one and returns what
    it wrote, since an answer may turn out to have no JSON form. `handler_timeout` is in seconds.
    """

    def __init__(
        self,
        *,
        handle: Callable[[Event], Awaitable[Any]],
        reply: Callable[[Event, Any], Any],
        handler_timeout: float,
        max_pending: int,
    ) -> None:
        self._handle = handle
        self._reply = reply
        self._handler_timeout = handler_timeout
        self._max_pending = max_pending
        self._events: deque[Event] = deque()  # unanswered, in the order of arrival
        self._unstarted: deque[Event] = deque()
        self._running = 0
        self._barrier = False  # an event that nothing may overtake is running
        self._room: asyncio.Future[None] | None = None

    def put(self, event: Event) -> Awaitable[None] | None:
        """Take an event; one that is `done` already only waits for its turn to be answered.

        Returns something to await before the socket is read further when too much is in hand.
        """
        self._events.append(event)
        if not event.done:
            self._unstarted.append(event)
            self._start()
        self._answer()
        if len(self._events) < self._max_pending:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The handlers that are at work."""
        return [event.task for event in self._events if event.task and not event.done]

    def close(self) -> None:
        """Answer everything that is still in hand with `closing`; what runs goes on unheard."""
        for event in list(self._events):
            if not event.done:
                event.done, event.answer = True, Closing().to_ack()
        self._unstarted.clear()
        self._answer()

    def _start(self) -> None:
        while self._unstarted and not self._barrier:
            event = self._unstarted[0]
            if event.name != OVERTAKING:
                if self._running:
                    return
                self._barrier = True
            self._unstarted.popleft()
            self._running += 1
            event.task = asyncio.get_running_loop().create_task(self._run(event))

    async def _run(self, event: Event) -> None:
        try:
            answer = await self._answer_of(event)
        finally:
            self._running -= 1
            if event.name != OVERTAKING:
                self._barrier = False
        if not event.done:
            event.done, event.answer = True, answer
        self._start()
        self._answer()

    async def _answer_of(self, event: Event) -> Any:
        try:
            async with asyncio.timeout(self._handler_timeout):
                answer = await self._handle(event)
            if answer is None:
                return {"ok": True}
            if isinstance(answer, dict):
                answer = {"ok": True, **answer}
            elif not isinstance(answer, msgspec.Struct):
                raise TypeError(f"a handler returned {type(answer).__name__}, not an answer")
        except ChatError as error:
            return error.to_ack()
        except (Exception, asyncio.CancelledError, SystemExit):
            # A handler that awaits something cancelled, or calls exit(), has failed like any other.
            log.exception("the handler of %s failed", event.name)
            return InternalError().to_ack()
        return answer

    def _answer(self) -> None:
        while self._events and self._events[0].done:
            event = self._events.popleft()
            answer = event.answer = self._reply(event, event.answer)
            succeeded = not (isinstance(answer, dict) and answer.get("ok") is False)
            for callback in event.afterwards:
                callback(succeeded)
        if self._room is not None and len(self._events) < self._max_pending:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
