"""The distributed backend, put together: what one Redis does for a server."""

from __future__ import annotations

from chatlab.settings import Settings
from chatlab.storage.base import Storage
from chatlab.storage.memory import MemoryDirectory
from chatlab.storage.presence import LocalPresence
from chatlab.storage.redis import RedisLog
from chatlab.storage.redis_url import locate

__all__ = ["open_redis"]


def open_redis(settings: Settings) -> Storage:
    """Everything, not yet connected. Raises `SettingsError` for an address that cannot be read."""
    log = RedisLog(
        locate(settings.storage),
        history=settings.history,
        key_ttl=settings.key_ttl,
        stalled_after=settings.storage_timeout,
    )
    return Storage(log, MemoryDirectory(), LocalPresence())
