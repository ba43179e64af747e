"""Who is in a room, as Redis keeps it, and the steps that change or read it.

Each step first takes out the servers that have expired, in the same stroke, and tells of whom
nothing was left by it: so each user who is gone is announced by one server only.
"""

from __future__ import annotations

from typing import Final

from chatlab.storage.redis_scripts import Script

__all__ = ["KEPT_FOR", "UPDATE", "WHO"]

KEPT_FOR: Final = 4
"""How many TTLs a room's presence outlives the last word of its servers: an outage of Redis may
last longer than one, and is no reason for everybody to be announced again."""

# `gone` are the users who had an entry when the step began and have none any more.
_REAP: Final = """
local here, servers = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = {}

local function is_on(list, server)
  return string.find(',' .. list .. ',', ',' .. server .. ',', 1, true) ~= nil
end

local function narrow(user, list, stays)
  local left = {}
  for server in string.gmatch(list, '[^,]+') do
    if stays(server) then left[#left + 1] = server end
  end
  if #left == 0 then
    redis.call('HDEL', here, user)
    gone[user] = true
  else
    redis.call('HSET', here, user, table.concat(left, ','))
  end
end

local function reap()
  if redis.call('ZREMRANGEBYSCORE', servers, '-inf', now) == 0 then return end
  local alive = {}
  for _, server in ipairs(redis.call('ZRANGE', servers, 0, -1)) do alive[server] = true end
  local all = redis.call('HGETALL', here)
  for at = 1, #all, 2 do
    local dead = false
    for server in string.gmatch(all[at + 1], '[^,]+') do dead = dead or not alive[server] end
    if dead then narrow(all[at], all[at + 1], function(server) return alive[server] end) end
  end
end

local function names(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  return list
end
"""

UPDATE: Final = Script(
    _REAP
    + """
-- KEYS: here, servers
-- ARGV: server, ttl, how long the keys are kept, reap (1 or 0), mode, stay (1 or 0), how many
--   users follow that enter, those users, and the users that leave
-- Modes: new, where the server has nobody in the room yet; known, where it has, or else nothing is
--   done; exact, where those that enter are all it has.
-- Returns {done, milliseconds until the next other server expires or false, came, gone}
local me, mode, stay = ARGV[1], ARGV[5], ARGV[6] == '1'
local until_ = string.format('%.0f', now + tonumber(ARGV[2]))
-- A server that speaks is alive, however late; it must not take out itself.
local known = redis.call('ZSCORE', servers, me)
if known then redis.call('ZADD', servers, until_, me) end
if ARGV[4] == '1' then reap() end
if mode == 'known' and not known then return cmsgpack.pack({false, false, {}, names(gone)}) end

local last = 7 + tonumber(ARGV[7])
local function not_me(server) return server ~= me end
local function leave(user, list)
  if list and is_on(list, me) then narrow(user, list, not_me) end
end
if mode == 'exact' then
  local wanted = {}
  for at = 8, last do wanted[ARGV[at]] = true end
  local all = redis.call('HGETALL', here)
  for at = 1, #all, 2 do
    if not wanted[all[at]] then leave(all[at], all[at + 1]) end
  end
end
for at = last + 1, #ARGV do leave(ARGV[at], redis.call('HGET', here, ARGV[at])) end
local came = {}
for at = 8, last do
  local user = ARGV[at]
  local list = redis.call('HGET', here, user)
  if not list then
    redis.call('HSET', here, user, me)
    if gone[user] then gone[user] = nil else came[#came + 1] = user end
  elseif not is_on(list, me) then
    redis.call('HSET', here, user, list .. ',' .. me)
  end
end
if stay then
  redis.call('ZADD', servers, until_, me)
  redis.call('PEXPIRE', here, ARGV[3])
  redis.call('PEXPIRE', servers, ARGV[3])
else
  redis.call('ZREM', servers, me)
end
local next_ = false
local first = redis.call('ZRANGE', servers, 0, 1, 'WITHSCORES')
for at = 1, #first, 2 do
  if first[at] ~= me then
    next_ = tonumber(first[at + 1]) - now
    break
  end
end
return cmsgpack.pack({true, next_, came, names(gone)})
"""
)

WHO: Final = Script(
    _REAP
    + """
-- KEYS: here, servers; ARGV: reap (1 or 0), limit
-- Returns {users, count, gone}
if ARGV[1] == '1' then reap() end
local limit, users, seen = tonumber(ARGV[2]), {}, {}
local cursor = '0'
while #users < limit do
  local reply = redis.call('HSCAN', here, cursor, 'COUNT', limit)
  for at = 1, #reply[2], 2 do
    local user = reply[2][at]
    if #users < limit and not seen[user] then
      seen[user] = true
      users[#users + 1] = user
    end
  end
  cursor = reply[1]
  if cursor == '0' then break end
end
return cmsgpack.pack({users, redis.call('HLEN', here), names(gone)})
"""
)
