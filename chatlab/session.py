"""The rooms of a connected client: joined again after each return, and whole.

It decides what to ask for, when, and what to do about the answer. How messages are put in order
is `catchup.py`'s business, staying connected `lifeline.py`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any, Final

from chatlab.catchup import Ask, RoomFeed
from chatlab.errors import ChatError, NotConnected, NotInRoom
from chatlab.lifeline import Lifeline
from chatlab.protocol import HistoryPage, Joined, Left, Message

__all__ = ["Session"]

log = logging.getLogger(__name__)

_GRACE: Final = 0.2  # seconds: acks and neighbouring messages may overtake each other by a little
_FRUITLESS: Final = 3  # answers in a row that brought nothing, before asking more slowly


class Session(Lifeline):
    """A lifeline with rooms; `buffer` is how many messages of a room wait to be read."""

    def __init__(self, *, buffer: int, **options: Any) -> None:
        super().__init__(**options)
        self.rooms: dict[str, RoomFeed] = {}
        self._buffer = buffer
        self._order = itertools.count().__next__
        self._tending: dict[RoomFeed, asyncio.Task[None]] = {}

    async def join(self, room: str, after: int | None, epoch: str | None) -> Joined:
        """Join, and have the room from behind `after` on; None: from behind its newest message.

        A room that is joined already stays where it is.
        """
        where: dict[str, Any] = {"room": room}
        known = self.rooms.get(room)
        if after is not None:
            where |= {"after": after} if epoch is None else {"after": after, "epoch": epoch}
        elif known is not None:
            where |= {"after": known.next - 1, "epoch": known.epoch}

        def joined(answer: Joined) -> None:
            feed = self.rooms.get(room)
            if feed is None:
                feed = self.rooms[room] = RoomFeed(
                    room,
                    epoch=answer.epoch if epoch is None else epoch,
                    after=answer.seq if after is None else after,
                    capacity=self._buffer,
                    order=self._order,
                )
            feed.joined_again(answer)
            self.tend(feed)

        return await self.ask("join-room", where, Joined, then=joined)

    async def leave(self, room: str) -> Left:
        """Leave. Where it fails the client is in the room, and joins again if the server let go."""
        feed = self.rooms.get(room)
        if feed is not None:
            feed.leaving = True
            self._let_be(feed)

        def left(_: Left) -> None:
            if feed is None or feed.leaving:
                self.forget(room)

        try:
            return await self.ask("leave-room", {"room": room}, Left, then=left)
        except BaseException:
            if feed is not None and feed.leaving:
                # Whether the server heard of it is unknown. Its answer may come yet: too late.
                feed.leaving = feed.joined = False
                self.tend(feed)
            raise

    def joined(self, room: str) -> bool:
        """Whether the server has this client in `room`, if the client ever joined it."""
        feed = self.rooms.get(room)
        return feed is None or feed.joined

    def forget(self, room: str, error: ChatError | None = None) -> None:
        """The room was left, or the server does not let this user return."""
        feed = self.rooms.pop(room, None)
        if feed is not None:
            feed.close(error)
            self._let_be(feed)
            self.wake()

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

    def put_out(self, room: str) -> bool:
        """The server says that this client is not in `room`. Whether it may be again, is tried.

        False when the client does not think that it is in there either.
        """
        feed = self.rooms.get(room)
        if feed is None:
            return False
        feed.joined = False
        self.tend(feed)
        return True

    def tend(self, feed: RoomFeed) -> None:
        """Tell the iterators, and have what the room lacks asked for."""
        self.wake()
        if feed not in self._tending and self.connected and feed.need() is not None:
            self._tending[feed] = self.spawn(self._make_whole(feed))

    def _let_be(self, feed: RoomFeed) -> None:
        task = self._tending.pop(feed, None)
        if task is not None:
            task.cancel()

    # --- hooks of the lifeline -------------------------------------------------------------------

    def _arrived(self, message: Message) -> None:
        feed = self.rooms.get(message.room)
        if feed is not None:
            feed.arrived(message)
            self.tend(feed)

    def _returned(self) -> None:
        for feed in list(self.rooms.values()):
            self.tend(feed)

    def _lost(self) -> None:
        for feed in self.rooms.values():
            feed.disconnected()
        for task in self._tending.values():
            task.cancel()
        self._tending.clear()

    # --- whole rooms -----------------------------------------------------------------------------

    async def _make_whole(self, feed: RoomFeed) -> None:
        try:
            ask = feed.need()
            if ask is not None and not ask.urgent:
                await asyncio.sleep(_GRACE)
            fruitless = 0
            while (ask := feed.need()) is not None:
                before = feed.next
                wait = await self._try(feed, ask, fruitless)
                fruitless = 0 if feed.next > before else fruitless + 1
                if wait is None and fruitless >= _FRUITLESS:
                    wait = self.backoff.delay(fruitless - _FRUITLESS)
                if wait is not None:
                    await self.sleep(wait)
        except NotConnected:
            pass  # coming back tends to every room
        finally:
            if self._tending.get(feed) is asyncio.current_task():
                del self._tending[feed]
            self.wake()

    async def _try(self, feed: RoomFeed, ask: Ask, attempt: int) -> float | None:
        """Ask once. Returns the seconds to wait before the next try, None for none."""
        try:
            await self._fulfil(feed, ask)
        except NotConnected:
            raise
        except ChatError as error:
            if isinstance(error, NotInRoom):
                feed.joined = False
            elif not error.retry:
                log.warning("%s: %s is closed: %s", self.name, feed.room, error)
                self.forget(feed.room, error)
                return None
            return self.backoff.delay(attempt, error.retry_after)
        self.wake()
        return None

    async def _fulfil(self, feed: RoomFeed, ask: Ask) -> None:
        where: dict[str, Any] = {"room": feed.room, "after": ask.after}
        if ask.what == "join":
            where["epoch"] = ask.epoch
            await self.ask("join-room", where, Joined, then=feed.joined_again)
            return
        where["limit"] = ask.limit
        await self.ask("history", where, HistoryPage, then=lambda page: feed.page(ask.after, page))
