"""Sends one message until the server says *stored*, or until it is clear what can be said.

It decides whether an attempt is followed by another, and what is known in the end. Each attempt
is one event with its ack; the connection is `lifeline.py`'s business.
"""

from __future__ import annotations

from typing import Final

from chatlab.connection import Connection
from chatlab.errors import (
    ChatError,
    Closing,
    InternalError,
    NotInRoom,
    RequestError,
    SendFailed,
)
from chatlab.protocol import Message, Sent, trim
from chatlab.session import Session

__all__ = ["send"]

_LONGEST_WAIT: Final = 60.0  # seconds: who is told to wait longer decides for himself


async def send(
    session: Session, text: str, room: str, *, key: str, timeout: float, retries: int
) -> Sent:
    """Send `text` to `room` with `key`; what is raised is what `ChatClient.send` says."""
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries}")
    attempt, unknown = 0, False
    while True:
        asked = False
        try:
            connection = await session.ready(timeout=timeout, also=lambda: session.joined(room))
            asked = True
            return await _attempt(session, connection, text, room, key, timeout)
        except ChatError as error:
            attempt += 1
            unknown = unknown or (asked and not _surely_not_stored(error))
            last = session.over or error
            again = last.retry or (isinstance(error, NotInRoom) and session.put_out(room))
            if not again or session.over is not None:
                if unknown:
                    raise _gave_up(key, attempt, unknown, last) from error
                raise last from (None if last is error else error)
            if attempt > retries or (error.retry_after or 0.0) > _LONGEST_WAIT:
                raise _gave_up(key, attempt, unknown, last) from error
            wait = session.backoff.delay(attempt - 1, error.retry_after)
        await session.sleep(wait)


async def _attempt(
    session: Session, connection: Connection, text: str, room: str, key: str, timeout: float
) -> Sent:
    feed = session.rooms.get(room)
    pending = feed.sending() if feed is not None else None

    def stored(sent: Sent) -> None:
        user = session.user or ""
        session.own(Message(sent.id, sent.seq, room, user, trim(text), sent.timestamp))

    payload = {"text": text, "room": room, "key": key}
    try:
        return await connection.call("send-message", payload, Sent, timeout=timeout, then=stored)
    finally:
        if feed is not None and pending is not None:
            feed.settle(pending)
            session.tend(feed)


def _surely_not_stored(error: ChatError) -> bool:
    return isinstance(error, RequestError) and not isinstance(error, (Closing, InternalError))


def _gave_up(key: str, attempts: int, unknown: bool, last: ChatError) -> SendFailed:
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    if unknown:
        text = (
            f"No acknowledgement after {tries} (the last: {last}). Whether the message was stored "
            f"is unknown: send it again with key={key!r} to find out"
        )
    else:
        text = f"Not stored: refused in {tries} (the last: {last})"
    return SendFailed(
        text, key=key, attempts=attempts, stored=None if unknown else False, last=last
    )
