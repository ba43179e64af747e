# %% [markdown]
# # 02 Authentication
#
# **Who is that?** At the end nobody connects without proof of who they are, and no message bears a
# false name.
#
# *25 minutes, and 10 for Further. Before this: [01 Acknowledgements](01_acknowledgements.ipynb).
# Its server asks each client for a name and believes the answer.*

# %%
import base64
import secrets
import time
import warnings

import jwt
import socketio
from socketio.exceptions import ConnectionRefusedError
from steps import step1, step2

from chatlab.lab import Refused, background, raw_client, settled, timeline

server = background(step1.make_server(), name="step 1")
server

# %% [markdown]
# ## The open door
#
# "Its connect handler decides", says the card. This one takes the name that it is given and never
# says no. Bob listens in a room; Mallory connects as alice and writes to him. `impersonate` does
# this to any server and returns what Bob reads.


# %%
async def impersonate(server, bob, mallory):
    async with (
        raw_client(server, name="bob", auth=bob) as reader,
        raw_client(server, name="mallory", auth=mallory) as writer,
    ):
        for client in (reader, writer):
            await client.call("join-room", "general", timeout=2)
        await writer.emit("send-message", {"text": "What was the door code?", "user": "alice"})
        await reader.wait_for("new-message")
        return f"{reader.received[-1].data['user']}: {reader.received[-1].text}"


await impersonate(server, bob={"name": "bob"}, mallory={"name": "alice"})

# %% [markdown]
# Bob has no way to see the difference. [Authentication](09_quick_reference.ipynb#Authentication)
# is what is missing: finding out who somebody is from something that others cannot copy.
#
# ## A token
#
# A [token](09_quick_reference.ipynb#Token) (a JWT) is a note from a login service: this is alice,
# until ten past four. The note bears a [signature](09_quick_reference.ipynb#Signature), and only
# who knows the secret can make one. Here the login service is one function; its notes are good
# for eight hours, so that you can take a break. Each entry is a [claim](09_quick_reference.ipynb#Claim): `sub` says who, `exp`
# until when, `iss` by whom, `aud` for which service.

# %%
SECRET = secrets.token_hex(32)  # made anew here; a real one comes from the environment


def token(user, secret=SECRET, algorithm="HS256", **claims):
    now = int(time.time())
    usual = {"sub": user, "iss": "chatlab", "aud": "chatlab", "iat": now, "exp": now + 28800}
    claims = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


header, payload, signature = token("alice", iat=None, exp=None).split(".")
base64.urlsafe_b64decode(payload + "==").decode()

# %% [markdown]
# No secret was needed for the last line. Everybody can *read* a token, so nothing private belongs
# in it.
#
# ## A token in every payload
#
# Many begin like this: each event carries the token, and each handler looks at it. One handler
# was written in a hurry.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const token = jwt.sign({ sub: "alice" }, SECRET, {
#   issuer: "chatlab", audience: "chatlab", expiresIn: "8h",
# });
#
# socket.on("send-message", (data, ack) => {
#   const { sub } = jwt.verify(data.token, SECRET, { algorithms: ["HS256"], audience: "chatlab" });
#   messages.push(`${sub}: ${data.text}`);
#   ack({ ok: true });
# });
# socket.on("history", (data, ack) => ack({ ok: true, messages }));   // forgot
# ```
#
# </details>


# %%
def forgetful():
    sio, messages = socketio.AsyncServer(async_mode="aiohttp"), []

    @sio.on("send-message")
    async def send_message(sid, data):
        user = jwt.decode(data["token"], SECRET, algorithms=["HS256"], audience="chatlab")["sub"]
        messages.append(f"{user}: {data['text']}")
        return {"ok": True}

    @sio.on("history")
    async def history(sid, data):
        return {"ok": True, "messages": messages}

    return sio


# %% [markdown]
# **Predict:** Eve has no token. What can she do to this server?
#
# <details><summary>The answer</summary>
#
# She cannot send: PyJWT refuses her. She can read everything that was ever sent, because `history`
# does not ask.
#
# </details>


# %%
async def steal(server, eve=None):
    alices = token("alice")
    async with raw_client(server, name="alice", auth={"token": alices}) as alice:
        await alice.call("send-message", {"text": "It is 4711.", "token": alices}, timeout=2)
    try:
        async with raw_client(server, name="eve", auth=eve) as thief:
            return (await thief.call("history", {}, timeout=2))["messages"]
    except Refused as refusal:
        return f"refused: {refusal.message}"


leaky = background(forgetful(), name="forgetful")
await steal(leaky)

# %% [markdown]
# A check that must be written into every handler is missing in one of them, sooner or later.
#
# ## The handshake
#
# Socket.IO has one place that every client passes: the
# [handshake](09_quick_reference.ipynb#Handshake). What a client gives as `auth` arrives there,
# once, before any event. In python-socketio it arrives in the `connect` handler. Raising
# `ConnectionRefusedError` there is what `next(new Error(…))` is in Node, and `save_session` keeps
# what Node code keeps in `socket.userId`: the [session](09_quick_reference.ipynb#Session).
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# // server: a middleware sees every attempt to connect
# io.use((socket, next) => {
#   try {
#     const claims = verify(socket.handshake.auth.token);
#     socket.userId = claims.sub;                 // every handler of this socket can read it
#     next();
#   } catch {
#     const refusal = new Error("Invalid token"); // .message reaches the client,
#     refusal.data = { code: "invalid_token" };   // and so does .data
#     next(refusal);
#   }
# });
#
# // client: sent once, not with each event
# const socket = io(url, { auth: { token: await freshToken() } });
# socket.on("connect_error", (error) => {
#   if (error.data?.code === "authentication_required") goToLogin();
#   else if (error.data?.retry) setTimeout(() => socket.connect(), 1000);
#   else show(error.message);
# });
# ```
#
# </details>


# %%
def verify(token):
    return jwt.decode(token, options={"verify_signature": False})["sub"]


async def require_token(auth, session):
    try:
        session["user"] = verify(auth["token"])
    except jwt.InvalidTokenError:
        refusal = {"code": "invalid_token", "retry": False}
        raise ConnectionRefusedError("Invalid token", refusal) from None


async def run(checks, auth, session):
    for check in checks:
        await check(auth, session)


# %% [markdown]
# Node runs each function given to `io.use`, in order, and calls them
# [middleware](09_quick_reference.ipynb#Middleware). python-socketio has none. A loop is enough, `run`,
# in a `connect` handler:


# %%
def guard(sio, *checks):
    @sio.event
    async def connect(sid, environ, auth):
        session = {"room": None}
        await run(checks, auth, session)
        await sio.save_session(sid, session)

    return sio


chat = background(guard(step1.make_server(), require_token), name="guarded chat")
leaky = background(guard(forgetful(), require_token), name="forgetful")
bob, mallory = {"token": token("bob")}, {"token": token("mallory"), "name": "alice"}
print(await impersonate(chat, bob, mallory))
print(await steal(leaky, eve={"token": "a guess"}))

# %% [markdown]
# Both attacks again. Mallory still calls herself alice, in `auth` and in the payload; nobody asks
# her any more. And `history` is as forgetful as before, but Eve does not get near it.
#
# The client is told why: `message` for a person, `code` for a program. In JavaScript and in
# python-socketio they arrive at the `connect_error` handler; the lab's `raw_client` raises them
# as `Refused`.
#
# ## Verifier one: reads the token
#
# Look at `verify` again: `verify_signature` is off, which makes every error message go away.
# Mallory now tries nine tokens at the door. Only the first is hers to use.

# %%
TOKENS = {
    "honest": token("mallory"),
    "signed by herself": token("alice", secret=secrets.token_hex(32)),
    "not signed, alg none": jwt.encode({"sub": "alice"}, None, algorithm="none"),
    "ended in 1970": token("alice", exp=1),
    "another algorithm": token("alice", algorithm="HS512"),
    "for another service": token("alice", aud="billing"),
    "for no service": token("alice", aud=None),
    "without an end": token("alice", exp=None),
    "for no service, no end": token("alice", aud=None, exp=None),
}

# %% [markdown]
# `try_all` judges: ✓ where the door did what it should, ✗ where it did not.


# %%
async def try_all(server):
    for name, each in TOKENS.items():
        try:
            async with raw_client(server, auth={"token": each}):
                print("✓" if name == "honest" else "✗", "let in: ", name)
        except Refused:
            print("✗" if name == "honest" else "✓", "refused:", name)


await try_all(chat)

# %% [markdown]
# ## Verifier two: checks the signature
#
# The server keeps running; the new `verify` replaces the old one in it.


# %%
def verify(token):
    return jwt.decode(token, SECRET, algorithms=["HS256"])["sub"]


await try_all(chat)

# %% [markdown]
# PyJWT by itself refuses what is forged, unsigned, over, or signed with an algorithm that you
# did not list. The rest it leaves to you:
#
# - It refuses tokens that name an audience as long as *you* name none, Mallory's honest one too.
#   The tempting way out is to leave `aud` out of the tokens. Then a token that any other service
#   made with this secret opens this door.
# - It checks `exp` only in tokens that have one. Whoever steals a token without an end is in for
#   good.
#
# ## Verifier three: says what it expects

# %%
EXPECTED = {"algorithms": ["HS256"], "issuer": "chatlab", "audience": "chatlab"}
REQUIRED = {"require": ["sub", "exp", "iat", "iss", "aud"]}


def verify(token):
    return jwt.decode(token, SECRET, **EXPECTED, options=REQUIRED)["sub"]


await try_all(chat)

# %% [markdown]
# The same nine tokens, and one gets in: the verifier says what it expects, and everything else
# stays outside.
#
# *Try it:* take `"exp"` out of `REQUIRED` and run the cell again. One line should change. Put it
# back.
#
# The best verifier is worth as much as its secret. Anybody who has one token can guess, as often
# as they like, without asking your server. PyJWT warns about a secret under 32 bytes; the first
# line turns that off.

# %%
warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)
seen = token("bob", secret="secret")
for guess in "password 123456 letmein admin changeme qwerty dragon jwt secret hunter2".split():
    try:
        jwt.decode(seen, guess, **EXPECTED, options=REQUIRED)
    except jwt.InvalidSignatureError:
        continue
    print("the secret is:", guess)
    forged = token("admin", secret=guess)
    print("let in as:", jwt.decode(forged, "secret", **EXPECTED, options=REQUIRED)["sub"])

# %% [markdown]
# `SECRET` is 32 random bytes. No list holds those.
#
# ## The handler that crashes
#
# So far everybody sent a token. Eve sends no `auth` at all: `auth` is `None`, and `auth["token"]`
# raises a `TypeError`. She waits. Then the operator makes an announcement to all who are connected.
#
# **Predict:** is Eve in or out?
#
# <details><summary>The answer</summary>
#
# Neither. She was never accepted and never refused. python-socketio logs the error and answers
# nothing, and the socket stays where it was put while the handler ran: among all the others.
#
# </details>


# %%
async def eavesdrop(server):
    server.clear()  # the drawing begins here
    eve = await raw_client(server, name="eve", wait=False)
    await settled(server, eve)
    async with raw_client(server, name="alice", auth={"token": token("alice")}) as alice:
        await server.call(server.sio.emit, "announcement", {"text": "The new code is 0815."})
        await settled(server, eve, alice)
    print("eve was told:", eve.refused.message if eve.refused else "nothing")
    print("eve received:", eve.received)
    await eve.aclose()
    return timeline(eve, server, alice, hide="disconnect")


await eavesdrop(chat)

# %% [markdown]
# Eve's connect has no answer, and what is sent to nobody in particular reaches her. That is
# *failing open*. A guard has to [fail closed](09_quick_reference.ipynb#Fail-closed): whatever goes
# wrong, the answer is no, and it is an answer. The loop again, and the same attack:


# %%
async def run(checks, auth, session):
    try:
        for check in checks:
            await check(auth, session)
    except ConnectionRefusedError:
        raise
    except Exception:
        refusal = {"code": "server_error", "retry": True}
        raise ConnectionRefusedError("Server error", refusal) from None


await eavesdrop(chat)

# %% [markdown]
# "Server error" is honest, if not kind: for a missing token there is a better word, and step 2 will
# use it.
#
# Order matters too: `not_banned` needs to know who is asking. Here it stands in the wrong place
# first, then in the right one.


# %%
async def not_banned(auth, session):
    if session["user"] == "mallory":
        raise ConnectionRefusedError("User is banned", {"code": "banned", "retry": False})


for checks in ((not_banned, require_token), (require_token, not_banned)):
    with background(guard(step1.make_server(), *checks), name="two checks") as two_checks:
        for user in ("bob", "mallory"):
            try:
                async with raw_client(two_checks, auth={"token": token(user)}):
                    print(f"{user}: let in")
            except Refused as refusal:
                print(f"{user}: {refusal.code}")

# %% [markdown]
# The wrong order locks everybody out. That is a bug that you hear of within the hour; the other
# kind you may never hear of.
#
# <details><summary>In Node</summary>
#
# An exception in a middleware is an unhandled rejection there, which ends the process unless you
# catch it; and then the client waits, neither in nor out, though it hears nothing. So: `try`,
# `catch`, and a `next(error)` on every path.
#
# ```javascript
# io.use(requireToken);             // in the order of registration
# io.use(notBanned);
#
# jwt.decode(token);                // verifier one: reads, checks nothing
# jwt.verify(token, SECRET);        // verifier two: any HS algorithm, any aud, no exp needed
# const claims = jwt.verify(token, SECRET, {
#   algorithms: ["HS256"], issuer: "chatlab", audience: "chatlab",
# });
# if (!claims.sub || !claims.exp) throw new Error("claims missing");   // verifier three
# ```
#
# </details>
#
# <details><summary>Where a browser keeps a token</summary>
#
# `localStorage` is read by every script of the page, so one injected script takes the token away.
# Better: the login answers with a short-lived token that the page keeps in a variable, and with a
# cookie (`HttpOnly`, `Secure`, `SameSite=Strict`), good for nothing but fetching the next one.
# Never put a token into an address: addresses end up in logs.
#
# </details>
#
# ## Your server so far
#
# [steps/step2.py](steps/step2.py) is lesson 01's server with a handshake: one function that asks
# for a token, one handler that fails closed.
#
# <details><summary>The difference between step 1 and step 2</summary>
#
# ```diff
# --- step1.py
# +++ step2.py
# @@ -1,4 +1,5 @@
# -"""Step 1: every event is answered, and an answer of ok means stored, once.
# +"""Step 2: nobody gets in without a token of ours, and messages bear the token's name.
#
# -Run it alone: python notebooks/steps/step1.py --port 0
# +Run it alone: python notebooks/steps/step2.py --port 0, with at least 32 random bytes as
# +CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
#  """
# @@ -6,3 +7,5 @@
#  import argparse
# +import os
#  import socket
# +import sys
#  import uuid
# @@ -11,4 +14,6 @@
#
# +import jwt
#  import socketio
#  from aiohttp import web
# +from socketio.exceptions import ConnectionRefusedError
#
# @@ -38,3 +43,22 @@
#
# -def make_server(store=None):
# +def refused(message, code, retry=False):
# +    return ConnectionRefusedError(message, {"code": code, "retry": retry})
# +
# +
# +def user_of(auth, secret):
# +    """The user whose token came with the handshake. Raises ConnectionRefusedError."""
# +    token = auth.get("token") if isinstance(auth, dict) else None
# +    if not token:
# +        raise refused("Authentication required", "authentication_required")
# +    must_have = {"require": ["sub", "exp", "iat", "iss", "aud"]}
# +    ours = {"algorithms": ["HS256"], "issuer": "chatlab", "audience": "chatlab"}
# +    try:
# +        return jwt.decode(token, secret, **ours, options=must_have)["sub"]
# +    except jwt.ExpiredSignatureError:
# +        raise refused("Invalid token", "token_expired") from None
# +    except jwt.InvalidTokenError:
# +        raise refused("Invalid token", "invalid_token") from None
# +
# +
# +def make_server(secret, store=None):
#      sio = socketio.AsyncServer(async_mode="aiohttp")
# @@ -44,4 +68,8 @@
#      async def connect(sid, environ, auth):
# -        name = (auth or {}).get("name", "somebody")
# -        await sio.save_session(sid, {"user": name, "room": None})
# +        try:
# +            await sio.save_session(sid, {"user": user_of(auth, secret), "room": None})
# +        except ConnectionRefusedError:
# +            raise
# +        except Exception:
# +            raise refused("Server error", "server_error", retry=True) from None
#
# @@ -96,4 +124,7 @@
#      parser.add_argument("--port", type=int, default=3001, help="0 picks a free one")
# +    secret = os.environ.get("CHATLAB_JWT_SECRET", "")
# +    if len(secret.encode()) < 32:
# +        sys.exit("CHATLAB_JWT_SECRET must hold at least 32 random bytes")
#      app = web.Application()
# -    make_server().attach(app)
# +    make_server(secret).attach(app)
#      listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
# ```
#
# </details>

# %%
step_2 = background(step2.make_server(SECRET), name="step 2")
print(await impersonate(step_2, bob, mallory))
await try_all(step_2)
for each in (server, leaky, chat, step_2):
    print(each.name, "runs" if each.stop().running else "has stopped")

# %% [markdown]
# ## In chatlab
#
# [chatlab/server/admission.py](../chatlab/server/admission.py) decides who gets in, and is built
# like `guard`: a chain of middlewares, the first of which is `require_token`. These lines keep it
# closed:
#
# ```python
#         except (Exception, asyncio.CancelledError, SystemExit):
#             log.exception("a connection could not be decided on")
#             refusal = ServerError()
# ```
#
# [auth.py](../chatlab/server/auth.py) verifies the token,
# [middleware.py](../chatlab/server/middleware.py) is the loop, and nothing there is ever sent to
# "all who are connected": every emit names a room.
#
# ## Now you
#
# [Exercise 02](../exercises/02_authentication.ipynb): a handshake of your own, a guard that fails
# closed, and a session that ends when its token does.
#
# ## Three things to remember
#
# 1. Ask once, at the door. Who somebody is comes from the session, never from a payload.
# 2. Say which algorithm, issuer, audience and claims you expect. What you do not ask for is not
#    checked.
# 3. A guard that fails must fail closed, and answer.
#
# Next: [03 Error handling](03_error_handling.ipynb), what callers see when a handler breaks.

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.

# %%
import asyncio
import subprocess
import sys
import tempfile

import aiohttp

from chatlab.lab import Proxy
from chatlab.server import create_app
from chatlab.settings import Settings

# %% [markdown]
# ### The client asks for a fresh token
#
# `auth` may be a function. It is called at every connection, so that a client that returns after
# an hour does not come with an old token. Here the first token has expired already, and later the
# wire is cut.
#
# <details><summary>The same in JavaScript</summary>
#
# ```javascript
# const socket = io(url, {
#   auth: async (send) => send({ token: await fetchToken() }),   // called at every connection
# });
# ```
#
# </details>

# %%
chat = background(guard(step1.make_server(), require_token), name="guarded chat")
made = []


def fresh():
    made.append(token("alice", exp=1) if not made else token("alice"))
    return {"token": made[-1]}


async with aiohttp.ClientSession() as http:
    with Proxy(chat) as wire:
        client = socketio.AsyncClient(http_session=http, reconnection_delay=0.1)
        client.on("connect_error", lambda data: print("connect_error:", data))
        back = asyncio.Event()
        client.on("connect", lambda: back.set() if len(made) == 3 else None)
        try:
            await client.connect(wire.url, auth=fresh, transports=["websocket"])
        except socketio.exceptions.ConnectionError as error:
            print("first:  ", error)
        await client.connect(wire.url, auth=fresh, transports=["websocket"])
        print("second: ", "connected")
        wire.cut(seconds=0)
        await asyncio.wait_for(back.wait(), 5)
        print("cut:    ", "back again, with token number", len(made))
        await client.disconnect()

# %% [markdown]
# The exception says only that it failed; the reason is in `connect_error`. After the cut the
# client came back by itself, with its third token. Your program has to look at `code` and `retry`:
# JavaScript's client never repeats a refused attempt, and Python's does so only while it is on its
# way back from a cut, and then whatever the reason was.
#
# ### While the guard thinks
#
# A check may take time: it asks a database. Eve's token is no good, and `slow` takes a moment to
# find that out. Meanwhile the operator makes the announcement.


# %%
async def slow(auth, session):
    await asyncio.sleep(0.5)
    await require_token(auth, session)


with background(guard(step1.make_server(), slow), name="slow") as slow_chat:
    eve = await raw_client(slow_chat, name="eve", auth={"token": "a guess"}, wait=False)
    await settled(eve, slow_chat)
    await slow_chat.call(slow_chat.sio.emit, "announcement", {"text": "The new code is 0815."})
    await eve.wait_for("announcement")
    print("told:", eve.refused, "· received:", eve.received)
    await eve.wait_until_disconnected()
    print("told:", eve.refused.message)
    await eve.aclose()

# %% [markdown]
# She was refused in the end, and heard it all the same. So in python-socketio the second half of a
# closed door is never to emit without a room: rooms are joined only after the check.
#
# ### An exception that is no Exception
#
# This check waits for something that is cancelled, as a database library does when it gives up.
# What is raised then is `CancelledError`. Is the guard that fails closed closed?


# %%
async def gives_up(auth, session):
    asking = asyncio.ensure_future(asyncio.sleep(10))
    asking.cancel()
    await asking


with background(guard(step1.make_server(), gives_up), name="gives up") as undecided:
    async with raw_client(undecided, name="eve") as eve:
        print("eve is", "in" if eve.connected else "out")

# %% [markdown]
# She is in. `CancelledError` is a `BaseException`, so `except Exception` lets it pass, and
# python-socketio 5.18 takes a handler that was cancelled for one that returned `None`: accepted.
# This is why chatlab's line above names it.
#
# ### When the token ends
#
# A token is checked at the door, and then time goes on. chatlab watches each connection's `exp`:
# it warns, takes a fresh token in `refresh-token`, and otherwise closes. Here both tokens last two
# seconds, and only Alice asks for another.

# %%
folder = tempfile.TemporaryDirectory()
settings = Settings(dev=True, storage=f"sqlite:///{folder.name}/chat.db")
chatlab = background(create_app(settings), name="chatlab")

alice = await raw_client(chatlab, name="alice", auth={"token": chatlab.token("alice", ttl=2)})
dave = await raw_client(chatlab, name="dave", auth={"token": chatlab.token("dave", ttl=2)})
await alice.wait_for("token-expiring")
answer = await alice.call("refresh-token", {"token": chatlab.token("alice")}, timeout=2)
await dave.wait_until_disconnected()
print("refreshed:", answer["ok"])
print("alice is", "connected" if alice.connected else "gone", "and heard", alice.received)
print("dave is", "connected" if dave.connected else "gone", "and heard", dave.received)

# %% [markdown]
# `token-expired` closes the connection the way a network fault does. The difference counts for
# JavaScript: after that kind of close its client returns by itself and asks `auth` for a token;
# after a goodbye from the server it does not.
#
# ### A ban
#
# A token cannot be taken back: it is good until its `exp`. So the server asks its directory at the
# door, and watches it while people are connected. Here another process writes the ban into the
# database that the server uses.

# %%
command = [sys.executable, "-m", "chatlab", "user", "ban", "alice", "--storage", settings.storage]
await asyncio.to_thread(subprocess.run, command, check=True)
await alice.wait_until_disconnected()
print("alice is", "connected" if alice.connected else "gone", "and heard", alice.received[-1])
try:
    await raw_client(chatlab, name="alice", auth={"token": chatlab.token("alice")})
except Refused as refusal:
    print("refused:", refusal.message, refusal.data)

# %% [markdown]
# ### Who may enter which room
#
# Being known is not being allowed. In chatlab a room whose name begins with `private-` opens only
# to a token whose `rooms` claim names it. The claim is signed like every other.

# %%
for rooms in (None, ["private-board"], ["private-*"]):
    auth = {"token": chatlab.token("carol", rooms=rooms)}
    async with raw_client(chatlab, name="carol", auth=auth) as carol:
        for room in ("general", "private-board", "private-payroll"):
            answer = await carol.call("join-room", room, timeout=2)
            print(f"{rooms!s:<20} {room:<16}", "✓" if answer["ok"] else "✗ " + answer["code"])

# %%
for each in (chat, chatlab):
    print(each.name, "runs" if each.stop().running else "has stopped")
folder.cleanup()
