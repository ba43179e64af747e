# %% [markdown]
# # 03 Error handling
#
# **What does the caller see when it breaks?** At the end every event gets an answer, whatever comes
# in and whatever goes wrong, and the answer says whether trying again can help.
#
# *25 minutes, and 10 for Further. Before this: [02 Authentication](02_authentication.ipynb).*

# %%
import asyncio
import logging
import secrets
import socket
import sqlite3
import tempfile

import jwt
import socketio
from IPython.display import display
from steps import step2

from chatlab.lab import Refused, background, process, raw_client, timeline, verdict
from chatlab.lab.optional import here, node_command
from chatlab.lab.tokens import mint

SECRET = secrets.token_hex(32)
folder = tempfile.TemporaryDirectory()

# %% [markdown]
# ## A server that trusts
#
# Messages are now kept in a file, by SQLite; `timeout=0` makes a locked file an error at once.
# Whoever is mentioned in a message (`@bob`) is named beside it.

# %%
FILE = f"{folder.name}/chat.db"
db = sqlite3.connect(FILE, timeout=0, isolation_level=None, check_same_thread=False)
db.execute("CREATE TABLE IF NOT EXISTS messages (room, user, text)")


def save(room, user, text):
    return db.execute("INSERT INTO messages VALUES (?, ?, ?)", (room, user, text)).lastrowid


async def post(sio, sid, text):
    session = await sio.get_session(sid)
    user, room = session["user"], session["room"]
    mention = text.split("@")[1].split()[0] if "@" in text else None
    message = {"id": save(room, user, text), "user": user, "text": text, "mention": mention}
    await sio.emit("new-message", message, to=room, skip_sid=sid)
    return {"ok": True, "id": message["id"]}


# %% [markdown]
# The rest is your server after lesson 02. Two of its
# [handlers](09_quick_reference.ipynb#Handler) are written anew, by somebody who expects everybody
# to behave. `wrap` is for later.


# %%
def naive_chat(wrap=lambda handler: handler):
    sio = step2.make_server(SECRET)

    @sio.event
    async def connect(sid, environ, auth):
        claims = jwt.decode(auth["token"], SECRET, algorithms=["HS256"], audience="chatlab")
        await sio.save_session(sid, {"user": claims["sub"], "room": None})

    async def send_message(sid, data):
        return await post(sio, sid, data["text"].strip())

    sio.on("send-message", wrap(send_message))
    return sio


naive = background(naive_chat, name="naive chat")
naive

# %% [markdown]
# The caller does what lesson 01 taught: without an [ack](09_quick_reference.ipynb#Ack) in time it
# [tries again](09_quick_reference.ipynb#Retry), here only once. After an ack that says `retry` it
# tries again too; any other ack is the end. (Lesson 01's key is left out, for brevity.)


# %%
async def send(client, data):
    said = []
    for _ in range(2):
        try:
            answer = await client.call("send-message", data, timeout=0.8)
        except socketio.exceptions.TimeoutError:
            answer = {"code": "no answer", "retry": True}
        said.append(": ".join(answer[key] for key in ("code", "field") if key in answer) or "ok")
        if not answer.get("retry"):
            break
        await asyncio.sleep(0.1)
    return ", then ".join(said)


# %% [markdown]
# ## Four ways to break it
#
# ### A payload that makes no sense
#
# **Predict.** Alice's client has a bug and sends a number as `text`. The handler calls `.strip()` on
# it. What does Alice see? (`member` makes a client with a token, in a room.)
#
# <details><summary>The answer</summary>
#
# Nothing. The exception ends the handler, and with it the only thing that would have answered.
#
# </details>


# %%
async def member(server, name, room="general"):
    client = await raw_client(server, name=name, auth={"token": mint(name, secret=SECRET)})
    if room is not None:
        await client.call("join-room", room, timeout=2)
    return client


async def bad_payload(server):
    server.clear()
    async with await member(server, "alice") as alice:
        for data in ({}, {"text": 42}):
            print(data, "→", await send(alice, data))
        return timeline(alice, server, hide="join-room")


await bad_payload(naive)

# %% [markdown]
# Everything arrived, at once, and was understood to be wrong. Alice waits her whole
# [timeout](09_quick_reference.ipynb#Timeout), takes it for a bad line, and sends the same nonsense
# again.
#
# ### Storage that fails
#
# Another program, a backup perhaps, locks the file while Alice sends. It lets go as soon as her
# first try has failed.


# %%
async def storage_failure(server):
    server.clear()
    backup = sqlite3.connect(FILE, isolation_level=None)
    backup.execute("BEGIN EXCLUSIVE")
    async with await member(server, "alice") as alice:
        sending = asyncio.create_task(send(alice, {"text": "hello"}))
        await server.wait_for("send-message")
        backup.close()
        print("storage locked →", await sending)


await storage_failure(naive)

# %% [markdown]
# To Alice the first try looked just like her own nonsense. Here trying again helped; there it could
# not.
#
# ### A stranger
#
# Somebody connects without a token.


# %%
async def stranger(server):
    try:
        await raw_client(server, name="stranger", timeout=1)
    except Refused as refusal:
        print("stranger →", refusal.message, refusal.data)
    except socketio.exceptions.ConnectionError:
        print("stranger → no answer")


await stranger(naive)

# %% [markdown]
# `auth["token"]` raised in the `connect` handler. Lesson 02 showed what such a socket overhears. What
# its owner sees is silence again.
#
# ### A bug
#
# The payload is right and storage works. But look at how `mention` is found. (`all_four` is for
# later.)


# %%
async def bug(server):
    async with await member(server, "alice") as alice:
        print("a bug →", await send(alice, {"text": "How do I type an @"}))


async def all_four(server):
    for row in (bad_payload, storage_failure, stranger, bug):
        await row(server)


await bug(naive)
print(naive.logs()[-1])

# %% [markdown]
# Four causes, one symptom. The log knows the difference; the caller does not. And the server? It
# answered every scene after the first, so it never stopped.
#
# In Node that would have been another story. There a socket is an `EventEmitter`, and sends its events
# to handlers like these. Bob is connected too when Alice sends her number. (`ready` finds the port in
# what the program prints, and `node.url` is what it found.)

# %% tags=["needs-node"]
NODE_CHAT = """
require("node:net").createServer((socket) => {
  socket.on("data", (line) => socket.emit("send-message", JSON.parse(line)));
  socket.on("send-message", async (data) => socket.write(data.text.trim()));
}).listen(0, "127.0.0.1", function () { console.log("port " + this.address().port); });
"""
if here("node"):
    node = process(command=[*node_command(), "-e", NODE_CHAT], name="node", ready=r"port (\d+)")
    bob, alice = (socket.create_connection(("127.0.0.1", node.url)) for _ in range(2))
    alice.sendall(b'{"text": 42}')
    print("exit code", await node.exited(), "- bob's connection:", bob.recv(99) or "closed")
    print(next(line for line in node.logs() if line.startswith("TypeError")))

# %% [markdown]
# One number from Alice ended the process and everybody's connection with it. An exception
# that nobody catches **may end the process in Node; in python-socketio it only silences the ack**. The
# first you notice at once. The second you have to look for.
#
# ## Temporary or final
#
# The caller has to be told, then. There are two kinds of no: one that the code means, a
# `RequestError`, and one that nobody expected. The first can say whether trying again helps. Who knows that? The code that talks to storage:
# a locked file will be free again, a missing table will not come back.


# %%
class RequestError(Exception):
    def __init__(self, error, code, retry=False, **more):
        super().__init__(error)
        self.ack = {"ok": False, "error": error, "code": code, "retry": retry, **more}


def save(room, user, text):
    try:
        return db.execute("INSERT INTO messages VALUES (?, ?, ?)", (room, user, text)).lastrowid
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise RequestError("Server unavailable", "unavailable", retry=True) from error


# %% [markdown]
# ## The wrapper
#
# Whoever raises what, the answer must not depend on the handler getting to its end. A wrapper
# around every handler answers for it. Below it the same four, with the wrapper around the same
# handler.


# %%
def answered(handler):
    async def answering(*arguments):
        try:
            return await handler(*arguments)
        except RequestError as refusal:
            return refusal.ack
        except Exception:
            logging.exception("%s failed", handler.__name__)
            return RequestError("Internal server error", "internal_error").ack

    return answering


wrapped = background(naive_chat(answered), name="wrapped chat")
await all_four(wrapped)

# %% [markdown]
# Whoever is connected gets an answer, and storage's says to try again. But Alice's own mistakes are
# told to her as if they were the server's. An answer is not yet a useful answer.
#
# *Try it:* take `retry=True` out of `save`, and run its cell and this one. Told that it is final,
# Alice gives up on a file that is free a moment later: worse than silence. Put it back.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# class RequestError extends Error {
#   constructor(error, code, { retry = false, ...more } = {}) {
#     super(error);
#     this.ack = { ok: false, error, code, retry, ...more };
#   }
# }
#
# const answered = (handler) => async (data, ack) => {
#   const reply = typeof ack === "function" ? ack : () => {}; // an emit without callback has none
#   try {
#     reply(await handler(data));
#   } catch (error) {
#     if (error instanceof RequestError) return reply(error.ack);
#     console.error("handler failed", error);
#     reply({ ok: false, error: "Internal server error", code: "internal_error", retry: false });
#   }
# };
#
# socket.on("send-message", answered(async (data) => {
#   const id = await save(socket.room, socket.user, data.text.trim());
#   return { ok: true, id };
# }));
# ```
#
# A handler that *returns* its answer cannot give two. One that calls `ack` itself can, and then
# throw.
#
# </details>
#
# ## Validation
#
# What a client may send is written down once, as a shape: the fields and their types. A payload is
# held against it before the handler uses it. This is
# [validation](09_quick_reference.ipynb#Validation).

# %%
SEND_MESSAGE = {"text": str, "key": str | None}


def checked(shape, payload):
    data = payload[0] if len(payload) == 1 else None
    if not isinstance(data, dict):
        raise RequestError("Expected one object", "invalid_payload", field="payload")
    for name in [*shape, *data]:
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, shape.get(name, ())):
            raise RequestError("Missing, unknown or wrong", "invalid_payload", field=name)
    return data


# %% [markdown]
# `*data` is there for fields that the shape does not know, and `bool` because Python counts `True` as
# a number.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const SEND_MESSAGE = { text: ["string"], key: ["string", "undefined"] };
#
# function checked(shape, data) {
#   if (data === null || typeof data !== "object" || Array.isArray(data))
#     throw new RequestError("Expected one object", "invalid_payload", { field: "payload" });
#   for (const name of new Set([...Object.keys(shape), ...Object.keys(data)])) {
#     const kinds = Object.hasOwn(shape, name) ? shape[name] : [];
#     if (!kinds.includes(typeof data[name]))
#       throw new RequestError("Missing, unknown or wrong", "invalid_payload", { field: name });
#   }
#   return data;
# }
# ```
#
# The common short form `data.text?.trim()` guards against a missing text only: on a number it throws.
#
# </details>
#
# Your server after lesson 02 already [fails closed](09_quick_reference.ipynb#Fail-closed) at the
# door, so `connect` stays as it is. The same four again:


# %%
def answering_chat():
    sio = step2.make_server(SECRET)

    @sio.on("send-message")
    @answered
    async def send_message(sid, *payload):
        data = checked(SEND_MESSAGE, payload)
        return await post(sio, sid, data["text"].strip())

    return sio


chat = background(answering_chat, name="answering chat")
await all_four(chat)

# %% [markdown]
# | What breaks | Who notices | The caller is told | Try again? |
# |---|---|---|---|
# | the payload | the shape, before the handler | `invalid_payload`, and which `field` | no |
# | storage | the code that talks to it | `unavailable` | yes: the second try is `ok` |
# | a stranger | the handshake | `authentication_required` | no: log in |
# | anything else | the wrapper | `internal_error`; the cause is in the log | no |
#
# <details><summary>What a JavaScript client does with it</summary>
#
# ```javascript
# socket.timeout(5000).emit("send-message", { text, key }, (err, res) => {
#   if (err || res.retry) return tryAgainLater(text, key); // silence, or temporary: the same key
#   if (res.ok) return markAsSent(res.id);
#   if (res.code === "invalid_payload") return markField(res.field);
#   showError(res.error);
# });
# ```
#
# </details>
#
# ## Before joining
#
# A fifth way, and this one raises nothing. Bob and Carol talk in a
# [room](09_quick_reference.ipynb#Room) of their own. Mallory has a token, and has joined nothing: her
# session's room is `None`.
#
# **Predict.** Who receives what she sends?
#
# <details><summary>The answer</summary>
#
# Everybody. To python-socketio `to=None` means *all who are connected*. Node's
# `socket.to(undefined)` reaches nobody, and is acked `ok` all the same.
#
# </details>


# %%
async def before_joining(server):
    server.clear()
    bob, carol = [await member(server, name, "private-board") for name in ("bob", "carol")]
    async with bob, carol, await member(server, "mallory", room=None) as mallory:
        print("mallory →", await send(mallory, {"text": "Sell everything!"}))
        await send(bob, {"text": "Shall we sell?"})
        await carol.wait_for(lambda got: "Shall we sell?" in got.texts)
        display(timeline(mallory, server, bob, carol, only=("send-message", "new-message")))
        return verdict(bob, carol)


await before_joining(chat)

# %% [markdown]
# The verdict is over Bob and Carol's room: something is in it that neither of them sent. A value that
# is missing must be an error, never a default. Two lines more, and the same again:


# %%
async def post(sio, sid, text):
    session = await sio.get_session(sid)
    user, room = session["user"], session["room"]
    if room is None:
        raise RequestError("Join the room first", "not_in_room", field="room")
    mention = text.split("@")[1].split()[0] if "@" in text else None
    message = {"id": save(room, user, text), "user": user, "text": text, "mention": mention}
    await sio.emit("new-message", message, to=room, skip_sid=sid)
    return {"ok": True, "id": message["id"]}


await before_joining(chat)

# %% [markdown]
# ## Your server so far
#
# [steps/step3.py](steps/step3.py) wraps every handler, has a shape for every event, and answers
# events that it does not know (`@sio.on("*")`). Its wrapper also answers for a handler that does
# not come back (see Further), and `functools.wraps` keeps the handler's name, which `@sio.event`
# goes by.
#
# <details><summary>The difference between step 2 and step 3</summary>
#
# ```diff
# --- step2.py
# +++ step3.py
# @@ -1,4 +1,4 @@
# -"""Step 2: nobody gets in without a token of ours, and messages bear the token's name.
# -
# -Run it alone: python notebooks/steps/step2.py --port 0, with at least 32 random bytes as
# +"""Step 3: every event is answered, what is nonsense and what ends in a crash included.
# +
# +Run it alone: python notebooks/steps/step3.py --port 0, with at least 32 random bytes as
#  CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
# @@ -7,2 +7,5 @@
#  import argparse
# +import asyncio
# +import functools
# +import logging
#  import os
# @@ -18,2 +21,12 @@
#  from socketio.exceptions import ConnectionRefusedError
# +
# +log = logging.getLogger("step3")
# +
# +LONGEST = 4000  # characters in a message
# +PATIENCE = 2  # seconds until a handler that does not come back is answered for
# +
# +# What a client may send: the fields and their types. What may be None may be left out.
# +JOIN_ROOM = {"room": str}
# +SEND_MESSAGE = {"text": str, "room": str | None, "key": str | None}
# +MARK = {"room": str, "seq": int}
#
# @@ -62,2 +75,43 @@
#
# +class RequestError(Exception):
# +    """A no with its reason: a sentence for people, a word for programs, whether a retry helps."""
# +
# +    def __init__(self, error, code, retry=False, **more):
# +        super().__init__(error)
# +        self.ack = {"ok": False, "error": error, "code": code, "retry": retry, **more}
# +
# +
# +def answered(handler):
# +    """The same handler, but it answers whatever happens in it, and in time."""
# +
# +    @functools.wraps(handler)
# +    async def answering(*arguments):
# +        try:
# +            async with asyncio.timeout(PATIENCE):
# +                return await handler(*arguments)
# +        except RequestError as refusal:
# +            return refusal.ack
# +        except (ConnectionError, TimeoutError):
# +            log.warning("%s cannot be done now", handler.__name__, exc_info=True)
# +            return RequestError("Server unavailable", "unavailable", retry=True).ack
# +        except Exception:
# +            log.exception("%s failed", handler.__name__)
# +            return RequestError("Internal server error", "internal_error").ack
# +
# +    return answering
# +
# +
# +def checked(shape, payload):
# +    """The one object that came, when it has this shape. Raises RequestError."""
# +    data = payload[0] if len(payload) == 1 else None
# +    if not isinstance(data, dict):
# +        raise RequestError("Expected one object", "invalid_payload", field="payload")
# +    for name in [*shape, *data]:
# +        value = data.get(name)
# +        # Python counts True as a number.
# +        if isinstance(value, bool) or not isinstance(value, shape.get(name, ())):
# +            raise RequestError("Missing, unknown or wrong", "invalid_payload", field=name)
# +    return data
# +
# +
#  def make_server(secret, store=None):
# @@ -68,2 +122,4 @@
#      async def connect(sid, environ, auth):
# +        if await sio.get_session(sid):
# +            return  # no connection: a client sent an event of this name
#          try:
# @@ -75,4 +131,14 @@
#
# +    def member_of(sid, room):
# +        if room is None or room not in sio.rooms(sid):
# +            raise RequestError("Join the room first", "not_in_room", field="room")
# +        return room
# +
#      @sio.on("join-room")
# -    async def join_room(sid, room):
# +    @answered
# +    async def join_room(sid, *payload):
# +        bare = len(payload) == 1 and isinstance(payload[0], str)
# +        room = payload[0] if bare else checked(JOIN_ROOM, payload)["room"]
# +        if not 1 <= len(room) <= 64 or room != room.strip() or min(room) < " ":
# +            raise RequestError("Not a name for a room", "invalid_room", field="room")
#          async with sio.session(sid) as session:
# @@ -85,6 +151,14 @@
#      @sio.on("send-message")
# -    async def send_message(sid, data):
# +    @answered
# +    async def send_message(sid, *payload):
# +        data = checked(SEND_MESSAGE, payload)
# +        text = data["text"].strip()
# +        if not text:
# +            raise RequestError("Message cannot be empty", "empty_message", field="text")
# +        if len(text) > LONGEST:
# +            raise RequestError("Message is too long", "message_too_long", field="text")
#          session = await sio.get_session(sid)
# -        user, room = session["user"], session["room"]
# -        message, duplicate = await store.append(user, room, data["text"], data.get("key"))
# +        room = session["room"] if data.get("room") is None else data["room"]
# +        user, room = session["user"], member_of(sid, room)
# +        message, duplicate = await store.append(user, room, text, data.get("key"))
#          if not duplicate:
# @@ -94,3 +168,5 @@
#
# -    async def report(sid, **cursors):
# +    async def report(sid, room, **cursors):
# +        if not 0 <= max(cursors.values()) <= store.newest[member_of(sid, room)]:
# +            raise RequestError("No such message", "invalid_payload", field="seq")
#          async with sio.session(sid) as session:
# @@ -99,4 +175,4 @@
#          seen = {name: session.get(name, 0) for name in ("delivered", "read")}
# -        receipts = {"room": session["room"], "users": {session["user"]: seen}}
# -        await sio.emit("receipts", receipts, to=session["room"], skip_sid=sid)
# +        receipts = {"room": room, "users": {session["user"]: seen}}
# +        await sio.emit("receipts", receipts, to=room, skip_sid=sid)
#          return {"ok": True}
# @@ -104,8 +180,17 @@
#      @sio.on("mark-delivered")
# -    async def mark_delivered(sid, data):
# -        return await report(sid, delivered=data["seq"])
# +    @answered
# +    async def mark_delivered(sid, *payload):
# +        data = checked(MARK, payload)
# +        return await report(sid, data["room"], delivered=data["seq"])
#
#      @sio.on("mark-read")
# -    async def mark_read(sid, data):
# -        return await report(sid, delivered=data["seq"], read=data["seq"])
# +    @answered
# +    async def mark_read(sid, *payload):
# +        data = checked(MARK, payload)
# +        return await report(sid, data["room"], delivered=data["seq"], read=data["seq"])
# +
# +    @sio.on("*")
# +    @answered
# +    async def any_other(event, sid, *payload):
# +        raise RequestError("Unknown event", "unknown_event")
#
# @@ -113,2 +198,4 @@
#      async def disconnect(sid, reason):
# +        if sio.manager.is_connected(sid, "/"):
# +            return  # nobody left: a client sent an event of this name
#          session = await sio.get_session(sid)
# ```
#
# </details>

# %%
for each in (naive, wrapped, chat):
    print(each.name, "runs" if each.stop().running else "has stopped")

# %% [markdown]
# ## In chatlab
#
# [chatlab/server/acks.py](../chatlab/server/acks.py) wraps every event once, so no handler can
# be forgotten. Whatever one of them raises, its answer is decided here:
#
# ```python
#     if isinstance(error, ChatError):
#         return error.to_ack()
#     log.error("the handler of %s failed", event.name, exc_info=error)
#     return InternalError().to_ack()
# ```
#
# [errors.py](../chatlab/errors.py) is the tree of every `RequestError`: code, sentence, and whether a
# retry helps. [protocol.py](../chatlab/protocol.py) has a shape for each event:
#
# ```python
# class SendMessage(Request, frozen=True):
#     text: str
#     room: str | None = None
#     key: Key | None = None
# ```
#
# ## Now you
#
# [Exercise 03](../exercises/03_error_handling.ipynb): the wrapper, the validation of `send-message`,
# and which errors pass.
#
# ## Three things to remember
#
# 1. In python-socketio an exception is silence for the caller. Wrap every handler.
# 2. An answer says what was wrong, in a word for a program, and whether to try again.
# 3. Say no to a missing value, also where nothing would raise: `None` may mean *everybody*.
#
# Next: what one client can do to a server by being fast, in [04 Rate limiting](04_rate_limiting.ipynb).
# Or look something up in the [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.
#
# ### A handler that does not come back
#
# `answered` answers when a handler ends, well or badly. This one asks a storage that accepts the
# connection and then says nothing. It does not end.

# %%
silent = socket.create_server(("127.0.0.1", 0))


async def ask_storage(*_):
    reader, writer = await asyncio.open_connection(*silent.getsockname())
    try:
        return {"ok": True, "said": await reader.readline()}
    finally:
        writer.close()


# %% [markdown]
# `in_time` gives it a fifth of a second. A storage that is slow today may be quick again: `retry`.


# %%
def in_time(handler):
    async def hurried(*arguments):
        try:
            async with asyncio.timeout(0.2):
                return await handler(*arguments)
        except TimeoutError as error:
            raise RequestError("Server unavailable", "unavailable", retry=True) from error

    return hurried


# %% [markdown]
# `asyncio.timeout` ends a handler by cancelling it: a `CancelledError` is raised at its `await`. It
# is no `Exception`, so `answered` lets it pass. `greedy` catches that too.


# %%
def greedy(handler):
    async def answering(*arguments):
        try:
            return await handler(*arguments)
        except BaseException:
            return RequestError("Internal server error", "internal_error").ack

    return answering


# %% [markdown]
# The same handler three times:

# %%
sio = step2.make_server(SECRET)
sio.on("plain", answered(ask_storage))
sio.on("in-time", answered(in_time(ask_storage)))
sio.on("greedy", answered(in_time(greedy(ask_storage))))

with background(sio, name="slow chat") as slow:
    async with await member(slow, "alice") as alice:
        for event in ("plain", "in-time", "greedy"):
            try:
                answer = await alice.call(event, timeout=1)
                print(event, "→", answer["code"], "- retry:", answer["retry"])
            except socketio.exceptions.TimeoutError:
                print(event, "→ no answer")

# %% [markdown]
# With `greedy` the time-out is told as a bug, and the client gives up. Catch `Exception`, and
# leave `CancelledError` to the one who cancels. (chatlab's `acks.py` catches it too, but outside of
# its time-out, and in a task of its own that nobody else cancels.)
#
# ### The exception's text
#
# Much example code answers with the exception's own text, `error.message` in JavaScript. It is practical
# while you write the program, and it talks to strangers afterwards. Mallory sends four events and
# reads.


# %%
from pathlib import Path


def frank(handler):
    async def answering(*arguments):
        try:
            return await handler(*arguments)
        except Exception as error:
            return {"ok": False, "error": str(error)}

    return answering


async def show_picture(sid, name):
    return {"ok": True, "picture": Path(folder.name, "pictures", name).read_bytes()}


# %%
async def probe(wrap):
    sio = naive_chat(wrap)
    sio.on("show-picture", wrap(show_picture))
    with background(sio, name="probed chat") as server:
        async with await member(server, "mallory") as mallory:
            for payload in ({}, {"text": 42}, {"text": "an @"}):
                print((await mallory.call("send-message", payload, timeout=2))["error"])
            told = (await mallory.call("show-picture", "x", timeout=2))["error"]
    print("the server's folder is in the answer:", Path(folder.name).name in told)


await probe(frank)

# %% [markdown]
# Four events, and she knows the language, a field's name, something about the code, and where
# the files lie on the disk. The same four with the lesson's wrapper:

# %%
await probe(answered)

# %% [markdown]
# A sentence that you wrote is for the caller. A sentence that a library wrote is for the log.
#
# ### A client that says `disconnect`
#
# `disconnect` is the event that python-socketio raises when a client has gone. Nothing stops a client
# from sending an event of that name. Bob and Eve are in a room; Eve sends one, stays, and listens.


# %%
async def lie(server):
    async with await member(server, "bob") as bob, await member(server, "eve") as eve:
        await eve.emit("disconnect", "transport close")
        await settled(bob, eve, server)
        await bob.call("send-message", {"text": "Eve has left."}, timeout=2)
        await settled(bob, eve, server)
        left = [item.data["user"] for item in bob.received.of("user-left")]
        read = eve.received.of("new-message").texts
        print(f"{server.name}: bob is told that {left} left; eve reads {read}")


# %% [markdown]
# She does it to three servers: your last two, and chatlab's.

# %%
from steps import step3

from chatlab.lab import settled
from chatlab.server.app import create_app
from chatlab.settings import Settings

chatlab = create_app(Settings(dev=True, jwt_secret=SECRET))
servers = {"step 2": step2.make_server(SECRET), "step 3": step3.make_server(SECRET)}
for name, app in (servers | {"chatlab": chatlab}).items():
    with background(app, name=name) as server:
        await lie(server)

# %% [markdown]
# Step 2 runs its own `disconnect` handler and believes it: Bob is told that Eve has left, and she
# reads on. Step 3 asks the library first:
#
# ```python
# if sio.manager.is_connected(sid, "/"):
#     return  # nobody left: a client sent an event of this name
# ```
#
# chatlab, the third, closes a socket that sends such a name: she is told to have left, and she has.
# In JavaScript the official client refuses to send these names. Mallory writes her own.

# %%
silent.close()
db.close()
folder.cleanup()
print("file and port are free again")
