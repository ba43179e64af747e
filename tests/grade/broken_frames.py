"""Broken on purpose: websocket frames, their sizes, and what one client may cost."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import WSMsgType

from chatlab.transport import session, websocket
from tests.grade.broken import breaks

WebSocket, Session = websocket.WebSocket, session.Session
feed_data, closing = WebSocket.feed_data, WebSocket.close


@breaks("frames-in-pieces", besides={"fragments-too-long": "it sends fragments"})
def fragments_are_not_taken() -> None:
    masked = WebSocket._masked

    def whole(self: Any, data: bytes) -> bool:
        begins = not (self._skip or self._head)
        return masked(self, data) and not (begins and data[0] < 0x80)

    WebSocket._masked = whole


def frame_kinds(kind: WSMsgType, handle: Any) -> None:
    def other(self: Any, message: Any, size: int) -> None:
        if message[0] is kind:
            handle(self)
        else:
            feed_data(self, message, size)

    WebSocket.feed_data = other


@breaks("websocket-ping")
def pings_are_not_answered() -> None:
    frame_kinds(WSMsgType.PING, lambda websocket: None)


@breaks("closing-handshake")
def a_close_is_answered_by_cutting() -> None:
    frame_kinds(WSMsgType.CLOSE, lambda websocket: websocket.abort())


def always_1000(wrong: int) -> None:
    def plain(self: Any, code: int = 1000, reason: str = "transport close") -> None:
        closing(self, 1000 if code == wrong else code, reason)

    WebSocket.close = plain


@breaks("frame-faults", "unmasked-frame")
def a_protocol_error_is_a_normal_close() -> None:
    always_1000(1002)


@breaks("unmasked-frame")
def masks_are_not_looked_for() -> None:
    WebSocket._masked = lambda self, data: True


@breaks("bad-utf8")
def bad_text_is_a_normal_close() -> None:
    always_1000(1007)


@breaks("size-limit", max_frame=200_000)
def frames_may_be_long() -> None:
    """Settings alone."""


def unlimited() -> None:
    opening = WebSocket.open

    def open(self: Any, request: Any, *, max_size: int, **more: Any) -> Any:
        return opening(self, request, max_size=10**8, **more)

    WebSocket.open = open


@breaks("frame-too-long", "fragments-too-long")
def the_limit_is_only_announced() -> None:
    unlimited()


@breaks("compression-bomb", compression=True)
def bombs_are_unpacked() -> None:
    unlimited()


# --- one client and the others --------------------------------------------------------------------


@breaks("slow-reader-dropped", max_unread=10**9)
def a_slow_reader_is_kept() -> None:
    """Settings alone."""


@breaks("slow-reader-harms-nobody")
def a_slow_reader_is_waited_for() -> None:
    def patient(self: Any, reason: str) -> None:
        time.sleep(30)

    Session.drop = patient


@breaks("flood-of-frames", user_frame_rate=1e9, user_frame_burst=10**9)
def every_frame_costs_a_millisecond() -> None:
    schedule = Session.schedule_ping

    def slowly(self: Any) -> None:
        time.sleep(0.001)
        schedule(self)

    Session.schedule_ping = slowly
