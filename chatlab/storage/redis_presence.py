"""Who is in which room, over all servers: each says in Redis whom it has, and that it is alive.

A server that dies is taken out by whoever looks next once its time is up. What could not be written
while Redis was away is made good when it is back, by saying exactly who is here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from asyncio import Future
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from chatlab.errors import Unavailable
from chatlab.storage.base import cancelled, check_encodable, encodable, fail
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_presence_scripts import KEPT_FOR, UPDATE, WHO
from chatlab.storage.shared import Changes

__all__ = ["RedisPresence"]

log = logging.getLogger(__name__)

BEATS: Final = 3  # in a TTL
STEPS: Final = 16  # in a beat: the rooms take turns, so that Redis gets no burst of thousands
AT_ONCE: Final = 64  # rooms in one step, at least
LEAVE_FIRST: Final = 0.05  # seconds that `who` waits at most for those who are just leaving
LEAVING: Final = 0.5  # seconds that `close` waits for Redis


class _Updated(NamedTuple):
    """The reply of UPDATE."""

    done: bool
    next: float | bool  # milliseconds until another server expires
    came: list[str]
    gone: list[str]


class _Who(NamedTuple):
    """The reply of WHO."""

    users: list[str]
    total: int
    gone: list[str]


_updated = msgspec.msgpack.Decoder(_Updated)
_who = msgspec.msgpack.Decoder(_Who)


@dataclass(slots=True, eq=False)
class _Room:
    """A room in which this server has users, or where Redis still believes so."""

    users: set[str] = field(default_factory=set)
    entering: set[str] = field(default_factory=set)  # not said yet
    leaving: set[str] = field(default_factory=set)
    coming: dict[str, Future[None]] = field(default_factory=dict)  # who waits for `enter`
    known: bool = False  # Redis has this server in the room
    doubted: bool = False  # what Redis has is uncertain
    said: float = 0.0  # when Redis was last told
    task: asyncio.Task[None] | None = None
    look: asyncio.TimerHandle | None = None


class RedisPresence:
    """A `Presence` over all servers. Call `back` whenever Redis is back.

    `ttl` is in seconds: a server that has said nothing for so long is dead. `server` is its id,
    another one for each process.
    """

    def __init__(
        self, nodes: Nodes, names: Names, *, ttl: float = 15.0, server: str | None = None
    ) -> None:
        self.changed: Changes = lambda room, user, *, here: None
        self._nodes = nodes
        self._names = names
        self._ttl = int(ttl * 1000)
        self._every = ttl / BEATS
        self._server = secrets.token_hex(8) if server is None else server
        self._rooms: OrderedDict[str, _Room] = OrderedDict()  # by when Redis was last told
        self._beating: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._reap_from = 0.0
        self._closed = False

    def __len__(self) -> int:
        """How many rooms this server has users in, or has still to tell Redis that it has not."""
        return len(self._rooms)

    # --- for the server ----------------------------------------------------------------------

    async def enter(self, room: str, user: str) -> None:
        """See `Presence.enter`. Whether it failed before Redis or behind it, `Unavailable` means
        that they are not in: should Redis think otherwise, it is corrected."""
        check_encodable(room, user)
        if self._closed or not self._reachable(room):
            raise Unavailable
        one = self._rooms.get(room)
        if one is None:
            one = self._rooms[room] = _Room()
        if user not in one.users:
            one.users.add(user)
            if user in one.leaving:
                one.leaving.discard(user)
            else:
                one.entering.add(user)
            one.coming[user] = asyncio.get_running_loop().create_future()
            self._tell(room, one)
        coming = one.coming.get(user)
        if coming is not None:
            await asyncio.shield(coming)

    def leave(self, room: str, user: str) -> None:
        """See `Presence.leave`."""
        one = self._rooms.get(room)
        if one is None or user not in one.users:
            return
        one.users.discard(user)
        if user in one.entering:
            one.entering.discard(user)
        else:
            one.leaving.add(user)
        coming = one.coming.pop(user, None)
        if coming is not None and not coming.done():
            coming.set_result(None)
        self._tell(room, one)

    async def who(self, room: str, limit: int) -> tuple[list[str], int]:
        """See `Presence.who`. In no particular order; servers that are dead do not count."""
        if not encodable(room):
            return [], 0
        one = self._rooms.get(room)
        if one is not None and one.leaving and one.task is not None:
            await asyncio.wait({one.task}, timeout=LEAVE_FIRST)
        reply = _who.decode(await self._nodes.run(WHO, self._keys(room), self._may_reap(), limit))
        self._announce(room, reply.gone, here=False)
        return reply.users, reply.total

    def back(self) -> None:
        """Redis is there (again): tell it who is in every room, since it may have come back with
        nothing, or with what was so a while ago.

        The other servers could not speak either: they get the time of a beat before any of them
        counts as dead.
        """
        loop = asyncio.get_running_loop()
        if self._rooms:
            self._reap_from = loop.time() + self._every
        for one in self._rooms.values():
            one.doubted = True
        if self._telling is None or self._telling.done():
            self._telling = loop.create_task(self._tell_all())

    async def close(self) -> None:
        """See `Presence.close`. Waits for Redis half a second; then the others have to find out."""
        self._closed = True
        await cancelled(self._beating, self._telling)
        for name, one in list(self._rooms.items()):
            for user in list(one.users):
                self.leave(name, user)
            if one.doubted:
                self._tell(name, one)
        telling = [one.task for one in self._rooms.values() if one.task is not None]
        if telling:
            _, late = await asyncio.wait(telling, timeout=LEAVING)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for name, one in list(self._rooms.items()):
            self._give_up(one)
            self._forget(name)

    # --- telling Redis -----------------------------------------------------------------------

    def _tell(self, name: str, one: _Room) -> None:
        """See to it that Redis hears of the room; one step at a time, so that none overtakes."""
        loop = asyncio.get_running_loop()
        if one.task is None:
            one.task = loop.create_task(self._tell_room(name, one))
        if self._beating is None and not self._closed:
            self._beating = loop.create_task(self._beat())

    async def _tell_room(self, name: str, one: _Room) -> None:
        try:
            settled = False
            while not settled:
                await self._update(name, one)
                settled = not (one.entering or one.leaving or one.doubted)
        except Unavailable:
            self._give_up(one)
        except Exception:
            log.exception("the presence of room %r could not be told", name)
            self._give_up(one)
        one.task = None
        if not one.users and not one.doubted:
            self._forget(name)

    async def _update(self, name: str, one: _Room) -> None:
        mode = "exact" if one.doubted else "known" if one.known else "new"
        entering, leaving = one.entering, one.leaving
        one.entering, one.leaving, one.doubted = set(), set(), False
        if mode == "exact":
            entering, leaving = one.users.copy(), set()
        stay = bool(one.users)
        one.said = asyncio.get_running_loop().time()
        self._rooms.move_to_end(name)
        reply = _updated.decode(
            await self._nodes.run(
                UPDATE,
                self._keys(name),
                self._server,
                self._ttl,
                self._ttl * KEPT_FOR,
                self._may_reap(),
                mode,
                int(stay),
                len(entering),
                *entering,
                *leaving,
            )
        )
        if reply.done:
            one.known = stay
            for user in [user for user in one.coming if user not in one.entering]:
                coming = one.coming.pop(user)
                if not coming.done():
                    coming.set_result(None)
        else:
            one.doubted = True
            log.info("room %r: Redis did not know this server any more; telling it anew", name)
        self._announce(name, reply.gone, here=False)
        self._announce(name, reply.came, here=True)
        if reply.next is not False:
            self._look_again(name, one, reply.next / 1000)

    def _give_up(self, one: _Room) -> None:
        """Who waits to enter has not; whatever Redis has by now will be corrected."""
        one.doubted = True
        for user, coming in one.coming.items():
            one.users.discard(user)
            fail(coming, Unavailable())
        one.coming.clear()
        one.entering.clear()
        one.leaving.clear()

    def _forget(self, name: str) -> None:
        one = self._rooms.pop(name)
        if one.look is not None:
            one.look.cancel()

    def _announce(self, room: str, users: Iterable[str], *, here: bool) -> None:
        for user in users:
            try:
                self.changed(room, user, here=here)
            except Exception:
                log.exception("a change in room %r could not be announced", room)

    # --- in time -----------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Say of every room that this server is alive, a few rooms at a time."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every / STEPS)
            due = loop.time() - self._every * (1 - 1 / STEPS)
            for _ in range(max(AT_ONCE, 2 * math.ceil(len(self._rooms) / STEPS))):
                name = next(iter(self._rooms), None)
                if name is None:
                    break
                one = self._rooms[name]
                if one.said > due:
                    break
                one.said = loop.time()
                self._rooms.move_to_end(name)
                if self._reachable(name):
                    self._tell(name, one)

    async def _tell_all(self) -> None:
        for at, (name, one) in enumerate(list(self._rooms.items())):
            if self._rooms.get(name) is one:
                self._tell(name, one)
            if at % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0.002)

    def _look_again(self, name: str, one: _Room, seconds: float) -> None:
        """Another server may be dead before the next beat: then it is taken out in time."""
        loop = asyncio.get_running_loop()
        seconds = max(seconds, self._reap_from - loop.time()) + 0.005
        if one.look is not None:
            one.look.cancel()
            one.look = None
        if seconds < self._every:
            one.look = loop.call_later(seconds, self._tell, name, one)

    def _may_reap(self) -> int:
        return int(asyncio.get_running_loop().time() >= self._reap_from)

    # --- where -------------------------------------------------------------------------------

    def _keys(self, room: str) -> list[str]:
        return [self._names.here(room), self._names.servers(room)]

    def _reachable(self, room: str) -> bool:
        try:
            return self._nodes.of(self._names.here(room)).others.up
        except Unavailable:
            return False
