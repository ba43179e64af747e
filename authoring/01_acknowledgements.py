# %% [markdown]
# # 01 Acknowledgements
#
# **How does the sender know?** A message gets lost, and nobody notices. At the end the sender
# notices, tries again, and the message is there once.
#
# *25 minutes, and 10 for Further. Before this: [00 Start here](00_start_here.ipynb).*

# %%
import asyncio
import uuid

import socketio
from IPython.display import display
from steps.step1 import make_server

from chatlab.lab import Proxy, background, raw_client, settled, timeline, verdict

# %% [markdown]
# ## A chat
#
# The [handlers](09_quick_reference.ipynb#Handler) of lesson 00, with one more: `connect` runs when
# somebody comes, remembers the name and puts everybody into one
# [room](09_quick_reference.ipynb#Room).


# %%
def naive_chat():
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.event
    async def connect(sid, environ, auth):
        await sio.save_session(sid, auth)  # {"name": "alice"}: believed, not checked
        await sio.enter_room(sid, "general")

    @sio.on("send-message")
    async def send_message(sid, data):
        await sio.emit("new-message", data, to="general", skip_sid=sid)

    return sio


server = background(naive_chat)
server

# %% [markdown]
# ## Did the message arrive?
#
# `emit` returns when the message is in a buffer. Whether it ever leaves this machine is another
# matter. We put a wire between Alice and the server and tell it to go silent after the third
# message: nothing is closed, as when a phone loses its signal.
#
# **Predict.** Alice sends five messages. How many of the five calls raise an error?
#
# <details><summary>The answer</summary>
#
# None. Nothing tells Alice's side that the wire is silent.
#
# </details>

# %%
server.clear()  # begin with an empty page, also when you run this again
pass_on = 3
wire = Proxy(server, mute_after=pass_on)
alice = await raw_client(wire, name="alice", auth={"name": "alice"})
for n in range(5):
    await alice.emit("send-message", {"text": f"message {n}"})
await server.wait_for("send-message", pass_on)
server.received_texts

# %% [markdown]
# Five calls, no error, three messages. The picture shows what Alice cannot see. Below it stands the
# verdict: it compares what was sent with what arrived, and names what went wrong.

# %%
display(timeline(alice, wire, server), verdict(alice, server))

# %% [markdown]
# *What to notice:* on Alice's side the last two sends are drawn exactly as the first three. That is
# what [fire and forget](09_quick_reference.ipynb#Fire-and-forget) means: the sender cannot tell.
#
# **Try it.** Change `pass_on = 3` to 0, or to 5, and run the two cells again. The list changes; what
# Alice sees does not.
#
# ## The server answers
#
# Each event may ask for an answer, the *acknowledgement* or [ack](09_quick_reference.ipynb#Ack). In
# python-socketio the ack is **what the handler returns**. So the handler decides what it means.
# Here: the message is stored.


# %%
def acking_chat(stored):
    sio = naive_chat()

    @sio.on("send-message")  # replaces the handler of that name
    async def send_message(sid, data):
        stored.append(data["text"])
        await sio.emit("new-message", data, to="general", skip_sid=sid)
        return {"ok": True, "id": len(stored)}

    return sio


# %% [markdown]
# There are two ways to get the ack: hand `emit` a [callback](09_quick_reference.ipynb#Callback), a
# function that is called when the answer comes; or let `call` wait for it.

# %%
server = background(lambda: acking_chat(stored=[]))
alice = await raw_client(server, name="alice", auth={"name": "alice"})
answers = []
await alice.emit("send-message", {"text": "hello"}, callback=answers.append)
print("after emit:", answers)
print("from call: ", await alice.call("send-message", {"text": "hello again"}))
print("after call:", answers)

# %% [markdown]
# *What to notice:* `emit` came back before the answer did. The callback got it while `call` was
# waiting for its own.
#
# <details><summary>The same in JavaScript</summary>
#
# The server is handed a function and has to call it, once:
#
# ```javascript
# socket.on("send-message", async (data, ack) => {
#   const message = await messages.insert(data.text);
#   socket.to("general").emit("new-message", message);
#   if (typeof ack === "function") ack({ ok: true, id: message.id });
# });
# ```
#
# The client hands over a callback, or awaits:
#
# ```javascript
# socket.emit("send-message", { text: "hello" }, (res) => {
#   if (res.ok) showTick(res.id);
#   else showRetry(res.error);
# });
#
# const res = await socket.emitWithAck("send-message", { text: "hello" });
# ```
#
# </details>
#
# ## When no answer comes
#
# An answer can get lost like anything else. Whoever waits needs a
# [timeout](09_quick_reference.ipynb#Timeout). Here everything is lost from the start.

# %%
wire = Proxy(server, mute_after=0)
alice = await raw_client(wire, name="alice", auth={"name": "alice"})
try:
    await alice.call("send-message", {"text": "is anybody there?"}, timeout=0.5)
except socketio.exceptions.TimeoutError as error:
    print("TimeoutError:", error)
    print("Python's own TimeoutError:", isinstance(error, TimeoutError))

# %% [markdown]
# *What to notice:* `except TimeoutError` would not have caught it. Without `timeout=`, `call` waits
# 60 seconds; in JavaScript a callback without a timeout waits for ever.
#
# <details><summary>The same in JavaScript</summary>
#
# With a timeout the callback gets two arguments, the error first:
#
# ```javascript
# socket.timeout(500).emit("send-message", { text: "is anybody there?" }, (err, res) => {
#   if (err) showRetry();
#   else showTick(res.id);
# });
# ```
#
# </details>
#
# ## Try again
#
# No answer, so [try again](09_quick_reference.ipynb#Retry), a few times and each time after a
# longer pause:


# %%
async def send_reliably(client, payload, tries=3):
    for attempt in range(tries):
        try:
            return await client.call("send-message", payload, timeout=0.8)
        except socketio.exceptions.TimeoutError:
            await asyncio.sleep(0.05 * 2**attempt)
    raise RuntimeError(f"no answer in {tries} tries")


# %% [markdown]
# Now break it in two ways. First the wire swallows Alice's message; then, with everything new, it
# lets the message pass and swallows the *ack*. Bob has a wire that works.


# %%
async def scene(make_chat, lost, **extra):
    stored = []
    server = background(lambda: make_chat(stored))
    wire = Proxy(server, drop=lost, at=1)
    alice = await raw_client(wire, name="alice", auth={"name": "alice"})
    bob = await raw_client(server, name="bob", auth={"name": "bob"})
    await send_reliably(alice, {"text": "hello", **extra})
    await settled(alice, wire, server, bob)
    title = f"lost: the first {lost}"
    display(timeline(alice, wire, server, bob, title=title), verdict(alice, bob, stored=stored))


# %% [markdown]
# **Predict.** Alice gets no answer to her first try, in both cases. How often does Bob see "hello"?
#
# <details><summary>The answer</summary>
#
# Once where the message was lost. Twice where the ack was lost: the server had stored it and told
# Bob, and then did both again.
#
# </details>

# %%
await scene(acking_chat, lost="send-message")
await scene(acking_chat, lost="ack")

# %% [markdown]
# *What to notice:* compare Alice's side of the two pictures. She sends, waits, sends, and gets an
# ack: no difference. **No answer does not mean that nothing happened.** So she can neither give up
# safely nor try again safely.
#
# ## The key
#
# The way out: Alice makes up a name for the message, once, and sends it with every try. The server
# remembers what it answered to it. This is the [idempotency
# key](09_quick_reference.ipynb#Idempotency-key).


# %%
def exact_chat(stored):
    sio = naive_chat()
    answers = {}

    @sio.on("send-message")
    async def send_message(sid, data):
        mine = (await sio.get_session(sid))["name"], data["key"]
        if mine not in answers:
            stored.append(data["text"])
            answers[mine] = {"ok": True, "id": len(stored)}
            await sio.emit("new-message", data, to="general", skip_sid=sid)
        return answers[mine]

    return sio


# %% [markdown]
# The same two faults again. The client is the same, too; its payload now carries a key.

# %%
for lost in ("send-message", "ack"):
    await scene(exact_chat, lost=lost, key=uuid.uuid4().hex)

# %% [markdown]
# *What to notice:* in the second picture the server sent the same ack twice and told Bob once. Keys
# belong to the user, not to the connection: after a reconnect the `sid` is another one, and the
# retry has to be recognised all the same.
#
# <details><summary>The client's side in JavaScript</summary>
#
# ```javascript
# async function sendReliably(text, tries = 3) {
#   const payload = { text, key: crypto.randomUUID() };
#   for (let attempt = 0; attempt < tries; attempt++) {
#     try {
#       return await socket.timeout(300).emitWithAck("send-message", payload);
#     } catch {
#       await new Promise((wake) => setTimeout(wake, 50 * 2 ** attempt));
#     }
#   }
#   throw new Error(`no answer in ${tries} tries`);
# }
# ```
#
# </details>
#
# **Try it.** In `scene`, change `at=1` to `at=(1, 2)`, and run from there on: three tries are just
# enough. What do you expect of `at=(1, 2, 3)`?
#
# ## One tick, two ticks
#
# An ack is *one* tick: the server has it. Whether Bob's device has it, or Bob has read it, only
# Bob's side can say. That is a [receipt](09_quick_reference.ipynb#Receipt), an event of its own
# that travels the other way. Your server after this lesson, [steps/step1.py](steps/step1.py), has
# them:

# %%
server = background(make_server)
alice, bob = [await raw_client(server, name=name, auth={"name": name}) for name in ("alice", "bob")]
for client in (alice, bob):
    await client.call("join-room", "general")
ack = await alice.call("send-message", {"text": "hello"})
await bob.wait_for("new-message")
for event in ("mark-delivered", "mark-read"):
    await bob.call(event, {"room": "general", "seq": bob.received[-1].data["seq"]})
await alice.wait_for("receipts", 2)
print("✓  stored as number", ack["seq"])
for receipt in alice.received.of("receipts"):
    print("✓✓", receipt.data["users"])

# %% [markdown]
# *What to notice:* a receipt names no message. It says how far Bob has come, as the message's
# number in the room, its [seq](09_quick_reference.ipynb#Seq). One number stands for all before it.
#
# ## Your server so far
#
# `step1.py` is `step0.py` with what you have just seen: every event is answered, a message is
# stored before its ack, a key brings no second one, and receipts travel back.
#
# <details><summary>The difference between step 0 and step 1</summary>
#
# ```diff
# --- step0.py
# +++ step1.py
# @@ -1,4 +1,4 @@
# -"""Step 0: a chat with rooms. It believes everybody and promises nothing.
# +"""Step 1: every event is answered, and an answer of ok means stored, once.
#
# -Run it alone: python notebooks/steps/step0.py --port 0
# +Run it alone: python notebooks/steps/step1.py --port 0
#  """
# @@ -7,2 +7,5 @@
#  import socket
# +import uuid
# +from collections import Counter
# +from datetime import UTC, datetime
#
# @@ -12,4 +15,28 @@
#
# -def make_server():
# +class Store:
# +    """Messages in memory, numbered in each room; a key that is known brings no second one."""
# +
# +    def __init__(self):
# +        self.messages = []
# +        self.newest = Counter()
# +        self.by_key = {}
# +
# +    async def append(self, user, room, text, key=None):
# +        """Store a message and return it, and whether it was there already."""
# +        known = self.by_key.get((user, room, key))
# +        if known:
# +            return known, True
# +        self.newest[room] += 1
# +        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
# +        message = {"id": uuid.uuid4().hex, "seq": self.newest[room], "timestamp": now}
# +        message |= {"user": user, "room": room, "text": text}
# +        self.messages.append(message)
# +        if key is not None:
# +            self.by_key[user, room, key] = message
# +        return message, False
# +
# +
# +def make_server(store=None):
#      sio = socketio.AsyncServer(async_mode="aiohttp")
# +    store = store or Store()
#
# @@ -27,2 +54,3 @@
#          await sio.emit("user-joined", joined, to=room, skip_sid=sid)
# +        return {"ok": True, "room": room}
#
# @@ -31,4 +59,25 @@
#          session = await sio.get_session(sid)
# -        message = {"user": session["user"], "room": session["room"], "text": data["text"]}
# -        await sio.emit("new-message", message, to=session["room"], skip_sid=sid)
# +        user, room = session["user"], session["room"]
# +        message, duplicate = await store.append(user, room, data["text"], data.get("key"))
# +        if not duplicate:
# +            await sio.emit("new-message", message, to=room, skip_sid=sid)
# +        ack = {name: message[name] for name in ("id", "seq", "timestamp")}
# +        return {"ok": True, **ack, "duplicate": duplicate}
# +
# +    async def report(sid, **cursors):
# +        async with sio.session(sid) as session:
# +            for name, seq in cursors.items():
# +                session[name] = max(session.get(name, 0), seq)
# +        seen = {name: session.get(name, 0) for name in ("delivered", "read")}
# +        receipts = {"room": session["room"], "users": {session["user"]: seen}}
# +        await sio.emit("receipts", receipts, to=session["room"], skip_sid=sid)
# +        return {"ok": True}
# +
# +    @sio.on("mark-delivered")
# +    async def mark_delivered(sid, data):
# +        return await report(sid, delivered=data["seq"])
# +
# +    @sio.on("mark-read")
# +    async def mark_read(sid, data):
# +        return await report(sid, delivered=data["seq"], read=data["seq"])
#
# ```
#
# </details>
#
# ## In chatlab
#
# [chatlab/server/chat.py](../chatlab/server/chat.py) has the same handler in its production form.
# Two of its lines matter here: the log gets the key, and only when the log has decided is the ack
# made, of what the log says.
#
# ```python
#         stored = self._rooms.serving.append(event, room, request.text, request.key)
#         return when(stored, _sent)
# ```
#
# The client's half, with one key for all tries, is in [chatlab/sending.py](../chatlab/sending.py).
#
# **Now you:** [the exercise](../exercises/01_acknowledgements.ipynb). You ack what is stored, send
# reliably, and (a stretch) make the retry exact.

# %%
for client in (alice, bob):
    await client.aclose()
wire.stop()
server.stop()

# %% [markdown]
# **Three things to remember**
#
# 1. `emit` returns when the message is in a buffer. Only an ack says more, and it says what the
#    handler did before it returned.
# 2. No answer does not mean that nothing happened.
# 3. Retry with the same key, and let the server give the same answer.
#
# Next: [02 Authentication](02_authentication.ipynb). In this lesson Alice said that she is Alice,
# and the server believed it.

# %% [markdown]
# ## Further
#
# Nothing later needs this part.
#
# ### How long to wait before the next try
#
# A server comes back, and 300 clients have been waiting for that.
# [Backoff](09_quick_reference.ipynb#Backoff) doubles the pause with each try.
# [Jitter](09_quick_reference.ipynb#Jitter) replaces it by a random part of itself. The pictures
# count tries in each tenth of a second, computed and not measured, when every try fails.

# %%
import matplotlib.pyplot as plt

from chatlab.backoff import Backoff
from chatlab.lab.plots import COLOURS, chart


def tries_at(pause, clients=300, tries=5):
    times = []
    for _ in range(clients):
        now = 0.0
        for attempt in range(tries):
            now += pause(attempt)
            times.append(now)
    return times


# %%
schedules = {
    "every 0.8 s": lambda attempt: 0.8,
    "backoff": lambda attempt: 0.2 * 2**attempt,
    "backoff with full jitter": Backoff(base=0.4).delay,
}
tenths = [n / 10 for n in range(71)]
columns = chart(x="seconds after the failure", y="tries in 0.1 s", columns=3, height=2.6)
for axis, (name, pause), colour in zip(columns, schedules.items(), COLOURS.values()):
    axis.hist(tries_at(pause), bins=tenths, color=colour)
    axis.set(title=name, ylim=(0, 320))
plt.show()

# %% [markdown]
# *What to notice:* without jitter all 300 come at the same moment, however long the pause. With it
# they come spread out, and the server gets room to breathe.
#
# ### When the connection is known to be gone
#
# A wire that is *closed* is another case: after a moment the client notices. Then python-socketio's
# `emit` raises.

# %%
server = background(naive_chat)
wire = Proxy(server)
alice = await raw_client(wire, name="alice", auth={"name": "alice"})
wire.cut()
await alice.wait_until_disconnected()
try:
    await alice.emit("send-message", {"text": "hello"})
except socketio.exceptions.SocketIOError as error:
    print(type(error).__name__)

# %% [markdown]
# The JavaScript client does something else: it keeps what is emitted while it is disconnected, and
# sends all of it once it is connected again, which may be minutes later.
#
# ### chatlab's client, over the same broken wire
#
# The real server in a process of its own, chatlab's own client, and a wire that swallows the second
# ack (the first is that of `join`). One line sends; the retry, the key and the pause are inside.

# %%
from chatlab import ChatClient
from chatlab.lab import Recorder, process

server = process()
wire = Proxy(server, drop="ack", at=2)
record = Recorder("alice", "client")
async with ChatClient(wire, server.token("alice"), timeout=1, recorder=record) as client:
    await client.join("general")
    sent = await client.send("hello")
print("seq", sent.seq, "· duplicate", sent.duplicate)
timeline(record, wire, only="send-message")

# %%
wire.stop()
server.stop()

# %% [markdown]
# ### The ticks, in a browser
#
# chatlab's server brings a chat page. `page` shows it here, as the user that you name. It is live
# in JupyterLab while the server runs; a reader elsewhere, as on GitHub, sees a card in its place.

# %%
server = process("--page", name="chat")
server.page(user="alice", room="general")

# %% [markdown]
# Write a message there. It gets one tick: the server has it. Then run the next cell, in which a
# program that plays Bob answers, and says that he has read everything up to his own answer.

# %%
bob = await ChatClient(server, server.token("bob")).connect()
await bob.join("general")
answer = await bob.send("hello, Alice")
await bob.mark_read("general", answer.seq)
await bob.close()

# %% [markdown]
# *What to notice:* every message that Alice wrote before gets its second tick, by one receipt with
# one number. Write another: one tick again, until you run the cell again.
#
# This server still runs, for you to try things on. `server.stop()` ends it, or the end of the
# kernel.
