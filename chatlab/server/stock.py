"""The chat on python-socketio's and python-engineio's stock classes, for comparison only.

`StockServer` has the interface of `chatlab.transport.StrictServer` towards the application and uses
only what their documentation names: a connect handler, a disconnect handler, a catch-all handler
whose return value is the ack, `emit`, and rooms. A room's event is one `emit`. Validation, limits
per event, authentication, the ordered log and the acks are the application's and stay. Missing is
what only a transport can do (each is a test on the strict one):

- Bounds: bytes that wait for a slow reader, binary attachments, sockets that never send CONNECT
  and how long they stay, raw frames of a user. Reading goes on whatever is in hand.
- Polling: of a body in two segments the second is lost; a body of over 16 packets is dropped; a
  poll that waits is not ended when its client leaves.
- A packet that does not parse is a traceback and closes nothing; presence stays up to the ping
  timeout. A client may run the handlers of `connect` and `disconnect` by an event of that name.
- A handler does not learn whether the client wants an ack: a failed event that was sent without
  one is not answered by `error`.
- Other servers: messages and receipts reach them, being the log's; `typing`, `user-joined` and
  `user-left` do not.
- Closing is a packet behind the last ones, which clients may forget when they see it.
- The order of deliveries rests on tasks being run in the order in which they were made.
- permessage-deflate is offered always; ping intervals are announced in whole seconds; the own
  origin is the only check that needs no option.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
import socketio
from aiohttp import web

from chatlab.transport import Handshake, encode_event
from chatlab.transport.frame import polled

__all__ = ["StockServer"]

log = logging.getLogger(__name__)

WARNING: Final = (
    "this is the stock transport, for comparison: slow readers, unauthenticated sockets and raw "
    "frames are not bounded, malformed packets do not close a socket, long polling may lose "
    "packets, and typing, user-joined and user-left do not reach other servers"
)


class StockServer:
    """`accept`, `opened`, `arrived` and `closed` are as for `StrictServer`.

    What else it takes are options of python-engineio's server.
    """

    accepting = True
    """Set by the application; the stock classes go on accepting, and `accept` refuses."""

    def __init__(
        self,
        *,
        accept: Callable[[Handshake], Awaitable[dict[str, Any] | None]],
        opened: Callable[[str, Handshake], None],
        arrived: Callable[[str, str, list[Any], int | None], Any],
        closed: Callable[[str, str], Awaitable[None] | None],
        allow_origin: Callable[[web.Request, str], bool],
        **engine_options: Any,
    ) -> None:
        self._accept, self._opened, self._arrived, self._closed = accept, opened, arrived, closed
        self._numbers = itertools.count(1)
        self._asked: dict[str, dict[int, asyncio.Future[Any]]] = {}
        self._reasons: dict[str, str] = {}
        self._gathered: list[tuple[bytes, list[str]]] = []
        self._emitting: set[asyncio.Task[None]] = set()
        self.sio = socketio.AsyncServer(
            async_mode="aiohttp",
            cors_allowed_origins=lambda origin, environ: (
                origin is not None and allow_origin(environ["aiohttp.request"], origin)
            ),
            logger=_quiet,
            engineio_logger=_quiet,
            **engine_options,
        )
        self.sio.on("connect", self._on_connect)
        self.sio.on("disconnect", self._on_disconnect)
        self.sio.on("*", self._on_event)
        self.eio = _Engine(self.sio, self._settled)
        log.warning(WARNING)

    # --- for the application -----------------------------------------------------------------

    def push(self, sid: str, framed: bytes) -> None:
        """Send an encoded event to one socket, without waiting.

        One event for many sockets is one `emit`, as it would be to a room.
        """
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._emit_gathered)
        if self._gathered and self._gathered[-1][0] is framed:
            self._gathered[-1][1].append(sid)
        else:
            self._gathered.append((framed, [sid]))

    def outlet(self, sid: str) -> Callable[[bytes], None]:
        """`push` to one socket."""
        return functools.partial(self.push, sid)

    def push_event(self, sid: str, name: str, *args: Any) -> None:
        """Send an event to one socket, without waiting."""
        self.push(sid, encode_event(name, *args))

    def push_ack(self, sid: str, ack_id: int, *answer: Any) -> None:
        """Give the handler its answer. Raises when `answer` has no JSON form."""
        asked = self._asked.get(sid, {}).get(ack_id)
        returned = tuple(msgspec.to_builtins(argument) for argument in answer)
        if asked is not None and not asked.done():
            asked.set_result(returned)

    def push_encoded_ack(self, sid: str, ack_id: int, answer: bytes) -> None:
        """The same with the one argument's JSON, which the library encodes once more."""
        self.push_ack(sid, ack_id, json.loads(answer))

    async def emit(
        self, event: str, data: Any = None, *, room: str, skip_sid: str | list[str] | None = None
    ) -> None:
        """Send an event to the sockets of a room that are here."""
        await self.sio.emit(event, msgspec.to_builtins(data), room=room, skip_sid=skip_sid)

    async def enter_room(self, sid: str, room: str) -> None:
        """Add a socket to a room. Raises `ValueError` for one that is not here."""
        await self.sio.enter_room(sid, room)

    async def leave_room(self, sid: str, room: str) -> None:
        """Take a socket out of a room."""
        await self.sio.leave_room(sid, room)

    async def close_transport(self, sid: str, reason: str) -> None:
        """Close the Engine.IO session: the client returns by itself."""
        eio_sid = self.sio.manager.eio_sid_from_sid(sid, "/")
        if eio_sid is not None:
            self._reasons[sid] = reason
            await self._settled()
            await self.sio.eio.disconnect(eio_sid)

    async def kick(self, sid: str, reason: str) -> None:
        """Send a Socket.IO DISCONNECT: the official client does not return by itself."""
        self._reasons[sid] = reason
        await self._settled()
        await self.sio.disconnect(sid)
        self._reasons.pop(sid, None)

    # --- sending -----------------------------------------------------------------------------

    def _emit_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for framed, sids in gathered:
            _keep(self._emitting, self._emit(framed, sids))

    async def _emit(self, framed: bytes, sids: list[str]) -> None:
        name, *args = json.loads(polled(framed)[2:])  # behind 4, MESSAGE, and 2, EVENT
        await self.sio.emit(name, tuple(args), to=sids)

    async def _settled(self) -> None:
        """What was pushed has been handed to the library."""
        await asyncio.sleep(0)  # handlers whose answer is there return
        self._emit_gathered()
        if self._emitting:
            await asyncio.wait(self._emitting)

    # --- handlers ----------------------------------------------------------------------------

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        handshake = Handshake(auth, environ["aiohttp.request"])
        refusal = await self._accept(handshake)
        if refusal is not None:
            raise socketio.exceptions.ConnectionRefusedError(refusal["message"], refusal["data"])
        self._asked[sid] = {}
        self._opened(sid, handshake)
        if self.sio.manager.eio_sid_from_sid(sid, "/") not in self.sio.eio.sockets:
            # It left meanwhile: the library would not call the disconnect handler.
            await self._on_disconnect(sid, "transport close")
            raise socketio.exceptions.ConnectionRefusedError("gone")

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        for asked in self._asked.pop(sid, {}).values():
            if not asked.done():
                asked.set_result(None)
        telling = self._closed(sid, self._reasons.pop(sid, reason))
        if telling is not None:
            await telling

    async def _on_event(self, name: str, sid: str, *args: Any) -> Any:
        """Hand over an event and wait for its answer, which the library sends as the ack."""
        asked = self._asked.get(sid)
        if asked is None:
            return None
        number = next(self._numbers)
        answer = asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._arrived(sid, name, list(args), number)
            return await answer
        finally:
            asked.pop(number, None)


class _Engine:
    """What the application uses of the Engine.IO server, by way of python-engineio's own."""

    def __init__(self, sio: Any, settled: Callable[[], Awaitable[None]]) -> None:
        self._sio, self._settled = sio, settled
        self._tasks: set[asyncio.Task[None]] = set()
        self.handle_request = sio.handle_request

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task that is kept until it is done."""
        _keep(self._tasks, work)

    async def close_all(self, *, within: float) -> None:
        """Close every session; one that does not take it is left after `within` seconds."""
        await self._settled()
        if self._sio.eio.sockets:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._sio.eio.disconnect()
        await self._sio.shutdown()


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


# What the libraries log names Engine.IO session ids, which are bearer secrets.
_quiet = logging.getLogger("chatlab.server.stock.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
_quiet.setLevel(logging.CRITICAL)
