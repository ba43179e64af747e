# %% [markdown]
# # Exercise 06: Surviving failure
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 06](../notebooks/06_surviving_failure.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check runs your
# code over real sockets and breaks them. It answers `✓`, or `○` with advice. Any way of solving a task
# is right.

# %%
import asyncio

from chatlab.lab.exercises import ex06
from chatlab.lab.exercises.ex06 import hang_up, sids

# %% [markdown]
# ## 1. Miss nothing
#
# `client` is a `socketio.AsyncClient` that is not connected yet and comes back by itself. The server has
# one room, and this is all that it knows:
#
# - `await client.call("join-room", "general")`: from now on, on this connection, what is said there
#   comes as the event `new-message`.
# - `await client.call("history", after)`: what has a `seq` above `after`. The answer is `{"ok": True,
#   "messages": […], "more": False}`, oldest first, three at most; `more` says that there are more.
#
# A message is `{"seq": 1, "text": …}`; [seq](../notebooks/09_quick_reference.ipynb#Seq) counts from 1
# without a hole. Write `follow` so that `show(message)` is called for every message of the room, once,
# in order of `seq`, beginning with #1.
#
# The line is cut while people talk, and they go on talking while your client asks. Messages overtake
# each other. And one may be missing although the line was never cut: when the next one is there, ask.
# (Each event's handler runs in a task of its own, so several can be at work at the same time.)


# %%
def follow(client, show):
    ### BEGIN SOLUTION
    newest, waiting = 0, {}

    def take(message):
        nonlocal newest
        if message["seq"] > newest:
            waiting[message["seq"]] = message
        while newest + 1 in waiting:
            newest += 1
            show(waiting.pop(newest))

    async def catch_up():
        more = True
        while more:
            page = await client.call("history", newest)
            for message in page["messages"]:
                take(message)
            more = page["more"]

    @client.event
    async def connect():
        await client.call("join-room", "general")
        await catch_up()

    @client.on("new-message")
    async def new_message(message):
        take(message)
        if waiting:
            await asyncio.sleep(0.1)  # perhaps it is on its way
        if waiting:
            await catch_up()

    ### END SOLUTION


# %%
await ex06.misses_nothing(follow)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Everything goes through one function, wherever it came from: it keeps a message by its `seq`, and
# shows from there what is next for as long as there is a next one. `nonlocal newest` lets an inner
# function change the number. On `connect`: first join, then ask. After a `new-message`: is something
# still being kept?
#
# </details>
#
# [The solution](../solutions/06_surviving_failure.ipynb)
#
# ## 2. Go without a loss
#
# A new version is to be installed, and somebody calls `stop`. Write `add_chat`: it adds the handler for
# `send-message`, and gives back `stop`, an `async` function.
#
# - `await store(text)` stores a text and gives its id. It takes a while. The answer to a message that is
#   stored is `{"ok": True, "id": …}`.
# - When `stop` is called, what is in hand is finished and answered. Some things never finish: after a
#   second, `stop` goes on all the same.
# - What comes after `stop` was called is not stored, and is answered `{"ok": False, "code": "closing",
#   "retry": True}`.
# - Then it closes the connections, so that the clients come back by themselves. `sids(sio)` lists them.
#   You may choose: `await sio.disconnect(sid)` or `await hang_up(sio, sid)`.


# %%
def add_chat(sio, store):
    ### BEGIN SOLUTION
    in_hand = set()
    leaving = False

    @sio.on("send-message")
    async def send_message(sid, data):
        if leaving:
            return {"ok": False, "code": "closing", "retry": True}
        task = asyncio.current_task()
        in_hand.add(task)
        task.add_done_callback(in_hand.discard)
        return {"ok": True, "id": await store(data["text"])}

    async def stop():
        nonlocal leaving
        leaving = True
        if in_hand:
            await asyncio.wait(in_hand, timeout=1)
        for sid in sids(sio):
            await hang_up(sio, sid)

    return stop
    ### END SOLUTION


# %%
await ex06.goes_without_a_loss(add_chat)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Remember what is in hand: a set of `asyncio.current_task()`, or a number that goes up when a handler
# begins and down when it ends. `asyncio.wait(tasks, timeout=1)` waits for tasks, and does not mind if
# they are late (but it does mind if there are none). Which of the two ways to close tells a client to
# stay away, is shown in the lesson, under *A server that is told to go*.
#
# </details>
#
# [The solution](../solutions/06_surviving_failure.ipynb)
#
# ## 3. Write the checker (stretch)
#
# A history is a list of what happened in one room, in order, as `(what, who, key)`; the key says which
# message:

# %%
HISTORY = [
    ("joins", "alice", ""),
    ("joins", "bob", ""),
    ("sends", "alice", "m1"),
    ("leaves", "bob", ""),
    ("sends", "alice", "m1"),
    ("acked", "alice", "m1"),
    ("joins", "bob", ""),
    ("sends", "bob", "m2"),
    ("sees", "alice", "m2"),
    ("sees", "alice", "m2"),
]

# %% [markdown]
# `leaves` is said also of somebody whose line was cut. Write `find_faults`. It gives back two sets of
# pairs, `{"lost": {("m1", "bob")}, "duplicated": {("m2", "alice")}}` for this history.
#
# - *lost*: the message was acked, and somebody who ought to have seen it never did. Those are all who
#   had joined before it was first sent and are in the room at the end, wherever they were in between;
#   but not whoever sent it, and not those who had left when it was sent and never came back.
# - *duplicated*: somebody saw it more than once.


# %%
def find_faults(history):
    ### BEGIN SOLUTION
    senders, owed, acked, seen = {}, {}, set(), {}
    joined, here = set(), set()
    for what, who, key in history:
        if what == "joins":
            joined.add(who)
            here.add(who)
        elif what == "leaves":
            here.discard(who)
        elif what == "sends" and key not in senders:
            senders[key] = who
            owed[key] = joined - {who}
        elif what == "acked":
            acked.add(key)
        elif what == "sees":
            seen[key, who] = seen.get((key, who), 0) + 1
    return {
        "lost": {(key, who) for key in acked for who in owed[key] & here if (key, who) not in seen},
        "duplicated": {pair for pair, times in seen.items() if times > 1},
    }
    ### END SOLUTION


# %%
ex06.finds_what_is_wrong(find_faults)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Go through the list once and write down: who has ever joined, who is here now, who sent each key
# and who had joined by then, which keys were acked, and how often each pair (key, who) was seen. What
# is lost can be said only at the end.
#
# </details>
#
# [The solution](../solutions/06_surviving_failure.ipynb)
#
# Yours has a page. [The lab's](../chatlab/lab/history_rules.py) also knows order, numbers that were left
# out, and who may be in a room; and each of its rules has a test that spoils a good history and wants
# to be told.
#
# Done? The [quick reference](../notebooks/09_quick_reference.ipynb) has every pattern on one page.
