"""The distributed backend, put together: what one Redis does for a server."""

from __future__ import annotations

from chatlab.settings import Settings
from chatlab.storage.redis import RedisLog
from chatlab.storage.redis_buckets import RedisBuckets
from chatlab.storage.redis_events import RedisEvents
from chatlab.storage.redis_presence import RedisPresence
from chatlab.storage.redis_url import locate
from chatlab.storage.redis_users import RedisDirectory
from chatlab.storage.shared import Storage

__all__ = ["open_redis"]


def open_redis(settings: Settings) -> Storage:
    """Everything, not yet connected. Raises `SettingsError` for an address that cannot be read."""
    log = RedisLog(
        locate(settings.storage),
        history=settings.history,
        key_ttl=settings.key_ttl,
        stalled_after=settings.storage_timeout,
    )
    nodes, names = log.nodes, log.names
    directory = RedisDirectory(nodes, names)
    presence = RedisPresence(nodes, names, ttl=settings.presence_ttl)
    buckets = RedisBuckets(nodes, names, settings.whole_user_rate)

    def back() -> None:
        directory.back()
        presence.back()
        buckets.back()

    log.back = back

    def subscriptions() -> int:
        return sum(node.ears.channels for node in nodes.all())

    events = RedisEvents(nodes, names)
    return Storage(log, directory, presence, events, buckets, subscriptions)
