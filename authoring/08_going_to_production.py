# %% [markdown]
# # 08 Going to production
#
# **What is wrong with this server?** You judge a finished server from outside, promise by promise, and see each
# fault happen. Then you give chatlab what it needs around it.
#
# *30 minutes, and 10 for Further. Before this: [07 Capacity](07_capacity.ipynb).*

# %%
import asyncio
import contextlib
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import socketio

from chatlab.grade import Verdict, grade
from chatlab.grade.promise import CONCERNS
from chatlab.lab import Cluster, process, raw_client
from chatlab.lab.balancer import find_balancer
from chatlab.lab.optional import here, node_command
from chatlab.lab.ports import free_port
from chatlab.lab.tokens import mint

# %% [markdown]
# ## A server that works
#
# [bench/peer/server.js](../bench/peer/server.js) is a chat on Node's Socket.IO, in about a hundred lines. It asks for a
# token in the [handshake](09_quick_reference.ipynb#Handshake), has rooms and [acks](09_quick_reference.ipynb#Ack),
# refuses empty messages, wraps a handler in `try`, and lets nobody send more than 20 events a second. Many
# tutorials end with such a server and call it production-ready. Two helpers: one starts it, one brings people into a room and
# out again.

# %%
SECRET, PEER = secrets.token_hex(32), "../bench/peer"


def start_node():
    command = [*node_command(), f"{PEER}/server.js"]
    node = process(command=command, env={"PEER_SECRET": SECRET}, name="Node")
    node.token = lambda user: mint(user, secret=SECRET, claims={"userId": user, "username": user})
    return node


# %%
@contextlib.asynccontextmanager
async def inside(server, *names):
    async with contextlib.AsyncExitStack() as leaving:
        auth = [{"token": server.token(name)} for name in names]
        coming = [raw_client(server, name=n, auth=a) for n, a in zip(names, auth, strict=True)]
        people = [await leaving.enter_async_context(each) for each in coming]
        for person in people:
            await person.call("join-room", "general", timeout=2)
        yield people


# %% tags=["needs-node"]
if here("node", packages=PEER):
    node = start_node()
    async with inside(node, "ada", "ben") as (ada, ben):
        ack = await ada.call("send-message", {"text": "hello"}, timeout=2)
        await ben.wait_for("new-message")
        print("ada was answered", ack["ok"], "and ben reads", ben.received_texts)

# %% [markdown]
# It works. Try it by hand for an hour, and you will find nothing.
#
# ## Graded
#
# `chatlab grade` does not read the source. It connects, as many clients at once, good ones and bad ones, and tries what
# a chat [promises](09_quick_reference.ipynb#Grade). The level *Lesson* holds what lessons 01 to 05 are about. In a terminal it is
# `chatlab grade http://… --level lesson`; here it is a function. `claims` says under which names this server looks for
# the user in a token.
#
# **Predict.** There are about 40 promises; a handful cannot be tried on one server alone. How many of the others does it
# break? Most of them in which concern?
#
# <details><summary>The answer</summary>
#
# Six, one of them fatal. Half are about the limit, although it has one.
#
# </details>


# %% tags=["needs-node"]
def show(report):
    for concern in CONCERNS:
        counts = report.counts(concern=concern)
        print(f"{concern}: {counts[Verdict.KEPT]} kept, {counts[Verdict.BROKEN]} broken")
        for each in report.of(Verdict.BROKEN):
            if each.promise.concern == concern:
                print("  ✗", each.promise.sentence)


if here("node", packages=PEER):
    claims = {"userId": "sub", "username": "name"}
    show(await grade(node.url, secret=SECRET, claims=claims, level="lesson"))
    print(node.card().state)

# %% [markdown]
# *What to notice:* authentication is in order. That is what such tutorials explain best. Look at the last line, too:
# somebody has ended the server. Each fault follows, on this server and on chatlab, with the same packets.
#
# ## One number for many messages
#
# The [ack](09_quick_reference.ipynb#Ack) has an `id`, so that the client can put its tick beside the right message. Fifteen
# messages, as fast as they leave:


# %% tags=["needs-node"]
async def ids(server):
    async with inside(server, "ann") as (ann,):
        sends = [ann.call("send-message", {"text": f"{n}"}, timeout=2) for n in range(15)]
        different = len({ack["id"] for ack in await asyncio.gather(*sends)})
    print(f"{server.name}: 15 messages,", "15 ids" if different == 15 else "fewer ids")


chat = process(name="chatlab")
if here("node", packages=PEER):
    node = start_node()
    for server in (node, chat):
        await ids(server)

# %% [markdown]
# `Date.now()` is the same for all that happens within a millisecond, and two servers need not even meet for it. In
# chatlab an id belongs to one place in one room's log. What clients order messages by is another number, the
# [seq](09_quick_reference.ipynb#Seq).
#
# <details><summary>In JavaScript</summary>
#
# ```javascript
# const id = Date.now();            // the fault
# const id = crypto.randomUUID();   // as long as nobody sorts by it
# ```
#
# </details>
#
# ## A crash for an answer


# %% tags=["needs-node"]
async def odd(server):
    async with inside(server, "bea") as (bea,):
        ack = await bea.call("send-message", {"text": 5}, timeout=2)
    print(f"{server.name}: {ack}")


if here("node", packages=PEER):
    for server in (node, chat):
        await odd(server)

# %% [markdown]
# `data.text?.trim()` looks careful, and throws: a number has no `trim`. The `try` around it saves the day, but the client
# is told that the server is at fault, and may send it again for ever. chatlab decodes each payload into
# [a declared shape](09_quick_reference.ipynb#Validation) before any handler sees it; the answer names the field, and says
# that a retry is of no use.
#
# ## A limit that says nothing


# %% tags=["needs-node"]
async def flood(server):
    async with inside(server, "cleo") as (cleo,):
        sends = [cleo.call("send-message", {"text": f"{n}"}, timeout=2) for n in range(60)]
        acks = await asyncio.gather(*sends, return_exceptions=True)
    silent = [ack for ack in acks if isinstance(ack, socketio.exceptions.TimeoutError)]
    print(f"{server.name}: of 60 events, unanswered: {'some' if silent else 0}")


if here("node", packages=PEER):
    for server in (node, chat):
        await flood(server)

# %% [markdown]
# A limiter that drops an event drops its ack with it. Whoever waits learns nothing but that time is up, and tries again:
# the limit makes more traffic. chatlab answers `rate_limited`, with `retryAfter` in seconds.
#
# ## A way round
#
# **Predict.** The limit is 20 events a second. Dora opens five windows, and sends 30 events in each. How many of the
# 150 are taken?
#
# <details><summary>The answer</summary>
#
# By the Node server about a hundred: it counts for each socket. One that is closed and opened again begins at 0, too.
#
# </details>


# %% tags=["needs-node"]
async def five_windows(server):
    async with inside(server, *["dora"] * 5) as windows:
        sends = [each.call("send-message", {"text": "me"}, timeout=2) for each in windows * 30]
        acks = await asyncio.gather(*sends, return_exceptions=True)
    taken = sum(isinstance(ack, dict) and ack["ok"] for ack in acks)
    print(f"{server.name}:", "five times the limit" if taken > 90 else "one limit")


if here("node", packages=PEER):
    for server in (node, chat):
        await five_windows(server)

# %% [markdown]
# chatlab's [bucket](09_quick_reference.ipynb#Token-bucket) is the user's, over all sockets and servers; it is forgotten when it
# is full again, and not before.
#
# ## One packet
#
# Events may be sent without asking for an ack. `join-room` without one:


# %% tags=["needs-node"]
async def no_ack_wanted(server):
    async with inside(server, "eve", "fay") as (eve, fay):
        await eve.emit("join-room", "kitchen")
        with contextlib.suppress(TimeoutError):
            await server.exited(timeout=2)
            await fay.wait_until_disconnected()
        print(f"{server.name}: {server.card().state}; {fay}")


if here("node", packages=PEER):
    for server in (node, chat):
        await no_ack_wanted(server)
    print(*[line for line in node.logs() if line.startswith("TypeError")])

# %% [markdown]
# One event of one client, and everybody is gone. The handler calls `answer`, which is `undefined`, and this handler has
# no `try`. In lesson 03 you saw that python-socketio would survive that, silently. Nobody needs to be evil: a client
# of another version is enough.
#
# <details><summary>In JavaScript</summary>
#
# ```javascript
# // around every handler, not in one of them
# function answered(handler) {
#   return async (data, answer) => {
#     if (typeof answer !== "function") answer = () => {};
#     try {
#       answer({ ok: true, ...(await handler(data)) });
#     } catch (error) {
#       answer(error.ack ?? { ok: false, error: "Internal server error" });
#     }
#   };
# }
# ```
#
# </details>
#
# ## chatlab, graded in full
#
# Two servers, one Valkey, and all three levels: *Contract* is what chatlab promises beyond the lessons, *Hardened* what its
# transport does with broken, oversized and malicious packets. Some promises are about time, so this cell takes a third
# of a minute, with pings every second instead of every 25.

# %% tags=["needs-valkey"]
if here("valkey"):
    quick = ("--ping-interval", "1", "--ping-timeout", "1", "--connect-timeout", "2")
    two = Cluster(2, name="two", arguments=quick, env={"CHATLAB_JWT_SECRET": SECRET})
    first, second = two.servers
    report = await grade(first.url, secret=SECRET, also=[second.url])
    for level in report.levels:
        print(f"{level.title}: broken {report.counts(level)[Verdict.BROKEN]}")
    for each in report.of(Verdict.BROKEN):
        print("  ✗", each.promise.sentence, each.said)
    print("kept:", "more than 150" if len(report.of(Verdict.KEPT)) > 150 else "fewer")
    print(two.stop().card().state)

# %% [markdown]
# What it could not judge needs somebody who kills servers and bans users meanwhile: `--control` names a command that
# does, and the tests of chatlab have one. [docs/grade.md](../docs/grade.md) lists every promise.
#
# ## Around the server
#
# A server that keeps its promises still has to be started, reached, watched and stopped. [docs/deploy.md](../docs/deploy.md)
# has all of it; here is what a cell can show. First, [secrets](../docs/deploy.md#secrets): without one, or with a short one, it does not start.

# %%
for secret in ("", "secret"):
    serve = [sys.executable, "-m", "chatlab", "serve", "--port", "0"]
    told = subprocess.run(
        serve, env=os.environ | {"CHATLAB_JWT_SECRET": secret}, capture_output=True, text=True
    )
    print(told.returncode, told.stderr, end="")

# %% [markdown]
# Every [setting](../docs/deploy.md#settings) is a variable `CHATLAB_…` or an option, checked at the start, and what is wrong is
# said in a sentence.
#
# In front stands a [proxy](../docs/deploy.md#tls-and-the-proxy) that speaks TLS. It says in headers what the browser's address
# was, and anybody else can say that too. So a server believes only proxies that it was told of:

# %%
SAID = {"Origin": "https://chat.example", "X-Forwarded-Host": "chat.example"}
SAID |= {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


async def knock(*options):
    with process(*options, name="behind a proxy") as server:
        address = f"{server.url}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession() as http, http.get(address, headers=SAID) as answer:
            print(*(options or ["nobody is trusted"]), "→", answer.status)


await knock()
await knock("--trusted-proxy", "127.0.0.1")

# %% [markdown]
# Refused the first time, because a page of `chat.example` talks to `127.0.0.1`: for all that the server knows, that is another
# site's page. In Further, Caddy does it with a real certificate.
#
# Then [health](../docs/deploy.md#health) and [shutdown](../docs/deploy.md#shutdown). Whatever replaces servers sends a SIGTERM. A
# [load balancer](09_quick_reference.ipynb#Load-balancer) asks `/healthz`, and must have heard *no* before the server goes:
# that is what `--drain` is for.


# %%
async def health(server):
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/healthz") as answer:
        return answer.status


server = process("--drain", "2", name="leaving")
async with inside(server, "gil") as (gil,):
    print("before:", await health(server))
    server.terminate()
    while (status := await health(server)) == 200:
        await asyncio.sleep(0.01)
    ack = await gil.call("send-message", {"text": "one more"}, timeout=2)
    print("told to go:", status, "and a message is still acked:", ack["ok"])
    print("exit code:", await server.exited())

# %% [markdown]
# *What to notice:* 503 says *send me nobody new*. Whoever is there is served to the end, and then their connection is closed so
# that they come back by themselves, to another server ([lesson 06](06_surviving_failure.ipynb)).
#
# [Several servers](../docs/deploy.md#several-servers) are the same command several times, with one `--storage redis://…` and
# one secret: you have run that in lessons 05 and 06, and have
# just graded it.
#
# *Try it:* set `--drain` to `"0"` and run the cell again. It ends with an error: Gil's connection is closed before the message, or
# `/healthz` does not even answer. A balancer would find out after having sent people there.
#
# ## Your server so far
#
# [steps/step5.py](steps/step5.py) keeps every promise of the level *Lesson*, on one server and on two: a test holds it to that, and each
# earlier step to what had been taught by then. In the exercise you write your own.
#
# ## In chatlab
#
# A promise is a sentence and a function that tries it. The one about ids, from
# [grade/lesson_acks.py](../chatlab/grade/lesson_acks.py):
#
# ```python
#     count = len({repr(id) for id in ids})
#     must(count == len(ids), f"{len(ids)} messages were acked with only {count} different ids")
# ```
#
# For each of them there is a server that was broken on purpose, and a test that its verdict, and no unrelated one, turns.
#
# ## Now you
#
# [Exercise 08](../exercises/08_going_to_production.ipynb): a server of your own, in one file of at most 150 lines, until
# `chatlab grade` finds nothing.

# %%
chat.stop().card().state

# %% [markdown]
# **Three things to remember**
#
# 1. *It works* says that nobody has tried the rest. A contract, and a program that tries it, say more.
# 2. One crash without a `try` around it is everybody's crash.
# 3. Refuse to start wrong, say when you are well, and go in order.
#
# Next: every pattern and every word on one page, the [quick reference](09_quick_reference.ipynb).

# %% [markdown]
# ## Further
#
# Nothing later needs what follows.
#
# ### TLS, for real
#
# Caddy makes an authority of its own, and a certificate for `localhost`. A client that knows the authority speaks `wss`
# through it; one that does not, refuses to.

# %%
CADDYFILE = """{
	admin off
	skip_install_trust
	persist_config off
	auto_https disable_redirects
	storage file_system %s
}
https://localhost:%d {
	tls internal
	reverse_proxy %s
}
"""


def edge(server, folder):
    port, config = free_port(), Path(folder, "Caddyfile")
    config.write_text(CADDYFILE % (folder, port, server.url.removeprefix("http://")))
    command = [find_balancer("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    caddy = process(command=command, ready="certificate obtained", name="Caddy")
    return caddy, f"https://localhost:{port}"


# %% tags=["needs-balancer"]
async def greet(address, token, verify):
    connector = aiohttp.TCPConnector(ssl=verify)
    async with aiohttp.ClientSession(connector=connector) as http:
        client = socketio.AsyncClient(http_session=http, reconnection=False)
        try:
            await client.connect(address, auth={"token": token}, transports=["websocket"])
            print("joined by wss:", (await client.call("join-room", "general"))["ok"])
            await client.disconnect()
        except socketio.exceptions.ConnectionError as error:
            print("not connected:", error)


if here("balancer"):
    with tempfile.TemporaryDirectory() as folder:
        with process("--trusted-proxy", "127.0.0.1", name="behind TLS") as server:
            caddy, address = edge(server, folder)
            authority = Path(folder, "pki", "authorities", "local", "root.crt")
            knowing = ssl.create_default_context(cafile=authority)
            for verify in (knowing, ssl.create_default_context()):
                await greet(address, server.token("hal"), verify)
            caddy.stop()

# %% [markdown]
# ### Metrics
#
# [/metrics](../docs/deploy.md#metrics) is for Prometheus, and for this machine only, unless `--metrics-public` says otherwise. A
# proxy that passes somebody on is no excuse. What a room of two leaves there:


# %%
def value(text, name):
    return next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} "))


with process(name="watched") as server:
    async with inside(server, "ida", "jon") as (ida, jon):
        await ida.call("send-message", {"text": "hello"}, timeout=2)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{server.url}/metrics") as answer:
                text = await answer.text()
            async with http.get(f"{server.url}/metrics", headers=SAID) as answer:
                print("through a proxy:", answer.status)
for name in ("chatlab_sockets", "chatlab_rooms", "chatlab_feed_messages_total"):
    print(name, value(text, name))

# %% [markdown]
# ### The steps, graded
#
# The server that you grew, lesson by lesson, and what of the level *Lesson* it keeps:

# %%
from functools import partial

from chatlab.grade import Level
from chatlab.grade.catalogue import catalogue

TRIED = [each for each in catalogue() if each.level is Level.LESSON and each.servers == 1]
TRIED = [each for each in TRIED if not (each.control or each.risky)]


async def earned(name):
    command = [sys.executable, f"steps/{name}.py", "--port", "0"]
    start = partial(process, command=command, env={"CHATLAB_JWT_SECRET": SECRET}, name=name)
    with await asyncio.to_thread(start) as step:
        return await grade(step.url, secret=SECRET, promises=TRIED)


reports = await asyncio.gather(*(earned(f"step{number}") for number in (0, 3, 5)))
for concern in CONCERNS:
    kept = [report.counts(concern=concern)[Verdict.KEPT] for report in reports]
    print(f"{concern:>16}", *[f"{count:>4}" for count in kept])

# %% [markdown]
# A column each for `step0`, `step3` and `step5`. *What to notice:* at the end of lesson 03 one server has all but a
# limit.
