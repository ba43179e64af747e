"""One Socket.IO connection, from its handshake to its end; it is never used twice.

It turns python-socketio's callbacks into answers, exceptions and an end that nobody can miss.
Coming back after an end is `session.py`'s business.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec
import socketio

from chatlab.errors import (
    AckTimeout,
    ChatError,
    ClientError,
    MessageTooLong,
    NotConnected,
    from_wire,
)
from chatlab.protocol import Answer
from chatlab.quietsocket import QuietSocket

__all__ = ["Connection", "Records"]

_DEAD_AFTER: Final = 2  # calls in a row without answer, and nothing heard since the first

# A recorded client says its name, so that a wire and a server that record call it the same.
_NAME_HEADER: Final = "X-Lab-Name"

T = TypeVar("T", bound=Answer)


class Records(Protocol):
    """Where a client writes down what it did and saw; `chatlab.lab.recorder.Recorder` is one."""

    def add(self, kind: Any, **fields: Any) -> Any:
        """Record one entry now."""


class Connection:
    """Reports events to `on_event(name, data)` and its end, once, to `on_end()`.

    Both are plain functions and are called in the order in which packets arrived. `on_end` is not
    called where `open` raised.
    """

    def __init__(
        self,
        *,
        name: str,
        on_event: Callable[[str, Any], None],
        on_end: Callable[[], None],
        recorder: Records | None = None,
    ) -> None:
        self.alive = False
        self.dismissed = False  # the server sent DISCONNECT: it does not want this client back
        self.gone = asyncio.Event()
        self._name = name
        self._on_event = on_event
        self._on_end = on_end
        self._recorder = recorder
        self._ids = itertools.count(1)  # the same numbers that python-socketio gives its acks
        self._waiting: dict[asyncio.Future[Any], Any] = {}  # with what was sent
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._accepted.add_done_callback(_seen)
        self._heard_at = 0.0
        self._unanswered = 0
        self._sio = QuietSocket()
        self._sio.on("connect", self._connected)
        self._sio.on("connect_error", self._refused)
        self._sio.on("disconnect", self._disconnected)
        self._sio.on("*", self._event)

    async def open(
        self, url: str, auth: dict[str, Any], *, transports: Sequence[str], timeout: float
    ) -> None:
        """Connect and wait until the server has accepted, at most `timeout` seconds.

        Raises the refusal as its own exception (`ConnectionRefused` or `Unavailable`), and
        `NotConnected` where nobody could be asked.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._sio.connect(
                    url,
                    auth=lambda: self._greet(auth),
                    headers={} if self._recorder is None else {_NAME_HEADER: quote(self._name)},
                    transports=list(transports),
                    wait=False,
                )
                # A transport that ends before CONNECT was answered is reported to nobody else.
                self._sio.eio.read_loop_task.add_done_callback(lambda _: self._end())
                await self._accepted
        except TimeoutError:
            raise NotConnected(f"{url} did not answer within {timeout:g} s") from None
        except ChatError:
            raise
        except Exception as error:
            # engineio 4.15.1 lets through whatever a server that speaks something else provokes.
            raise NotConnected(f"{url} cannot be reached: {error}") from error

    async def call(
        self,
        event: str,
        payload: Any,
        shape: type[T],
        *,
        timeout: float,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """Send `event` and wait for its ack, at most `timeout` seconds.

        `then` is called with the answer before any later packet is looked at; also with one that
        comes after the time-out. Raises the ack's error, `AckTimeout`, and `NotConnected` when
        the connection ends first: whether the server did it is unknown in both.
        """
        if not self.alive:
            raise NotConnected
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()
        answered.add_done_callback(_seen)
        number = next(self._ids)

        def on_ack(*args: Any) -> None:
            self._hear("ack", event, args[0] if args else None, number)
            try:
                answer = _understand(event, args[0] if args else None, shape)
            except ChatError as error:
                if not answered.done():
                    answered.set_exception(error)
                return
            if then is not None:
                then(answer)
            if not answered.done():
                answered.set_result(answer)

        sent_at = loop.time()
        shown = None if event == "refresh-token" else payload
        self._record("send", to_server=True, packet="event", name=event, data=shown, id=number)
        self._waiting[answered] = payload
        try:
            async with asyncio.timeout(timeout):
                await self._sio.emit(event, payload, callback=on_ack)
                return await answered
        except TimeoutError:
            self._record("timeout", to_server=True, packet="event", name=event, id=number)
            self._suspect(sent_at)
            raise AckTimeout(f"No answer to {event} within {timeout:g} s") from None
        except socketio.exceptions.BadNamespaceError:
            raise NotConnected from None
        finally:
            del self._waiting[answered]

    async def close(self, *, politely: bool) -> None:
        """End it and leave nothing behind: no task, no socket. A polite end takes 1 s at most."""
        politely = politely and self.alive
        self._end()
        await self._sio.let_go(politely=politely)

    # --- what python-socketio reports ----------------------------------------------------------

    def _greet(self, auth: dict[str, Any]) -> dict[str, Any]:
        # python-socketio asks for the auth when it is about to send CONNECT.
        self._record("send", to_server=True, packet="connect")
        return auth

    def _connected(self) -> None:
        self.alive = not self.gone.is_set()
        self._record("receive", to_server=False, packet="connect")
        self._record("connected")
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _refused(self, data: Any = None) -> None:
        # python-socketio calls this for a transport that could not be opened too, and raises then.
        if self._sio.eio.state != "connected" or self._accepted.done():
            return
        error = from_wire(data, refusal=True)
        self._record("receive", to_server=False, packet="connect_error", data=data)
        self._record("refused", text=error.message, data={"code": error.code})
        self._accepted.set_exception(error)

    def _disconnected(self, reason: str) -> None:
        self.dismissed = self._sio.is_dismissal(reason)
        if self.dismissed:
            self._record("receive", to_server=False, packet="disconnect")
        self._end()

    def _event(self, event: str, data: Any = None, *_: Any) -> None:
        self._hear("event", event, data, None)
        if self.alive:
            self._on_event(event, data)

    def _end(self) -> None:
        if self.gone.is_set():
            return
        self.gone.set()
        was_alive, self.alive = self.alive, False
        lost = "The connection was lost before the answer came"
        if not self._accepted.done():
            self._accepted.set_exception(NotConnected(lost))
        too_long = self._too_long()
        for answered in self._waiting:
            if not answered.done():
                error = MessageTooLong() if answered is too_long else NotConnected(lost)
                answered.set_exception(error)
        if was_alive:
            self._record("disconnected")
            self._on_end()

    def _too_long(self) -> asyncio.Future[Any] | None:
        # The server closes with 1009 instead of answering when a frame is too long, and does not
        # say which: the longest of those that wait. Sending that one again would end the same.
        if not self._sio.frame_was_too_long:
            return None
        return max(self._waiting, key=lambda f: len(json.dumps(self._waiting[f])), default=None)

    # --- silence -------------------------------------------------------------------------------

    def _hear(self, packet: str, name: str, data: Any, number: int | None) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._unanswered = 0
        self._record("receive", to_server=False, packet=packet, name=name, data=data, id=number)

    def _suspect(self, sent_at: float) -> None:
        # A wire that went silent is not closed by anybody: Engine.IO notices after 45 s. A second
        # call without any sign of life decides sooner, and a single lost ack costs no connection.
        if self._heard_at < sent_at:
            self._unanswered += 1
        if self._unanswered >= _DEAD_AFTER:
            self._end()

    def _record(self, kind: str, **fields: Any) -> None:
        if self._recorder is not None:
            self._recorder.add(kind, conn=self._name, **fields)


def _seen(answered: asyncio.Future[Any]) -> None:
    # asyncio complains of an exception that nobody took; who waited may have just given up.
    if not answered.cancelled():
        answered.exception()


def _understand(event: str, answer: Any, shape: type[T]) -> T:
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        raise from_wire(answer)
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise ClientError(
            f"The server's answer to {event} is not the contract's: {error}"
        ) from None
