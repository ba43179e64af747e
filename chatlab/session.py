"""Keeps a client connected, its rooms joined and their messages whole.

`ChatClient` is the interface; this is the machinery behind it: when to come back and when not,
what to ask for after a gap, and who is told. How messages are put in order is `catchup.py`'s
business, one connection's life `connection.py`'s.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from chatlab import events
from chatlab.backoff import Backoff
from chatlab.catchup import Ask, RoomFeed
from chatlab.connection import Connection, Records
from chatlab.errors import (
    Banned,
    ChatError,
    ClientError,
    NotConnected,
    NotInRoom,
    TokenExpired,
)
from chatlab.protocol import Answer, HistoryPage, Joined, Message, Refreshed

__all__ = ["Session", "Token"]

log = logging.getLogger(__name__)

Token = str | None | Callable[[], str | Awaitable[str]]
T = TypeVar("T", bound=Answer)

_GRACE: Final = 0.2  # seconds: acks and neighbouring messages may overtake each other by a little
_STALE_TOKENS: Final = 3  # expired tokens in a row from a callable that should give fresh ones

_FRUITLESS: Final = 3  # answers in a row that brought nothing, before asking more slowly


class Session:
    """One client's connection, over all the sockets that it takes."""

    def __init__(
        self,
        *,
        url: Any,
        token: Token,
        name: str | None,
        timeout: float,
        transports: Sequence[str],
        buffer: int,
        recorder: Records | None,
        backoff: Backoff,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.rooms: dict[str, RoomFeed] = {}
        self.user: str | None = None
        self.over: ChatError | None = None
        self.timeout = timeout
        self.buffer = buffer
        self.backoff = backoff
        self.sleep = sleep
        self.order = itertools.count().__next__
        self.listeners: weakref.WeakSet[Any] = weakref.WeakSet()
        self._given_url, self._given_token, self._given_name = url, token, name
        self._transports, self._recorder = tuple(transports), recorder
        self._token: str | None = None
        self._connection: Connection | None = None
        self._verdict: ChatError | None = None
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tending: dict[RoomFeed, asyncio.Task[None]] = {}
        self._started = False
        self.closed = False

    # --- for ChatClient and its iterators ------------------------------------------------------

    @property
    def url(self) -> str:
        """Where to connect; asked anew each time, for a server that comes back elsewhere."""
        return str(getattr(self._given_url, "url", self._given_url))

    @property
    def name(self) -> str:
        return self._given_name or self.user or "client"

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.alive

    @property
    def can_refresh(self) -> bool:
        return callable(self._given_token)

    async def start(self) -> None:
        """Connect for the first time; what goes wrong is raised and not tried again."""
        if self.over is not None:
            raise self.over
        if self._started:
            await self.ready()
            return
        self._started = True
        try:
            await self._connect()
        except BaseException:
            self._started = False
            raise
        self._spawn(self._stay_connected())

    async def stop(self) -> None:
        """Leave politely and end everything; calls and iterators in hand end too."""
        self.closed = True
        self._finish(NotConnected("The client was closed"))
        tasks = self._tasks | set(self._tending.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._connection is not None:
            await self._connection.close(politely=True)
            self._connection = None

    async def ready(self, room: str | None = None, timeout: float | None = None) -> Connection:
        """The connection, as soon as there is one; with `room`, once that is joined again.

        Raises what ended the session, and `NotConnected` after `timeout` seconds.
        """
        if not self._started and self.over is None:
            raise NotConnected("Not connected: call connect() first")
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                while True:
                    if self.over is not None:
                        raise self.over
                    feed = self.rooms.get(room) if room is not None else None
                    connection = self._connection
                    if connection and connection.alive and (feed is None or feed.joined):
                        return connection
                    await self.news()
        except TimeoutError:
            raise NotConnected(f"Not connected to {self.url} for {limit:g} s") from None

    async def ask(
        self,
        event: str,
        payload: Any,
        shape: type[T],
        *,
        timeout: float | None = None,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """Send `event` once and wait for its ack. Raises as `ready` and `Connection.call` do."""
        connection = await self.ready(timeout=timeout)
        limit = self.timeout if timeout is None else timeout
        return await connection.call(event, payload, shape, timeout=limit, then=then)

    async def join(self, room: str, after: int | None, epoch: str | None) -> Joined:
        payload: dict[str, Any] = {"room": room}
        feed = self.rooms.get(room)
        if after is not None:
            payload["after"] = after
            if epoch is not None:
                payload["epoch"] = epoch

        def joined(answer: Joined) -> None:
            feed = self.rooms.get(room)
            if feed is None:
                feed = self.rooms[room] = RoomFeed(
                    room,
                    epoch=answer.epoch if epoch is None else epoch,
                    after=answer.seq if after is None else after,
                    capacity=self.buffer,
                    order=self.order,
                )
            feed.joined_again(answer)
            self.tend(feed)

        if feed is not None and after is None:
            payload |= {"after": feed.next - 1, "epoch": feed.epoch}
        return await self.ask("join-room", payload, Joined, then=joined)

    def forget(self, room: str, error: ChatError | None = None) -> None:
        """The room was left, or the server does not let this user return."""
        feed = self.rooms.pop(room, None)
        if feed is not None:
            feed.close(error)
            task = self._tending.pop(feed, None)
            if task is not None:
                task.cancel()
            self.wake()

    async def news(self) -> None:
        """Wait until something has changed. Look first, then wait: nothing slips between."""
        await self._news.wait()

    async def refresh(self, token: str | None, timeout: float | None = None) -> Refreshed:
        if token is None:
            if not self.can_refresh:
                raise ClientError("Give a token: this client has no callable to fetch one with")
            token = await self._fetch_token()

        def refreshed(_: Refreshed) -> None:
            self._token = token

        return await self.ask(
            "refresh-token", {"token": token}, Refreshed, timeout=timeout, then=refreshed
        )

    # --- coming and going ----------------------------------------------------------------------

    async def _connect(self) -> None:
        if self.can_refresh or self._token is None:
            self._token = await self._fetch_token()
        self.user = _subject(self._token)
        self._verdict = None
        connection = self._connection = Connection(
            name=self.name, on_event=self._heard, on_end=self._lost, recorder=self._recorder
        )
        auth = {} if self._token is None else {"token": self._token}
        try:
            await connection.open(self.url, auth, transports=self._transports, timeout=self.timeout)
        except BaseException:
            self._connection = None
            await connection.close(politely=False)
            raise
        self._publish(events.Connected())

    async def _fetch_token(self) -> str | None:
        given = self._given_token
        if not callable(given):
            return given
        try:
            async with asyncio.timeout(self.timeout):
                token = given()
                return await token if inspect.isawaitable(token) else token
        except Exception as error:
            raise NotConnected(f"No token: the callable raised {type(error).__name__}") from error

    async def _stay_connected(self) -> None:
        try:
            while self._connection is not None:
                connection = self._connection
                await connection.gone.wait()
                await connection.close(politely=False)
                if isinstance(self._verdict, TokenExpired) and self.can_refresh:
                    pass
                elif self._verdict is not None:
                    raise self._verdict
                elif connection.dismissed:
                    raise NotConnected("The server ended the session")
                await self._come_back()
        except ChatError as error:
            self._finish(error)
        except Exception:
            log.exception("%s: the client ended", self.name)
            self._finish(ClientError("The client ended; its log says why"))

    async def _come_back(self) -> None:
        """Connect again, as often as it takes. Raises a refusal that more tries cannot change."""
        retry_after: float | None = None
        stale = 0
        for attempt in itertools.count():
            await self.sleep(self.backoff.delay(attempt, retry_after))
            try:
                await self._connect()
                break
            except ChatError as error:
                stale = stale + 1 if isinstance(error, TokenExpired) else 0
                if not error.retry and not (0 < stale < _STALE_TOKENS and self.can_refresh):
                    raise
                retry_after = error.retry_after
                log.info("%s: attempt %d to come back: %s", self.name, attempt + 1, error)
        for feed in list(self.rooms.values()):
            self.tend(feed)

    def _lost(self) -> None:
        for feed in self.rooms.values():
            feed.disconnected()
        for task in self._tending.values():
            task.cancel()
        self._tending.clear()
        self._publish(events.Disconnected())

    def _finish(self, error: ChatError) -> None:
        if self.over is None:
            self.over = error
        self.wake()

    # --- what arrives --------------------------------------------------------------------------

    def _heard(self, name: str, data: Any) -> None:
        try:
            if name == "new-message":
                self._message(msgspec.convert(data, Message))
                return
            event = events.understand(name, data)
        except msgspec.ValidationError as error:
            log.warning("%s: %s is not the contract's: %s", self.name, name, error)
            return
        if event is None:
            return
        if isinstance(event, events.SessionBanned):
            self._verdict = Banned()
        elif isinstance(event, events.SessionExpired):
            self._verdict = TokenExpired("The token has expired")
        elif isinstance(event, events.TokenExpiring) and self.can_refresh:
            self._spawn(self._renew())
        self._publish(event)

    def _message(self, message: Message) -> None:
        feed = self.rooms.get(message.room)
        if feed is not None:
            feed.arrived(message)
            self.tend(feed)

    def own(self, message: Message) -> None:
        """One of this client's own was acked: the server does not send it back."""
        feed = self.rooms.get(message.room)
        if feed is None:
            return
        if message.user:
            feed.arrived(message)
        else:
            feed.seen(message.seq)  # whose token it is cannot be read: history has the message
        self.tend(feed)

    async def _renew(self) -> None:
        """Refresh the token, until that works, or fails for good, or the connection ends."""
        connection = self._connection
        for attempt in itertools.count():
            try:
                token = await self._fetch_token()
                if token != self._token:  # the same one again would not live any longer
                    await self.refresh(token)
                return
            except ChatError as error:
                log.warning("%s: the token was not refreshed: %s", self.name, error)
                gone = self.over is not None or self._connection is not connection
                if gone or not error.retry:
                    return
                await self.sleep(self.backoff.delay(attempt, error.retry_after))

    # --- whole rooms ---------------------------------------------------------------------------

    def tend(self, feed: RoomFeed) -> None:
        """Tell the iterators, and have what the room lacks asked for."""
        self.wake()
        if feed not in self._tending and self.connected and feed.need() is not None:
            self._tending[feed] = asyncio.create_task(self._make_whole(feed))

    async def _make_whole(self, feed: RoomFeed) -> None:
        try:
            ask = feed.need()
            if ask is not None and not ask.urgent:
                await asyncio.sleep(_GRACE)
            fruitless = 0
            while (ask := feed.need()) is not None:
                before, wait = feed.next, None
                try:
                    await self._fulfil(feed, ask)
                except NotConnected:
                    return  # coming back tends to every room
                except ChatError as error:
                    if isinstance(error, NotInRoom):
                        feed.joined = False
                    elif not error.retry:
                        log.warning("%s: %s is closed: %s", self.name, feed.room, error)
                        self.forget(feed.room, error)
                        return
                    wait = self.backoff.delay(fruitless, error.retry_after)
                fruitless = 0 if feed.next > before else fruitless + 1
                if wait is None and fruitless >= _FRUITLESS:
                    wait = self.backoff.delay(fruitless - _FRUITLESS)
                if wait is not None:
                    await self.sleep(wait)
        finally:
            if self._tending.get(feed) is asyncio.current_task():
                del self._tending[feed]
                self.wake()

    async def _fulfil(self, feed: RoomFeed, ask: Ask) -> None:
        where: dict[str, Any] = {"room": feed.room, "after": ask.after}
        if ask.what == "join":
            where["epoch"] = ask.epoch
            await self.ask("join-room", where, Joined, then=feed.joined_again)
        else:
            where["limit"] = ask.limit
            await self.ask(
                "history", where, HistoryPage, then=lambda page: feed.page(ask.after, page)
            )
        self.wake()

    # --- telling -------------------------------------------------------------------------------

    def _publish(self, event: events.Event) -> None:
        for listener in list(self.listeners):
            listener.put(event)
        self.wake()

    def wake(self) -> None:
        """Something changed: everybody who waits looks again."""
        self._news.set()
        self._news = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _subject(token: str | None) -> str | None:
    """The user id in a JWT of one's own; nobody but the server can tell whether it is valid."""
    with suppress(Exception):
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if isinstance(claims["sub"], str):
            return claims["sub"]
    return None
