"""One Socket.IO connection, from its handshake to its end; it is never used twice.

It turns python-socketio's callbacks into answers, exceptions and an end that nobody can miss.
Coming back after an end is `session.py`'s business.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import engineio.base_client
import msgspec
import socketio

from chatlab.errors import AckTimeout, ChatError, ClientError, NotConnected, from_wire
from chatlab.protocol import Answer

__all__ = ["Connection", "Records"]

log = logging.getLogger(__name__)

_GOODBYE: Final = 1.0  # seconds for a polite close; a silent wire answers none
_CANCEL_AGAIN: Final = 0.05  # seconds
_DEAD_AFTER: Final = 2  # calls in a row without answer, and nothing heard since the first

# python-socketio 5.18.1 logs packets, tokens among them, and adds a handler of its own to a
# logger that has no level. This one is in nobody's tree and lets nothing through.
_SILENT: Final = logging.Logger("chatlab.client.silent", logging.CRITICAL + 1)

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
        self._waiting: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard_at = 0.0
        self._unanswered = 0
        self._http = aiohttp.ClientSession()
        self._sio = self._make_socket()

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
                    headers={_NAME_HEADER: quote(self._name)} if self._recorder else {},
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
        self._waiting.add(answered)
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
            self._waiting.discard(answered)

    async def close(self, *, politely: bool) -> None:
        """End it and leave nothing behind: no task, no socket. A polite end takes 1 s at most."""
        politely = politely and self.alive
        self._end()
        eio = self._sio.eio
        if politely:
            with suppress(Exception):
                async with asyncio.timeout(_GOODBYE):
                    await self._sio.disconnect()
        await _end_tasks(self._tasks)
        if eio.ws is not None:
            # Whoever is silent is not waited for; aiohttp lets go of the socket all the same.
            with suppress(Exception):
                async with asyncio.timeout(_GOODBYE if politely else 0):
                    await eio.ws.close()
        with suppress(ValueError):  # engineio 4.15.1 forgets it there when a close is interrupted
            engineio.base_client.connected_clients.remove(eio)
        await self._http.close()
        if self._accepted.done() and not self._accepted.cancelled():
            self._accepted.exception()  # seen, also where `open` had given up before it came

    # --- what python-socketio reports ----------------------------------------------------------

    def _make_socket(self) -> Any:
        sio = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=_SILENT,
            engineio_logger=_SILENT,
            http_session=self._http,
            websocket_extra_options={"timeout": aiohttp.ClientWSTimeout(ws_close=_GOODBYE)},
        )
        # engineio starts a task for each packet and one for each loop; they are ended with the
        # connection, which it does not do by itself.
        sio.eio.start_background_task = self._start_task
        sio.on("connect", self._connected)
        sio.on("connect_error", self._refused)
        sio.on("disconnect", self._disconnected)
        sio.on("*", self._event)
        return sio

    def _start_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(target(*args))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s: a packet was not understood: %s", self._name, type(error).__name__)

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
        # Engine.IO's CLOSE has the same reason as Socket.IO's DISCONNECT, but only the latter
        # finds the transport still open (python-socketio 5.18.1).
        eio = self._sio.eio
        self.dismissed = reason == eio.reason.SERVER_DISCONNECT and eio.state == "connected"
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
        for answered in self._waiting:
            if not answered.done():
                answered.set_exception(NotConnected(lost))
        if was_alive:
            self._record("disconnected")
            self._on_end()

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


async def _end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` and wait until they have ended.

    More than once where need be: `asyncio.wait_for`, which engineio 4.15.1 uses, swallows a
    cancellation that meets a result (Python 3.11).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)


def _understand(event: str, answer: Any, shape: type[T]) -> T:
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        raise from_wire(answer)
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise ClientError(
            f"The server's answer to {event} is not the contract's: {error}"
        ) from None
