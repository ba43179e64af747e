"""The server, put together: the only file that knows all the others.

app = create_app(Settings(dev=True))          # an aiohttp application, ready to run

server = ChatServer(Settings(dev=True))       # or with middlewares and a policy of your own
server.use(my_middleware)
app = server.app()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import msgspec
from aiohttp import web

from chatlab.errors import ChatError, Closing, InternalError
from chatlab.protocol import CLIENT_EVENTS, decode
from chatlab.server import auth
from chatlab.server.acks import Event, Inbox
from chatlab.server.admission import Admission
from chatlab.server.chat import Chat
from chatlab.server.health import Health, Metrics
from chatlab.server.leases import LeasedBuckets
from chatlab.server.limits import UserBuckets, spend
from chatlab.server.manager import RoomManager
from chatlab.server.middleware import Chain, Middleware
from chatlab.server.proxies import Proxies
from chatlab.server.rooms import Rooms
from chatlab.server.sessions import Sessions
from chatlab.server.stock import StockServer
from chatlab.settings import Settings
from chatlab.storage import open_storage
from chatlab.storage.base import Delivery
from chatlab.transport import Handshake, StrictServer

__all__ = ["CHAT_SERVER", "SOCKETIO", "ChatServer", "create_app"]

log = logging.getLogger(__name__)

SOCKETIO: Final = web.AppKey("socketio", StrictServer)
FLUSH_SECONDS: Final = 0.3
EXIT_SECONDS: Final = 1.8  # from SIGTERM until storage is given up; the promise is 2 s in all
ERROR_EVENT_EVERY: Final = 1.0  # seconds between two `error` events for rate_limited
_JOINING: Final = ("join-room", "leave-room")


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
        self.inboxes: dict[str, Inbox] = {}
        self._buckets = self._make_buckets()
        self._events: Chain[Event] = Chain()
        self._closing = False
        self._closing_since = 0.0
        self.metrics = Metrics(
            sockets=lambda: len(self.sessions),
            rooms=lambda: len(self.rooms),
            subscriptions=self.storage.subscriptions,
            limits_locally=lambda: self._buckets.local,
        )
        self.health = Health(self.log, self.metrics, self._proxies, settings.metrics_public)
        self.admission = Admission(
            settings=settings,
            directory=self.directory,
            sessions=self.sessions,
            address_of=lambda handshake: self._proxies.address(handshake.request),
            refused=lambda code: self.metrics.refusals.labels(code).inc(),
        )
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
        chat = Chat(
            rooms=self.rooms,
            log=self.log,
            admission=self.admission,
            transport=self.transport,
        )
        self.handlers = chat.handlers
        self.log.feed, self.log.renewed = self._feed, self.rooms.renewed
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
        return self._events.use(middleware)

    def app(self) -> web.Application:
        """The aiohttp application. Storage is opened when it starts and closed when it ends."""
        app = web.Application()
        app[SOCKETIO], app[CHAT_SERVER] = self.transport, self
        app.router.add_route("*", "/socket.io/", self.transport.eio.handle_request)
        app.router.add_get("/healthz", self.health.healthz)
        app.router.add_get("/metrics", self.health.metrics_text)
        app.on_startup.append(self._open)
        app.on_shutdown.append(self.shut_down)
        app.on_cleanup.append(self._close)
        return app

    # --- life --------------------------------------------------------------------------------

    async def _open(self, _app: web.Application) -> None:
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
        self._closing = self.admission.closing = self.health.leaving = True
        self._closing_since = asyncio.get_running_loop().time()
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
            "arrived": self._arrived,
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
        self.admission.open(sid, handshake)
        self.inboxes[sid] = Inbox(
            handle=self._handle,
            reply=self._reply,
            handler_timeout=self.settings.handler_timeout,
            max_pending=self.settings.max_pending,
        )

    async def _closed(self, sid: str, reason: str) -> None:
        session = self.sessions.remove(sid)
        self.inboxes.pop(sid, None)
        if session is not None:
            self.admission.close(session, reason)
            await self.rooms.leave_all(session)

    def _arrived(
        self, sid: str, name: str, args: Sequence[Any], ack_id: int | None
    ) -> Awaitable[None] | None:
        session = self.sessions.get(sid)
        if session is None:
            return None
        now = asyncio.get_running_loop().time()
        event = Event(session, name, ack_id, now, now + self.settings.storage_timeout)
        try:
            self._check(event, args)
        except ChatError as error:
            event.done, event.answer = True, error.to_ack()
        except Exception:
            log.exception("an event could not be looked at")
            event.done, event.answer = True, InternalError().to_ack()
        return self.inboxes[sid].put(event)

    def _check(self, event: Event, args: Sequence[Any]) -> None:
        """The socket's limit, the payload, the user's limit, in this order: cheapest first."""
        if self._closing:
            raise Closing
        session, joining = event.session, event.name in _JOINING
        spend(session.joins if joining else session.events, event.arrived)
        event.request = decode(event.name, args, message_limit=self.settings.max_message)
        if not joining:
            event.admitted = self._buckets.spend(session.user, event.arrived)

    async def _handle(self, event: Event) -> Any:
        if event.admitted is not None:  # the users' common bucket is being asked
            await event.admitted
        return await self._events.run(event, self._call)

    async def _call(self, event: Event) -> Any:
        return await self.handlers[event.name](event, event.request)

    def _reply(self, event: Event, answer: Any) -> Any:
        """Write the ack, or for an event without one that failed, an `error` event."""
        try:
            encoded = msgspec.to_builtins(answer)
            if event.ack_id is not None:
                self.transport.push_ack(event.session.sid, event.ack_id, answer)
        except Exception:
            log.exception("the answer of %s has no JSON form", event.name)
            answer = encoded = InternalError().to_ack()
            if event.ack_id is not None:
                self.transport.push_ack(event.session.sid, event.ack_id, answer)
        code = "ok" if encoded.get("ok") else encoded.get("code", "internal_error")
        if event.ack_id is None and code != "ok":
            self._tell_error(event, encoded)
        label = event.name if event.name in CLIENT_EVENTS else "unknown"
        self.metrics.events.labels(label, code).inc()
        elapsed = asyncio.get_running_loop().time() - event.arrived
        self.metrics.seconds.labels(label).observe(elapsed)
        return answer

    def _tell_error(self, event: Event, failed: dict[str, Any]) -> None:
        session, now = event.session, asyncio.get_running_loop().time()
        if failed["code"] == "rate_limited":
            if now - session.last_error_at < ERROR_EVENT_EVERY:
                return
            session.last_error_at = now
        told = {"message": failed["error"], "code": failed["code"]}
        if "retryAfter" in failed:
            told["retryAfter"] = failed["retryAfter"]
        self.transport.push_event(session.sid, "error", told)

    def _feed(self, room: str, deliveries: Sequence[Delivery]) -> None:
        self.metrics.deliveries.inc(len(deliveries))
        self.rooms.serving.feed(room, deliveries)


CHAT_SERVER: Final = web.AppKey("chat_server", ChatServer)


def create_app(settings: Settings) -> web.Application:
    """A chat server for `settings` as an aiohttp application. Raises `SettingsError`."""
    return ChatServer(settings).app()
