# %% [markdown]
# # Exercise 07: Capacity
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 07](../notebooks/07_capacity.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. Here everything is
# arithmetic on numbers that the check gives you; nothing is measured, so no answer depends on your
# machine. A check answers `✓`, or `○` with advice. Any way of solving a task is right.

# %%
import math
from collections import Counter

from chatlab.lab.exercises import ex07
from chatlab.lab.exercises.ex07 import BUSY, COSTS, MEMORY, Load, Measured

# %% [markdown]
# ## 1. Two prices
#
# A server was measured twice, with rooms of different sizes:

# %%
ONE = Measured(members=2, messages=10_000, cpu=0.65)
OTHER = Measured(members=101, messages=1_000, cpu=0.56)

# %% [markdown]
# `cpu` is what the server spent in that run, in CPU seconds. `members` counts the sender, who gets an
# [ack](../notebooks/09_quick_reference.ipynb#Ack) instead of the message.
#
# Write `prices`. It gives back two numbers: the CPU seconds for a message (to take it, check it, store it
# and ack it), and those for each delivery of it to one other member. For `ONE` and `OTHER` these are 60 and 5
# *millionths* of a second.


# %%
def prices(one, other):
    ### BEGIN SOLUTION
    first = one.cpu / one.messages
    second = other.cpu / other.messages
    delivery = (first - second) / (one.members - other.members)
    message = first - (one.members - 1) * delivery
    return message, delivery
    ### END SOLUTION


# %%
ex07.has_the_prices(prices)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# `cpu / messages` is what one message cost with all its deliveries, and there are `members - 1` of those.
# From one run to the other only the number of deliveries has changed, so the difference is theirs.
#
# </details>
#
# [The solution](../solutions/07_capacity.ipynb)
#
# ## 2. How many servers?
#
# Somebody brings a load, and you have the prices:

# %%
LOAD = Load(users=40_000, members=5, rate=1.0)
COSTS

# %% [markdown]
# Every user is in one room with `members` members, and sends `rate` messages a second. `message` and
# `delivery` are as above, here 100 and 5 millionths of a second. `redis` is what Redis spends on a message, in
# CPU seconds. `connection` is in bytes.
#
# Write `plan`. It gives back how many it takes of each. For `LOAD` that is `{"servers": 10, "redis": 4}`:
#
# - A server is one core, of which you plan with the share `BUSY`, and has `MEMORY` bytes for its
#   connections. It needs both: the scarcer one decides.
# - Rooms are spread so that each is on one server only.
# - One server alone needs no Redis. As soon as there are more, each message passes through Redis once. A
#   node of Redis is one core, too, and you plan with `BUSY` of it; there is at least one.


# %%
def plan(load, costs):
    ### BEGIN SOLUTION
    messages = load.users * load.rate
    deliveries = messages * (load.members - 1)
    work = messages * costs.message + deliveries * costs.delivery
    memory = load.users * costs.connection
    servers = max(1, math.ceil(work / BUSY), math.ceil(memory / MEMORY))
    nodes = max(1, math.ceil(messages * costs.redis / BUSY)) if servers > 1 else 0
    return {"servers": servers, "redis": nodes}
    ### END SOLUTION


# %%
ex07.plans_for(plan)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# What happens in one second? `users × rate` messages, and each of them is delivered `members - 1` times. How
# many CPU seconds is that? A core brings `BUSY` of them in a second. `math.ceil` rounds up.
#
# </details>
#
# [The solution](../solutions/07_capacity.ipynb)
#
# ## 3. Find the bottleneck (stretch)
#
# A profile is a list of looks: how many seconds went by, and which functions were at work. As in a
# traceback, each has called the next one, and the last one is where it was. `PARTS` says what some of them
# belong to:

# %%
PROFILE = [
    (3.0, ("run", "select")),
    (0.2, ("run", "recv")),
    (0.4, ("run", "handle", "loads")),
    (0.3, ("run", "handle", "append")),
    (0.5, ("run", "handle", "dumps")),
    (0.3, ("run", "handle", "dumps", "escape")),
    (0.3, ("run", "handle", "deliver", "send")),
]
PARTS = {"select": "waiting", "recv": "kernel", "send": "kernel", "handle": "chat"}
PARTS |= {"deliver": "chat", "loads": "JSON", "dumps": "JSON", "append": "log"}

# %% [markdown]
# Write `bottleneck`. It gives back the part that most of the work is in, and how many times as fast the
# server would be if that part cost nothing. Here that is `("JSON", 2.5)`: of 2 seconds of work, 1.2 are in
# JSON, and 0.8 would be left. Waiting is no work. A function that is not in `parts` works for the one that
# called it.


# %%
def bottleneck(profile, parts):
    ### BEGIN SOLUTION
    spent = Counter()
    for seconds, stack in profile:
        known = [parts[name] for name in stack if name in parts]
        spent[known[-1] if known else "no part"] += seconds
    del spent["waiting"]
    work = spent.total()
    del spent["no part"]
    [(part, seconds)] = spent.most_common(1)
    return part, work / (work - seconds)
    ### END SOLUTION


# %%
ex07.finds_the_bottleneck(bottleneck)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Go through each stack from its end until a function has a part. Add up seconds by part, take out what
# was waiting, then look for the largest. `1 / (1 - share)` is how many times as fast.
#
# </details>
#
# [The solution](../solutions/07_capacity.ipynb)
#
# Look at `2.5` again: that is the *most* that work on JSON can bring, for nothing costs nothing. And
# when JSON is fast, another part is the bottleneck.
#
# Done? The [quick reference](../notebooks/09_quick_reference.ipynb) has every pattern on one page.
