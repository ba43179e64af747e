"""Broken on purpose: limits that are too wide, too narrow, forgotten, or told of in another way."""

from __future__ import annotations

import math
import time
from typing import Any

from chatlab.errors import RateLimited
from chatlab.server import dispatch, limits
from chatlab.server.app import ChatServer
from tests.grade.broken import breaks

reply = dispatch.Dispatch._reply
UNLIMITED = {
    **dict.fromkeys(("rate", "user_rate", "user_frame_rate"), 1e6),
    **dict.fromkeys(("rate_burst", "user_burst", "user_frame_burst"), 10**6),
}


def limited(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.get("code") == "rate_limited"


@breaks("flood-limited", **UNLIMITED)
def nothing_is_limited() -> None:
    """Settings alone."""


@breaks("flood-told")
def what_is_too_much_is_dropped_in_silence() -> None:
    dispatch.Dispatch._reply = lambda self, event, answer: (
        False if limited(answer) else reply(self, event, answer)
    )


@breaks("flood-acked")
def what_is_too_much_is_only_an_event() -> None:
    def told(self: Any, event: Any, answer: Any) -> bool:
        if limited(answer):
            event.ack_id = None
        return reply(self, event, answer)

    dispatch.Dispatch._reply = told


@breaks("flood-ends")
def who_was_limited_once_is_for_ever() -> None:
    take = limits.TokenBucket.take

    def unforgiving(self: Any, now: float) -> float:
        if self._rate == math.inf:
            return 1.0
        wait = take(self, now)
        if wait:
            self._rate = math.inf
        return wait

    limits.TokenBucket.take = unforgiving


@breaks("flood-spares-others")
def every_refusal_takes_its_time() -> None:
    def slowly(self: Any, event: Any, answer: Any) -> bool:
        if limited(answer):
            time.sleep(0.4)
        return reply(self, event, answer)

    dispatch.Dispatch._reply = slowly


@breaks("sockets-share-limit")
def the_limit_is_the_sockets(server: ChatServer) -> None:
    server._buckets.spend = lambda user, now: None


@breaks("reconnecting-no-way-round")
def a_limit_ends_with_the_connection(server: ChatServer) -> None:
    closed = server._closed

    def forgotten(sid: str, reason: str) -> Any:
        session = server.sessions.get(sid)
        if session is not None:
            server._buckets._buckets.pop(session.user, None)
        return closed(sid, reason)

    server.transport._closed = forgotten


@breaks("limit-code")
def the_limit_has_another_code() -> None:
    RateLimited.code = "too_many"


@breaks("retry-after-true", rate=0.2)
def a_wait_of_a_millisecond_is_told() -> None:
    dispatch.refused = limits.refused = lambda wait: RateLimited(retry_after=0.001)


@breaks("socket-burst", rate_burst=150, user_burst=300)
def a_socket_has_a_greater_burst() -> None:
    """Settings alone."""


@breaks("user-burst", rate_burst=40, user_burst=400)
def a_user_has_a_greater_burst() -> None:
    """Settings alone."""


@breaks("joins-apart", join_rate=1.0, join_burst=20)
def joins_have_a_small_burst() -> None:
    """Settings alone."""


@breaks("rooms-per-socket", max_rooms_per_socket=1000)
def a_socket_may_be_in_any_number_of_rooms() -> None:
    """Settings alone."""


@breaks("limited-error-event")
def every_refusal_is_an_error_event() -> None:
    dispatch.ERROR_EVENT_EVERY = 0.0
