# %% [markdown]
# # Exercise 01: Acknowledgements
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 01](../notebooks/01_acknowledgements.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check runs your
# code against a server, a client and a wire that loses acks. It answers `✓`, or `○` with advice.
# Any way of solving a task is right.

# %%
import asyncio
import uuid
from collections import defaultdict

import socketio

from chatlab.lab.exercises import ex01

# %% [markdown]
# ## 1. Answer when it is stored
#
# `await store(text)` stores a text and gives back its id, a string. It takes a moment. When it
# raises an `OSError`, nothing was stored.
#
# Write the handler so that its [ack](../notebooks/09_quick_reference.ipynb#Ack) can be relied on:
#
# - `{"ok": True, "id": <the id>}` for a message that is stored, and not before it is;
# - no `ok: True` for one that is not. `{"ok": False, "error": <a sentence>}` tells the sender most.


# %%
def add_handler(sio, store):
    @sio.on("send-message")
    async def send_message(sid, data):
        ### BEGIN SOLUTION
        try:
            message_id = await store(data["text"])
        except OSError:
            return {"ok": False, "error": "The message could not be stored"}
        return {"ok": True, "id": message_id}
        ### END SOLUTION


# %%
await ex01.acks_what_is_stored(add_handler)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# What the handler returns is the ack, and it leaves when the handler returns. So the order of your
# lines is the promise that you make: first `await store(…)`, then `return`.
#
# </details>
#
# [The solution](../solutions/01_acknowledgements.ipynb)
#
# ## 2. Send until somebody answers
#
# `await client.call("send-message", payload, timeout=timeout)` sends once and gives back the ack. It
# raises `socketio.exceptions.TimeoutError` when none came in time. Write `send_reliably` on top of
# it:
#
# - The payload is `{"text": text, "key": <a word that you make up>}`. The key is the same for each
#   try of one message, and another one for the next message.
# - After a [timeout](../notebooks/09_quick_reference.ipynb#Timeout) it pauses, `await sleep(seconds)`,
#   and tries again. Each pause is about twice as long as the last one
#   ([backoff](../notebooks/09_quick_reference.ipynb#Backoff)).
# - It gives back the first ack that comes. After `tries` tries without one it raises an exception.


# %%
async def send_reliably(client, text, *, tries=4, timeout=0.3, sleep=asyncio.sleep):
    ### BEGIN SOLUTION
    payload = {"text": text, "key": uuid.uuid4().hex}
    for attempt in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except socketio.exceptions.TimeoutError:
            if attempt < tries - 1:
                await sleep(0.1 * 2**attempt)
    raise ConnectionError(f"no answer in {tries} tries: it may or may not be stored")
    ### END SOLUTION


# %%
await ex01.sends_reliably(send_reliably)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# A `for` loop over `range(tries)`, with `try`, `return` and `except` inside. Two things stand
# outside the loop: above it what all tries share, below it what happens when none of them was
# answered. `0.1 * 2**attempt` doubles with each turn.
#
# </details>
#
# [The solution](../solutions/01_acknowledgements.ipynb)
#
# ## 3. Once, however often it is tried (stretch)
#
# Now the server's side of the key. `(await sio.get_session(sid))["user"]` says whose socket it is,
# and `data["key"]` names the message.
#
# - A message whose key this user has used before is not stored again. It gets the answer that the
#   first one got, also over a new connection. (A further field `duplicate` is welcome.)
# - Another user may choose the same key; that is another message.
# - A retry can come while `store` is still busy with the first try: patience ends before the disk
#   does. That, too, stores once.
# - What could not be stored is tried anew when it comes again.


# %%
def add_exact_handler(sio, store):
    ### BEGIN SOLUTION
    answers = {}
    locks = defaultdict(asyncio.Lock)

    @sio.on("send-message")
    async def send_message(sid, data):
        mine = (await sio.get_session(sid))["user"], data["key"]
        async with locks[mine]:  # a second try waits here until the first has been answered
            if mine not in answers:
                try:
                    answers[mine] = {"ok": True, "id": await store(data["text"])}
                except OSError:
                    return {"ok": False, "error": "The message could not be stored"}
            return answers[mine]

    ### END SOLUTION


# %%
await ex01.retries_exactly(add_exact_handler)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Begin with a dictionary from (user, key) to the answer. Then look for the `await` between the
# question whether the key is there and the line that puts it there: during an `await`, other
# handlers run. A `defaultdict(asyncio.Lock)` gives each key a lock of its own.
#
# </details>
#
# [The solution](../solutions/01_acknowledgements.ipynb)
#
# Your server would remember every key for ever. How long `chatlab` does, and why not longer, is in
# [chatlab/storage](../chatlab/storage/base.py).
#
# Next: [lesson 02](../notebooks/02_authentication.ipynb).
