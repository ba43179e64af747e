"""Every event is answered exactly once, in order, whatever its handler does.

Each socket has an `Inbox`. A `send-message` starts without waiting for earlier ones to be stored;
any other event waits for all before it. Answers leave in the order in which the events came.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from chatlab.errors import ChatError, Closing, InternalError, Unavailable
from chatlab.protocol import Answer, Request
from chatlab.server.deadlines import Deadlines
from chatlab.server.sessions import Session
from chatlab.storage.promise import Promise

__all__ = ["Desk", "Event", "Inbox", "Later", "when", "within"]

log = logging.getLogger(__name__)

T = TypeVar("T")

OVERTAKING: Final = "send-message"
"""The one event that does not wait for its like."""

_FAILURES: Final = (Exception, asyncio.CancelledError, SystemExit)
"""A handler that awaits something cancelled, or calls exit(), has failed like any other."""


class Event(msgspec.Struct, eq=False):
    """One event on its way. `arrived` is the loop's clock; storage has until `deadline`.

    `admitted` is there when the limits have to ask another server; it may fail. `work` is what the
    answer waits for.
    """

    session: Session
    name: str
    ack_id: int | None
    arrived: float
    deadline: float
    request: Request | None = None
    admitted: Future[None] | None = None
    answer: Any = None
    done: bool = False
    work: Future[Any] | None = None
    afterwards: list[Callable[[bool], None]] | None = None

    def after(self, callback: Callable[[bool], None]) -> None:
        """Call back once the ack has been written, with whether the event succeeded."""
        if self.afterwards is None:
            self.afterwards = [callback]
        else:
            self.afterwards.append(callback)


class Later(msgspec.Struct, frozen=True):
    """What a handler returns to be answered when `future` is done: with `make(its result)`.

    Unlike a coroutine it costs no task. Storage that is silent at the deadline is unavailable.
    """

    future: Future[Any]
    make: Callable[[Any], Any]


def when(future: Future[T], make: Callable[[T], Any]) -> Any:
    """`make` of the result of `future`: at once where it is done, else `Later`."""
    return make(future.result()) if future.done() else Later(future, make)


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


def _retrieve(future: Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody waits any more; keep asyncio from reporting it


@dataclass(slots=True, eq=False)
class Desk:
    """What the inboxes of all sockets have in common.

    `handle(event)` returns an answer, `Later` or a coroutine, or raises; `reply(event, answer)`
    writes an answer and returns whether it says that the event succeeded. `handler_timeout` is in
    seconds, `max_pending` in events of one socket.
    """

    handle: Callable[[Event], Any]
    reply: Callable[[Event, Any], bool]
    handler_timeout: float
    max_pending: int
    deadlines: Deadlines = field(default_factory=Deadlines)


class Inbox:
    """The events of one socket. Most are answered while they are `put`, and are never kept."""

    __slots__ = ("_barrier", "_desk", "_events", "_room", "_running", "_unstarted", "session")

    def __init__(self, session: Session, desk: Desk) -> None:
        self.session = session
        self._desk = desk
        # An idle socket has no queues: ten thousand empty ones are 12 MB.
        self._events: deque[Event] | None = None  # unanswered, in the order of arrival
        self._unstarted: deque[Event] | None = None
        self._running = 0
        self._barrier = False  # an event that nothing may overtake is running
        self._room: Future[None] | None = None

    def put(self, event: Event) -> Awaitable[None] | None:
        """Take an event; one that is `done` already only waits for its turn to be answered.

        Returns something to await before the socket is read further when too much is in hand.
        """
        if not event.done:
            if self._unstarted is None and self._may_start(event):
                self._start(event)
            else:
                self._hold(event)
        if self._events is None:
            if event.done:
                self._write(event)
                return None
            self._events = deque()
        self._events.append(event)
        if len(self._events) < self._desk.max_pending:
            return None
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    @property
    def running(self) -> list[Future[Any]]:
        """What the answers of the events that have been started wait for."""
        return [event.work for event in self._events or () if event.work and not event.done]

    def close(self) -> None:
        """Answer everything that is still in hand with `closing`; what runs goes on unheard."""
        for event in self._events or ():
            if not event.done:
                event.done, event.answer = True, Closing().to_ack()
        self._unstarted = None
        self._answer()

    # --- starting ----------------------------------------------------------------------------

    def _may_start(self, event: Event) -> bool:
        if self._running and (self._barrier or event.name != OVERTAKING):
            return False
        return event.admitted is None or event.admitted.done()

    def _hold(self, event: Event) -> None:
        if self._unstarted is None:
            self._unstarted = deque()
        self._unstarted.append(event)
        if event.admitted is not None and not event.admitted.done():
            event.admitted.add_done_callback(lambda _: self._go_on())

    def _go_on(self) -> None:
        """Start what may start now, and answer what is done."""
        while self._unstarted and self._may_start(self._unstarted[0]):
            self._start(self._unstarted.popleft())
        if not self._unstarted:
            self._unstarted = None
        self._answer()

    def _start(self, event: Event) -> None:
        try:
            if event.admitted is not None:
                event.admitted.result()
            answer = self._desk.handle(event)
            if isinstance(answer, Answer):
                event.answer, event.done = answer, True
            elif isinstance(answer, Later):
                self._wait(event, answer)
            elif isinstance(answer, Awaitable):
                loop = asyncio.get_running_loop()
                self._work(event, loop.create_task(self._run(event, answer)))
            else:
                event.answer, event.done = _checked(answer), True
        except _FAILURES as error:
            event.answer, event.done = _failed(event, error), True

    def _work(self, event: Event, work: Future[Any]) -> None:
        event.work = work
        self._running += 1
        if event.name != OVERTAKING:
            self._barrier = True

    # --- without a task ----------------------------------------------------------------------

    def _wait(self, event: Event, later: Later) -> None:
        loop = asyncio.get_running_loop()
        too_long = loop.time() + self._desk.handler_timeout
        if event.deadline < too_long:
            self._desk.deadlines.add(event.deadline, event, self._unavailable)
        else:
            self._desk.deadlines.add(too_long, event, self._hangs)
        self._work(event, later.future)
        done = partial(self._have, event, later.make)
        if isinstance(later.future, Promise):
            later.future.then(done)
        else:
            later.future.add_done_callback(done)

    def _have(self, event: Event, make: Callable[[Any], Any], future: Future[Any]) -> None:
        try:
            answer = _checked(make(future.result()))
        except _FAILURES as error:
            answer = _failed(event, error)
        self._finish(event, answer)

    def _unavailable(self, event: Event) -> None:
        self._finish(event, Unavailable().to_ack())

    def _hangs(self, event: Event) -> None:
        self._finish(event, _failed(event, TimeoutError()))

    # --- with a task -------------------------------------------------------------------------

    async def _run(self, event: Event, handling: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout(self._desk.handler_timeout):
                answer = _checked(await handling)
        except _FAILURES as error:
            answer = _failed(event, error)
        self._finish(event, answer)

    # --- answering ---------------------------------------------------------------------------

    def _finish(self, event: Event, answer: Any) -> None:
        if event.work is None:
            return  # storage has answered after the deadline
        event.work = None
        self._running -= 1
        if event.name != OVERTAKING:
            self._barrier = False
        if not event.done:
            event.done, event.answer = True, answer
        if self._unstarted is not None:
            self._go_on()
        else:
            self._answer()

    def _answer(self) -> None:
        events = self._events
        if events is None:
            return
        while events and events[0].done:
            self._write(events.popleft())
        if not events:
            self._events = None
        if self._room is not None and len(events) < self._desk.max_pending:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def _write(self, event: Event) -> None:
        succeeded = self._desk.reply(event, event.answer)
        if event.afterwards is not None:
            for callback in event.afterwards:
                callback(succeeded)


def _checked(answer: Any) -> Any:
    """What a handler returned, as an answer. Raises `TypeError`."""
    if isinstance(answer, msgspec.Struct):
        return answer
    if answer is None:
        return {"ok": True}
    if isinstance(answer, dict):
        return {"ok": True, **answer}
    raise TypeError(f"a handler returned {type(answer).__name__}, not an answer")


def _failed(event: Event, error: BaseException) -> dict[str, Any]:
    """What a handler that raised `error` is answered with: the cause is for the log only."""
    if isinstance(error, ChatError):
        return error.to_ack()
    log.error("the handler of %s failed", event.name, exc_info=error)
    return InternalError().to_ack()
