"""What is heard of the rooms that this server hosts: in `seq` order, without a gap, once.

Published messages may be missed while Redis is away, and may come before the answer that tells of
them. So each hosted room knows the last `seq` it has passed on; what is newer than the next one
waits until the stream has given what is between.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from chatlab.errors import Unavailable
from chatlab.storage.base import Delivery, Feed, fail
from chatlab.storage.redis_history import Belief, Entry, Stretch, message_of
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Node, Nodes

__all__ = ["RedisFeed"]

log = logging.getLogger(__name__)

MISSED_AFTER: Final = 0.25
"""Seconds that a message which is known to be stored may take to be heard."""

TRY_AGAIN: Final = 0.2
"""Seconds until the stream is asked again, where Redis was away."""


_published = msgspec.msgpack.Decoder(tuple[str, list[Entry]])


@dataclass(slots=True, eq=False)
class _Hosted:
    """A room with a member on this server. `seq` and `id` are of the last message passed on."""

    name: str
    ready: Future[None]
    epoch: str = ""
    seq: int = 0
    id: str = ""
    early: list[bytes] = field(default_factory=list)  # heard before it was known where it stands
    waiting: dict[int, Entry] = field(default_factory=dict)  # heard, but not the next one
    # How often Redis was away, and up to which time it has shown since that it still has what it
    # had: before that nothing is passed on.
    doubts: int = 0
    settled: int = 0
    filling: bool = False
    missed: asyncio.TimerHandle | None = None

    @property
    def doubted(self) -> bool:
        """Whether Redis has to show what it has."""
        return self.settled < self.doubts

    @property
    def belief(self) -> Belief:
        """For a script to check; nothing where there is no reason to."""
        return Belief(self.epoch, self.seq, self.id) if self.doubted else Belief()


class RedisFeed:
    """Follows rooms. `read(room, after, belief)` gives a stretch of the stream; it is asked for
    what was missed.

    `feed` gets the messages; `renewed` is called with a room whose history is not what its members
    were shown.
    """

    def __init__(
        self,
        nodes: Nodes,
        names: Names,
        read: Callable[[str, int | None, Belief], Awaitable[Stretch]],
    ) -> None:
        self.feed: Feed = lambda room, deliveries: None
        self.renewed: Callable[[str], None] = lambda room: None
        self._nodes = nodes
        self._names = names
        self._read = read
        self._hosted: dict[str, _Hosted] = {}
        self._rooms_of: dict[str, str] = {}  # by their channel
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._hosted)

    def belief(self, room: str) -> Belief:
        """What a script should check about a room."""
        hosted = self._hosted.get(room)
        return hosted.belief if hosted is not None else Belief()

    # --- following ---------------------------------------------------------------------------

    async def follow(self, room: str) -> None:
        """Hear a room. Returns when nothing that is stored from now on can be missed.

        Raises `Unavailable`, at once where Redis is known to be away.
        """
        if not self._is_heard(room):
            raise Unavailable
        hosted = self._hosted.get(room)
        if hosted is None:
            ready: Future[None] = asyncio.get_running_loop().create_future()
            hosted = self._hosted[room] = _Hosted(room, ready)
            self._rooms_of[self._names.feed(room)] = room
            self._spawn(self._begin(hosted))
        await asyncio.shield(hosted.ready)

    async def _begin(self, hosted: _Hosted) -> None:
        room = hosted.name
        try:
            await self._nodes.subscribe(
                self._names.feed(room), lambda payload: self._heard(room, payload)
            )
            stretch = await self._read(room, None, Belief())
        except Unavailable as error:
            if self._hosted.get(room) is hosted:
                self.unfollow(room)
            fail(hosted.ready, error)
            return
        if self._hosted.get(room) is not hosted or hosted.ready.done():
            return
        hosted.epoch, hosted.seq = stretch.epoch, stretch.seq
        hosted.id = stretch.entries[-1].id if stretch.entries else ""
        hosted.ready.set_result(None)
        early, hosted.early = hosted.early, []
        for payload in early:
            self._heard(room, payload)
        if hosted.doubted:  # Redis was away in the meantime
            self._fill(hosted)

    def unfollow(self, room: str) -> None:
        """Hear a room no more."""
        hosted = self._hosted.pop(room, None)
        if hosted is None:
            return
        if hosted.missed is not None:
            hosted.missed.cancel()
        fail(hosted.ready, Unavailable())
        channel = self._names.feed(room)
        del self._rooms_of[channel]
        self._nodes.unsubscribe(channel)

    async def close(self) -> None:
        """Stop."""
        for room in list(self._hosted):
            self.unfollow(room)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- hearing -----------------------------------------------------------------------------

    def _heard(self, room: str, payload: bytes) -> None:
        hosted = self._hosted.get(room)
        if hosted is None:
            return
        if not hosted.ready.done():
            hosted.early.append(payload)
            return
        epoch, entries = _published.decode(payload)
        if epoch != hosted.epoch:
            self._fill(hosted)  # another epoch; or a late word of the one before
            return
        for entry in entries:
            if entry.seq > hosted.seq:
                hosted.waiting[entry.seq] = entry
        if not hosted.doubted and not hosted.filling:
            self._drain(hosted)

    def _drain(self, hosted: _Hosted) -> None:
        """Pass on what waits, up to the first gap; a gap is filled from the stream."""
        run: list[Entry] = []
        while (entry := hosted.waiting.pop(hosted.seq + 1 + len(run), None)) is not None:
            run.append(entry)
        self._pass_on(hosted, run)
        if hosted.waiting:
            for seq in [seq for seq in hosted.waiting if seq <= hosted.seq]:
                del hosted.waiting[seq]
            if hosted.waiting:
                self._fill(hosted)

    def _pass_on(self, hosted: _Hosted, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        hosted.seq, hosted.id = entries[-1].seq, entries[-1].id
        deliveries = [Delivery(message_of(hosted.name, entry), entry.origin) for entry in entries]
        try:
            self.feed(hosted.name, deliveries)
        except Exception:
            log.exception("the feed of room %r failed", hosted.name)

    # --- what was missed -----------------------------------------------------------------------

    def seen(self, room: str, epoch: str, seq: int) -> None:
        """An answer of Redis tells that the room is in `epoch` and at `seq`."""
        hosted = self._hosted.get(room)
        if hosted is None or not hosted.ready.done():
            return
        if epoch != hosted.epoch:
            self._fill(hosted)
        elif seq > hosted.seq and hosted.missed is None:
            loop = asyncio.get_running_loop()
            hosted.missed = loop.call_later(MISSED_AFTER, self._look, hosted, seq)

    def _look(self, hosted: _Hosted, seq: int) -> None:
        hosted.missed = None
        if hosted.seq < seq:
            log.info("room %r: message %d was not heard; reading it", hosted.name, seq)
            self._fill(hosted)

    def doubt(self, node: Node) -> None:
        """Redis is away: what it has when it comes back is to be checked."""
        for room in self._on(node):
            self._hosted[room].doubts += 1

    def catch_up(self, node: Node) -> None:
        """Redis is back: fill what was missed."""
        for room in self._on(node):
            hosted = self._hosted[room]
            if hosted.ready.done():
                self._fill(hosted)

    def look_again(self, channel: str) -> None:
        """What was published on a channel may have been missed; events are not looked for."""
        hosted = self._hosted.get(self._rooms_of.get(channel, ""))
        if hosted is not None:
            hosted.doubts += 1
            if hosted.ready.done():
                self._fill(hosted)

    def _on(self, node: Node) -> list[str]:
        return [room for room in self._hosted if self._is_on(room, node)]

    def _is_heard(self, room: str) -> bool:
        try:
            return self._nodes.of(self._names.feed(room)).up
        except Unavailable:
            return False

    def _is_on(self, room: str, node: Node) -> bool:
        try:
            return self._nodes.of(self._names.feed(room)) is node
        except Unavailable:
            return True

    def _fill(self, hosted: _Hosted) -> None:
        if not hosted.filling and self._hosted.get(hosted.name) is hosted:
            hosted.filling = True
            self._spawn(self._fill_from_stream(hosted))

    async def _fill_from_stream(self, hosted: _Hosted) -> None:
        try:
            await self._read_what_was_missed(hosted)
        finally:
            hosted.filling = False
        if not hosted.doubted and self._hosted.get(hosted.name) is hosted:
            self._drain(hosted)

    async def _read_what_was_missed(self, hosted: _Hosted) -> None:
        complete = False
        while not complete and self._hosted.get(hosted.name) is hosted:
            doubts = hosted.doubts
            try:
                stretch = await self._read(hosted.name, hosted.seq, hosted.belief)
            except Unavailable:
                if not self._is_heard(hosted.name):
                    return  # `catch_up` comes when Redis is back
                await asyncio.sleep(TRY_AGAIN)
            else:
                complete = self._take(hosted, stretch, doubts) and not hosted.doubted

    def _take(self, hosted: _Hosted, stretch: Stretch, doubts: int) -> bool:
        """Pass on a stretch of the stream; whether that was all. `doubts` is from before it was
        asked for."""
        if stretch.epoch == hosted.epoch and stretch.seq < hosted.seq and not hosted.doubted:
            hosted.doubts += 1  # it has gone back: ask again, with what is believed
            return False
        oldest = stretch.entries[0].seq if stretch.entries else stretch.seq + 1
        hosted.settled = doubts
        if stretch.epoch != hosted.epoch or oldest > hosted.seq + 1:
            self._renew(hosted, stretch)
            return False  # what the new epoch has brought since then is read next
        self._pass_on(hosted, stretch.entries)
        return hosted.seq >= stretch.seq

    def _renew(self, hosted: _Hosted, stretch: Stretch) -> None:
        """The members were shown a history that is not the room's any more."""
        log.warning("room %r: messages are gone; its members are told", hosted.name)
        hosted.waiting.clear()
        hosted.epoch, hosted.seq, hosted.id = stretch.epoch, stretch.seq, ""
        self.renewed(hosted.name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
