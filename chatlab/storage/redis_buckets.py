"""The users' token buckets that all servers share, in Redis.

One atomic script takes tokens: a read and a write in two steps would admit whoever comes between
them. What a server does with the tokens that it took is server/leases.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from chatlab.settings import Rate
from chatlab.storage.base import check_encodable
from chatlab.storage.redis_names import Names
from chatlab.storage.redis_nodes import Nodes
from chatlab.storage.redis_scripts import Script

__all__ = ["RedisBuckets"]

# A bucket that is full is no different from one that does not exist: its key lives until then.
TAKE: Final = Script(
    """
-- KEYS: bucket; ARGV: tokens a second, burst, wanted, now in microseconds or ''
-- Returns {taken, seconds until there is another token, 0 where all were taken}
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)
if now > at then tokens = tokens + (now - at) / 1000000 * rate end
tokens = math.min(tokens, burst)
local taken = math.min(wanted, math.floor(tokens))
tokens = tokens - taken
if tokens >= burst then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens),
    'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((burst - tokens) / rate * 1000)))
end
return cmsgpack.pack({taken, taken < wanted and (1 - tokens) / rate or 0})
"""
)

_taken = msgspec.msgpack.Decoder(tuple[int, float])


class RedisBuckets:
    """A `Buckets` in which `rate` flows into each user's bucket. `clock` gives POSIX seconds;
    without one Redis's own clock is used, which is the same for all servers."""

    def __init__(
        self,
        nodes: Nodes,
        names: Names,
        rate: Rate,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.back: Callable[[], None] = lambda: None
        self._nodes = nodes
        self._names = names
        self._rate = rate
        self._clock = clock

    async def take(self, user: str, wanted: int) -> tuple[int, float]:
        """See `Buckets.take`."""
        check_encodable(user)
        reply = await self._nodes.run(
            TAKE,
            [self._names.bucket(user)],
            repr(float(self._rate.per_second)),
            self._rate.burst,
            wanted,
            "" if self._clock is None else int(self._clock() * 1_000_000),
        )
        return _taken.decode(reply)
