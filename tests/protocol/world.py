"""A running transport, strict or stock, with the suites' handlers and everybody who calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.protocol.suite_server import StockSuite, StrictSuite, Suite
from tests.protocol.wire import Place
from tests.waiting import until


class World(Place):
    """A server and the connections to it.

    `suite` knows who came and went; `requests` of HTTP were begun, answered or not.
    """

    def __init__(self, suite: Suite) -> None:
        super().__init__(0)
        self.suite = suite
        self.requests = 0

    @property
    def transport(self) -> Any:
        return self.suite.transport

    def app(self) -> web.Application:
        """The suite's, with a counter before it."""
        app = self.suite.app()
        app.middlewares.append(self._count)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests += 1
        return await handler(request)

    def sessions(self) -> dict[str, Any]:
        """The Engine.IO sessions of both endpoints, by their ids."""
        return {**self.transport.eio.sockets, **self.suite.engine.sockets}

    def remembered(self) -> list[str]:
        """The registries that still know somebody."""
        transport = self.transport
        registries = {
            "sessions": self.sessions(),
            "environ": transport.environ,
            "pending_connects": getattr(transport, "pending_connects", None),
            "binary packets": transport._binary_packet,
            "rooms": {name: rooms for name, rooms in transport.manager.rooms.items() if rooms},
            "eio_to_sid": transport.manager.eio_to_sid,
            "callbacks": transport.manager.callbacks,
            "pending": [sids for sids in transport.manager.pending_disconnect.values() if sids],
        }
        return [name for name, registry in registries.items() if registry]


@asynccontextmanager
async def serving(suite: Suite) -> AsyncIterator[World]:
    """Serve a suite on a free port."""
    world = World(suite)
    runner = web.AppRunner(world.app(), handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.port = runner.addresses[0][1]
        try:
            yield world
        finally:
            await world.hang_up()
            await suite.close(within=0.05)
    finally:
        await runner.cleanup()


# Nothing is due within a test that does not ask for it, however slow the machine is.
CALM = {"ping_interval": 60.0, "ping_timeout": 20.0, "connect_timeout": 20.0}


@asynccontextmanager
async def strict(**limits: Any) -> AsyncIterator[World]:
    """The strict transport; when all have left, no registry of it may remember anybody."""
    async with serving(StrictSuite(**{**CALM, **limits})) as world:
        yield world
    await until(lambda: not world.remembered(), what="everybody forgotten")
    assert len(world.suite.closed) == len(world.suite.opened)


@asynccontextmanager
async def stock(**limits: Any) -> AsyncIterator[World]:
    """python-socketio's own classes, whatever they may leave behind."""
    async with serving(StockSuite(**limits)) as world:
        yield world


class Gate:
    """A handler that holds one event, [1], until it is opened."""

    def __init__(self, world: World) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()
        world.suite.handling = self._handle

    def _handle(self, _name: str, args: list[Any]) -> Awaitable[None] | None:
        return self._wait() if args == [1] else None

    async def _wait(self) -> None:
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()
