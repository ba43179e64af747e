"""What everything is called in Redis: keys, and the channels that messages are published on.

All keys of a room share a hash tag, so that one script may touch them all in a Redis Cluster.
Pub/sub ignores database numbers, so a channel's name holds the number as well as the prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

__all__ = ["Names"]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one cluster of chat servers: its key prefix and its database's number."""

    prefix: str
    database: int

    def tag(self, name: str) -> str:
        """A hash tag for any name: `}` would end it early, so all but the plainest is encoded."""
        return "{" + quote(name, safe="") + "}"

    def meta(self, room: str) -> str:
        """A hash: the room's epoch and its newest `seq`."""
        return f"{self.prefix}:{self.tag(room)}:meta"

    def log(self, room: str) -> str:
        """A stream: the messages. The ID of an entry is its `seq`."""
        return f"{self.prefix}:{self.tag(room)}:log"

    def cursors(self, room: str) -> str:
        """A hash: how far each user has got."""
        return f"{self.prefix}:{self.tag(room)}:cursors"

    def keys(self, room: str, user: str) -> str:
        """A hash: the idempotency keys of a user in a room, and a count of their messages."""
        return f"{self.prefix}:{self.tag(room)}:keys:{user}"

    def key_order(self, room: str, user: str) -> str:
        """A sorted set: the same keys by the count at which they were used."""
        return f"{self.prefix}:{self.tag(room)}:order:{user}"

    def here(self, room: str) -> str:
        """A hash: who is in the room, and on which servers."""
        return f"{self.prefix}:{self.tag(room)}:here"

    def servers(self, room: str) -> str:
        """A sorted set: the servers that have members in the room, by when they expire."""
        return f"{self.prefix}:{self.tag(room)}:servers"

    def bucket(self, user: str) -> str:
        """A hash: a user's token bucket."""
        return f"{self.prefix}:user:{self.tag(user)}:bucket"

    @property
    def users(self) -> str:
        """A hash: the user directory."""
        return f"{self.prefix}:{{users}}"

    def feed(self, room: str) -> str:
        """The channel of a room's stored messages."""
        return f"{self.prefix}:{self.database}:{self.tag(room)}:feed"

    def events(self, room: str) -> str:
        """The channel of a room's events that are not stored."""
        return f"{self.prefix}:{self.database}:{self.tag(room)}:events"

    @property
    def user_changes(self) -> str:
        """The channel on which a change of the user directory is announced."""
        return f"{self.prefix}:{self.database}:{{users}}:changes"
