# ---
# jupyter:
#   for_authors: |
#     Every term of the glossary is a heading of its own, and the heading is the anchor: blanks
#     become hyphens, capitals stay. Link a term at its first use in a lesson, in whatever form the
#     sentence needs:
#         an [ack](09_quick_reference.ipynb#Ack) · [retries](09_quick_reference.ipynb#Retry)
#         from exercises/: [key](../notebooks/09_quick_reference.ipynb#Idempotency-key)
#     JupyterLab and nbconvert make these anchors by themselves; tests/links.py follows them.
#     Headings of the glossary hold plain words only: no code, no brackets. JupyterLab 4.6 comes to
#     the heading when this page is open already, and to the top of the page when it has to open it
#     (and only of what is rendered, which is why overrides.json turns windowing off): so all words
#     are listed at the top.
# ---

# %% [markdown]
# # 09 Quick reference
#
# The patterns of the lessons, in JavaScript and in Python that has been run; and behind them the
# [glossary](#Glossary) with every word that the lessons use:
#
# [Ack](#Ack) · [Atomic](#Atomic) · [Authentication](#Authentication) · [Backoff](#Backoff) ·
# [Backpressure](#Backpressure) · [Broadcast](#Broadcast) · [Callback](#Callback) ·
# [Catching up](#Catching-up) · [Claim](#Claim) · [Epoch](#Epoch) · [Event](#Event) · [Fail closed](#Fail-closed) ·
# [Fan-out](#Fan-out) · [Fire and forget](#Fire-and-forget) · [Fixed window](#Fixed-window) ·
# [Graceful shutdown](#Graceful-shutdown) · [Grade](#Grade) · [Handler](#Handler) · [Handshake](#Handshake) · [Health check](#Health-check) ·
# [Idempotency key](#Idempotency-key) ·
# [Jitter](#Jitter) · [Join](#Join) · [Lease](#Lease) · [Load balancer](#Load-balancer) ·
# [Metrics](#Metrics) · [Middleware](#Middleware) · [Namespace](#Namespace) · [Polling](#Polling) ·
# [Presence](#Presence) · [Proxy](#Proxy) · [Pub/sub](#Pub/sub) · [Rate limiting](#Rate-limiting) ·
# [Receipt](#Receipt) · [Retry](#Retry) · [Room](#Room) · [Seq](#Seq) · [Session](#Session) ·
# [Sid](#Sid) · [Signature](#Signature) · [Sliding window](#Sliding-window) ·
# [Sticky session](#Sticky-session) · [Stream](#Stream) · [Timeout](#Timeout) · [TLS](#TLS) · [Token](#Token) ·
# [Token bucket](#Token-bucket) · [Upgrade](#Upgrade) · [Validation](#Validation)
#
# | Pattern | JavaScript | Python |
# |---|---|---|
# | [Emit with ack](#Emit-with-ack) | `socket.emit(name, data, (res) => …)` | `res = await client.call(name, data)` |
# | [Acknowledge](#Acknowledge) | `socket.on(name, (data, ack) => ack({ ok: true }))` | `return {"ok": True}` |
# | [Ack timeout](#Ack-timeout) | `socket.timeout(500).emit(name, data, (err, res) => …)` | `await client.call(name, data, timeout=0.5)` |
# | [Auth middleware](#Auth-middleware) | `io.use((socket, next) => …)` | `@sio.event async def connect(sid, environ, auth)` |
# | [Send token](#Send-token) | `io(url, { auth: { token } })` | `await client.connect(url, auth={"token": token})` |
# | [Reject](#Reject) | `next(new Error("Invalid token"))` | `raise ConnectionRefusedError("Invalid token")`, socketio's |
# | [Handle auth error](#Handle-auth-error) | `socket.on("connect_error", (err) => …)` | `@client.event async def connect_error(data)` |
# | [Redis adapter](#Redis-adapter) | `io.adapter(createAdapter(pub, sub))` | `AsyncServer(client_manager=AsyncRedisManager(url))` |

# %%
import asyncio
import datetime

import jwt
import socketio

from chatlab import ChatClient, ConnectionRefused
from chatlab.grade import grade
from chatlab.lab import background, pair, process, valkey
from chatlab.lab.optional import here
from chatlab.server.app import ChatServer
from chatlab.settings import Settings

SECRET = "a secret that has 32 bytes at least"

# %% [markdown]
# ## Patterns
#
# The cells below share one server. It is plain python-socketio; `background` only starts it on a
# thread of its own.

# %% [markdown]
# ### Auth middleware
#
# Runs once for each attempt to connect, before anything else of that socket is heard.
#
# ```javascript
# io.use((socket, next) => {
#   try {
#     const claims = jwt.verify(socket.handshake.auth?.token, SECRET, { algorithms: ["HS256"] });
#     if (!claims.sub || !claims.exp) return next(new Error("Invalid token"));
#     socket.data.user = claims.sub;
#     next();
#   } catch {
#     next(new Error("Invalid token"));
#   }
# });
# ```
#
# Python has the `connect` handler instead. Whatever goes wrong in it has to become a refusal;
# lesson 02 shows what happens otherwise.

# %%
sio = socketio.AsyncServer(async_mode="aiohttp")


@sio.event
async def connect(sid, environ, auth):
    try:
        required = {"require": ["sub", "exp"]}
        claims = jwt.decode(auth["token"], SECRET, algorithms=["HS256"], options=required)
    except Exception:
        told = {"code": "invalid_token", "retry": False}
        raise socketio.exceptions.ConnectionRefusedError("Invalid token", told) from None
    await sio.save_session(sid, {"user": claims["sub"]})


# %% [markdown]
# ### Acknowledge
#
# ```javascript
# socket.on("send-message", async (data, ack) => {
#   const message = await store(socket.data.user, data.text);
#   ack({ ok: true, id: message.id });
# });
# ```
#
# In Python the handler's return value is the [ack](#Ack).

# %%
stored = []


@sio.on("send-message")
async def send_message(sid, data):
    session = await sio.get_session(sid)
    stored.append((session["user"], data["text"]))
    return {"ok": True, "id": len(stored)}


@sio.on("be-slow")
async def be_slow(sid):
    await sio.sleep(1)
    return {"ok": True}


server = background(sio)
print("running" if server.running else "stopped")

# %% [markdown]
# ### Send token
#
# Once, in the [handshake](#Handshake), and in no payload afterwards. A function is asked again at
# every connection, so that a reconnect carries a fresh token.
#
# ```javascript
# const socket = io(url, { auth: (send) => fetchToken().then((token) => send({ token })) });
# ```


# %%
def fetch_token():
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=15)
    return {"token": jwt.encode({"sub": "alice", "exp": expires}, SECRET, algorithm="HS256")}


client = socketio.AsyncClient()
await client.connect(server.url, auth=fetch_token, transports=["websocket"])
client.connected

# %% [markdown]
# ### Emit with ack
#
# ```javascript
# socket.emit("send-message", { text: "hello" }, (res) => {
#   if (res.ok) console.log("stored as", res.id);
# });
#
# const res = await socket.emitWithAck("send-message", { text: "hello" }); // the same, to await
# ```

# %%
await client.call("send-message", {"text": "hello"})

# %% [markdown]
# With a [callback](#Callback), `emit` returns at once, and the function runs when the answer comes:

# %%
answer = asyncio.get_running_loop().create_future()
await client.emit("send-message", {"text": "hello again"}, callback=answer.set_result)
await answer

# %% [markdown]
# ### Ack timeout
#
# ```javascript
# socket.timeout(500).emit("be-slow", (err, res) => {
#   if (err) console.log("no answer: it may or may not have happened");
# });
# ```
#
# Without a [timeout](#Timeout) JavaScript waits for ever; Python's `call` waits 60 seconds.

# %%
try:
    await client.call("be-slow", timeout=0.5)
except socketio.exceptions.TimeoutError:
    print("no answer: it may or may not have happened")

# %% [markdown]
# ### Reject
#
# ```javascript
# const refusal = new Error("Invalid token");
# refusal.data = { code: "invalid_token", retry: false };
# next(refusal);
# ```
#
# In Python a further argument of the exception becomes the `data`, as in the `connect` handler above;
# the next cell shows what arrives. Python has a `ConnectionRefusedError` of its own. It refuses too,
# but the client is told no reason: use the one of `socketio`.
#
# ### Handle auth error
#
# ```javascript
# socket.on("connect_error", (err) => {
#   if (err.message === "Invalid token") showLogin();
# });
# ```
#
# Python raises a `ConnectionError` as well, which does not say why; the reason comes to
# `connect_error`.

# %%
stranger = socketio.AsyncClient()


@stranger.event
async def connect_error(data):
    print("connect_error:", data)


try:
    await stranger.connect(server.url, auth={"token": "forged"}, transports=["websocket"])
except socketio.exceptions.ConnectionError as error:
    print("ConnectionError:", error)

# %%
await client.disconnect()
server.stop()
print("running" if server.running else "stopped")

# %% [markdown]
# ### Redis adapter
#
# Several servers pass on what is sent to a room. Who is in it, and in which order messages come, they
# do not share: see [lesson 05](05_scaling_out.ipynb).
#
# ```javascript
# const publisher = createClient({ url });
# const subscriber = publisher.duplicate();
# await Promise.all([publisher.connect(), subscriber.connect()]);
# io.adapter(createAdapter(publisher, subscriber));
# ```
#
# `pair` starts this server twice; Alice is on one, Dave on the other.


# %% tags=["needs-valkey"]
def sharing_server(url):
    manager = socketio.AsyncRedisManager(url)
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)

    @sio.on("join-room")
    async def join_room(sid, room):
        await sio.enter_room(sid, room)

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", data, to="kitchen", skip_sid=sid)

    return sio


if here("valkey"):
    with valkey(persist=False) as store:
        async with pair(sharing_server, store) as two:
            await two.alice.call("send-message", {"text": "hello"}, timeout=2)
            await two.dave.wait_for("new-message")
            print(two.dave.name, "reads", two.dave.received_texts)

# %% [markdown]
# ## The same with chatlab
#
# [ChatClient](../chatlab/client.py) has the patterns inside: it asks for a fresh token when it
# needs one, and `send` returns when the message is stored, after as many tries as that takes.

# %%
chat = process("--page", name="chat", env={"CHATLAB_JWT_SECRET": SECRET})
async with (
    ChatClient(chat, lambda: chat.token("alice")) as alice,
    ChatClient(chat, lambda: chat.token("bob")) as bob,
):
    await alice.join("general")
    await bob.join("general")
    sent = await alice.send("hello")
    async for message in bob.messages():
        print(message.user, "says", message.text, "· the same seq:", message.seq == sent.seq)
        break

# %% [markdown]
# A refusal is an exception of its own, which carries the code.

# %%
try:
    await ChatClient(chat, "forged").connect()
except ConnectionRefused as refusal:
    print(type(refusal).__name__, "·", refusal.code, "· worth a retry:", refusal.retry)

# %% [markdown]
# ### Send again
#
# `send` does it by itself. By hand, as after a restart: the same [key](#Idempotency-key), and it is
# stored once.

# %%
async with ChatClient(chat, chat.token("alice")) as alice:
    await alice.join("kitchen")
    first = await alice.send("tea is ready", key="tea-1")
    again = await alice.send("tea is ready", key="tea-1")
    print("the same message:", first.id == again.id, "· known already:", again.duplicate)

# %% [markdown]
# ### Catch up
#
# `after` is the last [seq](#Seq) that one has. `lost` says that history does not reach back to it.

# %%
async with ChatClient(chat, chat.token("bob")) as bob:
    joined = await bob.join("kitchen", after=0)
    print([message.text for message in joined.messages], "· lost:", joined.lost)

# %% [markdown]
# ### Middleware around every event
#
# python-socketio has none. In [chatlab's server](../chatlab/server/app.py) `use` puts a function around
# every attempt to connect, and `use_event` around every event; what it returns is the ack.

# %%
server = ChatServer(Settings(dev=True, jwt_secret=SECRET, storage="memory://"))
events = []


@server.use_event
async def note_every_event(event, proceed):
    ack = await proceed()
    events.append((event.name, ack.ok))
    return ack


async with background(server.app, name="with a middleware") as own:
    async with ChatClient(own, own.token("alice")) as alice:
        await alice.join("general")
events

# %% [markdown]
# ### See it in a browser
#
# `chatlab serve --page` has a chat page at `/`, and a notebook shows it. On GitHub you see only its card.

# %%
chat.page("alice")

# %% [markdown]
# ### Grade a server
#
# Any server, by its address: [lesson 08](08_going_to_production.ipynb). `only` names
# [promises](../docs/grade.md); without it all are tried.

# %%
report = await grade(chat.url, secret=SECRET, only=["admits", "join-acked", "send-acked"])
report.verdicts

# %% [markdown]
# ### In a terminal
#
# | | |
# |---|---|
# | `make lab` | this workshop |
# | `make demo` | two chat windows, a cluster to break, and what the checker says, on one page |
# | `chatlab serve --dev --page` | a server to try out, with its page at the address that it prints |
# | `chatlab token alice` | a token for a server with the same `CHATLAB_JWT_SECRET` |
# | `chatlab user ban mallory` | out, on every server |
# | `chatlab grade http://… --level lesson` | a server, judged from outside |
# | `chatlab doctor` | what this machine has for the workshop |
#
# For real: [docs/deploy.md](../docs/deploy.md).

# %%
chat.stop()
print("running" if chat.running else "stopped")

# %% [markdown]
# ## Glossary
#
# ### Ack
# Short for *acknowledgement*: the server's answer to one event, sent to the one who emitted it. It
# means what the server makes it mean. In this workshop `ok: true` means *stored*. First met in
# [lesson 01](01_acknowledgements.ipynb).
#
# ### Atomic
# Done whole or not at all, and with nothing else in between. Looking at a number and then changing it
# is two steps, so it is not atomic.
#
# ### Authentication
# Finding out who is at the other end, and being sure of it. What that person may then do is another
# question, *authorization*.
#
# ### Backoff
# Waiting longer before each [retry](#Retry), usually twice as long as the last time, so that a
# server in trouble is not asked ever faster.
#
# ### Backpressure
# What a slow reader does to a fast writer. Data that is not read piles up somewhere; a server needs
# to notice, and either slow the writer down or drop the reader, before its memory is full.
#
# ### Broadcast
# One message, sent to many sockets: those of a [room](#Room), usually without the sender's own.
#
# ### Callback
# A function that you hand over, to be called later: when the answer comes, or when something
# happens.
#
# ### Catching up
# Asking for what was said while one was away: everything behind the last [seq](#Seq) that one has.
#
# ### Claim
# One statement in a [token](#Token), such as `sub` (who), `exp` (until when), `iss` (issued by
# whom) or `aud` (meant for whom). It is worth as much as the [signature](#Signature) over it.
#
# ### Epoch
# The name of one life of a room's log. While it stays the same, [seq](#Seq) numbers can be
# compared. A new epoch says that history was lost and counting has begun again.
#
# ### Event
# A named message over a Socket.IO connection, with a payload: `send-message` with `{"text":
# "hello"}`. Both sides can send them.
#
# ### Fail closed
# When a check breaks, the answer is no. The opposite, *failing open*, lets everybody in as soon as
# something goes wrong.
#
# ### Fan-out
# How many deliveries come of one message. A message in a room of 1,000 costs the server about 1,000
# sends.
#
# ### Fire and forget
# Sending without asking for an answer. The sender learns nothing, in particular not that the
# message was lost.
#
# ### Fixed window
# A way of [rate limiting](#Rate-limiting): count the events of a second, refuse what is over the
# limit, and begin again at 0 with the next second.
#
# ### Graceful shutdown
# How a server goes when it is told to: it finishes and answers what it has in hand, takes nothing
# more, and closes its connections so that the clients look for another server at once.
#
# ### Grade
# The verdict on a server from outside: each of its promises is tried and found *kept*, *broken* or *not
# judged*. A promise is one sentence of the contract, with a program that tries it.
#
# ### Handler
# The function that the server runs when an [event](#Event) of a certain name arrives.
#
# ### Handshake
# The first exchange on a new connection, in which the client may say who it is and the server lets
# it in or refuses it. Only then do events flow.
#
# ### Health check
# A question that a [load balancer](#Load-balancer) asks a server every few seconds: may I send you people? A
# server that is about to go says no while it still serves those whom it has.
#
# ### Idempotency key
# A name that the client makes up for one message and repeats at every [retry](#Retry). The server
# keeps it with the message: when it comes again, the message is not stored again, and the first
# answer is given again. *Idempotent* means that doing a thing twice changes no more than doing it
# once.
#
# ### Jitter
# Chance added to a waiting time, so that a thousand clients that failed together do not come back
# together.
#
# ### Join
# Entering a [room](#Room), to receive what is sent there. (It has nothing to do with a database's
# `JOIN`.)
#
# ### Lease
# A part of something shared, handed to one server for its own use. A server that leased ten tokens
# of a [token bucket](#Token-bucket) decides on ten events without asking again.
#
# ### Load balancer
# A program in front of several equal servers that hands each new connection to one of them.
#
# ### Metrics
# Numbers that a server keeps of itself (connections, messages, refusals, times) for a program that
# collects and draws them.
#
# ### Middleware
# A function that runs before the one that does the work, for every connection or every event: it
# can look, add something, or refuse.
#
# ### Namespace
# A channel of its own inside one connection, with its own handlers and its own
# [handshake](#Handshake). The lessons use only the default one, `/`.
#
# ### Polling
# A way for a server to speak to a browser over plain HTTP: the client asks, the server waits until
# it has something to say, answers, and the client asks again. Slower than a websocket, and it works
# where nothing else gets through.
#
# ### Presence
# Who is here now, on whichever server. It has to end by itself: a server that dies says no goodbye for
# its clients.
#
# ### Proxy
# A program between the clients and a server, which passes on what both say. A
# [load balancer](#Load-balancer) is one. The server sees the proxy's address and not the client's; the proxy tells
# it in a header, which is to be believed only if it comes from the proxy.
#
# ### Pub/sub
# *Publish and subscribe*: what is published on a channel goes to all who have subscribed to it, at
# that moment and at most once. Who is away does not hear of it later; for that there is a
# [stream](#Stream).
#
# ### Rate limiting
# Allowing each client so many events in so much time, and refusing the rest.
#
# ### Receipt
# Word from the others about a message: it was *delivered* to their device, or they have *read* it.
# An [ack](#Ack) cannot say either.
#
# ### Retry
# Sending the same thing again because no answer came. Without an [idempotency
# key](#Idempotency-key) it may happen twice.
#
# ### Room
# A named set of sockets on the server. Whatever is sent to the room goes to each of them. Clients
# do not see rooms; only the server puts a socket in or takes it out.
#
# ### Seq
# A message's number in its room: 1, 2, 3, without a gap and the same for everybody. Whoever has 4
# and then gets 6 knows that 5 is missing.
#
# ### Session
# A dictionary that the server keeps for each socket, for as long as it is connected.
#
# ### Sid
# *Session id*: the random name of one connection. It changes at every reconnect, so it is no name
# for a user.
#
# ### Signature
# A number, computed from a text and a secret, that nobody can compute without the secret. It shows
# that the text was not changed. It does not hide the text.
#
# ### Sliding window
# A way of [rate limiting](#Rate-limiting) by the events of the second that ends now, whenever now is.
# Unlike a [fixed window](#Fixed-window) it has no end at which the counting begins again.
#
# ### Sticky session
# A [load balancer](#Load-balancer) that sends each client to the server that it was given first, by a
# cookie or by its address. [Polling](#Polling) needs it; a websocket does not.
#
# ### Stream
# A list in Redis that only grows at its end, where each entry has a number. Whoever knows the last one
# that they have seen can read on from there, also later.
#
# ### Timeout
# The time after which the one who waits gives up. It says nothing about what happened at the other
# end.
#
# ### TLS
# What the `s` in `https` and `wss` stands for. The line is encrypted, and a certificate shows that the one
# at its other end is who the address names.
#
# ### Token
# Here: a *JSON Web Token* (JWT), a few [claims](#Claim) as JSON with a [signature](#Signature) over
# them. A login service hands it to the client, and the client shows it to the chat server. Anybody
# can read it; nobody can change it unseen.
#
# ### Token bucket
# A way of [rate limiting](#Rate-limiting): tokens flow in at a *rate*, at most a *burst* of them fits,
# and each event takes one out. It has nothing to do with a login's [token](#Token).
#
# ### Upgrade
# The change of one connection from [polling](#Polling) to a websocket. A Socket.IO client does it by
# itself, shortly after it has connected.
#
# ### Validation
# Checking that a payload has the shape and the values that a [handler](#Handler) was written for,
# before the handler sees it.
