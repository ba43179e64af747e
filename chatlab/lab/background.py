"""Runs a server from a notebook cell, on a thread and an event loop of its own.

It answers whatever the notebook does, shares the notebook's memory (so that a handler written in a
cell is the handler that runs), and shows what it received. It is no way to run a server for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypeAlias, TypeVar

import socketio
from aiohttp import web

from chatlab.lab.card import Card
from chatlab.lab.listening import stop_accepting
from chatlab.lab.logs import ThreadRouter, quiet_logger
from chatlab.lab.page import HasPage, not_served
from chatlab.lab.part import Part
from chatlab.lab.portal import LoopThread, in_thread
from chatlab.lab.tap import ServerTap, find_socketio
from chatlab.lab.tokens import mint
from chatlab.lab.witness import Witness

__all__ = ["Server", "background"]

T = TypeVar("T")
App: TypeAlias = "socketio.AsyncServer | web.Application"
Factory: TypeAlias = "Callable[[], App | Awaitable[App]]"

_router = ThreadRouter()


def background(app: App | Factory, *, name: str = "server", port: int = 0) -> Server:
    """Start a server in the background and return it when it accepts connections.

    `app` is a `socketio.AsyncServer`, an aiohttp `Application`, or a function (plain or async) that
    makes one of them on the server's own loop. `port` 0 takes a free one. A second call with the
    same `name` stops the earlier server first. Raises what the server raised while starting.
    """
    return Server(app, name=name, port=port)


class Server(Witness, HasPage, Part):
    """A server running on its own thread. Made by `background`."""

    def __init__(self, app: App | Factory, *, name: str = "server", port: int = 0) -> None:
        if not isinstance(app, socketio.AsyncServer | web.Application) and not callable(app):
            raise TypeError(
                "background takes a socketio.AsyncServer, an aiohttp Application or a function "
                f"that makes one, not {type(app).__name__}"
            )
        self._remember(name, "server")
        self.sio: Any = None
        self.app: web.Application | None = None
        self.port = 0
        self._tap: ServerTap | None = None
        self._runner: web.AppRunner | None = None
        self._listening: socket.socket | None = None
        self._restore: list[Callable[[], None]] = []
        self._stopped = self._stuck = False
        self._take_name()
        self._portal = LoopThread(name)
        self._thread_id = self._portal.ident or 0
        _router.add(self._thread_id, self._book)
        try:
            self._portal.call(self._start, app, port)
        except BaseException:
            self.stop()
            raise

    # -- starting and stopping -------------------------------------------------------------------

    async def _start(self, made: App | Factory, port: int) -> None:
        asyncio.get_running_loop().set_exception_handler(self._book.loop_failed)
        if not isinstance(made, socketio.AsyncServer | web.Application):
            result = made()
            made = await result if isinstance(result, Awaitable) else result
        self.sio = find_socketio(made)
        if isinstance(made, socketio.AsyncServer):
            if made.async_mode != "aiohttp":
                raise ValueError(
                    "background runs python-socketio on aiohttp: make the server with "
                    f'socketio.AsyncServer(async_mode="aiohttp"), not "{made.async_mode}"'
                )
            self.app = web.Application()
            made.attach(self.app)
        elif isinstance(made, web.Application):
            if made.frozen:
                raise ValueError(
                    "this aiohttp application has run before and cannot run again: give background "
                    "a function that makes a new one, as in background(lambda: create_app(…))"
                )
            self.app = made
        else:
            raise TypeError(
                f"the function given to background made a {type(made).__name__}, not a server"
            )
        if self.sio is not None:
            self._listen_in(self.sio)
        self.app.on_shutdown.append(self._end_connections)
        self._runner = web.AppRunner(
            self.app,
            handle_signals=False,
            shutdown_timeout=1,
            access_log=None,
            logger=quiet_logger("aiohttp.server", self._book),
        )
        await self._runner.setup()
        self._listening = socket.create_server(("127.0.0.1", port))
        await web.SockSite(self._runner, self._listening).start()
        self.port = self._listening.getsockname()[1]

    def _listen_in(self, sio: Any) -> None:
        self._tap = ServerTap(sio, self.recorder, self._inbox)
        self._tap.attach()
        for owner, usual in ((sio, "socketio.server"), (sio.eio, "engineio.server")):
            original = owner.logger
            # A logger that somebody chose stays: only the library's default would print.
            if getattr(original, "name", "") == usual:
                level = min(original.getEffectiveLevel(), logging.WARNING)
                owner.logger = quiet_logger(usual, self._book, level)
                self._restore.append(functools.partial(setattr, owner, "logger", original))

    async def _shut_down(self) -> None:
        if self._runner is not None:
            if self._listening is not None:
                await stop_accepting([self._listening])
            await self._runner.cleanup()
        if self.sio is not None:
            await self._forget_loop(self.sio.eio)
            await _hang_up(self.sio.manager)
        if self._tap is not None:
            self._tap.detach()
        for undo in self._restore:
            undo()

    async def _end_connections(self, _app: web.Application) -> None:
        """Runs while aiohttp shuts down, after what the application itself does then."""
        if type(self.sio) is socketio.AsyncServer:
            await self._close_sockets(self.sio.eio)
        for connection in list(getattr(self._runner and self._runner.server, "connections", ())):
            # A client that does not answer (a silent wire is between) would be waited for.
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    async def _close_sockets(self, eio: Any) -> None:
        """End every transport without a word to the clients that would tell them to stay away.

        `sio.disconnect` says that. An empty place in its queue is how Engine.IO ends a websocket;
        a polling session has to be closed as well, or its client would poll on.
        """
        loop = asyncio.get_running_loop()
        for session in list(eio.sockets.values()):
            with contextlib.suppress(Exception):
                if not session.upgraded:
                    await session.close(wait=False, abort=True, reason=eio.reason.TRANSPORT_CLOSE)
                session.queue.put_nowait(None)
        deadline = loop.time() + 0.2
        while any(not s.closed for s in eio.sockets.values()) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    async def _forget_loop(self, eio: Any) -> None:
        """Let the same `socketio.AsyncServer` be started again on another loop."""
        if getattr(eio, "service_task_event", None) is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await eio.shutdown()
            eio.start_service_task = True
        eio.sockets.clear()

    def stop(self) -> Self:
        """Close every connection, free the port, end the thread. Returns the server.

        A handler that blocks the thread (`time.sleep`, an endless loop) cannot be ended from
        outside: after four seconds the thread is left alone, and the card says so.
        """
        if self._stopped:
            return self
        # Refused before anything is taken down when called from a handler of this very server.
        self._portal.check_caller()
        self._stopped = True
        try:
            self._stuck = not self._portal.close(self._shut_down)
        finally:
            _router.remove(self._thread_id)
            self._give_up_name()
        return self

    # -- using it ----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address that clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it still serves."""
        return not self._stopped

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function on the server's own loop: `await server.call(sio.emit, "tick")`.

        Raises what it raises, and `RuntimeError` when called from the server's own thread.
        """
        return await self._portal.acall(function, *args)

    def call_blocking(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """As `call`, for code that is not async."""
        return self._portal.call(function, *args)

    async def aclose(self) -> None:
        """As `stop`, without blocking the caller's loop, so that its clients can say goodbye."""
        if not self._stopped:
            self._portal.check_caller()
            await in_thread(self.stop)

    def card(self) -> Card:
        """Address, where it runs, which events it handles."""
        rows = [
            ("address", self.url),
            ("runs on", "a thread of this notebook, with an event loop of its own"),
        ]
        rows += _described(self.sio, self.app)
        if self._stuck:
            return Card(self.name, "does not end: a handler blocks its thread", "bad", tuple(rows))
        if self._stopped:
            return Card(self.name, "stopped", "off", tuple(rows))
        return Card(self.name, "running", "good", tuple(rows))

    def token(self, user: str, *, ttl: float = 900.0, **claims: Any) -> str:
        """A token for `user` that this server takes for `ttl` seconds; `claims` are added to it.

        For chatlab's own server only: raises `RuntimeError` for any other.
        """
        settings = _settings(self.app)
        if settings is None:
            raise RuntimeError(f"{self.name} is not chatlab's server: it makes its own tokens")
        return mint(
            user,
            secret=settings.secrets[0],
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            algorithm=settings.jwt_algorithm,
            ttl=ttl,
            claims=claims,
        )

    def _why_no_page(self) -> str | None:
        settings = _settings(self.app)
        if settings is None:
            return "is not chatlab's server: it has no chat page"
        if not (settings.page and settings.dev):
            return not_served("create_app(Settings(dev=True, page=True))")
        return "is stopped: start it again" if self._stopped else None


async def _hang_up(manager: Any) -> None:
    """End what python-socketio 5.18.1's Redis manager leaves open: it has no way to close."""
    listener = getattr(manager, "thread", None)
    if isinstance(listener, asyncio.Task):
        listener.cancel()
        await asyncio.wait({listener}, timeout=1)
    for connection in (getattr(manager, "pubsub", None), getattr(manager, "redis", None)):
        if connection is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await connection.aclose()


def _settings(app: web.Application | None) -> Any:
    """The settings of chatlab's own server inside `app`; None where there is none."""
    for value in app.values() if app is not None else ():
        settings = getattr(value, "settings", None)
        if hasattr(settings, "jwt_secret"):
            return settings
    return None


def _described(sio: Any, app: web.Application | None) -> list[tuple[str, str]]:
    settings = _settings(app)
    if settings is not None:
        return [
            ("storage", settings.storage or "memory"),
            ("who gets in", "whoever has a token"),
            ("limits", "off" if settings.no_limits else "on"),
        ]
    if sio is None:
        return [("recorded", "nothing: no python-socketio server was found inside")]
    names = sorted({event for events in sio.handlers.values() for event in events})
    checked = "connect" in names
    return [
        ("handles", ", ".join(names) or "no event yet"),
        ("who gets in", "its connect handler decides" if checked else "everybody"),
    ]
