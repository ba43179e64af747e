"""The user directory in Redis: for the servers, and for the command line beside them.

Whoever changes it says so on a channel, so that a ban reaches every server at once. It is one hash:
a directory of millions of users belongs in a database of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from chatlab.errors import SettingsError, Unavailable
from chatlab.storage.base import User, encodable
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_scripts import Script
from chatlab.storage.redis_url import locate

__all__ = ["RedisDirectory", "UserStore"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE: Final = 5.0  # seconds in which Redis has to answer a command
_ASKED_AT_ONCE: Final = 1_000  # users

PUT: Final = Script(
    """
-- KEYS: users; ARGV: publish command, channel, user, value, and what the value was, or '' for any
-- Returns whether it was changed
if ARGV[5] ~= '' and redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[5] then
  return cmsgpack.pack(false)
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
redis.call(ARGV[1], ARGV[2], ARGV[3])
return cmsgpack.pack(true)
"""
)


class _Entry(msgspec.Struct):
    """What is kept of a user."""

    name: str
    banned: bool = False


_read = msgspec.json.Decoder(_Entry)


class RedisDirectory:
    """A `UserDirectory` in Redis. Call `back` whenever Redis is there, the first time included."""

    def __init__(self, nodes: Nodes, names: Names) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._nodes = nodes
        self._names = names

    def back(self) -> None:
        """Redis is there: what was changed meanwhile has not been heard."""
        try:
            listening = self._nodes.subscribe(
                self._names.user_changes, lambda _user: self.changed()
            )
        except Unavailable:
            return  # the node of the users is not there yet
        listening.add_done_callback(self._listening)

    def _listening(self, confirmed: asyncio.Future[None]) -> None:
        if not confirmed.cancelled() and confirmed.exception() is None:
            self.changed()

    async def get(self, user: str) -> User | None:
        """See `UserDirectory.get`."""
        value = await self._raw(user)
        return None if value is None else _user(user, value)

    async def banned(self, users: Sequence[str]) -> set[str]:
        """See `UserDirectory.banned`."""
        asked = [user for user in users if encodable(user)]
        found: set[str] = set()
        key = self._names.users
        for first in range(0, len(asked), _ASKED_AT_ONCE):
            some = asked[first : first + _ASKED_AT_ONCE]
            values = await self._nodes.command(key, "HMGET", key, *some)
            found.update(
                user
                for user, value in zip(some, values, strict=True)
                if value is not None and _user(user, value).banned
            )
        return found

    async def put(self, user: User) -> None:
        """See `UserDirectory.put`. Raises `ValueError` where UTF-8 cannot hold it."""
        if not encodable(user.id, user.name):
            raise ValueError("a user's id and name must be valid Unicode")
        await self._put(user, b"")

    async def set_banned(self, user: str, banned: bool) -> User | None:
        """Ban or unban a user, and return them; None when there is no such user."""
        while (before := await self._raw(user)) is not None:
            after = replace(_user(user, before), banned=banned)
            if await self._put(after, before):
                return after
        return None

    async def list(self) -> list[User]:
        """See `UserDirectory.list`."""
        key = self._names.users
        flat = await self._nodes.command(key, "HGETALL", key)
        users = [_user(flat[at].decode(), flat[at + 1]) for at in range(0, len(flat), 2)]
        return sorted(users, key=lambda user: user.id)

    async def _raw(self, user: str) -> bytes | None:
        if not encodable(user):
            return None
        key = self._names.users
        value: bytes | None = await self._nodes.command(key, "HGET", key, user)
        return value

    async def _put(self, user: User, before: bytes) -> bool:
        """Store a user, if they still are what they were `before`; empty is whatever they were."""
        reply = await self._nodes.run(
            PUT,
            [self._names.users],
            self._nodes.publish_command,
            self._names.user_changes,
            user.id,
            msgspec.json.encode(_Entry(user.name, user.banned)),
            before,
        )
        return bool(msgspec.msgpack.decode(reply))


def _user(id_: str, value: bytes) -> User:
    try:
        entry = _read.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Somebody wrote it by hand. To admit whom nobody can judge would be the wrong way to fail.
        log.warning("the directory's entry of %r cannot be read: they count as banned", id_)
        return User(id_, id_, banned=True)
    return User(id_, entry.name, entry.banned)


class UserStore:
    """The directory in the Redis at `url`, for one command at a time. Close it, or use `with`.

    It works without a loop and beside one: it has a thread of its own. Raises `SettingsError` when
    Redis cannot be reached, here and in every method.
    """

    def __init__(self, url: str) -> None:
        location = locate(url)
        self._shown = location.shown
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chatlab-users", daemon=True
        )
        self._thread.start()
        self._nodes = Nodes(location, stalled_after=_PATIENCE)
        self._directory = RedisDirectory(self._nodes, Names(location.prefix, location.database))
        try:
            self._run(self._nodes.open(patience=_PATIENCE))
        except BaseException:
            self.close()
            raise

    def get(self, user: str) -> User | None:
        """The user, or None."""
        return self._run(self._directory.get(user))

    def put(self, user: User) -> None:
        """Add or change a user. Raises `ValueError` where UTF-8 cannot hold it."""
        self._run(self._directory.put(user))

    def set_banned(self, user: str, banned: bool) -> User | None:
        """Ban or unban a user, and return them; None when there is no such user."""
        return self._run(self._directory.set_banned(user, banned))

    def list(self) -> list[User]:
        """Everybody, by id."""
        return self._run(self._directory.list())

    def close(self) -> None:
        """Let go of the connections."""
        if self._loop.is_closed():
            return
        self._run(self._nodes.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except Unavailable:
            raise SettingsError(
                f"--storage {self._shown} cannot be used: it does not answer"
            ) from None

    def __enter__(self) -> UserStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
