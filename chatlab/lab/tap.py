"""Listens in on a python-socketio server: what arrives, what leaves, under which client's name.

It wraps a few methods of one server *instance* and takes the wrapping off again; the server
behaves as before. A server that is not python-socketio's is not listened to.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import socketio
from aiohttp import web
from engineio import packet as eio_packet

from chatlab.lab.inbox import Inbox
from chatlab.lab.packets import Assembler, Seen
from chatlab.lab.recorder import Recorder
from chatlab.transport.engine import StrictEngine
from chatlab.transport.frame import TEXT, payload
from chatlab.transport.session import Session

__all__ = ["NAME_HEADER", "ServerTap", "find_socketio"]

# The lab's clients say in this request header what a drawing is to call them.
NAME_HEADER = "X-Lab-Name"
_ENVIRON_NAME = "HTTP_X_LAB_NAME"


def find_socketio(app: object) -> Any:
    """The python-socketio server inside `app`: itself, or the one that serves an aiohttp route.

    Returns None where there is none.
    """
    if isinstance(app, socketio.AsyncServer):
        return app
    if not isinstance(app, web.Application):
        return None
    for value in app.values():
        if isinstance(value, socketio.AsyncServer):
            return value
    for route in app.router.routes():
        # `sio.attach(app)` leaves no other trace than the Engine.IO server's method as a handler.
        engine = getattr(route.handler, "__self__", None)
        arriving = getattr(engine, "handlers", {}).get("message")
        server = getattr(arriving, "__self__", None)
        if isinstance(server, socketio.AsyncServer):
            return server
    return None


class ServerTap:
    """Records the packets of one server into `recorder`, and its events into `inbox`."""

    def __init__(self, sio: Any, recorder: Recorder, inbox: Inbox) -> None:
        self._sio = sio
        self._recorder = recorder
        self._inbox = inbox
        self._names: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._in: dict[str, Assembler] = {}
        self._out: dict[str, Assembler] = {}
        self._undo: list[Callable[[], None]] = []
        # A subclass that dispatches in its own way has no moment at which a handler is given an
        # event; there an event counts when its packet arrives.
        self._stock = not isinstance(sio.eio, StrictEngine) and all(
            getattr(type(sio), name, None) is getattr(socketio.AsyncServer, name)
            for name in ("_handle_eio_message", "_handle_event", "_handle_event_internal")
        )

    def attach(self) -> None:
        """Start listening. The server must not have connections yet."""
        engine = self._sio.eio
        if isinstance(engine, StrictEngine):
            self._listen_to(engine)
            return
        self._wrap_item(engine.handlers, "connect", self._connecting)
        self._wrap_item(engine.handlers, "message", self._arriving)
        self._wrap_item(engine.handlers, "disconnect", self._leaving)
        if self._stock:
            self._wrap_running(self._sio)

    def detach(self) -> None:
        """Take every wrapping off again."""
        while self._undo:
            self._undo.pop()()

    # -- wrapping ------------------------------------------------------------------------------

    def _listen_to(self, engine: StrictEngine) -> None:
        """The same on chatlab's transport, whose application is functions."""
        tap = self
        opened, received, left = engine.opened, engine.received, engine.left

        class Heard(Session):
            __slots__ = ()

            def write(self, framed: bytes) -> None:
                if not self.closed:
                    tap._writing(self.sid, framed)
                super().write(framed)

        def opening(session: Session, request: web.Request) -> None:
            self._named(session.sid, request.headers.get(NAME_HEADER))
            opened(session, request)

        def arriving(session: Session, data: str | bytes) -> Awaitable[None] | None:
            self._arriving(session.sid, data)
            return received(session, data)

        def leaving(session: Session, reason: str) -> None:
            self._leaving(session.sid, reason)
            left(session, reason)

        def undo() -> None:
            engine.opened, engine.received, engine.left = opened, received, left
            engine.session_class = Session

        engine.opened, engine.received, engine.left = opening, arriving, leaving
        engine.session_class = Heard
        self._undo.append(undo)

    def _wrap_item(self, handlers: dict[str, Any], key: str, before: Callable[..., None]) -> None:
        original = handlers.get(key)
        if original is None:
            return

        async def listening(*args: Any) -> Any:
            before(*args)
            return await original(*args)

        handlers[key] = listening
        self._undo.append(lambda: handlers.__setitem__(key, original))

    def _wrap_running(self, sio: Any) -> None:
        original = sio._handle_event_internal

        def listening(server: Any, sid: str, eio_sid: str, data: Any, *rest: Any) -> Any:
            # A plain function, not a coroutine: the event counts as given to its handler in the
            # same step in which it arrives, also where python-socketio makes a task of it.
            # Started comes first: whoever waits for it, on another thread, must not find it idle.
            self._inbox.handler_started()
            self._given(eio_sid, data)
            return watched(original(server, sid, eio_sid, data, *rest))

        async def watched(running: Awaitable[Any]) -> Any:
            try:
                return await running
            finally:
                self._inbox.handler_finished()

        sio._handle_event_internal = listening
        self._undo.append(lambda: delattr(sio, "_handle_event_internal"))

    # -- what is heard -------------------------------------------------------------------------

    def _name(self, eio_sid: str) -> str:
        if eio_sid not in self._names:
            self._names[eio_sid] = f"user-{next(self._numbers)}"
        return self._names[eio_sid]

    def _named(self, eio_sid: str, name: str | None) -> None:
        if name:
            self._names[eio_sid] = unquote(name)
        self._in[eio_sid], self._out[eio_sid] = Assembler(), Assembler()

    def _connecting(self, eio_sid: str, environ: dict[str, Any], *_: Any) -> None:
        name = environ.get(_ENVIRON_NAME)
        self._named(eio_sid, str(name) if name else None)
        session = self._sio.eio.sockets.get(eio_sid)
        if session is not None:
            self._wrap_sending(session, eio_sid)

    def _wrap_sending(self, session: Any, eio_sid: str) -> None:
        """Hear what is handed to one Engine.IO session: every way of sending ends there."""
        original = session.send

        def listening(packet: Any) -> Any:
            if not session.closed and packet.packet_type == eio_packet.MESSAGE:
                self._sending(eio_sid, packet.data)
            return original(packet)

        # Not undone: it goes with the session.
        session.send = listening

    def _arriving(self, eio_sid: str, data: str | bytes, *_: Any) -> None:
        seen = self._in.setdefault(eio_sid, Assembler()).feed(data)
        if seen is None:
            return
        self._add("receive", eio_sid, seen, to_server=True)
        if seen.packet == "event" and not self._stock:
            self._inbox.add(str(seen.name), seen.data, self._name(eio_sid))

    def _given(self, eio_sid: str, data: list[Any]) -> None:
        payload = data[1] if len(data) == 2 else tuple(data[1:]) or None
        self._inbox.add(str(data[0]), payload, self._name(eio_sid))

    def _writing(self, eio_sid: str, framed: bytes) -> None:
        data = payload(framed)
        if framed[0] != TEXT:
            self._sending(eio_sid, data)
        elif data[:1] == b"4":  # a message; what else there is, is Engine.IO's own
            self._sending(eio_sid, data[1:].decode())

    def _sending(self, eio_sid: str, data: Any) -> None:
        seen = self._out.setdefault(eio_sid, Assembler()).feed(data)
        if seen is not None:
            self._add("send", eio_sid, seen, to_server=False)

    def _leaving(self, eio_sid: str, reason: Any = None, *_: Any) -> None:
        name = self._name(eio_sid)
        self._names.pop(eio_sid, None)
        self._in.pop(eio_sid, None)
        self._out.pop(eio_sid, None)
        self._recorder.add("disconnected", conn=name, text=None if reason is None else str(reason))

    def _add(self, kind: Any, eio_sid: str, seen: Seen, *, to_server: bool) -> None:
        self._recorder.add(kind, conn=self._name(eio_sid), to_server=to_server, **seen.fields())
