"""A chat client that does what the wire contract leaves to clients.

It retries with one key, comes back by itself and hands out messages in order, without gap or
repeat. It draws nothing and stores nothing; the machinery is in `session.py` and `catchup.py`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from chatlab.backoff import Backoff
from chatlab.connection import Records
from chatlab.credentials import Token
from chatlab.errors import NotInRoom
from chatlab.protocol import HistoryPage, Joined, Left, Ok, Presence, Refreshed, Sent
from chatlab.sending import send
from chatlab.session import Session
from chatlab.streams import Events, Messages

__all__ = ["ChatClient"]


class ChatClient:
    """One user's connection to a chat server.

        async with ChatClient(url, token) as client:
            await client.join("general")
            await client.send("hello")
            async for message in client.messages():
                ...

    `url` is a string, or an object whose `url` is one. `token` is a string, or a callable (plain
    or async) that returns a fresh one each time; with a callable the client refreshes the token
    before it expires and comes back after it has. `name` labels recordings and logs (the token's
    `sub` where none is given). `timeout` is in seconds, for connecting and for each ack.
    `retries` is how often `send` tries again. `transports` are `"websocket"` and `"polling"`, in
    order of preference. `buffer` is how many messages of a room wait to be read; what is beyond
    is fetched when they have been. `recorder` gets an entry for all that is sent, received, timed
    out or refused. `backoff` and `sleep` are for tests.

    **Coming back.** Once connected, the client returns after every loss of the connection, for as
    long as it takes, with exponential backoff; also after `unavailable`, `server_error` and
    `too_many_connections`. It ends for good when it is closed, when the server says DISCONNECT (a
    ban), and after a refusal that another try does not change. Then every call and iterator
    raises the reason. The first `connect` is not tried again: whoever called it decides.
    """

    def __init__(
        self,
        url: Any,
        token: Token = None,
        *,
        name: str | None = None,
        timeout: float = 5.0,
        retries: int = 5,
        transports: Sequence[str] = ("websocket",),
        buffer: int = 1000,
        recorder: Records | None = None,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._retries = retries
        self._room: str | None = None
        self._session = Session(
            url=url,
            token=token,
            name=name,
            timeout=timeout,
            transports=transports,
            buffer=buffer,
            recorder=recorder,
            backoff=backoff or Backoff(),
            sleep=sleep,
        )
        self.recorder = recorder

    # --- being connected -----------------------------------------------------------------------

    async def connect(self) -> Self:
        """Connect, and return the client.

        Raises the server's refusal as its own exception (`InvalidToken`, `TokenExpired`,
        `Banned`, `TooManyConnections` with `retry_after`, `Unavailable`, …), and `NotConnected`
        where nobody answered. Calling it again while connected does nothing.
        """
        await self._session.start()
        return self

    async def close(self) -> None:
        """Leave. Calls in hand raise `NotConnected`, iterators end; no task and socket remains."""
        await self._session.stop()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; it can be silent without anybody knowing yet."""
        return self._session.connected

    @property
    def user(self) -> str | None:
        """The user id in the token, once connected."""
        return self._session.user

    @property
    def name(self) -> str:
        """The label in recordings and logs."""
        return self._session.name

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that the client is in, or returns to when it is back."""
        return tuple(self._session.rooms)

    def __repr__(self) -> str:
        state = "connected" if self.connected else "not connected"
        rooms = f", in {', '.join(self.rooms)}" if self.rooms else ""
        return f"<ChatClient {self.name}: {state}{rooms}>"

    # --- rooms ---------------------------------------------------------------------------------

    async def join(
        self, room: str, *, after: int | None = None, epoch: str | None = None
    ) -> Joined:
        """Join `room`; the client returns to it after each reconnect.

        `messages()` begins behind the newest message of this moment; the newest 50 are in the
        result. With `after` (a `seq`, and the `epoch` that it was seen in) it begins behind that
        one instead. Joining again answers again and moves no iterator. Raises `Forbidden`,
        `InvalidRoom`, `RateLimited`, `Unavailable`, `NotConnected`, `AckTimeout`.
        """
        answer = await self._session.join(room, after, epoch)
        self._room = room
        return answer

    async def leave(self, room: str) -> Left:
        """Leave `room`: its iterators end. Raises as `join`, and `NotInRoom`.

        Where it raises, the client is still in the room.
        """
        answer = await self._session.leave(room)
        if self._room == room:
            self._room = None
        return answer

    async def who(self, room: str) -> Presence:
        """Who is in `room`: at most 200 ids, and how many in all."""
        return await self._session.ask("who", {"room": room}, Presence)

    async def typing(self, room: str, typing: bool = True) -> None:
        """Tell the others in `room` that you type, or have stopped."""
        await self._session.ask("typing", {"room": room, "typing": typing}, Ok)

    async def mark_delivered(self, room: str, seq: int) -> None:
        """Everything in `room` up to `seq` has arrived here."""
        await self._session.ask("mark-delivered", {"room": room, "seq": seq}, Ok)

    async def mark_read(self, room: str, seq: int) -> None:
        """Everything in `room` up to `seq` was read, and so delivered."""
        await self._session.ask("mark-read", {"room": room, "seq": seq}, Ok)

    async def history(
        self, room: str, *, after: int | None = None, before: int | None = None, limit: int = 50
    ) -> HistoryPage:
        """Up to `limit` (1-200) messages behind `after`, or before `before`, or the newest."""
        where: dict[str, Any] = {"room": room, "limit": limit}
        where |= {} if after is None else {"after": after}
        where |= {} if before is None else {"before": before}
        return await self._session.ask("history", where, HistoryPage)

    async def refresh(self, token: str | None = None) -> Refreshed:
        """Replace the token (by default with one from the callable) without reconnecting.

        Raises `InvalidToken`, `TokenExpired`, `Banned`, `Forbidden` (another user's); then
        nothing has changed.
        """
        return await self._session.refresh(token)

    # --- what arrives --------------------------------------------------------------------------

    def messages(self, room: str | None = None) -> Messages:
        """An async iterator over the messages of `room`, or of all rooms, this client's own too.

        Each comes once and in `seq` order within its room, whatever happens to the connection.
        What the server no longer has is a `HistoryLost` in its place; a room that the server does
        not let the client return to ends with `RoomClosed` (with `room` given its error is
        raised). An iterator goes on where the last one stopped; those that run side by side each
        get everything. Raises `NotInRoom` when `room` was not joined.
        """
        return Messages(self._session, room)

    def events(self) -> Events:
        """An async iterator over everything else, from now on: `chatlab.events` has the types."""
        return Events(self._session)

    # --- sending -------------------------------------------------------------------------------

    async def send(
        self,
        text: str,
        room: str | None = None,
        *,
        key: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Sent:
        """Send `text` to `room` (by default the one joined last) until the server says *stored*.

        Every attempt carries the same `key` (made here when not given), so that the message is
        stored once, however often it is sent. Between attempts it waits with exponential backoff
        and full jitter, at least the server's `retryAfter`, and for the connection. `timeout` is
        in seconds, for each attempt; `retries` how many follow the first.

        Raises a refusal that no retry helps (`EmptyMessage`, `MessageTooLong`, `Forbidden`,
        `NotInRoom`, …) as itself, and `SendFailed` when it gives up: `stored` is False when the
        message cannot have been stored, None when nobody knows; sending again with its `key`
        finds out.
        """
        room = room if room is not None else self._room
        if room is None:
            raise NotInRoom("Join a room first, or name one")
        return await send(
            self._session,
            text,
            room,
            key=uuid.uuid4().hex if key is None else key,
            timeout=self._session.timeout if timeout is None else timeout,
            retries=self._retries if retries is None else retries,
        )
