"""Keeps one user connected: when to come back, with which token, and when not.

It carries requests and passes on what arrives. Rooms are `session.py`'s business, one connection's
life `connection.py`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from chatlab import events
from chatlab.backoff import Backoff
from chatlab.connection import Connection, Records
from chatlab.credentials import Credentials, Token
from chatlab.errors import Banned, ChatError, ClientError, NotConnected, TokenExpired
from chatlab.protocol import Answer, Message, Refreshed

__all__ = ["Lifeline"]

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Answer)

_STALE_TOKENS: Final = 3  # expired tokens in a row from a callable that should give fresh ones


class Listener(Protocol):
    """Whoever wants to hear of events."""

    def put(self, event: events.Event) -> None:
        """Take the next one."""


class Lifeline(ABC):
    """A connection over all the sockets that it takes. The parameters are `ChatClient`'s."""

    def __init__(
        self,
        *,
        url: Any,
        token: Token,
        name: str | None,
        timeout: float,
        transports: Sequence[str],
        recorder: Records | None,
        backoff: Backoff,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.user: str | None = None
        self.over: ChatError | None = None  # why there is no coming back
        self.closed = False  # it is over because the client wished so
        self.timeout = timeout
        self.backoff = backoff
        self.sleep = sleep
        self.listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._credentials = Credentials(token, timeout)
        self._given_url, self._given_name = url, name
        self._transports, self._recorder = tuple(transports), recorder
        self._connection: Connection | None = None
        self._verdict: ChatError | None = None  # what the server said before it closes
        self._connected_at = 0.0
        self._attempts = 0  # to come back, since a connection last held for a while
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

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

    # --- hooks -----------------------------------------------------------------------------------

    @abstractmethod
    def _arrived(self, message: Message) -> None:
        """A `new-message` came."""

    @abstractmethod
    def _returned(self) -> None:
        """Connected again."""

    @abstractmethod
    def _lost(self) -> None:
        """The connection is gone."""

    # --- being connected -------------------------------------------------------------------------

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
        self.spawn(self._stay_connected())

    async def stop(self) -> None:
        """Leave politely and end everything; calls and iterators in hand end too."""
        self.closed = True
        self._finish(NotConnected("The client was closed"))
        # Once only: a second cancellation would interrupt one that is cleaning up.
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._connection is not None:
            await self._connection.close(politely=True)
            self._connection = None

    async def ready(
        self, *, timeout: float | None = None, also: Callable[[], bool] = lambda: True
    ) -> Connection:
        """The connection, as soon as there is one and `also` is true.

        Raises what ended it all, and `NotConnected` after `timeout` seconds.
        """
        if not self._started and self.over is None:
            raise NotConnected("Not connected: call connect() first")
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                while True:
                    if self.over is not None:
                        raise self.over
                    connection = self._connection
                    if connection is not None and connection.alive and also():
                        return connection
                    await self.news()
        except TimeoutError:
            raise NotConnected(f"Not connected to {self.url} within {limit:g} s") from None

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

    async def news(self) -> None:
        """Wait until something has changed. Look first, then wait: nothing slips between."""
        await self._news.wait()

    def wake(self) -> None:
        """Something changed: everybody who waits looks again."""
        self._news.set()
        self._news = asyncio.Event()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside; `stop` ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- coming and going ------------------------------------------------------------------------

    async def _connect(self) -> None:
        auth = await self._credentials.auth()
        self.user = self._credentials.user
        self._verdict = None
        connection = self._connection = Connection(
            name=self.name, on_event=self._heard, on_end=self._ended, recorder=self._recorder
        )
        try:
            await connection.open(self.url, auth, transports=self._transports, timeout=self.timeout)
        except BaseException:
            await connection.close(politely=False)
            self._connection = None  # only now: where the close is interrupted, `stop` ends it
            raise
        self._connected_at = asyncio.get_running_loop().time()
        self._publish(events.Connected())

    async def _stay_connected(self) -> None:
        try:
            while self._connection is not None:
                connection = self._connection
                await connection.gone.wait()
                await connection.close(politely=False)
                if isinstance(self._verdict, TokenExpired) and self._credentials.renewable:
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
        now = asyncio.get_running_loop().time()
        if now - self._connected_at > self.backoff.cap:
            self._attempts = 0  # a connection that held: what ended it is a new trouble
        retry_after: float | None = None
        stale = 0
        while True:
            await self.sleep(self.backoff.delay(self._attempts, retry_after))
            self._attempts += 1
            try:
                await self._connect()
                break
            except ChatError as error:
                stale = stale + 1 if isinstance(error, TokenExpired) else 0
                if not error.retry and not (
                    0 < stale < _STALE_TOKENS and self._credentials.renewable
                ):
                    raise
                retry_after = error.retry_after
                log.info("%s: attempt %d to come back: %s", self.name, self._attempts, error)
        self._returned()

    def _ended(self) -> None:
        self._lost()
        if not self.closed:
            self._publish(events.Disconnected())

    def _finish(self, error: ChatError) -> None:
        if self.over is None:
            self.over = error
        self.wake()

    # --- the token -------------------------------------------------------------------------------

    async def refresh(self, token: str | None) -> Refreshed:
        """Replace the session's token; None fetches one."""
        if token is None:
            token = await self._credentials.fetch()
        new = token

        def refreshed(_: Refreshed) -> None:
            self._credentials.current = new

        return await self.ask("refresh-token", {"token": new}, Refreshed, then=refreshed)

    async def _renew(self) -> None:
        """Refresh the token, until that works, or fails for good, or the connection ends."""
        connection = self._connection
        for attempt in itertools.count():
            try:
                token = await self._credentials.fetch()
                if token == self._credentials.current:
                    return  # it would not live any longer
                await self.refresh(token)
                return
            except ChatError as error:
                log.warning("%s: the token was not refreshed: %s", self.name, error)
                gone = self.over is not None or self._connection is not connection
                if gone or not error.retry:
                    return
                await self.sleep(self.backoff.delay(attempt, error.retry_after))

    # --- what arrives ----------------------------------------------------------------------------

    def _heard(self, name: str, data: Any) -> None:
        try:
            if name == "new-message":
                self._arrived(msgspec.convert(data, Message))
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
        elif isinstance(event, events.TokenExpiring) and self._credentials.renewable:
            self.spawn(self._renew())
        self._publish(event)

    def _publish(self, event: events.Event) -> None:
        for listener in list(self.listeners):
            listener.put(event)
        self.wake()
