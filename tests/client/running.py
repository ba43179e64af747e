"""The real server on the loop of a test."""

from __future__ import annotations

from contextlib import asynccontextmanager

from aiohttp import web

from chatlab.server.app import CHAT_SERVER, create_app
from chatlab.settings import Settings
from tests.client.helpers import SECRET


class Running:
    """The real server on this loop; `stop` and `start` again on the same port."""

    def __init__(self, **settings):
        self._settings = settings
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        app = create_app(Settings(dev=True, jwt_secret=SECRET, port=self.port, **self._settings))
        self.chat = app[CHAT_SERVER]
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self):
        await self._runner.cleanup()


@asynccontextmanager
async def serving(**settings):
    server = Running(**settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def stored(server, room="general"):
    page = await server.chat.log.page(room, after=0, before=None, limit=10_000, max_bytes=10**9)
    return [message.text for message in page.messages]
