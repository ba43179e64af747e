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
from chatlab.server.limits import TokenBucket, UserBuckets, spend
from chatlab.server.metrics import Metrics
from chatlab.server.middleware import Chain
from chatlab.server.sessions import Session
from chatlab.settings import Settings
from chatlab.transport import StrictServer

__all__ = ["Dispatch"]

log = logging.getLogger(__name__)

ERROR_EVENT_EVERY: Final = 1.0
"""Seconds between two `error` events for rate_limited."""

_JOINING: Final = ("join-room", "leave-room")
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
        self._transport: StrictServer
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
        self._transport = transport

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
        now = asyncio.get_running_loop().time()
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
        session, now = event.session, event.arrived
        if event.name in _JOINING:
            session.joins = session.joins or TokenBucket(self._join_rate, now)
            spend(session.joins, now)
            event.request = decode(event.name, args, message_limit=self._longest)
        else:
            session.events = session.events or TokenBucket(self._socket_rate, now)
            spend(session.events, now)
            event.request = decode(event.name, args, message_limit=self._longest)
            event.admitted = self._buckets.spend(session.user, now)

    def _handle(self, event: Event) -> Any:
        """The handler's answer; where there are middlewares, around it, a coroutine."""
        if self.chain:
            return self.chain.run(event, self._call)
        return self.handlers[event.name](event, event.request)

    async def _call(self, event: Event) -> Any:
        answer = self.handlers[event.name](event, event.request)
        if isinstance(answer, Later):
            return answer.make(await within(event.deadline, answer.future))
        return await answer if hasattr(answer, "__await__") else answer

    # --- out ---------------------------------------------------------------------------------

    def _reply(self, event: Event, answer: Any) -> bool:
        """Write the ack, or for an event without one that failed, an `error` event."""
        try:
            code = self._write(event, answer)
        except Exception:
            log.exception("the answer of %s has no JSON form", event.name)
            code = self._write(event, InternalError().to_ack())
        elapsed = asyncio.get_running_loop().time() - event.arrived
        self._metrics.answered(event.name, code, elapsed)
        return code == "ok"

    def _write(self, event: Event, answer: Any) -> str:
        """Returns the answer's code, `ok` for one without."""
        encoded = _encode(answer)
        code = "ok" if isinstance(answer, Answer) else _code(msgspec.to_builtins(answer))
        if event.ack_id is not None:
            self._transport.push_encoded_ack(event.session.sid, event.ack_id, encoded)
        elif code != "ok":
            self._tell_error(event, msgspec.to_builtins(answer))
        return code

    def _tell_error(self, event: Event, failed: dict[str, Any]) -> None:
        session, now = event.session, asyncio.get_running_loop().time()
        if failed["code"] == "rate_limited":
            if now - session.last_error_at < ERROR_EVENT_EVERY:
                return
            session.last_error_at = now
        told = {"message": failed["error"], "code": failed["code"]}
        if "retryAfter" in failed:
            told["retryAfter"] = failed["retryAfter"]
        self._transport.push_event(session.sid, "error", told)


def _code(answer: dict[str, Any]) -> str:
    return "ok" if answer.get("ok") else str(answer.get("code", "internal_error"))
