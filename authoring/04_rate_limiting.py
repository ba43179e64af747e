# %% [markdown]
# # 04 Rate limiting
#
# **One client, 50,000 events.** At the end such a client is told to wait, cannot get around it, and
# nobody else notices.
#
# *25 minutes, and 15 for Further. Before this: [03 Error handling](03_error_handling.ipynb).*

# %%
import asyncio
import os
import secrets
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil

import matplotlib.pyplot as plt
from IPython.display import display
from steps import step3

from chatlab.lab import background, raw_client, settled, timeline, verdict
from chatlab.lab.races import attempts_chart, busiest, flood, probe, race, waits_chart
from chatlab.lab.tokens import mint

SECRET = secrets.token_hex(32)

# %% [markdown]
# ## One who does not wait
#
# Your server after lesson 03, with one thing more: a message is on the disk before it is
# acknowledged. One thread writes, one message after the other.


# %%
class DiskStore(step3.Store):
    def __init__(self):
        super().__init__()
        self.file, self.writer = tempfile.TemporaryFile("w"), ThreadPoolExecutor(1)

    def write(self, text):
        print(text, file=self.file, flush=True)
        os.fsync(self.file.fileno())

    async def append(self, user, room, text, key=None):
        await asyncio.get_running_loop().run_in_executor(self.writer, self.write, text)
        return await super().append(user, room, text, key)


# %% [markdown]
# `member` makes a client with a token, in a [room](09_quick_reference.ipynb#Room).


# %%
def chat():
    return step3.make_server(SECRET, DiskStore())


async def member(server, name, room="general"):
    client = await raw_client(server, name=name, auth={"token": mint(name, secret=SECRET)})
    await client.call("join-room", room, timeout=2)
    return client


naive = background(chat, name="naive chat")
naive

# %% [markdown]
# Alice sends a message every 50 milliseconds and looks at her watch. Mallory sits alone in another
# room. After 0.3 seconds she sends 5,000 messages at once: she asks for no
# [ack](09_quick_reference.ipynb#Ack) and waits for nothing.


# %%
async def victim(server):
    alice, mallory = await member(server, "alice"), await member(server, "mallory", room="den")
    async with alice, mallory:
        asking = probe(alice, "send-message", {"text": "hello"}, seconds=1.2, every=0.05)
        asking = asyncio.create_task(asking)
        await asyncio.sleep(0.3)
        flood(mallory, "send-message", {"text": "buy now"}, 5_000)
        return await asking


waits = {"no limit": await victim(naive)}
waits_chart("How long Alice waits for her ack", waits, since=0.3)
plt.show()

# %% [markdown]
# Alice did nothing wrong, and Mallory needed neither skill nor many machines. The time goes into a
# queue: whatever Alice sends stands behind Mallory's messages.
# [Rate limiting](09_quick_reference.ipynb#Rate-limiting) refuses what is too much before it costs
# much.
#
# ## So many a second
#
# The simplest limiter is a [fixed window](09_quick_reference.ipynb#Fixed-window): count, and begin
# again at 0 every second. `take` gets the time instead of looking at a clock. So a test, or you, can
# let any time pass. It gives the seconds to wait, and 0 for *go ahead*.


# %%
class FixedWindow:
    def __init__(self, limit, now):
        self.limit, self.start, self.count = limit, now, 0

    def take(self, now):
        if now - self.start >= 1:
            self.start, self.count = self.start + int(now - self.start), 0
        self.count += 1
        return 0 if self.count <= self.limit else self.start + 1 - now


# %% [markdown]
# Alice's client sends five messages, one after the other, each with an ack. An answer may tell it how
# long to wait; then it waits and sends again.


# %%
async def send(client, text):
    answer = await client.call("send-message", {"text": text}, timeout=0.3)
    if answer["ok"]:
        return "ok"
    await asyncio.sleep(answer["retryAfter"])
    return f"{answer['code']}, then {await send(client, text)}"


async def five(server):
    async with await member(server, "bob") as bob, await member(server, "alice") as alice:
        for n in range(5):
            print(n, *await asyncio.gather(send(alice, f"message {n}"), return_exceptions=True))
        await settled(alice, server, bob)
        display(timeline(alice, server, hide="join-room"), verdict(alice, bob))


# %% [markdown]
# Where does the window belong? Every [event](09_quick_reference.ipynb#Event) has to pass it. Much
# example code reaches into the library, puts itself in front of the function that finds the
# [handler](09_quick_reference.ipynb#Handler), and drops what is too much. Each connection, known by
# its [sid](09_quick_reference.ipynb#Sid), has its own window. (The underscore of `_trigger_event` says
# *private*: the next release may change it.)
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const perSecond = (limit) => (socket, next) => {
#   let used = 0;
#   const timer = setInterval(() => (used = 0), 1000); // one timer for each socket
#   socket.on("disconnect", () => clearInterval(timer));
#   const dispatch = socket.onevent; // the library's own function, not meant for us
#   socket.onevent = (packet) => {
#     used += 1;
#     if (used <= limit) dispatch.call(socket, packet);
#     else socket.emit("error", { message: "Too many requests. Slow down." });
#   };
#   next();
# };
#
# io.use(perSecond(10));
# ```
#
# `socket.use(([event, ...payload], next) => …)` is Socket.IO's own place for it.
#
# </details>
#
# **Predict.** The limit is 4 events a second. Joining is the first, then come the five messages. What
# do Alice's five calls give her?
#
# <details><summary>The answer</summary>
#
# Three times `ok`, and two time-outs. The `error` event says that something was too much, but not
# what. Nobody answers the two calls.
#
# </details>


# %%
def dropping(sio, limit):
    dispatch, windows = sio._trigger_event, {}

    async def trigger(event, namespace, sid, *payload):
        window = windows.setdefault(sid, FixedWindow(limit, time.monotonic()))
        if event in ("connect", "disconnect") or not window.take(time.monotonic()):
            return await dispatch(event, namespace, sid, *payload)
        await sio.emit("error", {"message": "Too many requests. Slow down."}, to=sid)
        return sio.not_handled

    sio._trigger_event = trigger
    return sio


silent = background(lambda: dropping(chat(), 4), name="dropping chat")
await five(silent)

# %% [markdown]
# This is the silence of lesson 03 again, made by the very code that was to protect the server. A
# client that takes it for a bad line [tries again](09_quick_reference.ipynb#Retry), and sends even
# more.
#
# *Try it:* let `trigger` `return None` instead of `sio.not_handled`. Now python-socketio does answer,
# with nothing: the calls give `None`, and `answer["ok"]` fails on it. That is no better.
#
# ## A refusal is an answer
#
# A no of the limiter is an error like any other: with a code, and with the time to wait. `Limits`
# keeps one limiter for each key, and lets go of it when the key leaves. What the key is comes later.


# %%
class Limits:
    def __init__(self, make):
        self.make, self.kept = make, {}

    def spend(self, key, now):
        wait = self.kept.setdefault(key, self.make(now)).take(now)
        if wait:
            error = "Too many requests. Slow down."
            raise step3.RequestError(error, "rate_limited", retry=True, retryAfter=ceil(wait))

    def left(self, key, now):
        self.kept.pop(key, None)


# %% [markdown]
# It is asked inside of `answered`, the wrapper of lesson 03. `limited` replaces two handlers of a
# server. (Your own server will do it for every event.)


# %%
def limited(sio, limits, whose):
    send, leave = (sio.handlers["/"][event] for event in ("send-message", "disconnect"))

    @sio.on("send-message")
    @step3.answered
    async def send_message(sid, *payload):
        limits.spend(whose(sid, await sio.get_session(sid)), time.monotonic())
        return await send(sid, *payload)

    @sio.event
    async def disconnect(sid, reason):
        limits.left(whose(sid, await sio.get_session(sid)), time.monotonic())
        await leave(sid, reason)

    return sio


# %% [markdown]
# The same five messages, with the same window. (Joining is not counted now, so 3.)


# %%
def per_socket(sid, session):
    return sid


windows = Limits(partial(FixedWindow, 3))
answering = background(lambda: limited(chat(), windows, per_socket), name="answering chat")
await five(answering)

# %% [markdown]
# Every call is answered. Alice's client waits as long as it is told to, not a guess, and then gets
# through. `rate_limited` with `retry` is *temporary*, in the words of lesson 03.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const spend = (socket) => {
#   const wait = limits.take(socket.id, performance.now() / 1000);
#   if (wait > 0)
#     throw new RequestError("Too many requests. Slow down.", "rate_limited",
#                            { retry: true, retryAfter: wait });
# };
#
# socket.on("send-message", answered(async (data) => {
#   spend(socket);
#   return { ok: true, id: await save(socket.room, socket.user, data.text.trim()) };
# }));
# ```
#
# </details>
#
# ## Ten a second, twice
#
# **Predict.** Ten a second are allowed. Mallory knows when the window ends, and sends twenty messages
# within a fifth of a second. How many get through?
#
# <details><summary>The answer</summary>
#
# Ten in the middle of a second. All twenty across its end: ten belong to the old window, ten to the
# new one.
#
# </details>

# %%
attack = [0.4 + n / 100 for n in range(20)] + [1.9 + n / 100 for n in range(20)]
rows = {"fixed window": race(FixedWindow(10, now=0.0), attack)}
print("most within 0.2 s:", busiest(rows["fixed window"], 0.2))
attempts_chart("Twenty messages, twice", rows, marks=(0, 1, 2, 3))
plt.show()

# %% [markdown]
# *What to notice:* the dashed lines are the ends of the windows. No clock was waited for: `race`
# hands `take` these forty times, one after the other.
#
# ## The token bucket
#
# A [token bucket](09_quick_reference.ipynb#Token-bucket) has no windows. Tokens flow in, evenly, until
# it is full; each event takes one out; an empty bucket says no. Two numbers describe it: the *rate*
# at which tokens come, and the *burst* that fits. It needs no timer: when somebody asks, it works out
# what has flowed in since. (These tokens have nothing to do with lesson 02's.)


# %%
class TokenBucket:
    def __init__(self, rate, burst, now):
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, now

    def flow(self, now):
        inflow = max(0, now - self.at) * self.rate  # a clock may step back
        self.tokens, self.at = min(self.burst, self.tokens + inflow), now
        return self.tokens

    def take(self, now):
        if self.flow(now) < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0


# %% [markdown]
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# class TokenBucket {
#   constructor(rate, burst, now) {
#     Object.assign(this, { rate, burst, tokens: burst, at: now });
#   }
#   flow(now) {
#     const inflow = Math.max(0, now - this.at) * this.rate;
#     this.tokens = Math.min(this.burst, this.tokens + inflow);
#     this.at = now;
#     return this.tokens;
#   }
#   take(now) {
#     if (this.flow(now) < 1) return (1 - this.tokens) / this.rate;
#     this.tokens -= 1;
#     return 0;
#   }
# }
# ```
#
# </details>
#
# The same attack on both, and then Mallory's flood, with a bucket of 10 a second and a burst of 20
# for each connection.

# %%
rows["token bucket"] = race(TokenBucket(10, 10, now=0.0), attack)
print("most within 0.2 s:", busiest(rows["token bucket"], 0.2))
attempts_chart("Twenty messages, twice", rows, marks=(0, 1, 2, 3))
plt.show()
buckets = Limits(partial(TokenBucket, 10, 20))
with background(lambda: limited(chat(), buckets, per_socket), name="limited chat") as server:
    waits["token bucket"] = await victim(server)
waits_chart("How long Alice waits for her ack", waits, since=0.3)
plt.show()

# %% [markdown]
# The bucket lets a burst through too, but the same one at any time: no moment is better for an attack
# than another. And Alice hardly notices Mallory now.
#
# *Try it:* make it `50_000` in `victim`, as the title has it, and run its cell and this one again. Now
# Alice has to wait with the bucket, too. To refuse is cheap, not free: the server reads and decodes
# every event before it says no.
#
# ## Five sockets
#
# The key was the [sid](09_quick_reference.ipynb#Sid): each connection has its own bucket. A token
# comes every 100 seconds here, so that counting is exact, and a burst of 10 fits. Mallory opens five
# connections. Trudy connects five times, one after the other. Both send 15 messages over each.


# %%
async def buy(*clients):
    calls = [each.call("send-message", {"text": "buy now"}, timeout=2) for each in clients * 15]
    through = sum(answer["ok"] for answer in await asyncio.gather(*calls))
    await asyncio.gather(*[each.aclose() for each in clients])
    return through


async def evade(limits, whose):
    with background(lambda: limited(chat(), limits, whose), name="limited chat") as server:
        five = [await member(server, "mallory") for _ in range(5)]
        mallory = await buy(*five)
        trudy = sum([await buy(await member(server, "trudy")) for _ in range(5)])
    print(f"{whose.__name__}, {type(limits).__name__}: mallory {mallory}, trudy {trudy}")


await evade(Limits(partial(TokenBucket, 0.01, 10)), per_socket)

# %% [markdown]
# Five times the limit each. A connection costs nothing, so a limit per connection is none. What
# cannot be had for nothing is the name in the token: the key must be the *user*.
#
# The first attempt below does just that. The second keeps a bucket when its user leaves, unless it is
# full: a full one is as good as a new one.


# %%
def per_user(sid, session):
    return session["user"]


class UntilFull(Limits):
    def left(self, key, now):
        self.kept = {name: one for name, one in self.kept.items() if one.flow(now) < one.burst}


await evade(Limits(partial(TokenBucket, 0.01, 10)), per_user)
kept = UntilFull(partial(TokenBucket, 0.01, 10))
await evade(kept, per_user)
print("buckets kept:", len(kept.kept))
kept.left(None, time.monotonic() + 3600)
print("an hour later:", len(kept.kept))

# %% [markdown]
# With the first, Mallory's five sockets share one bucket, but Trudy gets a fresh one whenever she comes
# back: it was thrown away as she left. With the second, nobody gets more than ten. And nothing is kept for
# ever: the next one who leaves after the buckets are full takes them along.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const buckets = new Map(); // by user, not by socket.id
#
# function bucketOf(user, now) {
#   if (!buckets.has(user)) buckets.set(user, new TokenBucket(20, 40, now));
#   return buckets.get(user);
# }
#
# socket.on("disconnect", () => {
#   const now = performance.now() / 1000;
#   for (const [user, bucket] of buckets)
#     if (bucket.flow(now) >= bucket.burst) buckets.delete(user); // not earlier
# });
# ```
#
# </details>
#
# ## Your server so far
#
# [steps/step4.py](steps/step4.py) asks one bucket per user, 20 a second and a burst of 40, at the
# beginning of every handler, unknown events included.
#
# <details><summary>The difference between step 3 and step 4</summary>
#
# ```diff
# --- step3.py
# +++ step4.py
# @@ -1,4 +1,4 @@
# -"""Step 3: every event is answered, what is nonsense and what ends in a crash included.
# -
# -Run it alone: python notebooks/steps/step3.py --port 0, with at least 32 random bytes as
# +"""Step 4: a user who sends too much is told to wait, however many sockets they open.
# +
# +Run it alone: python notebooks/steps/step4.py --port 0, with at least 32 random bytes as
#  CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
# @@ -10,2 +10,3 @@
#  import logging
# +import math
#  import os
# @@ -13,2 +14,3 @@
#  import sys
# +import time
#  import uuid
# @@ -22,3 +24,3 @@
#
# -log = logging.getLogger("step3")
# +log = logging.getLogger("step4")
#
# @@ -26,2 +28,4 @@
#  PATIENCE = 2  # seconds until a handler that does not come back is answered for
# +RATE = 20  # events a second that a user may send for as long as they like
# +BURST = 40  # and as many at once
#
# @@ -116,5 +120,37 @@
#
# -def make_server(secret, store=None):
# +class TokenBucket:
# +    """RATE tokens a second flow in, BURST fit, and each event takes one. It starts full."""
# +
# +    def __init__(self, now):
# +        self.tokens, self.at = BURST, now
# +
# +    def flow(self, now):
# +        self.tokens = min(BURST, self.tokens + max(0, now - self.at) * RATE)
# +        self.at = now
# +
# +    def take(self, now):
# +        """Take a token; gives the seconds until there is one, 0 when there was."""
# +        self.flow(now)
# +        if self.tokens >= 1:
# +            self.tokens -= 1
# +            return 0
# +        return (1 - self.tokens) / RATE
# +
# +    def full(self, now):
# +        self.flow(now)
# +        return self.tokens >= BURST
# +
# +
# +def make_server(secret, store=None, clock=time.monotonic):
#      sio = socketio.AsyncServer(async_mode="aiohttp")
#      store = store or Store()
# +    buckets = {}
# +
# +    async def spend(sid):
# +        user, now = (await sio.get_session(sid))["user"], clock()
# +        wait = buckets.setdefault(user, TokenBucket(now)).take(now)
# +        if wait:
# +            after = math.ceil(wait * 1000) / 1000
# +            sentence = "Too many requests. Slow down."
# +            raise RequestError(sentence, "rate_limited", retry=True, retryAfter=after)
#
# @@ -139,2 +175,3 @@
#      async def join_room(sid, *payload):
# +        await spend(sid)
#          bare = len(payload) == 1 and isinstance(payload[0], str)
# @@ -153,2 +190,3 @@
#      async def send_message(sid, *payload):
# +        await spend(sid)
#          data = checked(SEND_MESSAGE, payload)
# @@ -182,2 +220,3 @@
#      async def mark_delivered(sid, *payload):
# +        await spend(sid)
#          data = checked(MARK, payload)
# @@ -188,2 +227,3 @@
#      async def mark_read(sid, *payload):
# +        await spend(sid)
#          data = checked(MARK, payload)
# @@ -194,2 +234,3 @@
#      async def any_other(event, sid, *payload):
# +        await spend(sid)
#          raise RequestError("Unknown event", "unknown_event")
# @@ -200,2 +241,6 @@
#              return  # nobody left: a client sent an event of this name
# +        # A full bucket is as good as a new one; any other would be filled by a reconnect.
# +        now = clock()
# +        for user in [user for user, bucket in buckets.items() if bucket.full(now)]:
# +            del buckets[user]
#          session = await sio.get_session(sid)
# ```
#
# </details>

# %%
for each in (naive, silent, answering):
    print(each.name, "runs" if each.stop().running else "has stopped")

# %% [markdown]
# ## In chatlab
#
# [chatlab/server/limits.py](../chatlab/server/limits.py) has the same bucket. It begins with what has
# flowed in; a clock that steps back adds nothing and takes nothing:
#
# ```python
#         if now > self._at:
#             tokens = self._tokens + (now - self._at) * self._rate
#             self._tokens = tokens if tokens < self._burst else self._burst
#         self._at = now
# ```
#
# Each socket has a bucket, which is asked before an event is decoded, and each user has another over
# all their sockets. Joining and leaving rooms has a bucket of its own: a client that comes back must
# be able to rejoin its rooms at once. And a user may have 20 connections, no more.
#
# ## Now you
#
# [Exercise 04](../exercises/04_rate_limiting.ipynb): the bucket, one per user, and (a stretch) one for
# all servers.
#
# ## Three things to remember
#
# 1. A limiter answers: `rate_limited`, and when to come back.
# 2. A fixed window lets twice its limit through at its end. A token bucket has no such moment.
# 3. Limit the user, not the connection, and let go of a bucket only when it is full.
#
# Next: more than one server, in [05 Scaling out](05_scaling_out.ipynb). Or look something up in the
# [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.
#
# ### More limiters
#
# A [sliding window](09_quick_reference.ipynb#Sliding-window) has no ends at which to attack. The exact form remembers when each event was let
# through; the cheap one counts the last window in part, as much of it as would still be in sight.


# %%
class SlidingLog:
    def __init__(self, limit):
        self.limit, self.through = limit, []

    def take(self, now):
        self.through = [at for at in self.through if at > now - 1]
        if len(self.through) >= self.limit:
            return self.through[0] + 1 - now
        self.through.append(now)
        return 0


class SlidingCounter:
    def __init__(self, limit):
        self.limit, self.window, self.count, self.last = limit, 0, 0, 0

    def take(self, now):
        window = int(now)
        if window != self.window:
            self.last = self.count if window == self.window + 1 else 0
            self.window, self.count = window, 0
        estimate = self.count + self.last * (window + 1 - now)
        if estimate + 1 > self.limit:
            return 0.1  # a guess: it knows no moment
        self.count += 1
        return 0


# %% [markdown]
# *GCRA*, which was made for telephone networks, keeps one number: the time at which the bucket
# will be full. An event moves it on by the time that one token takes.


# %%
class GCRA:
    def __init__(self, rate, burst):
        self.step, self.slack, self.full_at = 1 / rate, (burst - 1) / rate, 0.0

    def take(self, now):
        full_at = max(now, self.full_at)
        if full_at - now > self.slack:
            return full_at - now - self.slack
        self.full_at = full_at + self.step
        return 0


# %% [markdown]
# All of them get the same traffic: 16 messages across a boundary, and from 3.5 s on 64 a second for
# 3 seconds. Everybody allows 8 a second; the buckets' burst is 8, too. (With eighths and
# sixty-fourths floating point numbers are exact.)

# %%
from chatlab.lab.races import race_chart

traffic = [2 + n / 128 for n in range(-8, 8)] + [3.5 + n / 64 for n in range(192)]
racers = {
    "fixed window": FixedWindow(8, now=0.0),
    "sliding log": SlidingLog(8),
    "sliding counter": SlidingCounter(8),
    "token bucket": TokenBucket(8, 8, now=0.0),
    "GCRA": GCRA(8, 8),
}
results = {name: race(limiter, traffic) for name, limiter in racers.items()}
for name, result in results.items():
    print(f"{name:16} {busiest(result, 0.2):2} in 0.2 s {busiest(result, 1.0):4} in 1 s")
print("token bucket and GCRA agree:", results["token bucket"] == results["GCRA"])
race_chart("What gets through", results, rate=8)
plt.show()

# %% [markdown]
# *What to notice:* the fixed window runs in steps and lets 16 through at once. The log keeps to 8 in
# any second, and pays with a list for each user. The counter is close to it with three numbers, but
# its estimate can be wrong. The bucket lets its burst and its rate through, and then flows evenly.
# GCRA decides exactly as the bucket does: one line covers the other.
#
# Which one? For a chat the bucket (or GCRA): people send in bursts, and the wait that it names is exact. A log
# where a quota is what was sold. A fixed window where a limit may be rough and nobody gains by attacking it.
#
# ### Two servers
#
# With two servers each user would have two buckets. Something that both servers can reach has to
# keep the one. Redis is a database that keeps everything in memory and that many servers ask over the
# network; it carries out commands one after the other. Valkey is the same in the hands of another
# foundation, and what the workshop starts.

# %% tags=["needs-valkey"]
import uuid

from redis import asyncio as redis

from chatlab.lab import valkey
from chatlab.lab.optional import here

if here("valkey"):
    store = valkey(persist=False)
    display(store)

# %% [markdown]
# The obvious way: get the count, look at it, set it one higher. `two_servers` sends 100 messages of one
# user, half of them to each server, at the same time. Ten are allowed.


# %% tags=["needs-valkey"]
async def get_and_set(server, key):
    count = int(await server.get(key) or 0)
    if count >= 10:
        return 0
    await server.set(key, count + 1, ex=60)
    return 1


async def two_servers(take):
    key = uuid.uuid4().hex
    async with redis.from_url(store.url) as one, redis.from_url(store.url) as two:
        through = sum(await asyncio.gather(*[take(s, key) for s in (one, two) for _ in range(50)]))
    return "more than 10 of 100" if through > 10 else f"{through} of 100"


if here("valkey"):
    print("get and set:", await two_servers(get_and_set))

# %% [markdown]
# Between one's `get` and its `set` come the `get`s of all others, and they all see the same number.
# Each command is carried out whole, two commands are not: they are not
# [atomic](09_quick_reference.ipynb#Atomic). A script is. Redis runs it, in Lua, from beginning to end.
# The clock is Redis's own, too, so that the servers' clocks need not agree.

# %%
BUCKET = """
local rate, burst, asked = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1] or burst), tonumber(kept[2] or now)
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local given = math.min(asked, math.floor(tokens))
tokens = tokens - given
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)
return given
"""

# %% [markdown]
# It is the bucket from above. The last line but one lets Redis forget the key when the bucket would be
# full. With 0.01 tokens a second the same 100 messages:


# %% tags=["needs-valkey"]
async def one_script(server, key, asked=1):
    return await server.eval(BUCKET, 1, key, 0.01, 10, asked)


if here("valkey"):
    print("one script:", await two_servers(one_script))

# %% [markdown]
# ### Leases
#
# Now each message waits for Redis, and Redis hears of each message. A server can take tokens in
# batches instead, and decide on its own for as long as they last: a
# [lease](09_quick_reference.ipynb#Lease). How often is Redis asked about 100 messages that are all
# allowed?


# %% tags=["needs-valkey"]
async def asked_for(messages, batch):
    key, tokens, asked, through = uuid.uuid4().hex, 0, 0, 0
    async with redis.from_url(store.url) as server:
        for _ in range(messages):
            if not tokens:
                tokens, asked = await server.eval(BUCKET, 1, key, 1, 100, batch), asked + 1
            through, tokens = through + bool(tokens), max(0, tokens - 1)
    return f"{through} let through, Redis asked {asked} times"


if here("valkey"):
    print("one by one:", await asked_for(100, batch=1))
    print("leases of 10:", await asked_for(100, batch=10))

# %% [markdown]
# The price: tokens that a server holds are missing from the bucket, which fills up meanwhile. So a user may
# get through one lease per server more than the burst. chatlab's leases are of 10.
#
# ### When Redis is away
#
# The limiter has to say something. *Fail open*: everybody may pass. *Fail closed*: nobody may, and the
# chat is down because its limiter is. Or a bucket of the server's own, for as long as it takes.

# %% tags=["needs-valkey"]
from redis.backoff import NoBackoff
from redis.retry import Retry

own = TokenBucket(0.01, 10, now=0.0)
policies = {
    "fail open": lambda: 1,
    "fail closed": lambda: 0,
    "a local bucket": lambda: own.take(now=0.0) == 0,
}
if here("valkey"):
    store.kill()
    once = Retry(NoBackoff(), 0)
    async with redis.from_url(store.url, retry=once, socket_timeout=0.2) as server:
        for name, policy in policies.items():
            through = 0
            for _ in range(100):
                try:
                    through += await one_script(server, "alice")
                except (redis.ConnectionError, redis.TimeoutError):
                    through += policy()
            print(f"{name}: {through} of 100")
    store.stop()

# %% [markdown]
# With a local bucket each server allows the limit once more: two servers, twice the limit. For
# a chat that is the right thing to give up. `retry` and `socket_timeout` matter as much: redis-py tries a
# few times by default, with pauses, and every message would wait for that.
#
# ### A library
#
# In Node the usual choice is `rate-limiter-flexible`: fixed windows that are counted atomically, in
# memory, Redis and other stores, and an `insuranceLimiter` for when the store is away. In Python
# `limits` offers fixed and sliding windows over Redis, Memcached and MongoDB, also for asyncio, and
# `pyrate-limiter` a leaky bucket in memory, SQLite, Redis or Postgres.
#
# Take one when you need several limits on one key, another store, or quotas of days. Write the dozen lines
# yourself when the decision lies on the path of every event, as here: then a bucket in memory, with leases,
# asks no network at all.
