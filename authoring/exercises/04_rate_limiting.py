# %% [markdown]
# # Exercise 04: Rate limiting
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 04](../notebooks/04_rate_limiting.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check asks your code, with a
# clock of its own or over real sockets. It answers `✓`, or `○` with advice. Any way of solving a task is right.

# %%
from chatlab.lab.exercises import ex04
from chatlab.lab.optional import here

# %% [markdown]
# ## 1. A token bucket
#
# Write a [token bucket](../notebooks/09_quick_reference.ipynb#Token-bucket) without looking at the lesson's.
#
# - It starts full, with `burst` tokens.
# - `rate` tokens flow in each second, evenly. No more than `burst` fit.
# - `take(now)` takes one token and gives 0. When there is not a whole one, it takes nothing and gives the
#   seconds until there is.
# - `now` is in seconds, and the only clock. It may step back: that brings nothing, costs nothing, and from
#   then on tokens flow in as before.


# %%
class TokenBucket:
    def __init__(self, rate, burst, now):
        ### BEGIN SOLUTION
        self.rate, self.burst = rate, burst
        self.tokens, self.at = burst, now
        ### END SOLUTION

    def take(self, now):
        ### BEGIN SOLUTION
        inflow = max(0, now - self.at) * self.rate
        self.tokens, self.at = min(self.burst, self.tokens + inflow), now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0
        ### END SOLUTION


# %%
ex04.the_bucket_fills_and_never_overflows(TokenBucket)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Two things change: how many tokens there were at the last look, and when that was. Every `take` first brings
# both up to date. Tokens are not whole: half of one may be there.
#
# </details>
#
# [The solution](../solutions/04_rate_limiting.ipynb)
#
# ## 2. Per user
#
# Write `UserLimits`. A server asks it at every event, and tells it when a socket has closed. `new_bucket(now)`
# makes a bucket; a bucket has `take(now)`, as yours, and `full(now)`.
#
# - `take(sid, user, now)` gives what the bucket says.
# - A user gets no more by opening several sockets, nor by closing one, nor by coming back.
# - Nothing is kept for ever: a bucket that is full is as good as a new one.


# %%
class UserLimits:
    def __init__(self, new_bucket):
        self.new_bucket = new_bucket
        self.buckets = {}

    def take(self, sid, user, now):
        ### BEGIN SOLUTION
        if user not in self.buckets:
            self.buckets[user] = self.new_bucket(now)
        return self.buckets[user].take(now)
        ### END SOLUTION

    def left(self, sid, user, now):
        ### BEGIN SOLUTION
        full = [name for name, bucket in self.buckets.items() if bucket.full(now)]
        for name in full:
            del self.buckets[name]
        ### END SOLUTION


# %%
await ex04.nobody_gets_around_it(UserLimits)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# `self.buckets` is a dictionary. What is its key, when a user has three sockets? In `left`, do not only look at
# the one who leaves: their bucket is hardly ever full just then, but others are by now. Do not change a dictionary
# while you go through it.
#
# </details>
#
# [The solution](../solutions/04_rate_limiting.ipynb)
#
# ## 3. One bucket for all servers (stretch)
#
# Write `take`. It gets a client of Redis (redis-py's, for asyncio), a user, and the two numbers of a bucket, and
# says whether an event may pass: `True` or `False`.
#
# - All servers share one bucket per user, however many ask at the same moment.
# - No key stays for ever, not even when a server dies between two commands. And no key goes before
#   its bucket would be full.
#
# The check starts a real Valkey and asks over two clients at once.

# %%
SCRIPT = """
### BEGIN SOLUTION
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local passes = tokens >= 1
if passes then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)
return passes
### END SOLUTION
"""


async def take(server, user, rate, burst):
    ### BEGIN SOLUTION
    return await server.eval(SCRIPT, 1, f"bucket:{user}", rate, burst) is not None
    ### END SOLUTION


# %% tags=["needs-valkey"]
await ex04.one_bucket_for_all_servers(take) if here("valkey") else None

# %% [markdown]
# <details><summary>A nudge</summary>
#
# `server.eval(SCRIPT, 1, key, …)` runs a script of Lua, whole. In it `KEYS[1]` is the key and `ARGV` holds the
# other arguments, as text: `tonumber(ARGV[1])`. `redis.call('TIME')` gives seconds and microseconds. Lua's `true`
# arrives in Python as `1`, and `false` as `None`.
#
# </details>
#
# [The solution](../solutions/04_rate_limiting.ipynb)
#
# Done? Your server so far is [steps/step4.py](../notebooks/steps/step4.py), and the
# [quick reference](../notebooks/09_quick_reference.ipynb) has every pattern on one page.
