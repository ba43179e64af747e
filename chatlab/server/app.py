"""The server, put together: the only file that knows all the others.

app = create_app(Settings(dev=True))          # an aiohttp application, ready to run

server = ChatServer(Settings(dev=True))       # or with middlewares and a policy of your own
server.use(my_middleware)
app = server.app()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web

from chatlab.page import add_page
from chatlab.server import auth
from chatlab.server.acks import Event
from chatlab.server.admission import Admission
from chatlab.server.chat import Chat
from chatlab.server.dispatch import Dispatch
from chatlab.server.frames import FrameBudget
from chatlab.server.health import Health
from chatlab.server.leases import LeasedBuckets
from chatlab.server.limits import UserBuckets
from chatlab.server.manager import RoomManager
from chatlab.server.metrics import Metrics
from chatlab.server.middleware import Middleware
from chatlab.server.proxies import Proxies
from chatlab.server.rooms import Rooms
from chatlab.server.sessions import Sessions
from chatlab.server.stock import StockServer
from chatlab.settings import Settings
from chatlab.storage import open_storage
from chatlab.transport import Handshake, StrictServer

__all__ = ["CHAT_SERVER", "SOCKETIO", "ChatServer", "create_app"]

log = logging.getLogger(__name__)

SOCKETIO: Final = web.AppKey("socketio", StrictServer)
FLUSH_SECONDS: Final = 0.3
EXIT_SECONDS: Final = 1.8  # from SIGTERM until storage is given up; the promise is 2 s in all


class ChatServer:
    """A chat server for `settings`. `may_join(claims, room)` replaces the policy for rooms."""

    def __init__(
        self,
        settings: Settings,
        *,
        may_join: Callable[[auth.Claims, str], bool] = auth.may_join,
    ) -> None:
        self.settings = settings
        self.storage = open_storage(settings)
        self.log, self.directory = self.storage.log, self.storage.directory
        self.sessions = Sessions()
        self._proxies = Proxies(settings.trusted_proxy, settings.origins)
        self._buckets = self._make_buckets()
        self._closing = False
        self._closing_since = 0.0
        self.metrics = Metrics(
            sockets=lambda: len(self.sessions),
            fed=lambda: self.rooms.serving.fed,
            rooms=lambda: len(self.rooms),
            subscriptions=self.storage.subscriptions,
            limits_locally=lambda: self._buckets.local,
        )
        self.health = Health(self.log, self.metrics, self._proxies, settings.metrics_public)
        self.admission = Admission(
            settings=settings,
            directory=self.directory,
            sessions=self.sessions,
            address_of=lambda handshake: self._proxies.client(handshake.request),
            refused=lambda code: self.metrics.refusals.update([code]),
        )
        self.dispatch = Dispatch(settings=settings, buckets=self._buckets, metrics=self.metrics)
        self.inboxes = self.dispatch.inboxes
        self._manager = RoomManager(self.storage.events)
        self._manager.told = self._told
        self.transport = self._make_transport()
        self.rooms = Rooms(
            transport=self.transport,
            storage=self.storage,
            may_join=lambda session, room: may_join(session.claims, room),
            max_rooms=settings.max_rooms_per_socket,
            tell=self._tell,
        )
        self.admission.attach(self.transport, self.rooms)
        self.dispatch.attach(self.transport)
        chat = Chat(
            rooms=self.rooms,
            log=self.log,
            admission=self.admission,
            transport=self.transport,
        )
        self.handlers = self.dispatch.handlers = chat.handlers
        self.log.feed, self.log.renewed = self.rooms.serving.feed, self.rooms.renewed
        self.directory.changed = self.admission.directory_changed

    def use(self, middleware: Middleware[Handshake]) -> Middleware[Handshake]:
        """Register `async def middleware(handshake, proceed)` around every connection attempt.

        It runs after the token was verified (`handshake.state["claims"]`). Raise one of the
        `ConnectionRefused` errors to refuse; anything else that is raised is `server_error`.
        """
        return self.admission.chain.use(middleware)

    def use_event(self, middleware: Middleware[Event]) -> Middleware[Event]:
        """Register `async def middleware(event, proceed)` around every event's handler.

        `proceed()` returns the answer; what the middleware returns becomes the ack.
        """
        return self.dispatch.chain.use(middleware)

    def app(self) -> web.Application:
        """The aiohttp application. Storage is opened when it starts and closed when it ends."""
        app = web.Application()
        app[SOCKETIO], app[CHAT_SERVER] = self.transport, self
        app.router.add_route("*", "/socket.io/", self.transport.eio.handle_request)
        app.router.add_get("/healthz", self.health.healthz)
        app.router.add_get("/metrics", self.health.metrics_text)
        if self.settings.page:
            add_page(app, self.settings, tokens=self.admission.tokens, proxies=self._proxies)
        app.on_startup.append(self._open)
        app.on_shutdown.append(self.shut_down)
        app.on_cleanup.append(self._close)
        return app

    # --- life --------------------------------------------------------------------------------

    async def _open(self, _app: web.Application) -> None:
        self.dispatch.start()
        await self.log.open()

    async def drain(self) -> None:
        """Say at /healthz that the server is leaving, and go on serving for `drain` seconds."""
        self.health.leaving = True
        if self.settings.drain:
            await asyncio.sleep(self.settings.drain)

    async def shut_down(self, _app: web.Application | None = None) -> None:
        """Finish and ack what is in hand, answer the rest with `closing`, close the transports."""
        if self._closing:
            return
        self._closing = self.admission.closing = self.dispatch.closing = True
        self.health.leaving = True
        self._closing_since = asyncio.get_running_loop().time()
        self.transport.accepting = False
        for session in self.sessions:
            self.transport.push_event(session.sid, "closing")
        await self._finish(within=self.settings.shutdown_grace)
        for inbox in list(self.inboxes.values()):
            inbox.close()
        await self.transport.eio.close_all(within=FLUSH_SECONDS)

    async def _finish(self, *, within: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while (left := deadline - loop.time()) > 0:
            running = [task for inbox in self.inboxes.values() for task in inbox.running]
            if not running:
                return
            await asyncio.wait(running, timeout=left)

    async def _close(self, _app: web.Application) -> None:
        spent = asyncio.get_running_loop().time() - self._closing_since
        # Storage that is away has nothing left to store: every append to it was refused.
        patience = max(0.1, EXIT_SECONDS - spent) if self.log.healthy else 0.1
        try:
            async with asyncio.timeout(patience):
                await self._buckets.close()
                await self.storage.presence.close()
                await self.log.close()
        except TimeoutError:
            log.warning("storage did not let go in time; what was acked is stored all the same")

    # --- the other servers -------------------------------------------------------------------

    def _make_buckets(self) -> UserBuckets | LeasedBuckets:
        rate, shared = self.settings.whole_user_rate, self.storage.buckets
        return UserBuckets(rate) if shared is None else LeasedBuckets(shared, rate)

    def _tell(self, room: str, payload: dict[str, Any]) -> None:
        self._manager.tell(room, "receipts", payload)

    def _told(self, room: str, kind: str, payload: Any) -> None:
        if kind == "receipts":
            self.rooms.reported(room, payload)

    # --- from the transport ------------------------------------------------------------------

    def _make_transport(self) -> StrictServer:
        settings = self.settings
        common: dict[str, Any] = {
            "accept": self.admission.accept,
            "opened": self._opened,
            "arrived": self.dispatch.arrived,
            "closed": self._closed,
            "allow_origin": self._proxies.allows_origin,
            "ping_interval": settings.ping_interval,
            "ping_timeout": settings.ping_timeout,
            "max_http_buffer_size": settings.max_frame,
            "transports": ["polling", "websocket"] if settings.polling else ["websocket"],
        }
        if settings.transport == "stock":
            return cast(StrictServer, StockServer(**common))  # it has the same methods
        return StrictServer(
            **common,
            address_of=self._proxies.client,
            allowance=FrameBudget(settings.whole_user_frame_rate, self.sessions.user_of).allowance,
            connect_timeout=settings.connect_timeout,
            max_attachments=settings.max_attachments,
            max_payload_packets=settings.max_payload_packets,
            max_unauthenticated=settings.max_unauthenticated,
            max_unauthenticated_per_address=settings.max_unauthenticated_per_address,
            max_unread=settings.max_unread,
            compression=settings.compression,
            client_manager=self._manager,
        )

    def _opened(self, sid: str, handshake: Handshake) -> None:
        self.dispatch.open(self.admission.open(sid, handshake))

    def _closed(self, sid: str, reason: str) -> Awaitable[None] | None:
        # At once, not in a task: a join that is just waiting must not go on with this socket.
        session = self.sessions.remove(sid)
        self.dispatch.close(sid)
        if session is None:
            return None
        self.admission.close(session, reason)
        return self.rooms.leave_all(session) if session.rooms else None


CHAT_SERVER: Final = web.AppKey("chat_server", ChatServer)


def create_app(settings: Settings) -> web.Application:
    """A chat server for `settings` as an aiohttp application. Raises `SettingsError`."""
    return ChatServer(settings).app()
