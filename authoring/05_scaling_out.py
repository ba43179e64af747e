# %% [markdown]
# # 05 Scaling out
#
# **Two servers, one room.** One server is not enough, so there are two, and the room falls apart. At
# the end it is one room again, and everybody reads it in the same order.
#
# *30 minutes, and 10 for Further. Before this: [04 Rate limiting](04_rate_limiting.ipynb).*

# %%
import contextlib
import json
import secrets

import aiohttp
import redis.asyncio as redis
import socketio
from IPython.display import display

from chatlab.lab import (
    Cluster,
    background,
    balancer,
    pair,
    raw_client,
    settled,
    timeline,
    valkey,
    verdict,
)
from chatlab.lab.optional import here
from chatlab.server.app import create_app
from chatlab.settings import Settings

SECRET = secrets.token_hex(32)

# %% [markdown]
# ## Two servers
#
# A small chat again, with one [room](09_quick_reference.ipynb#Room), the kitchen. Nobody's name is
# checked here, so that the code stays short. `manager` is for later.


# %%
def chat(manager=None):
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)

    @sio.on("join-room")
    async def join_room(sid, room):
        await sio.enter_room(sid, room)
        return {"ok": True}

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", data, to="kitchen", skip_sid=sid)
        return {"ok": True}

    return sio


# %% [markdown]
# Server A and server B run this code. Alice and Carol are connected to A, Dave to B, and all three
# join the kitchen.
#
# **Predict.** Alice sends a message, and its [ack](09_quick_reference.ipynb#Ack) says `ok`. Who reads
# it?
#
# <details><summary>The answer</summary>
#
# Carol. Server A looks up who is in the kitchen, and knows only its own clients.
#
# </details>

# %%
servers = {name: background(chat, name=f"server {name}") for name in "AB"}
seats = {"alice": "A", "carol": "A", "dave": "B"}
clients = [await raw_client(servers[seat], name=name) for name, seat in seats.items()]
for client in clients:
    await client.call("join-room", "kitchen", timeout=2)
await clients[0].call("send-message", {"text": "Coffee?"}, timeout=2)
await settled(*clients, *servers.values())
alice, carol, dave = clients
display(timeline(alice, carol, *servers.values(), dave, hide="join-room"), verdict(*clients))
for part in (*clients, *servers.values()):
    await part.aclose()

# %% [markdown]
# *What to notice:* two servers that do not talk to each other are two chats of the same name. The
# ack told Alice nothing of it.
#
# ## A shared channel
#
# They need something that both can reach. Redis, or its free sister Valkey, has *channels*: what
# one program publishes there, every subscriber is told. That is
# [pub/sub](09_quick_reference.ipynb#Pub/sub).

# %% tags=["needs-valkey"]
if here("valkey"):
    store = valkey(persist=False)
    display(store)

# %% [markdown]
# python-socketio brings what the Node world calls the *Redis adapter*: a manager that publishes each
# `emit` to all servers. `pair` starts two servers, each with a line of its own to the store, and four
# clients: Alice and Carol on A, Bob and Dave on B. The picture has the two readers outside and the
# store in the middle.


# %% tags=["needs-valkey"]
def shared_chat(url):
    return chat(socketio.AsyncRedisManager(url))


if here("valkey"):
    async with pair(shared_chat, store) as two:
        await two.alice.call("send-message", {"text": "Coffee?"}, timeout=2)
        await two.dave.wait_for("new-message")
        display(timeline(*two.parts), verdict(two.alice, two.carol, two.dave))
        for server in (two.a, two.b):
            members = list(server.sio.manager.get_participants("/", "kitchen"))
            print(f"{server.name} thinks that the kitchen has {len(members)} members")

# %% [markdown]
# *What to notice:* one line of code, and Dave reads it too. But look at the last two lines. It is often
# said that servers now share their rooms. **They share messages.** Who is in a room, each of them
# knows for its own clients only.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# import { createAdapter } from "@socket.io/redis-adapter";
# import { createClient } from "redis";
#
# const publisher = createClient({ url });
# const subscriber = publisher.duplicate();
# await Promise.all([publisher.connect(), subscriber.connect()]);
# const io = new Server(httpServer, { adapter: createAdapter(publisher, subscriber) });
# ```
#
# Node's adapter can ask the other servers who is in a room (`await io.in("kitchen").fetchSockets()`);
# python-socketio's manager cannot.
#
# </details>
#
# ## Two orders
#
# Alice asks for eight o'clock, Bob for nine, at the same moment, and the last word counts. Server
# A's line to the store is slow: everything on it is 0.3 seconds late. The pictures leave out Alice and
# Bob themselves; what they write stands at the top, beside the server that gets it.


# %%
async def both_write(label, make, late):
    async with pair(make, store, secret=SECRET) as two:
        two.line_a.delay(late)
        await two.write("at 8?", "at 9?")  # Alice on A, Bob on B
        reads = {}
        for reader in (two.carol, two.dave):
            await reader.wait_for("new-message", 2)
            first, last = reads[reader.name] = reader.received.of("new-message").texts
            reader.recorder.add("note", text=f'reads "{first}", then "{last}"')
        await settled(*two.parts)
        orders = "one order" if reads["carol"] == reads["dave"] else "two orders"
        display(timeline(*two.parts, title=f"{label}: {orders}"), verdict(*two.clients))


# %% [markdown]
# **Predict.** Carol reads both messages, and so does Dave. When does each of them come?
#
# <details><summary>The answer</summary>
#
# Carol at nine, Dave at eight. A server hands a message to its own clients at once, and publishes it
# then. So everybody reads their own server's message first.
#
# </details>

# %% tags=["needs-valkey"]
if here("valkey"):
    await both_write("python-socketio's Redis manager", shared_chat, late=0.3)

# %% [markdown]
# *What to notice:* follow the two crossing arrows. Each message was still on its way when the other
# server had long shown its own. Nothing was lost and both were acked. No client can see that something is
# wrong, and **the same room has two orders**.
#
# *Try it:* change `late=0.3` to `late=0.05`. The picture gets shorter, for nothing is late any more
# that you could see. The two orders stay.
#
# ## The room's log
#
# No clock and no faster line repairs this. One place has to decide, before anybody reads: the store.
# A script runs there alone, from its first line to its last. It gives the message its number,
# [`seq`](09_quick_reference.ipynb#Seq), keeps it in a [stream](09_quick_reference.ipynb#Stream), and
# only then publishes it, on a channel of the room's own.

# %%
APPEND = """
local entry = cjson.decode(ARGV[1])
entry.seq = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[2], entry.seq .. '-0', 'entry', cjson.encode(entry))
redis.call('PUBLISH', KEYS[2], cjson.encode(entry))
return entry.seq
"""

# %% [markdown]
# Each server listens to the channel, and hands on what it hears to its own clients, in the order in
# which it hears it.


# %%
async def serve(sio, db):
    async with db, db.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe("kitchen")
        async for told in channel.listen():
            entry = json.loads(told["data"])
            await sio.emit("new-message", entry, to="kitchen", skip_sid=entry.pop("sid"))


# %% [markdown]
# The handler appends, and emits nothing any more: not even to its own clients.


# %%
def logged_chat(url):
    sio, db = chat(), redis.from_url(url, decode_responses=True)
    append = db.register_script(APPEND)

    @sio.on("send-message")  # replaces the handler of that name
    async def send_message(sid, data):
        entry = json.dumps({"text": data["text"], "sid": sid})
        return {"ok": True, "seq": await append(["kitchen:seq", "kitchen"], [entry])}

    sio.start_background_task(serve, sio, db)
    return sio


# %% [markdown]
# The same slow line, the same two messages. (Numbers 1 and 2 were greetings, before the picture
# begins.)

# %% tags=["needs-valkey"]
if here("valkey"):
    await both_write("the room's log", logged_chat, late=0.3)

# %% [markdown]
# *What to notice:* server A has Alice's message first, and does not show it to Carol. It waits until
# the store has said which number it is. **One place numbers, and everybody is served from there**: Carol and
# Dave both read nine, then eight. The slow line still makes Carol late. It no longer makes her wrong.
#
# This is how chatlab does it. Its own server, over the same lines:


# %% tags=["needs-valkey"]
def chatlab(url):
    return create_app(Settings(dev=True, jwt_secret=SECRET, storage=url))


if here("valkey"):
    await both_write("chatlab", chatlab, late=0.3)

# %% [markdown]
# ## The balancer
#
# Until now each client knew its server. In front of real servers stands a
# [load balancer](09_quick_reference.ipynb#Load-balancer), with one address for all. A Socket.IO client
# usually begins with [polling](09_quick_reference.ipynb#Polling): plain HTTP requests, one after the other. Then it tries a *websocket*: one
# connection that stays open. Changing from the first to the second is the
# [upgrade](09_quick_reference.ipynb#Upgrade).
#
# Here is a real balancer twice. One sends each request to the next server in turn. The other gives a
# new client a cookie, and sends whoever brings it back to the same server: a
# [sticky session](09_quick_reference.ipynb#Sticky-session).

# %% tags=["needs-balancer"]
if here("balancer"):
    cluster = Cluster(2, stock="alone", valkey=False)
    in_turn = balancer(*cluster.servers, sticky=False, name="in turn")
    sticky = balancer(*cluster.servers, name="sticky")
    display(sticky)

# %% [markdown]
# **Predict.** A client polls through the first balancer. Its first request opens a session, its second
# says what that session wants. What does it get?
#
# <details><summary>The answer</summary>
#
# `Invalid session`. The second request goes to the other server, which has never heard of it.
#
# </details>


# %% tags=["needs-balancer"]
async def poll(entrance, keeps_cookies):
    jar = aiohttp.CookieJar() if keeps_cookies else aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        address = f"{entrance.url}/socket.io/?EIO=4&transport=polling"
        sid = json.loads((await (await http.get(address)).text())[1:])["sid"]
        answer = await http.post(f"{address}&sid={sid}", data="40")
        return (await answer.text()).replace(sid, "…")


if here("balancer"):
    for entrance, keeps in ((in_turn, True), (sticky, False), (sticky, True)):
        answers = {await poll(entrance, keeps) for _ in range(16)}
        print(entrance.name, "with" if keeps else "without", "cookies →", *sorted(answers))

# %% [markdown]
# *What to notice:* sixteen clients in each line, and the answers that they got. The cookie helps only those
# who bring it back; the others take turns as before. (In a browser on another site, and in Node, to bring it
# back takes `withCredentials: true`.) A websocket needs no such thing: it is one connection, so it stays where it is.

# %% tags=["needs-balancer"]
if here("balancer"):
    for transport in ("polling", "websocket"):
        let_in = 0
        for n in range(3):
            with contextlib.suppress(socketio.exceptions.ConnectionError):
                async with raw_client(in_turn, transports=[transport], timeout=1):
                    let_in += 1
        print(f"{transport}, in turn: {let_in} of 3 are let in")

# %% [markdown]
# So there are two ways: a balancer that is sticky, or clients that begin with the websocket and
# never poll. The second has fewer parts.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const socket = io(url, { transports: ["websocket"] });             // the client never polls
# const server = new Server(httpServer, { transports: ["websocket"] }); // and the server takes no polls
# ```
#
# </details>
#
# ## Your server so far
#
# [steps/step5.py](steps/step5.py) takes `--redis`. Its script also knows the key of lesson 01. It listens
# to the rooms that its own clients are in, and to no others. What the channel did not bring, because the
# line was down for a moment, it reads from the stream, before anything newer goes out.
#
# <details><summary>The difference between step 4 and step 5</summary>
#
# ```diff
# --- step4.py
# +++ step5.py
# @@ -1,5 +1,6 @@
# -"""Step 4: a user who sends too much is told to wait, however many sockets they open.
# -
# -Run it alone: python notebooks/steps/step4.py --port 0, with at least 32 random bytes as
# -CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
# +"""Step 5: several servers are one chat, and a room has one order on all of them.
# +
# +Run it alone: python notebooks/steps/step5.py --port 0, with at least 32 random bytes as
# +CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token. Servers that are
# +started with the same `--redis redis://…` share their rooms.
#  """
# @@ -9,2 +10,3 @@
#  import functools
# +import json
#  import logging
# @@ -20,2 +22,3 @@
#  import jwt
# +import redis.asyncio as redis
#  import socketio
# @@ -24,3 +27,3 @@
#
# -log = logging.getLogger("step4")
# +log = logging.getLogger("step5")
#
# @@ -30,2 +33,3 @@
#  BURST = 40  # and as many at once
# +REMEMBERED = 24 * 3600  # seconds for which a key is known
#
# @@ -38,5 +42,9 @@
#  class Store:
# -    """Messages in memory, numbered in each room; a key that is known brings no second one."""
# -
# -    def __init__(self):
# +    """Messages in memory, numbered in each room; a key that is known brings no second one.
# +
# +    `deliver` is called with each new message and the sid of its sender.
# +    """
# +
# +    def __init__(self, deliver=None):
# +        self.deliver = deliver
#          self.messages = []
# @@ -45,3 +53,3 @@
#
# -    async def append(self, user, room, text, key=None):
# +    async def append(self, user, room, text, key=None, sid=None):
#          """Store a message and return it, and whether it was there already."""
# @@ -51,5 +59,3 @@
#          self.newest[room] += 1
# -        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
# -        message = {"id": uuid.uuid4().hex, "seq": self.newest[room], "timestamp": now}
# -        message |= {"user": user, "room": room, "text": text}
# +        message = new_message(user, room, text) | {"seq": self.newest[room]}
#          self.messages.append(message)
# @@ -57,3 +63,92 @@
#              self.by_key[user, room, key] = message
# +        await self.deliver(message, sid)
#          return message, False
# +
# +    async def follow(self, room):
# +        """The room has its first member on this server."""
# +
# +    async def forget(self, room):
# +        """The room has lost its last member on this server."""
# +
# +
# +# One script runs at a time, so whoever is first is first for everybody.
# +APPEND = """
# +local known = redis.call('GET', KEYS[3])
# +if known then return {known, 1} end
# +local message = cjson.decode(ARGV[1])
# +message.seq = redis.call('INCR', KEYS[1])
# +local entry = cjson.encode(message)
# +redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, message.seq .. '-0', 'entry', entry)
# +if ARGV[2] ~= '' then redis.call('SET', KEYS[3], entry, 'EX', ARGV[2]) end
# +redis.call('PUBLISH', KEYS[2], entry)
# +return {entry, 0}
# +"""
# +
# +
# +class SharedStore(Store):
# +    """The same in Redis: each room is a stream, and a channel that says what is new in it.
# +
# +    Members are served from the channel, in the order of `seq`, the sender's own server included;
# +    what the channel did not bring is read from the stream.
# +    """
# +
# +    def __init__(self, url, deliver=None):
# +        super().__init__(deliver)
# +        self.redis = redis.from_url(url, decode_responses=True)
# +        self.script = self.redis.register_script(APPEND)
# +        self.channels = self.redis.pubsub()
# +        self.served = {}
# +        self.listening = None
# +
# +    async def append(self, user, room, text, key=None, sid=None):
# +        entry = json.dumps(new_message(user, room, text) | {"sid": sid})
# +        known = "key:" + json.dumps([user, room, key])
# +        keys = [f"seq:{room}", f"room:{room}", known]
# +        entry, duplicate = await self.script(keys, [entry, "" if key is None else REMEMBERED])
# +        message = json.loads(entry)
# +        self.newest[room] = max(self.newest[room], message["seq"])
# +        return message, bool(duplicate)
# +
# +    async def follow(self, room):
# +        self.newest[room] = self.served[room] = int(await self.redis.get(f"seq:{room}") or 0)
# +        if self.listening is None:
# +            # A channel of nobody's: without one the listening would end with the last room.
# +            await self.channels.subscribe("chat")
# +            self.listening = asyncio.create_task(self.listen())
# +        await self.channels.subscribe(f"room:{room}")
# +
# +    async def forget(self, room):
# +        self.served.pop(room, None)
# +        await self.channels.unsubscribe(f"room:{room}")
# +
# +    async def listen(self):
# +        async with self.redis, self.channels:
# +            while True:
# +                try:
# +                    for room in list(self.served):
# +                        await self.serve(room, None)
# +                    async for told in self.channels.listen():
# +                        room, said = told["channel"].removeprefix("room:"), told["type"]
# +                        if room in self.served:
# +                            await self.serve(room, told["data"] if said == "message" else None)
# +                except redis.RedisError:
# +                    log.warning("Redis is away", exc_info=True)
# +                    await asyncio.sleep(0.2)
# +
# +    async def serve(self, room, entry):
# +        """Hand on what is new: this entry, or the stream's where it is not the next one."""
# +        entries = [] if entry is None else [json.loads(entry)]
# +        if [each["seq"] for each in entries] != [self.served[room] + 1]:
# +            stored = await self.redis.xrange(f"room:{room}", min=f"{self.served[room] + 1}-0")
# +            entries = [json.loads(fields["entry"]) for _, fields in stored]
# +        for message in entries:
# +            if room in self.served:
# +                self.served[room] = message["seq"]
# +                self.newest[room] = max(self.newest[room], message["seq"])
# +                await self.deliver(message, message.pop("sid"))
# +
# +
# +def new_message(user, room, text):
# +    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
# +    return {"id": uuid.uuid4().hex, "timestamp": now, "user": user, "room": room, "text": text}
#
# @@ -97,3 +192,3 @@
#              return refusal.ack
# -        except (ConnectionError, TimeoutError):
# +        except (ConnectionError, TimeoutError, redis.ConnectionError, redis.TimeoutError):
#              log.warning("%s cannot be done now", handler.__name__, exc_info=True)
# @@ -143,5 +238,9 @@
#
# -def make_server(secret, store=None, clock=time.monotonic):
# -    sio = socketio.AsyncServer(async_mode="aiohttp")
# -    store = store or Store()
# +def make_server(secret, store=None, clock=time.monotonic, url=None):
# +    # Who came, who left and who has read what may get lost: that goes by the library's manager.
# +    manager = socketio.AsyncRedisManager(url) if url else None
# +    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)
# +    store = store or (SharedStore(url) if url else Store())
# +    members = {}  # the sids in each room, on this server
# +    moving = asyncio.Lock()
#      buckets = {}
# @@ -167,2 +266,9 @@
#
# +    async def deliver(message, sid):
# +        # To the members on this server: the others serve their own.
# +        to = {"to": message["room"], "skip_sid": sid, "ignore_queue": True}
# +        await sio.emit("new-message", message, **to)
# +
# +    store.deliver = deliver
# +
#      def member_of(sid, room):
# @@ -182,3 +288,8 @@
#              session["room"] = room
# -        await sio.enter_room(sid, room)
# +        async with moving:
# +            if room not in members:
# +                await store.follow(room)
# +            if sio.manager.is_connected(sid, "/"):
# +                members.setdefault(room, set()).add(sid)
# +                await sio.enter_room(sid, room)
#          joined = {"user": session["user"], "room": room}
# @@ -200,5 +311,3 @@
#          user, room = session["user"], member_of(sid, room)
# -        message, duplicate = await store.append(user, room, text, data.get("key"))
# -        if not duplicate:
# -            await sio.emit("new-message", message, to=room, skip_sid=sid)
# +        message, duplicate = await store.append(user, room, text, data.get("key"), sid)
#          ack = {name: message[name] for name in ("id", "seq", "timestamp")}
# @@ -241,2 +350,8 @@
#              return  # nobody left: a client sent an event of this name
# +        async with moving:
# +            for room in [room for room, sids in members.items() if sid in sids]:
# +                members[room].discard(sid)
# +                if not members[room]:
# +                    del members[room]
# +                    await store.forget(room)
#          # A full bucket is as good as a new one; any other would be filled by a reconnect.
# @@ -256,2 +371,4 @@
#      parser.add_argument("--port", type=int, default=3001, help="0 picks a free one")
# +    parser.add_argument("--redis", metavar="URL", help="share rooms with other servers")
# +    given = parser.parse_args()
#      secret = os.environ.get("CHATLAB_JWT_SECRET", "")
# @@ -260,4 +377,4 @@
#      app = web.Application()
# -    make_server(secret).attach(app)
# -    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
# +    make_server(secret, url=given.redis).attach(app)
# +    listener = socket.create_server(("127.0.0.1", given.port))
#      print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
# ```
#
# </details>

# %%
for part in ("store", "in_turn", "sticky", "cluster"):
    if part in globals():
        print(repr(globals()[part].stop()).splitlines()[0])

# %% [markdown]
# ## In chatlab
#
# [chatlab/storage/redis_scripts.py](../chatlab/storage/redis_scripts.py) has the script, and
# [redis_feed.py](../chatlab/storage/redis_feed.py) what each server hears. What comes too early waits
# there. Only the next one goes out, and then the next:
#
# ```python
#         while (entry := hosted.waiting.pop(hosted.seq + 1 + len(run), None)) is not None:
#             run.append(entry)
#         self._pass_on(hosted, run)
# ```
#
# What may get lost without harm, as *bob is typing*, does not go through the log.
#
# ## Now you
#
# [Exercise 05](../exercises/05_scaling_out.ipynb): share rooms between two servers, get through a
# balancer, and (a stretch) deliver in one order.
#
# ## Three things to remember
#
# 1. A Redis manager shares messages. It shares neither rooms nor an order.
# 2. An order needs one place that numbers, and servers that serve from there, their own clients
#    included.
# 3. Behind a balancer: begin with the websocket, or make it sticky.
#
# Next: what is left of all this when a server dies, or the store does, in
# [06 Surviving failure](06_surviving_failure.ipynb). Or look something up in the
# [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.
#
# ### Who is here, on all servers
#
# Python-socketio's servers each know their own members. So chatlab's servers write theirs into the
# store, for a few seconds, again and again: nobody has to take out the members of a server that died.
# That is [presence](09_quick_reference.ipynb#Presence).

# %% tags=["needs-valkey"]
if here("valkey"):
    store = valkey(persist=False)
    async with pair(chatlab, store, secret=SECRET) as two:
        for client in (two.carol, two.dave):
            answer = await client.call("who", {"room": "kitchen"}, timeout=2)
            print(client.name, "is told:", *sorted(answer["users"]))
        await two.bob.aclose()
        await two.carol.wait_for("user-left")
        answer = await two.carol.call("who", {"room": "kitchen"}, timeout=2)
        print("when Bob has gone:", *sorted(answer["users"]))

# %% [markdown]
# ### What one channel costs
#
# The manager publishes everything on one channel, so each server is told everything, also of rooms in
# which it has nobody. Here Alice and Carol, on A, are in the room *tea*; Bob and Dave, on B, are in
# *coffee*. Ten messages go to each room. Each line counts what its server is told.

# %%
from steps import step5

from chatlab.lab.stock import make_app


def one_channel(url):
    return make_app(url, secret=SECRET)


def a_channel_for_each_room(url):
    return step5.make_server(SECRET, url=url)


async def count(make):
    async with pair(make, store, secret=SECRET) as two:
        rooms = ("tea", "tea", "coffee", "coffee")
        for client, room in zip(two.clients, rooms, strict=True):
            await client.call("join-room", room, timeout=2)
        await settled(*two.clients, *two.parts)
        two.clear()
        for n in range(10):
            await two.write(f"tea {n}", f"coffee {n}")
        for reader in (two.carol, two.dave):
            await reader.wait_for("new-message", 10)
        await settled(*two.clients, *two.parts)
        print(f"{make.__name__}: A is told {two.line_a.heard}, B is told {two.line_b.heard}, of 20")


# %% tags=["needs-valkey"]
if here("valkey"):
    for make in (one_channel, a_channel_for_each_room, chatlab):
        await count(make)
    display(store.stop())

# %% [markdown]
# With one channel a second server takes none of this work off the first: whatever is sent, each of
# them reads all of it. With a channel for each room a server is told what its own members read.
