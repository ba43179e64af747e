"""Appends on their way into Redis: per room one script at a time, so that nothing overtakes.

What arrives while a script runs forms the next one. So a room costs one round trip, one publication
and one wait for the disk, however many messages come at once.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from chatlab.errors import Unavailable
from chatlab.protocol import Message, timestamp
from chatlab.storage.base import Appended, fail, key_reused, text_digest
from chatlab.storage.promise import Promise
from chatlab.storage.redis_history import Belief
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_scripts import APPEND

__all__ = ["Outboxes"]

MOST_IN_A_SCRIPT: Final = 128  # messages; Redis does nothing else while a script runs
MOST_WAITING: Final = 100_000  # appends that are not stored yet

_decode = msgspec.msgpack.Decoder(tuple[str, list[list[int | str | bool]]]).decode


@dataclass(slots=True, eq=False)
class _Append:
    user: str
    text: str
    key: str | None
    origin: str
    id: str
    future: Future[Appended]


@dataclass(slots=True, eq=False)
class _Outbox:
    waiting: deque[_Append] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Outboxes:
    """Stores messages. `history`, `key_ttl` (seconds), `key_messages` and `clock` as `RedisLog`.

    `belief(room)` is what to have checked; `seen(room, epoch, seq)` is told what was stored.
    """

    def __init__(
        self,
        nodes: Nodes,
        names: Names,
        *,
        history: int,
        key_ttl: float,
        key_messages: int,
        clock: Callable[[], float] | None,
    ) -> None:
        self.belief: Callable[[str], Belief] = lambda room: Belief()
        self.seen: Callable[[str, str, int], None] = lambda room, epoch, seq: None
        self._nodes = nodes
        self._names = names
        self._history = history
        self._key_ttl = int(key_ttl * 1000)
        self._key_messages = key_messages
        self._clock = clock
        self._outboxes: dict[str, _Outbox] = {}
        self._waiting = 0

    def put(
        self, room: str, user: str, text: str, key: str | None, origin: str
    ) -> Future[Appended]:
        """Store a message behind those that were put before. Fails at once in a known outage."""
        loop = asyncio.get_running_loop()
        future: Future[Appended] = Promise()
        if self._waiting >= MOST_WAITING or not self._can_store(room):
            return fail(future, Unavailable())
        outbox = self._outboxes.get(room)
        if outbox is None:
            outbox = self._outboxes[room] = _Outbox()
            outbox.task = loop.create_task(self._send(room, outbox))
        outbox.waiting.append(_Append(user, text, key, origin, secrets.token_hex(16), future))
        self._waiting += 1
        return future

    async def close(self, *, store: bool) -> None:
        """Store what waits, if `store`; what is not stored fails with `Unavailable`."""
        tasks = [outbox.task for outbox in self._outboxes.values() if outbox.task]
        try:
            if tasks and store:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _can_store(self, room: str) -> bool:
        try:
            return self._nodes.of(self._names.log(room)).writes.up
        except Unavailable:
            return False

    async def _send(self, room: str, outbox: _Outbox) -> None:
        """Store what waits, in order, until nothing does."""
        try:
            while outbox.waiting:
                count = min(len(outbox.waiting), MOST_IN_A_SCRIPT)
                batch = [outbox.waiting.popleft() for _ in range(count)]
                self._waiting -= count
                try:
                    await self._store(room, batch)
                except Unavailable:
                    pass
                finally:
                    _give_up(batch)  # what has an answer by now is not touched
                if not self._can_store(room):
                    return  # those behind must not wait for an outage to end
        finally:
            self._waiting -= len(outbox.waiting)
            _give_up(outbox.waiting)
            del self._outboxes[room]

    async def _store(self, room: str, batch: list[_Append]) -> None:
        users: dict[str, int] = {}
        messages: list[str | bytes | int] = []
        for append in batch:
            which = users.setdefault(append.user, len(users))
            digest = text_digest(append.text) if append.key is not None else ""
            messages += (which, append.user, append.text, digest, append.key or "")
            messages += (append.id, append.origin)
        names = self._names
        keys = [names.meta(room), names.log(room)]
        for user in users:
            keys += (names.keys(room, user), names.key_order(room, user))
        reply = await self._nodes.store(
            APPEND,
            keys,
            self._nodes.publish_command,
            names.feed(room),
            "" if self._clock is None else int(self._clock() * 1000),
            self._history,
            self._key_ttl,
            self._key_messages,
            secrets.token_hex(8),
            *self.belief(room),
            *messages,
        )
        self._stored(room, batch, reply)

    def _stored(self, room: str, batch: list[_Append], reply: bytes) -> None:
        epoch, results = _decode(reply)
        newest = 0
        for append, (seq, *rest) in zip(batch, results, strict=True):
            newest = max(newest, int(seq))
            if append.future.done():
                continue
            if not rest:
                fail(append.future, key_reused())
                continue
            id_, at, duplicate = rest
            time = timestamp(int(at) / 1000)
            message = Message(str(id_), int(seq), room, append.user, append.text, time)
            append.future.set_result(Appended(message, bool(duplicate)))
        self.seen(room, epoch, newest)


def _give_up(appends: list[_Append] | deque[_Append]) -> None:
    for append in appends:
        fail(append.future, Unavailable())
