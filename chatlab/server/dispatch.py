"""The way of an event: limits, payload, handler, answer.

What arrives from a socket is looked at here, handed to its handler, and answered. The order of the
answers is acks.py's business, what an event does its handler's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from chatlab.errors import ChatError, Closing, InternalError
from chatlab.protocol import Answer, decode
from chatlab.server.acks import Desk, Event, Inbox, Later, within
from chatlab.server.leases import LeasedBuckets
from chatlab.server.limits import TokenBucket, UserBuckets, refused
from chatlab.server.metrics import Metrics
from chatlab.server.middleware import Chain
from chatlab.server.sessions import Session
from chatlab.settings import Settings
from chatlab.transport import StrictServer

__all__ = ["Dispatch"]

log = logging.getLogger(__name__)

ERROR_EVENT_EVERY: Final = 1.0
"""Seconds between two `error` events for rate_limited."""

_JOINING: Final = frozenset(("join-room", "leave-room"))
_encode: Final = msgspec.json.Encoder().encode


class Dispatch:
    """Takes the events of every socket. `handlers` are found by the event's name.

    A handler gets the event and its validated request. It is a plain function or a coroutine; it
    returns an answer or `Later`, or raises a `ChatError`.
    """

    def __init__(
        self, *, settings: Settings, buckets: UserBuckets | LeasedBuckets, metrics: Metrics
    ) -> None:
        self.handlers: dict[str, Callable[[Event, Any], Any]] = {}
        self.inboxes: dict[str, Inbox] = {}
        self.chain: Chain[Event] = Chain()
        self.closing = False
        self._buckets = buckets
        self._metrics = metrics
        self._push_ack: Callable[[str, int, bytes], None]
        self._push_event: Callable[..., None]
        self._clock: Callable[[], float]
        self._socket_rate, self._join_rate = settings.socket_rate, settings.socket_join_rate
        self._storage_timeout = settings.storage_timeout
        self._longest = settings.max_message
        self._desk = Desk(
            handle=self._handle,
            reply=self._reply,
            handler_timeout=settings.handler_timeout,
            max_pending=settings.max_pending,
        )

    def attach(self, transport: StrictServer) -> None:
        self._push_ack, self._push_event = transport.push_encoded_ack, transport.push_event

    def start(self) -> None:
        """Called on the loop that events will arrive on."""
        self._clock = asyncio.get_running_loop().time

    def open(self, session: Session) -> None:
        """Take the events of an accepted socket from now on."""
        self.inboxes[session.sid] = Inbox(session, self._desk)

    def close(self, sid: str) -> None:
        """Take no more of them; what was begun goes on unheard."""
        self.inboxes.pop(sid, None)

    # --- in ----------------------------------------------------------------------------------

    def arrived(
        self, sid: str, name: str, args: Sequence[Any], ack_id: int | None
    ) -> Awaitable[None] | None:
        """Take an event. Returns what to await before the socket is read further, if anything."""
        inbox = self.inboxes.get(sid)
        if inbox is None:
            return None
        now = self._clock()
        event = Event(inbox.session, name, ack_id, now, now + self._storage_timeout)
        try:
            self._check(event, args)
        except ChatError as error:
            event.done, event.answer = True, error.to_ack()
        except Exception:
            log.exception("an event could not be looked at")
            event.done, event.answer = True, InternalError().to_ack()
        return inbox.put(event)

    def _check(self, event: Event, args: Sequence[Any]) -> None:
        """The socket's limit, the payload, the user's limit, in this order: cheapest first."""
        if self.closing:
            raise Closing
        session, now, joining = event.session, event.arrived, event.name in _JOINING
        bucket = session.joins if joining else session.events
        wait = (bucket or self._first(session, now, joining)).take(now)
        if wait:
            raise refused(wait)
        event.request = decode(event.name, args, message_limit=self._longest)
        if not joining:
            event.admitted = self._buckets.spend(session.user, now)

    def _first(self, session: Session, now: float, joining: bool) -> TokenBucket:
        """The bucket of a socket's first event."""
        bucket = TokenBucket(self._join_rate if joining else self._socket_rate, now)
        if joining:
            session.joins = bucket
        else:
            session.events = bucket
        return bucket

    def _handle(self, event: Event) -> Any:
        """The handler's answer; where there are middlewares, around it, a coroutine."""
        if self.chain.empty:
            return self.handlers[event.name](event, event.request)
        return self.chain.run(event, self._call)

    async def _call(self, event: Event) -> Any:
        answer = self.handlers[event.name](event, event.request)
        if isinstance(answer, Later):
            return answer.make(await within(event.deadline, answer.future))
        return await answer if hasattr(answer, "__await__") else answer

    # --- out ---------------------------------------------------------------------------------

    def _reply(self, event: Event, answer: Any) -> bool:
        """Write the ack, or for an event without one that failed, an `error` event."""
        try:
            encoded = _encode(answer)
            failure = None if isinstance(answer, Answer) else _failure(answer)
        except Exception:
            log.exception("the answer of %s has no JSON form", event.name)
            failure = InternalError().to_ack()
            encoded = _encode(failure)
        if event.ack_id is not None:
            self._push_ack(event.session.sid, event.ack_id, encoded)
        elif failure is not None:
            self._tell_error(event, failure)
        code = "ok" if failure is None else failure.get("code", "internal_error")
        self._metrics.answered(event.name, code, self._clock() - event.arrived)
        return failure is None

    def _tell_error(self, event: Event, failed: dict[str, Any]) -> None:
        session, now = event.session, self._clock()
        if failed["code"] == "rate_limited":
            if now - session.last_error_at < ERROR_EVENT_EVERY:
                return
            session.last_error_at = now
        told = {"message": failed["error"], "code": failed["code"]}
        if "retryAfter" in failed:
            told["retryAfter"] = failed["retryAfter"]
        self._push_event(session.sid, "error", told)


def _failure(answer: Any) -> dict[str, Any] | None:
    """An answer that does not say `ok`."""
    plain: dict[str, Any] = msgspec.to_builtins(answer)
    return None if plain.get("ok") else plain
