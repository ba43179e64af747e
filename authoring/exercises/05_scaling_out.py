# %% [markdown]
# # Exercise 05: Scaling out
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 05](../notebooks/05_scaling_out.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check starts two
# servers with your code and asks them over real sockets. It answers `✓`, or `○` with advice. Any way
# of solving a task is right.

# %%
import json
from collections import Counter

import socketio
from IPython.display import display

from chatlab.lab.exercises import ex05
from chatlab.lab.optional import here

# %% [markdown]
# ## 1. Shared rooms
#
# `SharedRooms` is one server's part in passing on messages; each server has one. The server calls it
# when a client of its own has joined a room, has left it, or sends a message there. You have two
# things:
#
# - `bus` is the way to the other servers, through Valkey. `await bus.subscribe(channel)`,
#   `await bus.unsubscribe(channel)`, and `await bus.publish(channel, message)`, where the message is a
#   dictionary. What is published on a channel that this server has subscribed to comes to `heard`,
#   what it published itself among it.
# - `await deliver(room, message)` hands a message to the members of a room **on this server**.
#
# Every member gets each message once, on whichever server. And a server is told of a room only
# while it has a member there.


# %%
class SharedRooms:
    def __init__(self, bus, deliver):
        self.bus, self.deliver = bus, deliver
        self.members = Counter()  # how many of each room are on this server

    async def joined(self, room):
        ### BEGIN SOLUTION
        self.members[room] += 1
        if self.members[room] == 1:
            await self.bus.subscribe(room)
        ### END SOLUTION

    async def left(self, room):
        ### BEGIN SOLUTION
        self.members[room] -= 1
        if self.members[room] == 0:
            await self.bus.unsubscribe(room)
        ### END SOLUTION

    async def send(self, room, message):
        ### BEGIN SOLUTION
        await self.bus.publish(room, message)
        ### END SOLUTION

    async def heard(self, channel, message):
        ### BEGIN SOLUTION
        await self.deliver(channel, message)
        ### END SOLUTION


# %% tags=["needs-valkey"]
if here("valkey"):
    display(await ex05.two_servers_share_rooms(SharedRooms))

# %% [markdown]
# <details><summary>A nudge</summary>
#
# One line is enough for `send`, and one for `heard`: the sender's own server hears what it has
# published, like every other. `joined` is called for each client, and only the first of them makes
# a difference to the bus. Which call of `left` does?
#
# </details>
#
# [The solution](../solutions/05_scaling_out.ipynb)
#
# ## 2. Past the balancer
#
# In front of two servers stands a [load balancer](../notebooks/09_quick_reference.ipynb#Load-balancer)
# that serves in turn: each request goes to the next server. Write both sides, so that every client
# gets in, and a client that polls is refused at once instead of now and then.


# %%
def new_server():
    ### BEGIN SOLUTION
    return socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"])
    ### END SOLUTION


async def connect(client, url):  # `client` is a socketio.AsyncClient
    ### BEGIN SOLUTION
    await client.connect(url, transports=["websocket"])
    ### END SOLUTION


# %% tags=["needs-balancer"]
if here("balancer"):
    display(await ex05.nobody_polls(new_server, connect))

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Both have the same argument for it, and both take
# [polling](../notebooks/09_quick_reference.ipynb#Polling) unless they are told.
#
# </details>
#
# [The solution](../solutions/05_scaling_out.ipynb)
#
# ## 3. One order (stretch)
#
# Now for one room, the *kitchen*: all its members read everything, once, and in the same order on
# both servers. `RoomLog` is again one server's part.
#
# - `redis` is a client of [redis-py](https://redis.readthedocs.io), asynchronous, which answers in
#   text. `await redis.publish("kitchen", data)` takes a string.
# - `heard(data)` is called with what is published on the channel `kitchen`, one call after the other. Now
#   and then a server hears nothing for a moment. What it missed then must come all the same, before
#   anything newer.
# - `await deliver(message)` hands a message to the members on this server.
#
# One server's line to the store may be slow.


# %%
class RoomLog:
    def __init__(self, redis, deliver):
        self.redis, self.deliver = redis, deliver
        self.last = "0-0"  # the id of the last entry that was delivered here

    async def send(self, message):
        ### BEGIN SOLUTION
        await self.redis.xadd("kitchen", {"message": json.dumps(message)})
        await self.redis.publish("kitchen", "there is something new")
        ### END SOLUTION

    async def heard(self, data):
        ### BEGIN SOLUTION
        for entry, fields in await self.redis.xrange("kitchen", min=f"({self.last}"):
            await self.deliver(json.loads(fields["message"]))
            self.last = entry
        ### END SOLUTION


# %% tags=["needs-valkey"]
if here("valkey"):
    display(await ex05.everybody_reads_one_order(RoomLog))

# %% [markdown]
# <details><summary>A nudge</summary>
#
# A [stream](../notebooks/09_quick_reference.ipynb#Stream) is an order already: `xadd(name, fields)` puts
# an entry at its end and gives it an id, and `xrange(name, min=f"({last}")` gives what came after
# `last`. Then what is published need not be the message. It only has to say: look.
#
# </details>
#
# [The solution](../solutions/05_scaling_out.ipynb)
#
# Done? Your server so far is [steps/step5.py](../notebooks/steps/step5.py), and the
# [quick reference](../notebooks/09_quick_reference.ipynb) has every pattern on one page.
