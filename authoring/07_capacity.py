# %% [markdown]
# # 07 Capacity
#
# **How many users does it hold?** You measure what a connection, a message and a delivery cost on your
# machine. At the end you answer the question by arithmetic, and know how far to trust the answer.
#
# *25 minutes, and 15 for Further. Before this: [06 Surviving failure](06_surviving_failure.ipynb).*

# %%
import asyncio
import math
import secrets
import sys
import time
from functools import partial

import matplotlib.pyplot as plt
from steps import step5

from chatlab.lab import load, process
from chatlab.lab.capacity_chart import bars, beside, prices_chart, runs_chart, tiles, users_chart
from chatlab.lab.load_system import allow_many_files
from chatlab.lab.profile import profile_chart, profiled
from chatlab.lab.tokens import mint

# %% [markdown]
# ## Something to measure
#
# The server is a process of its own, so that its CPU time and its memory are its own. Its limits are off, since
# we want to see its end and not theirs. It keeps messages in memory: no disk is measured here.

# %%
allow_many_files()  # a connection is an open file, and many systems give a process 1,024
server = process("--no-limits", name="chatlab")
server

# %% [markdown]
# `load` is the [load generator](../chatlab/lab/load.py). It starts clients in yet another process, lets them
# talk for about a second, and watches the server from outside. What is measured is shown as pictures: your
# figures are not ours.
#
# ## The same hundred connections
#
# *A server holds 10,000 to 50,000 connections*: you can read that in many places. Here are a hundred
# connections, three times. They always say 300 things a second, all together. What differs is the size of their
# [rooms](09_quick_reference.ipynb#Room).
#
# **Predict.** Rooms of 2, rooms of 10, one room of 100. How much more has the server to do in the last than in
# the first?
#
# <details><summary>The answer</summary>
#
# A message to a room of 100 is delivered 99 times: that is its [fan-out](09_quick_reference.ipynb#Fan-out). So
# there are 99 times as many deliveries. It is not quite 99 times the work, because part of the work is done once
# for each message, however many read it.
#
# </details>


# %%
async def talk(server, size, rate=300):
    rooms = {"rooms": 100 // size, "size": size}
    row = await load.steady(server, rate=rate, **rooms, seconds=1, warm_up=0.3)
    print(f"rooms of {size}: {rate * (size - 1):,} deliveries a second, missing: {row.missing}")
    return row


rows = {size: await talk(server, size) for size in (2, 10, 100)}
shares = {f"rooms of {size}": 100 * row.server_cpu_share for size, row in rows.items()}
bars({"": shares}, "% of a core", title="A hundred connections, 300 messages a second")
plt.show()

# %% [markdown]
# *What to notice:* the same server, as many connections, as many messages, and quite another load. **The number
# of connections does not say what they do**, so it cannot say what a server holds.
#
# ## Two prices
#
# What does? Taking a message, checking it, storing it and acking it has one price, in CPU time. Each delivery has
# another. From rooms of 2 to a room of 100 only the deliveries change, by 98 for each message: so the
# difference is their price.

# %%
each = {size: row.server_cpu_seconds / row.count for size, row in rows.items()}
delivery = (each[100] - each[2]) / 98
message = each[2] - delivery
prices_chart(each, message, delivery)
plt.show()

# %% [markdown]
# *What to notice:* the line was drawn from the first and the last point. The one in the middle was not
# asked: it is the test. The nearer it lies, the more the two prices explain. Where it lies above, the first
# deliveries of a message cost more than the later ones, and two prices are a little too simple.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const before = process.cpuUsage();         // in the server, in microseconds
# // … clients send `messages` messages …
# const used = process.cpuUsage(before);
# const each = (used.user + used.system) / messages;
#
# const { rss } = process.memoryUsage();     // bytes, of everything
# const connections = io.engine.clientsCount;
# ```
#
# </details>
#
# ## At full speed
#
# Up to now the server mostly waited. In the next cell 50 clients, each alone in a room, always have 16 messages
# under way. Then one client has 8 under way in a room of 100.

# %%
alone = await load.acks(server, clients=50, in_flight=16, seconds=1, warm_up=0.3)
wide = await load.fanout(server, room=100, in_flight=8, seconds=1, warm_up=0.3)
busy_message = alone.server_cpu_seconds / alone.count
busy_delivery = wide.server_cpu_seconds / wide.count - busy_message / 99
calm, busy = (message, delivery), (busy_message, busy_delivery)
costs = {
    name: {"a message": pair[0] * 1e6, "a delivery": pair[1] * 1e6}
    for name, pair in {"calm": calm, "at full speed": busy}.items()
}
bars(costs, "µs of the server's CPU")
plt.show()

# %% [markdown]
# *What to notice:* at full speed the server pays far less. What has come in the meantime is read together, and
# what leaves for one client is written together. So a quiet server's CPU, multiplied, promises too little. Full
# speed is what a benchmark shows, and promises too much, as you will see.
#
# ## What a connection costs
#
# It needs memory, even in silence, and somebody has to let it in. After a restart all of them return at once,
# as in lesson 06: then connects per second are what counts.

# %%
with process("--no-limits", name="fresh") as fresh:
    quiet, _ = await load.park(fresh, connections=500, first=20, rest=0)
    arriving = await load.connects(fresh, seconds=1, warm_up=0.3, most=3_000)
kb = quiet.kb_per_connection
facts = {"KB a connection": kb, "connections let in a second": arriving.per_second}
facts["s until 10,000 are back"] = 10_000 / arriving.per_second
tiles(facts)
plt.show()

# %% [markdown]
# 20 clients come and go first, for what a server loads for its first clients is not the price of a
# connection. Then 500 come and stay, and what the process has grown by is divided by 500: its size when empty is
# nobody's price. Memory is taken in blocks of up to a megabyte, which is 2 KB on each of 500. That is enough to tell
# 10 KB from 30. What the system itself keeps for a socket is not in the process, and
# comes on top.
#
# ## Your row, beside others

# %%
beside({"KB a connection": kb, "deliveries a second and core": wide.per_cpu_second})
plt.show()

# %% [markdown]
# | who, when | what they had |
# |---|---|
# | [Phoenix, 2015](https://phoenixframework.org/blog/the-road-to-2-million-websocket-connections) | 2 million connected users who said nothing, on 40 cores and 128 GB (so at most 64 KB each: *derived*) |
# | [Centrifugo, 2020](https://centrifugal.dev/blog/2020/02/10/million-connections-with-centrifugo) | 1 million connections, 500,000 deliveries a second, 99 of 100 within 200 ms, about 30 KB a connection; 20 pods of about 2 CPUs (so 12,500 deliveries a core: *derived*), and 5 Redis |
# | Redis pub/sub | about 650,000 deliveries a second by one instance, of 256 bytes each |
# | [Socket.IO's documentation](https://socket.io/docs/v4/performance-tuning) | two walls in the way: about 1,000 sockets (open files) and 28,000 (ports between two addresses), unless the system is told otherwise |
#
# *What to notice:* each is another machine with other work; no bar is somebody's limit, and no two make a race. The
# walls have nothing to do with code: a balancer with one address reaches the second before a server is tired.
#
# ## How many users?
#
# Now it is arithmetic, if you are told two things: how many are in a room, and how often each says
# something. Half of a core is for what nobody planned.

# %%
BUSY = 0.5  # of a core
MEMORY = 1_000_000  # KB for connections


def users(members, pause):  # seconds between two messages of one user
    cost = (busy_message + (members - 1) * busy_delivery) / pause
    return min(BUSY / cost, MEMORY / kb)


sizes = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
habits = {"every second": 1, "every 10 s": 10, "every minute": 60, "every hour": 3600}
held = {name: [users(size, pause) for size in sizes] for name, pause in habits.items()}
users_chart(sizes, held, most=MEMORY / kb, memory="1 GB of connections")
plt.show()

# %% [markdown]
# *What to notice:* one server, one machine, two prices, and every answer from a small crowd to as many as memory
# holds. Next time somebody asks how many users it holds, ask back.
#
# *Try it:* set `BUSY = 1`. Every line rises by the same step, but the flat parts stay: there memory decides.
#
# ## A rush
#
# Why only half? A hundred people in rooms of 10, at the rate that the prices give for half of a core. Then,
# for a second, three times that.
#
# **Predict.** The server never stops working, and refuses nothing. Who notices?
#
# <details><summary>The answer</summary>
#
# Everybody who waits for an [ack](09_quick_reference.ipynb#Ack). What comes faster than it is handled waits in
# a queue, and the queue grows for as long as the rush lasts.
#
# </details>

# %%
planned = BUSY / (busy_message + 9 * busy_delivery)
slowest = {}
for name, rate in {"as planned": planned, "a rush": 3 * planned}.items():
    row = await load.steady(server, rate=rate, rooms=10, size=10, seconds=1, warm_up=0.3)
    needed = rate / (row.per_cpu_second or math.nan)
    slowest[f"{name}: needs\n{needed:.0%} of the core"] = row.p99_ms
bars({"": slowest}, "ms until the ack, for the slowest of a hundred")
plt.show()

# %% [markdown]
# *What to notice:* first what the plan needs. Half was planned, with prices of full speed; when messages come one by
# one, less is read and written together, and it may take far more. **A plan is a guess until it is measured**: the
# other half is for that, too. Then the rush: above its limit a server falls behind, further with every second.
# Clients that wait too long send again, which makes more of it. What keeps a rush out of the queue is the limit of
# [lesson 04](04_rate_limiting.ipynb).
#
# ## Three set-ups
#
# The question is usually answered by a table. Here it is, with a mark on each claim, and with complexity as
# something that can be counted: processes, and settings that somebody has to get right. What is set alike on three
# servers counts once.

# %%
SERVER = ["jwt_secret", "origins", "storage"]
BALANCER = ["addresses", "health check", "websocket only, or sticky"]
VALKEY = ["appendonly", "appendfsync", "maxmemory-policy"]
SETUPS = {
    "one server": {"server": SERVER},
    "three, nothing shared": {"server": [*SERVER, "trusted_proxy"], "balancer": BALANCER},
}
SETUPS["three and Redis"] = SETUPS["three, nothing shared"] | {"Valkey": VALKEY}
for name, parts in SETUPS.items():
    processes = len(parts) + (2 if "three" in name else 0)
    print(f"{name}: processes {processes}, settings {sum(map(len, parts.values()))}")

# %% [markdown]
# | set-up | often read | what it holds | one room across servers? | complexity |
# |---|---|---|---|---|
# | one server | 10,000 to 50,000 connections | `users(…)` above: *derived* from your *measured* row. 50,000 connections: *unproven* here | there is only one | 1 process, 3 settings: *counted* |
# | several, nothing shared | 50,000 to 500,000 | that, times servers: *derived* | no: *measured* in lesson 05 | servers + 1, and 7: *counted* |
# | several and Redis | 500,000 and more | that, times servers, until Redis's core is full: *derived* in Further. "And more": *unproven*, without a source | yes, and in one order if a log numbers: *measured* in 05 and 06 | servers + 2, and 10: *counted* |
#
# With the usual adapter each server reads everything that is said, also for rooms where it has nobody: you
# *measured* that in Further of 05. Then more servers hold more connections, but not more messages.
#
# ## Your server so far
#
# This lesson changes no step. But what does yours hold? [steps/step5.py](steps/step5.py) in a room of 100:

# %%
SECRET = secrets.token_hex(32)
command, env = [sys.executable, step5.__file__, "--port", "0"], {"CHATLAB_JWT_SECRET": SECRET}
with process(command=command, env=env, name="step 5") as yours:
    yours.token = partial(mint, secret=SECRET)
    found = {"step 5": await talk(yours, 100), "chatlab": rows[100]}
bars({"": {name: 100 * row.server_cpu_share for name, row in found.items()}}, "% of a core")
plt.show()

# %% [markdown]
# The same people say the same things to both. Where the difference comes from is shown in Further.

# %%
server.stop().card().state

# %% [markdown]
# ## In chatlab
#
# Why is a message cheaper at full speed? What the handlers send is not written at once. It is kept until all that
# has arrived is handled, and then each client gets one write, whatever is in it.
# [transport/engine.py](../chatlab/transport/engine.py):
#
# ```python
#         if not self._corked:
#             asyncio.get_running_loop().call_soon(self._uncork)
#         self._corked.append(session)
# ```
#
# And a measurement has to say whose limit it shows. Ask any row of this lesson: `wide.bottleneck`. `make bench` measures for longer, against Node and stock python-socketio.
#
# ## Now you
#
# [Exercise 07](../exercises/07_capacity.ipynb): two prices from two measurements, a plan for servers and Redis,
# and (a stretch) the bottleneck in a profile.
#
# ## Three things to remember
#
# 1. Connections are for the memory. The CPU goes by messages × fan-out, and the worst day by connects per second.
# 2. Two measurements give two prices, and a third one tests them.
# 3. Plan with half. What is above it is a queue.
#
# Next: what a server needs in production: [lesson 08](08_going_to_production.ipynb). Or look something up in the
# [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.
#
# ### Stock's transport and chatlab's
#
# The *transport* is what lies between the socket and the chat: frames, packets, sessions. chatlab brings its own,
# and `--transport stock` runs the same chat on python-socketio's. On a machine that others use too, one
# measures A B A B, so that a bad moment meets both, and counts messages for each second of the server's CPU instead
# of the clock's.

# %%
start = partial(asyncio.to_thread, profiled, "--no-limits")
stock, chatlab = await asyncio.gather(
    start("--transport", "stock", name="stock"), start(name="chatlab")
)
runs = {"stock": [], "chatlab": []}
spans = {"stock": [], "chatlab": []}
for one in (stock, chatlab, stock, chatlab):
    begun = time.monotonic()
    row = await load.acks(one, clients=50, in_flight=16, seconds=0.8, warm_up=0.2)
    runs[one.name].append(row.per_cpu_second)
    spans[one.name].append((begun, time.monotonic()))
runs_chart(runs, "acked messages for a second of CPU")
plt.show()

# %% [markdown]
# Limits, validation and the log are on in both. How near two marks of one row lie says how far you may trust the
# difference between the rows.
#
# ### Where the time goes
#
# While they ran, both were looked at, a thousand times a second: which function is at work right now? Sorted by
# file, that is a [profile](../chatlab/lab/profile.py). *Kernel* is what the system does when a socket is read or
# written.

# %%
costs = {}
for one in (stock, chatlab):
    parts = [one.stop().seconds(*span) for span in spans[one.name]]
    total = sum(sum(each.values()) for each in parts)
    price = 1e6 / (sum(runs[one.name]) / 2)  # µs for a message
    costs[one.name] = {name: sum(each[name] for each in parts) / total * price for name in parts[0]}
profile_chart(costs, "µs of CPU for a message")
plt.show()

# %% [markdown]
# *Event loop* is asyncio at work: tasks, timers, callbacks. *Packets* is text made into data and back, JSON above
# all. Look first at the longest bars: they are where work
# pays. A part that is small is not worth work, however slow its code looks.
#
# ### 2, 8, 100 servers
#
# Nobody here has a hundred servers. But what a message costs Redis was measured
# ([docs/scaling.md](../docs/scaling.md)): 44 µs of its core to store and publish it, and 0.5 µs for each further
# server that hears it, two on average. So this is computed:

# %%
STORED, HEARD = 44e-6, 0.5e-6  # seconds of Redis's core
for servers in (2, 8, 100):
    messages = 500 * servers  # a second
    redis = messages * (STORED + min(servers - 1, 2) * HEARD)
    nodes = math.ceil(redis / BUSY)
    print(
        f"{servers} servers, {messages:,} messages/s: {redis:.0%} of a Redis core, nodes: {nodes}"
    )

# %% [markdown]
# Two and eight servers are run by the tests; a hundred were **never run**. What the arithmetic leaves out is in
# docs/scaling.md, too: rooms that have members everywhere, many small rooms, and the minute after an outage.
