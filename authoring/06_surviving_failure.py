# %% [markdown]
# # 06 Surviving failure
#
# **Pull the plug.** A server dies, the store restarts, lines are cut, while six people talk. At the end
# nothing that was acked is lost, shown twice or shown in another order, and you can try to prove the
# contrary.
#
# *30 minutes, and 15 for Further. Before this: [05 Scaling out](05_scaling_out.ipynb).*

# %%
import asyncio
import secrets
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
from IPython.display import display
from steps import step5

from chatlab import ChatClient
from chatlab.lab import Cluster, background
from chatlab.lab.crowd import Crowd, Person
from chatlab.lab.crowd_chart import seen_chart
from chatlab.lab.history import compare
from chatlab.lab.optional import here
from chatlab.lab.tokens import mint

# %% [markdown]
# ## Two clusters
#
# Both are two servers behind a [load balancer](09_quick_reference.ipynb#Load-balancer), and a Valkey
# that they share. The first runs stock python-socketio with its Redis manager, the second chatlab. Each
# part is a process of its own.

# %% tags=["needs-valkey", "needs-balancer"]
if here("valkey") and here("balancer"):
    start = partial(asyncio.to_thread, Cluster, 2, balancer="caddy")
    starting = start(stock="redis", name="stock"), start(name="chatlab")
    stock, chatlab = await asyncio.gather(*starting)
    display(stock, chatlab)

# %% [markdown]
# ## A crowd, a fault, a verdict
#
# Six people are in one room, and each says something eight times a second, for a second and a half. They are
# [`Person`s](../chatlab/lab/crowd.py): python-socketio's own client, which comes back by itself, joins
# the room again, and shows what it hears. They send as lesson 01 does: until there is an
# [ack](09_quick_reference.ipynb#Ack), with the same [key](09_quick_reference.ipynb#Idempotency-key).
# Many chat clients do less.
#
# In the middle of it something breaks. `crowd.rest()` waits until everybody is back, everything is
# acked and nothing new comes.


# %%
async def scene(cluster, kind, fault, seconds=1.6):
    async with Crowd(kind, cluster) as crowd:
        talking = asyncio.create_task(crowd.talk(seconds))
        await asyncio.sleep(0.6)
        async with crowd.breaking():
            await fault(crowd)
        await talking
        await crowd.rest()
    return crowd


# %% [markdown]
# All that happened is in `crowd.history`: who sent what and when, what was acked, who saw what. The
# checker reads it. `lost` is what was acked and never seen by somebody who stayed or came back; in this
# room those are all.
#
# ## A server dies
#
# `kill` is `kill -9`: the process ends in the middle of whatever it does. Soon after it is started again.
#
# **Predict.** Half of the people were on that server. The balancer gives them the other one, and
# in half a second they are back. Who misses what, with stock python-socketio? And with chatlab, which
# keeps every message?
#
# <details><summary>The answer</summary>
#
# With both, whoever was thrown out misses what was said while they were away. A message goes to those
# who are in the room when it is sent. That chatlab has kept it does not help somebody who does not ask.
#
# </details>


# %% tags=["needs-valkey", "needs-balancer"]
async def kill_a_server(crowd):
    await asyncio.to_thread(crowd.cluster.kill, 0)
    await asyncio.sleep(0.7)
    await asyncio.to_thread(crowd.cluster.restart, 0)


if here("valkey") and here("balancer"):
    scenes = [scene(cluster, Person, kill_a_server) for cluster in (stock, chatlab)]
    killed = await asyncio.gather(*scenes)
    seen_chart({crowd.cluster.name: crowd for crowd in killed})
    for crowd in killed:
        print(crowd.cluster.name, "- lost:", "some" if crowd.history.check().of("lost") else 0)
    plt.show()

# %% [markdown]
# Each row is one person, each mark a message of somebody else, at the time when it was sent; the grey
# band is the fault, up to the restart. The crosses are messages that were acked, and that this person
# never saw. Nobody was told, neither those who sent them nor those who missed them.
#
# What was it exactly? The checker has the evidence for each. Here is all that it has on the first:

# %% tags=["needs-valkey", "needs-balancer", "nbval-ignore-output"]
if here("valkey") and here("balancer"):
    display(killed[0].history.check().of("lost")[0])

# %% [markdown]
# With stock python-socketio that is the end of the matter: the message was sent through, and is nowhere
# any more. And with chatlab? Zoe was not there at all. She joins now, and asks for everything.

# %% tags=["needs-valkey", "needs-balancer"]
if here("valkey") and here("balancer"):
    async with ChatClient(chatlab, chatlab.token("zoe")) as zoe:
        log = (await zoe.join(killed[1].room, after=0)).messages
    acked = killed[1].history.check().counts["acked"]
    print("in the log:", "every acked message, once" if len(log) == acked else f"{len(log)}")
    print("without a hole:", [message.seq for message in log] == list(range(1, acked + 1)))

# %% [markdown]
# **The log has it all. What is missing is the question.**
#
# ## Asking
#
# The question needs to know how far one has got: that is the [seq](09_quick_reference.ipynb#Seq) of
# lesson 05. The first half of the answer shows messages in its order only. What comes too early waits,
# and what was shown before is not shown again.


# %%
class InOrder(Person):
    def __init__(self, name, crowd):
        super().__init__(name, crowd)
        self.newest, self.waiting = 0, {}

    async def heard(self, message):
        if message["seq"] > self.newest:
            self.waiting[message["seq"]] = message
        while self.newest + 1 in self.waiting:
            self.newest += 1
            self.show(self.waiting.pop(self.newest))


# %% [markdown]
# The second half asks. Whoever is back joins first, and then fetches everything behind `newest`, page by
# page: [catching up](09_quick_reference.ipynb#Catching-up). In this order: what is said after the
# join comes by itself, and what was said before it is in the log. The other way round there would be a
# hole between the two. What comes by both ways is shown once, because of the first half.


# %%
class CatchingUp(InOrder):
    async def back(self):
        await self.call("join-room", {"room": self.room})
        await self.catch_up()

    async def catch_up(self):
        more = True
        while more:
            page = await self.call("history", {"room": self.room, "after": self.newest})
            for message in page["messages"]:
                await self.heard(message)
            more = page["more"]


# %% [markdown]
# The same fault again:

# %% tags=["needs-valkey", "needs-balancer"]
if here("valkey") and here("balancer"):
    crowd = await scene(chatlab, CatchingUp, kill_a_server)
    seen_chart({"chatlab, and clients that catch up": crowd})
    print(crowd.history.check().words())
    plt.show()

# %% [markdown]
# The rings are what somebody saw late, after coming back. No cross is left. The checker found none of
# the things that it looks for: `gap` is a number that was left out, `phantom` a message that nobody
# sent, `leak` one for somebody who was not in the room.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# let newest = 0;
# const waiting = new Map();
#
# function heard(message) {
#   if (message.seq > newest) waiting.set(message.seq, message);
#   while (waiting.has(newest + 1)) {
#     newest += 1;
#     show(waiting.get(newest));
#     waiting.delete(newest);
#   }
# }
#
# async function catchUp() {
#   let page;
#   do {
#     page = await socket.timeout(2000).emitWithAck("history", { room, after: newest });
#     page.messages.forEach(heard);
#   } while (page.more);
# }
#
# socket.on("new-message", heard);
# socket.on("connect", async () => { // the first time, and each time it is back
#   await socket.timeout(2000).emitWithAck("join-room", { room });
#   await catchUp();
# });
# ```
#
# An ack that says no, or none in time, has to be tried again here too.
#
# </details>
#
# ## Your turn to break it
#
# Three more faults. Valkey is stopped and started again, or stands still for a second with all its
# connections open, or everybody's line is cut at once, just when a message is on its way to them.


# %%
async def restart_valkey(crowd):
    await asyncio.to_thread(crowd.cluster.restart, "valkey")


async def freeze_valkey(crowd):
    crowd.cluster.freeze("valkey")
    await asyncio.sleep(1)
    crowd.cluster.thaw("valkey")


async def cut_the_clients(crowd):
    crowd.wire.cut(after=0, only="new-message", count="to_client", seconds=0.3)
    await crowd.wire.wait_for("heal")


# %% [markdown]
# **Predict.** A restart of Valkey takes a fraction of a second, and nobody's connection to a server is
# touched. What can get lost?
#
# <details><summary>The answer</summary>
#
# With stock python-socketio, what is said on one server for those on the other, until both have found
# Valkey again: each message goes through Valkey once, and nobody keeps it. With chatlab nothing: what
# could not be stored was not acked, and was sent again.
#
# </details>

# %% tags=["needs-valkey", "needs-balancer"]
FAULT = restart_valkey  # or freeze_valkey, cut_the_clients, kill_a_server

if here("valkey") and here("balancer"):
    both = await asyncio.gather(scene(stock, Person, FAULT), scene(chatlab, CatchingUp, FAULT))
    seen_chart({crowd.cluster.name: crowd for crowd in both})
    reports = {crowd.cluster.name: crowd.history.check() for crowd in both}
    for name, report in reports.items():
        print(name, "-", "nothing is wrong" if report.ok else "something is wrong")
    plt.show()

# %% [markdown]
# Each stock server still reaches its own clients. What it publishes for the other goes nowhere, and it
# acks all the same. Look how long after the restart there are still crosses: a server that has lost
# Valkey waits before it tries again.
#
# The whole verdict, side by side, with an example of each fault to unfold:

# %% tags=["needs-valkey", "needs-balancer", "nbval-ignore-output"]
if here("valkey") and here("balancer"):
    display(compare(reports))

# %% [markdown]
# *Try it:* choose `freeze_valkey` and run the last two cells again. Stock python-socketio then loses
# little, but doubles: an ack that does not come in time makes people send again, and this server knows
# no keys. chatlab's column must not change, whatever you choose. If it does, you have found a fault of
# ours: `both[1].history.save("found.jsonl.gz")` keeps the evidence.
#
# ## Your server so far
#
# This lesson changes no step: it is the clients that learned something. But can they ask
# [steps/step5.py](steps/step5.py)? It numbers and keeps its messages. The same crowd on one such server,
# and everybody's line is cut:

# %%
SECRET = secrets.token_hex(32)


async def cut_off(server, kind):
    token = partial(mint, secret=SECRET)
    target = SimpleNamespace(url=server.url, name=server.name, token=token)
    report = (await scene(target, kind, cut_the_clients, seconds=1)).history.check()
    print(f"{server.name}, {kind.__name__} - lost:", "some" if report.of("lost") else 0)


with background(step5.make_server(SECRET), name="step 5") as server:
    await cut_off(server, Person)

# %% [markdown]
# They cannot: it has no `history`. Here it is. The first line is what must not be forgotten: history is
# for members only.


# %%
def with_history(sio, store):
    @sio.on("history")
    async def history(sid, data):
        if data["room"] not in sio.rooms(sid):
            return {"ok": False, "code": "not_in_room", "retry": False}
        room = [message for message in store.messages if message["room"] == data["room"]]
        found = [message for message in room if message["seq"] > data["after"]]
        return {"ok": True, "messages": found[:50], "more": len(found) > 50}

    return sio


# %%
store = step5.Store()
sio = with_history(step5.make_server(SECRET, store), store)
with background(sio, name="step 5 with history") as server:
    await cut_off(server, CatchingUp)

# %% tags=["needs-valkey", "needs-balancer"]
if here("valkey") and here("balancer"):
    for cluster in (stock, chatlab):
        print(cluster.stop().card().state)

# %% [markdown]
# ## In chatlab
#
# [chatlab/catchup.py](../chatlab/catchup.py) is `InOrder` for real life: holes, pages, a log that began
# anew. What lies between the messages that came and the newest that is known of has to be asked for,
# unless an own message on its way explains it:
#
# ```python
#         missing = self.newest - after - len(self._ahead)
#         if missing <= len(self._sending):
#             return None
# ```
#
# [session.py](../chatlab/session.py) asks, [client.py](../chatlab/client.py) is `ChatClient`, and
# [lab/history.py](../chatlab/lab/history.py) is the checker. `make chaos` does what you did here with
# three servers and thirty people, at random, for as long as you like.
#
# ## Now you
#
# [Exercise 06](../exercises/06_surviving_failure.ipynb): catch up after a gap, shut a server down
# gracefully, and (a stretch) write the checker.
#
# ## Three things to remember
#
# 1. *Acked* says that it is stored. That everybody sees it takes clients that ask for what they missed.
# 2. Join first, then ask; show in order of `seq`, each once.
# 3. Do not believe that nothing gets lost. Break it, and let a checker count.
#
# Next: how many users it holds, and what that costs: [lesson 07](07_capacity.ipynb). Or look something up in the
# [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows. A fresh cluster, and chatlab's own client:

# %% tags=["needs-valkey", "needs-balancer"]
from chatlab.lab.crowd import ChatPerson

if here("valkey") and here("balancer"):
    chatlab = Cluster(2, balancer="caddy", name="chatlab")
    for fault in (freeze_valkey, cut_the_clients):
        crowd = await scene(chatlab, ChatPerson, fault, seconds=1.2)
        print(f"{fault.__name__}: {crowd.history.check().words()}")

# %% [markdown]
# ### A hole in a connection that lives
#
# `CatchingUp` asks when it is back. But a message can be missing although nobody was away, for example
# when a server has thrown it out of a queue that was full. Here the wire swallows a single one:


# %%
async def swallow_one(crowd):
    crowd.wire.drop("new-message", at=1, direction="to_client")
    await crowd.wire.wait_for("drop")


# %% [markdown]
# `CatchingUp` waits for it for ever, and shows nothing of what came behind it. `Attentive` asks when
# something waits for longer than a moment: an ack and its neighbours may overtake each other.


# %%
class Attentive(CatchingUp):
    asking = False

    async def heard(self, message):
        await super().heard(message)
        if self.waiting and not self.asking:
            self.asking = True
            try:
                await asyncio.sleep(0.2)
                if self.waiting:
                    await self.catch_up()
            finally:
                self.asking = False


# %% tags=["needs-valkey", "needs-balancer"]
if here("valkey") and here("balancer"):
    kinds = CatchingUp, Attentive
    scenes = [scene(chatlab, kind, swallow_one, seconds=1) for kind in kinds]
    for kind, crowd in zip(kinds, await asyncio.gather(*scenes), strict=True):
        print(kind.__name__, "- lost:", "some" if crowd.history.check().of("lost") else 0)

# %% [markdown]
# ### A server that is told to go
#
# A server that is replaced by a newer one need not be killed. It gets a SIGTERM, and may do three things
# before it goes: finish and answer what it has in hand, take nothing more, and close every connection,
# so that its clients look for another server at once. That is a
# [graceful shutdown](09_quick_reference.ipynb#Graceful-shutdown).


# %% tags=["needs-valkey", "needs-balancer"]
async def stop_a_server(crowd):
    server = crowd.cluster.stop(0).servers[0]
    print("exit code:", await server.exited())
    await asyncio.to_thread(crowd.cluster.restart, 0)


if here("valkey") and here("balancer"):
    crowd = await scene(chatlab, ChatPerson, stop_a_server)
    print(crowd.history.check().words())

# %% [markdown]
# *Close every connection*: there are several ways to do that, and most of them tell the client not to
# come back. A client that comes back by itself, and a server that says goodbye in three ways:


# %%
import contextlib

import socketio


async def disconnect(sio, sid):
    await sio.disconnect(sid)


async def disconnect_below(sio, sid):
    await sio.eio.disconnect(sio.manager.eio_sid_from_sid(sid, "/"))


async def hang_up(sio, sid):
    await sio.eio.sockets[sio.manager.eio_sid_from_sid(sid, "/")].queue.put(None)


# %%
async def goodbye(way):
    sio = socketio.AsyncServer(async_mode="aiohttp")
    with background(sio, name="leaving") as server:
        client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.1)
        connects = []
        client.on("connect", lambda: connects.append(1))
        await client.connect(server.url, transports=["websocket"])
        await server.call(way, sio, client.get_sid())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while len(connects) < 2 or not client.connected:
                    await asyncio.sleep(0.02)
        print(f"{way.__name__}: the client", "is back" if client.connected else "stays away")
        await client.shutdown()


for way in (disconnect, disconnect_below, hang_up):
    await goodbye(way)

# %% [markdown]
# `disconnect` says DISCONNECT, which means *you are not wanted here*: right after a ban, wrong before a
# restart. The second says the same one layer below. Only the third looks to the client like a line that
# broke, and for that case it has been told what to do. (It puts an end mark behind what is still to be
# written, so that acks leave first.)
#
# ### When the store comes back empty
#
# All of this rests on a log that keeps what it acked. Valkey here writes each message to disk first. One
# that does not, or whose disk is gone, comes back with less, and begins to count anew. Bob listens,
# Alice says three things, the store loses everything, and Alice says one more.


# %% tags=["needs-valkey", "needs-balancer"]
async def talk_through_a_loss(alice, bob):
    await alice.join("kitchen")
    await bob.join("kitchen")
    for number in range(3):
        await alice.send(f"before {number}")
    await asyncio.to_thread(partial(chatlab.store.restart, empty=True))
    await alice.send("after")
    async for entry in bob.messages("kitchen"):
        print(type(entry).__name__, getattr(entry, "text", ""))
        if getattr(entry, "text", None) == "after":
            break


if here("valkey") and here("balancer"):
    clients = [ChatClient(chatlab, chatlab.token(name)) for name in ("alice", "bob")]
    async with clients[0] as alice, clients[1] as bob:
        await talk_through_a_loss(alice, bob)

# %% [markdown]
# Nobody can bring back what the store has lost. But it is *said*: a `HistoryLost` stands where something
# may be missing. The server noticed that the log is not the one it knew, and gave the new one another
# name, an [epoch](09_quick_reference.ipynb#Epoch). A client that compares only numbers takes the first
# message of the new log for one that it has shown already:


# %% tags=["needs-valkey", "needs-balancer"]
async def empty_valkey(crowd):
    await asyncio.to_thread(partial(crowd.cluster.store.restart, empty=True))


if here("valkey") and here("balancer"):
    for kind in (CatchingUp, ChatPerson):
        report = (await scene(chatlab, kind, empty_valkey, seconds=1)).history.check()
        print(kind.__name__, "- lost, and not told:", "some" if report.of("lost") else 0)
    print(chatlab.stop().card().state)
