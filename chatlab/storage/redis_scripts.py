"""The Lua scripts: each is one atomic step in Redis, and touches the keys of one room only.

Replies are packed with MessagePack, so that a number stays a number and text may hold any byte.
Times are in milliseconds of Redis's own clock, which all servers share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

__all__ = ["APPEND", "EMPTY_ROOM_TTL", "MARK", "READ", "Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest that Redis knows it by."""

    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "digest", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        )


EMPTY_ROOM_TTL: Final = 7 * 86_400_000
"""Milliseconds for which a room without messages keeps its epoch; joining begins them anew."""

# A room as a server believes it to be: its epoch, the last `seq` that it has seen of it, and the ID
# of that message. Where Redis knows better, it has come back with less than it had, or somebody
# else noticed that first: the room gets, or has got, another epoch.
_ROOM: Final = """
local function room_of(meta, log, candidate, epoch, seq, id)
  local known = redis.call('HMGET', meta, 'epoch', 'seq')
  if not known[1] then
    redis.call('DEL', log)
    redis.call('HSET', meta, 'epoch', candidate, 'seq', 0)
    redis.call('PEXPIRE', meta, EMPTY_ROOM_TTL)
    return candidate, 0
  end
  local newest = tonumber(known[2])
  if epoch == known[1] and seq > 0 then
    local changed = seq > newest
    if not changed and id ~= '' then
      local at = string.format('%.0f-0', seq)
      local entry = redis.call('XRANGE', log, at, at)[1]
      changed = entry and entry[2][2] ~= id
    end
    if changed then
      redis.call('HSET', meta, 'epoch', candidate)
      return candidate, newest
    end
  end
  return known[1], newest
end

local function entry_of(raw)
  local f = raw[2]
  return {tonumber(string.match(raw[1], '^%d+')), f[2], f[4], f[6], tonumber(f[8]), f[10]}
end
""".replace("EMPTY_ROOM_TTL", str(EMPTY_ROOM_TTL))

APPEND: Final = Script(
    _ROOM
    + """
-- KEYS: meta, log, then two for each user: keys, order
-- ARGV: publish command, channel, now or '', history, key ttl, key messages, candidate, and what
--   the server believes: epoch, seq, id; then for each message: which user (from 0), user, text,
--   digest, key or '', id, origin
-- Returns {epoch, {{seq, id, at, duplicate} or {0}, ...}}
local meta, log = KEYS[1], KEYS[2]
local publish, channel, history = ARGV[1], ARGV[2], ARGV[4]
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local key_ttl, key_messages = tonumber(ARGV[5]), tonumber(ARGV[6])
local epoch, seq = room_of(meta, log, ARGV[7], ARGV[8], tonumber(ARGV[9]), ARGV[10])
local first = seq

local function forget(keys, order, number)
  for _, key in ipairs(redis.call('ZRANGE', order, 0, 3)) do
    local field = 'k:' .. key
    local kept = redis.call('HGET', keys, field)
    local earlier = kept and cmsgpack.unpack(kept)
    if earlier and earlier[1] > number and earlier[2] > now then return end
    redis.call('ZREM', order, key)
    redis.call('HDEL', keys, field)
  end
end

local results, entries = {}, {}
for at = 11, #ARGV, 7 do
  local which = 3 + 2 * tonumber(ARGV[at])
  local keys, order = KEYS[which], KEYS[which + 1]
  local user, text, digest, key = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local id, origin = ARGV[at + 5], ARGV[at + 6]
  local earlier
  if key ~= '' then
    local kept = redis.call('HGET', keys, 'k:' .. key)
    earlier = kept and cmsgpack.unpack(kept)
    if earlier then
      local oldest = tonumber(redis.call('HGET', keys, 'n')) - key_messages
      if earlier[1] <= oldest or earlier[2] <= now then earlier = nil end
    end
  end
  if earlier and earlier[6] ~= digest then
    results[#results + 1] = {0}
  elseif earlier then
    results[#results + 1] = {earlier[3], earlier[4], earlier[5], true}
  else
    seq = seq + 1
    redis.call('XADD', log, 'MAXLEN', '=', history, string.format('%.0f-0', seq),
      'id', id, 'user', user, 'text', text, 'at', string.format('%.0f', now), 'origin', origin)
    if key ~= '' then
      local number = redis.call('HINCRBY', keys, 'n', 1)
      redis.call('HSET', keys, 'k:' .. key,
        cmsgpack.pack({number, now + key_ttl, seq, id, now, digest}))
      redis.call('ZADD', order, number, key)
      redis.call('PEXPIRE', keys, key_ttl)
      redis.call('PEXPIRE', order, key_ttl)
      forget(keys, order, number - key_messages)
    elseif redis.call('EXISTS', keys) == 1 then
      redis.call('HINCRBY', keys, 'n', 1)
    end
    results[#results + 1] = {seq, id, now, false}
    entries[#entries + 1] = {seq, id, user, text, now, origin}
  end
end
if seq > first then
  redis.call('HSET', meta, 'seq', string.format('%.0f', seq))
  if first == 0 then redis.call('PERSIST', meta) end
  redis.call(publish, channel, cmsgpack.pack({epoch, entries}))
end
return cmsgpack.pack({epoch, results})
"""
)

READ: Final = Script(
    _ROOM
    + """
-- KEYS: meta, log, cursors
-- ARGV: mode (join, up, down), candidate, believed epoch, seq, id; user, after or '',
--   ':' and the epoch or '', newest, limit, bytes, newest bytes, before or ''
-- Returns {epoch, seq, kept, lost, delivered, read, mode, {{seq, id, user, text, at, origin}, ...}}
local meta, log, cursors = KEYS[1], KEYS[2], KEYS[3]
local mode, after, before = ARGV[1], tonumber(ARGV[7]), tonumber(ARGV[13])
local epoch, seq = room_of(meta, log, ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5])
local kept = redis.call('XLEN', log)
if seq == 0 and mode == 'join' then redis.call('PEXPIRE', meta, EMPTY_ROOM_TTL) end
local limit, bytes = tonumber(ARGV[10]), tonumber(ARGV[11])
local lost = false
if mode == 'join' then
  lost = (ARGV[8] ~= '' and ARGV[8] ~= ':' .. epoch)
    or (after ~= nil and (after > seq or after + 1 < seq - kept + 1))
  if after == nil or lost then
    mode, limit, bytes = 'down', tonumber(ARGV[9]), tonumber(ARGV[12])
  else
    mode = 'up'
  end
end

local raw
if limit == 0 or (before and before < 1) then
  raw = {}
elseif mode == 'up' then
  raw = redis.call('XRANGE', log, string.format('(%.0f-0', after), '+', 'COUNT', limit)
elseif before then
  raw = redis.call('XREVRANGE', log, string.format('(%.0f-0', before), '-', 'COUNT', limit)
else
  raw = redis.call('XREVRANGE', log, '+', '-', 'COUNT', limit)
end
local entries = {}
for _, one in ipairs(raw) do
  local entry = entry_of(one)
  bytes = bytes - #entry[4]
  if #entries > 0 and bytes < 0 then break end
  entries[#entries + 1] = entry
end
local cursor = {false, false}
if ARGV[6] ~= '' then
  cursor = redis.call('HMGET', cursors, 'd:' .. ARGV[6], 'r:' .. ARGV[6])
end
return cmsgpack.pack({epoch, seq, kept, lost, tonumber(cursor[1] or 0), tonumber(cursor[2] or 0),
  mode, entries})
""".replace("EMPTY_ROOM_TTL", str(EMPTY_ROOM_TTL))
)

MARK: Final = Script(
    """
-- KEYS: meta, cursors; ARGV: user, delivered, read
-- Returns {newest seq} where a mark is above it, else {delivered, read before; the same after}
local newest = tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)
local delivered, read = tonumber(ARGV[2]), tonumber(ARGV[3])
if delivered > newest or read > newest then return cmsgpack.pack({newest}) end
local fields = {'d:' .. ARGV[1], 'r:' .. ARGV[1]}
local kept = redis.call('HMGET', KEYS[2], fields[1], fields[2])
local d0, r0 = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
local r1 = math.max(r0, read)
local d1 = math.max(d0, delivered, read)
if d1 ~= d0 or r1 ~= r0 then
  redis.call('HSET', KEYS[2], fields[1], string.format('%.0f', d1), fields[2],
    string.format('%.0f', r1))
end
return cmsgpack.pack({d0, r0, d1, r1})
"""
)
