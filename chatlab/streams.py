"""The two iterators of a client: its messages, in order, and everything else that it hears.

They wait and hand out; what comes next in a room is decided in `catchup.py`.
"""

from __future__ import annotations

import itertools
from collections import deque
from types import TracebackType
from typing import Self

from chatlab.catchup import Entry, HistoryLost, RoomClosed, RoomFeed
from chatlab.errors import ChatError, NotInRoom
from chatlab.events import Event
from chatlab.protocol import HistoryPage, Message
from chatlab.session import Session

__all__ = ["Events", "Messages"]


class Messages:
    """Yields `Message`, `HistoryLost` and `RoomClosed`; made by `ChatClient.messages`.

    It ends when the client is closed or, for one room, when that is left. What ended the session
    otherwise (`Banned`, `TokenExpired`, …) is raised, after everything that had arrived.
    """

    def __init__(self, session: Session, room: str | None) -> None:
        self._session = session
        self._only: RoomFeed | None = None
        self._closed = False
        if room is not None:
            self._only = session.rooms.get(room)
            if self._only is None:
                raise NotInRoom(f"Join {room!r} first")
        feeds = session.rooms.values() if self._only is None else [self._only]
        self._places = {feed: _Place(feed, feed.cursor) for feed in feeds}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._closed:
            place = self._next_place()
            if place is not None:
                entry = await place.take(self._session)
                if isinstance(entry, RoomClosed) and self._only is not None:
                    raise entry.error
                return entry
            if self._only is not None and self._only.closed:
                break
            _raise_end(self._session)
            await self._session.news()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop; a loop that waits here ends."""
        self._closed = True
        self._session.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _next_place(self) -> _Place | None:
        if self._only is None:
            for feed in self._session.rooms.values():
                if feed not in self._places:
                    self._places[feed] = _Place(feed, 0)  # joined since: from its beginning
        ready = []
        for feed, place in list(self._places.items()):
            turn = place.turn()
            if turn is not None:
                ready.append((turn, place))
            elif feed.closed and feed is not self._only:
                del self._places[feed]
        return min(ready, key=lambda pair: pair[0])[1] if ready else None


class _Place:
    """How far one iterator has got in one room."""

    def __init__(self, feed: RoomFeed, position: int) -> None:
        self._feed = feed
        self._at = position
        self._aside: RoomFeed | None = None
        if position < feed.start:
            self._seq, self._epoch = feed.origin
            return
        self._seq, self._epoch = feed.next - 1, feed.epoch
        for waiting in reversed(range(position, feed.end)):
            entry = _entry(feed, waiting)
            if isinstance(entry, Message):
                self._seq = entry.seq - 1
            elif isinstance(entry, HistoryLost):
                self._seq = entry.after
                self._epoch = self._epoch if entry.missing is not None else "?"

    def turn(self) -> int | None:
        """When the next entry came, among those of all rooms; None where nothing waits."""
        if self._at < self._feed.start:
            return -1
        found = self._feed.read(self._at)
        return None if found is None else found[0]

    async def take(self, session: Session) -> Entry:
        entry = None
        if self._at < self._feed.start:
            entry = await self._from_history(session)
        if entry is None:
            entry = _entry(self._feed, self._at)
            self._at += 1
            self._feed.passed(self._at)
            session.tend(self._feed)
        if isinstance(entry, Message):
            self._seq = entry.seq
        elif isinstance(entry, HistoryLost):
            self._seq, self._epoch = entry.resumes - 1, entry.epoch
        return entry

    async def _from_history(self, session: Session) -> Entry | None:
        """What another, quicker reader has made the feed forget; None once that is caught up."""
        feed = self._feed
        while True:
            if self._at >= feed.start:
                return None
            if self._epoch != feed.epoch:
                self._at, self._aside = feed.start, None
                return HistoryLost(feed.room, self._seq, feed.oldest(), None, feed.epoch)
            found = feed.find(self._seq + 1)
            if found is not None:
                self._at, self._aside = found, None
                return None
            if self._aside is None:
                self._aside = RoomFeed(feed.room, epoch=self._epoch, after=self._seq)
                self._aside.joined = True
            waiting = self._aside.read(self._aside.cursor)
            if waiting is not None:
                self._aside.passed(self._aside.cursor + 1)
                return waiting[1]
            await self._fetch(session, self._aside)

    async def _fetch(self, session: Session, aside: RoomFeed) -> None:
        aside.seen(self._feed.oldest() - 1)
        ask = aside.need()
        if ask is None or ask.what == "join":
            self._epoch = "?"  # this history is no longer the one that was being read
            return
        where = {"room": aside.room, "after": ask.after, "limit": ask.limit}
        for attempt in itertools.count():
            try:
                aside.page(ask.after, await session.ask("history", where, HistoryPage))
                return
            except ChatError as error:
                _raise_end(session)
                if not error.retry:
                    raise
                await session.sleep(session.backoff.delay(attempt, error.retry_after))


class Events:
    """Yields what a client hears besides messages; made by `ChatClient.events`.

    It ends as `Messages` does. At most 1,000 events wait; the oldest are hints that have aged.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Event] = deque(maxlen=1000)
        self._closed = False
        session.listeners.add(self)

    def put(self, event: Event) -> None:
        self._waiting.append(event)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            if self._waiting:
                return self._waiting.popleft()
            _raise_end(self._session)
            await self._session.news()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop; a loop that waits here ends."""
        self._closed = True
        self._session.wake()


def _entry(feed: RoomFeed, position: int) -> Entry:
    found = feed.read(position)
    if found is None:
        raise RuntimeError("a place was asked for what the room does not have yet")
    return found[1]


def _raise_end(session: Session) -> None:
    if session.closed:
        raise StopAsyncIteration
    if session.over is not None:
        raise session.over
