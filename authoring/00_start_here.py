# %% [markdown]
# # 00 Start here
#
# **What runs where?** You start a chat server, send a message through it, and see every step of its
# way.
#
# *20 minutes, and 5 for Further. Nothing comes before this.*
#
# Over the lessons you turn it into a server that you can trust. Each lesson asks one question. It
# begins with code that looks right, **breaks it with a real fault**, and repairs it in a few lines.
#
# | Lesson | Its question |
# |---|---|
# | 00 Start here | What runs where? |
# | [01 Acknowledgements](01_acknowledgements.ipynb) | How does the sender know? |
# | [02 Authentication](02_authentication.ipynb) | Who is that? |
# | [03 Error handling](03_error_handling.ipynb) | What does the caller see when it breaks? |
# | [04 Rate limiting](04_rate_limiting.ipynb) | What if one client sends 50,000 events? |
# | [05 Scaling out](05_scaling_out.ipynb) | Two servers: are they one chat? |
# | [06 Surviving failure](06_surviving_failure.ipynb) | What is lost when something breaks? |
# | [07 Capacity](07_capacity.ipynb) | How many users does it hold? |
# | [08 Going to production](08_going_to_production.ipynb) | What is wrong with this server? |
# | [09 Quick reference](09_quick_reference.ipynb) | How was that written? And every word explained |
#
# You need to know Python's functions and decorators, to have seen `async` and `await` once, and to
# know what an HTTP request is. JavaScript stands folded beside the Python, for those who come from
# it; you can do without.
#
# Run a cell with Shift+Enter, or all of them with *Run All Cells*. What you see in the folder
# `work/` is your own copy: change what you like. Every cell may be run again.

# %%
import os
import sys
import threading
import urllib.request

import socketio

from chatlab import doctor
from chatlab.lab import background, process, progress, raw_client, timeline

# %% [markdown]
# ## What this machine has
#
# ✓ is here. ○ is missing, and the line below says what the lessons do without it.

# %% tags=["nbval-ignore-output"]
doctor.report()

# %% [markdown]
# ## Five words
#
# With HTTP, the client asks and the server answers. A chat needs more: the server has to speak
# first, when somebody else has written something. Socket.IO keeps a connection open, and both sides
# send [events](09_quick_reference.ipynb#Event) over it: a name and some data.
#
# - A [handler](09_quick_reference.ipynb#Handler) is the function that runs when an event of that
#   name arrives.
# - The [`sid`](09_quick_reference.ipynb#Sid) is the name of the connection that the event came
#   over. The library makes it up.
# - A [room](09_quick_reference.ipynb#Room) is a set of connections. The server puts them in;
#   [joining](09_quick_reference.ipynb#Join) is no more than that.
# - `emit` sends an event. `to="general"` says to which room, `skip_sid=sid` leaves one connection
#   out.

# %%
sio = socketio.AsyncServer(async_mode="aiohttp")


@sio.on("join-room")
async def join_room(sid, room):
    await sio.enter_room(sid, room)


@sio.on("send-message")
async def send_message(sid, data):
    await sio.emit("new-message", data, to="general", skip_sid=sid)


# %% [markdown]
# Read the second handler aloud: when `send-message` arrives, send `new-message` with the same data
# to everybody in *general* but the one it came from. To many at once: that is a
# [broadcast](09_quick_reference.ipynb#Broadcast).
#
# Why `@sio.on("send-message")`? In python-socketio a handler may also be named after its event,
# with `@sio.event` above it. But a function cannot have a hyphen in its name, and these events have
# one, as they do in JavaScript.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# io.on("connection", (socket) => {
#   socket.on("join-room", (room) => socket.join(room));
#
#   socket.on("send-message", (data) => {
#     socket.to("general").emit("new-message", data); // never to the sender itself
#   });
# });
# ```
#
# </details>
#
# ## Start it
#
# `background` starts the server and shows its card: where it listens, where it runs, which events
# it handles.

# %%
server = background(sio)
server

# %% [markdown]
# *Who gets in: everybody.* Keep that line in mind until lesson 02.
#
# Now two clients. `raw_client` makes the plain client of python-socketio, which here keeps a
# record of what it did and saw.

# %%
alice = await raw_client(server, name="alice")
bob = await raw_client(server, name="bob")
await alice.emit("join-room", "general")
await server.wait_for("join-room")
await bob.emit("join-room", "general")
await server.wait_for("join-room", 2)
server.received

# %% [markdown]
# `wait_for` waits until the server has been given that many `join-room` events. `emit` itself does
# not wait for anything on the other side; lesson 01 is about that.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# import { io } from "socket.io-client";
#
# const alice = io("http://localhost:3001");
# alice.emit("join-room", "general");
# alice.on("new-message", (message) => console.log(message.text));
# ```
#
# </details>
#
# ## Send
#
# **Predict.** Alice and Bob are both in the room. Alice sends one message. Who gets `new-message`?
#
# <details><summary>The answer</summary>
#
# Bob alone. `skip_sid=sid` leaves out the connection that sent it. Alice knows what she wrote.
#
# </details>

# %%
await alice.emit("send-message", {"text": "hello"})
await bob.wait_for("new-message")
print("alice:", alice.received)
print("bob:  ", bob.received)

# %% [markdown]
# ## See it
#
# Clients and server of this workshop remember what they sent and received. `timeline` draws it: one
# lane for each, time goes down, an arrow is an event on its way.

# %%
timeline(alice, server, bob)

# %% [markdown]
# *What to notice:* one arrow comes in, another goes out. The server sits between the two, and
# everything that you will repair happens there or on the arrows.
#
# **Try it.** Remove `, skip_sid=sid` from the handler and run its cell again, then run all cells
# from *Start it* on. Who gets the message now?
#
# ## What runs where
#
# The *kernel* is the Python process behind this page; it runs your cells and the clients, on one
# thread. The server runs in the same process on a thread of its own. So it shares your variables,
# and it answers while a cell is busy. Here a handler writes into a list of this notebook; then the
# cell does nothing but wait for an HTTP answer, and gets it.

# %%
server.clear()  # forget what came before, so that `wait_for` counts from here
seen = []


@sio.on("where")
async def where(sid):
    seen.append((os.getpid(), threading.get_ident()))


await alice.emit("where")
await server.wait_for("where")
print("same process:", seen[0][0] == os.getpid())
print("same thread: ", seen[0][1] == threading.get_ident())
with urllib.request.urlopen(f"{server.url}/socket.io/?EIO=4&transport=polling") as answer:
    print("answered:    ", answer.status)

# %% [markdown]
# Some lessons need a server that can be killed. That one is a *process* of its own, which shares
# nothing with this page. Here is one: [steps/step0.py](steps/step0.py), the server from above as a
# program of sixty lines. It also knows names, lets everybody choose a room, and tells the others
# who came and went.

# %%
own = process("--port", "0", name="step0", command=[sys.executable, "steps/step0.py"])
carol = await raw_client(own, name="carol", auth={"name": "carol"})
dave = await raw_client(own, name="dave", auth={"name": "dave"})
for client in (carol, dave):
    await client.call("join-room", "kitchen")  # one after the other: `call` waits for an answer
await carol.wait_for("user-joined")
await dave.disconnect()
await carol.wait_for("user-left")
carol.received

# %% [markdown]
# This file is yours. It grows with the lessons, up to `step5.py`, and each lesson that changes it
# ends with the difference. You can run any of them in a terminal: `python
# notebooks/steps/step0.py`.
#
# ## Stop it
#
# Every lesson ends so. A server that you forget to stop ends with the kernel.

# %%
for client in (alice, bob, carol):
    await client.aclose()
own.stop()
server.stop()

# %% [markdown]
# ## Exercises, and how far you are
#
# Lessons 01 to 07 each have an exercise with a check that tells you what it saw. After lesson 08 you
# [write a server of your own](../exercises/08_going_to_production.ipynb). Tasks that you have solved
# are ticked off here; run the cell whenever you like.

# %%
progress()

# %% [markdown]
# **Three things to remember**
#
# 1. An event has a name and data; a handler runs when it arrives; the `sid` says over which
#    connection.
# 2. Clients are in rooms because the server put them there.
# 3. The server runs on its own thread: a busy cell does not stop it.
#
# Next: [01 Acknowledgements](01_acknowledgements.ipynb), where a message gets lost and nobody
# notices.

# %% [markdown]
# ## Further
#
# Nothing later needs this part.
#
# ### A pasted script that calls `asyncio.run`
#
# Cells here use `await` directly: the kernel has a running event loop, and your cell runs on it. A
# script from elsewhere brings its own loop, and `asyncio.run(main())` says *cannot be called from a
# running event loop*. The usual advice is `import nest_asyncio; nest_asyncio.apply()`. With the
# kernel that runs this page, do not take it.
#
# To see why, start a second kernel and send it four cells at once, as *Run All* does. The second is
# the pasted script.

# %%
import asyncio
from queue import Empty

from jupyter_client.manager import start_new_async_kernel

from chatlab.lab import allow_nested_loops

PASTED = """
import asyncio
async def main():
    await asyncio.sleep(1)
asyncio.run(main())
"""


# %%
async def run_all(*cells):
    manager, client = await start_new_async_kernel(extra_arguments=["--log-level=ERROR"])
    replies = {client.execute(cell): "never ran" for cell in cells}
    try:
        while "never ran" in replies.values():
            script_ran = list(replies.values())[1] != "never ran"
            reply = await client.get_shell_msg(timeout=2 if script_ran else 20)
            if reply["parent_header"]["msg_id"] in replies:
                replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    except Empty:
        pass  # nothing came for two seconds, and nothing will
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    return list(replies.values())


# %%
await run_all("import nest_asyncio; nest_asyncio.apply()", PASTED, "1 + 1", "2 + 2")

# %% [markdown]
# The script ran. The two cells behind it never did, and nothing said so: no error, no mark. While
# the script waits, the patched loop takes the next cell of the queue, and this kernel (ipykernel 7)
# cannot begin a cell inside another.
#
# `allow_nested_loops` looks at the kernel and picks the patch that fits: `nest_asyncio2` here,
# `nest_asyncio` in older kernels, such as those of some hosted notebooks.

# %%
allow_nested_loops()


# %%
async def main():
    await asyncio.sleep(0.2)
    return "the script ran"


asyncio.run(main())

# %%
"and so did the cell behind it"

# %% [markdown]
# So, for a pasted script: call `allow_nested_loops()` once, first. For your own code: write `await
# main()`.
