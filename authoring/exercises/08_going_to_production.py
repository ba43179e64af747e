# %% [markdown]
# # Exercise 08: Your own server
#
# You write a chat server that keeps every promise of the level *Lesson*: one file of at most 150 lines, on
# stock python-socketio. It is yours to take home. Take your time: an evening is normal. Before this:
# [lesson 08](../notebooks/08_going_to_production.ipynb).
#
# The file is [my_chat.py](my_chat.py), beside this notebook. Double-click it in the file browser on the left and
# write there: it is a program, not a cell. **Save it** (Ctrl+S), then run a check here. Running this
# notebook never changes your file. `make fresh NB=exercises/my_chat` starts it over, and keeps yours.
#
# What is there already reads the arguments, refuses to start without a secret, and says where it listens. You
# write what comes before that. Everything that you need stands in
# [steps/step5.py](../notebooks/steps/step5.py), which has 385 lines and does more than is asked; it may lie open beside yours.
#
# A check starts your file as a process, [grades](../notebooks/09_quick_reference.ipynb#Grade) it from outside, and
# tells you of the first promise that is broken. Any way of keeping a promise is right.

# %%
from IPython.display import display

from chatlab.lab.exercises import ex08
from chatlab.lab.optional import here

MINE = "my_chat.py"

# %% [markdown]
# ## 1. Acknowledgements
#
# - `join-room` has a room's name, and is answered `{"ok": True}`.
# - `send-message` has `{"text": …}`, goes to the room that was joined, and is answered `{"ok": True, "id": …,
#   "timestamp": …}`.
# - The others in the room receive `new-message` with `id`, `user`, `text`, `room` and `timestamp`, as in the ack.
#   The timestamp looks as JavaScript's `toISOString()` prints it.

# %%
await ex08.acknowledges(MINE)

# %% [markdown]
# ## 2. Authentication
#
# - The token comes in the handshake's `auth`, as `{"token": …}`. It is signed with the secret by HS256; `iss` and `aud`
#   are `chatlab`. Its `sub` is the user.
# - Who has none is refused with `Authentication required`, who has a wrong one with `Invalid token`.

# %%
await ex08.knows_who_it_is(MINE)

# %% [markdown]
# ## 3. Errors
#
# - Whatever goes wrong with an event, its answer comes: `{"ok": False, "error": …}`, a sentence for people.
# - A text is stripped. When nothing is left, the answer is `Message cannot be empty`.
# - Who has joined no room, reaches nobody.

# %%
await ex08.answers_whatever_happens(MINE)

# %% [markdown]
# ## 4. Rate limiting
#
# - What one user may send is limited, over how many connections whatsoever. You choose the number: 20 a second and a
#   burst of 40 are good ones.
# - What is too much is answered, too. Everybody else notices nothing.

# %%
await ex08.keeps_to_a_limit(MINE)

# %% [markdown]
# ## 5. Scaling
#
# - Who joins a room or leaves it is announced there: `user-joined` and `user-left`, with `user`.
# - Two servers with the same `--redis` are one chat, and all members of a room see one order.

# %% tags=["needs-valkey"]
if here("valkey"):
    display(await ex08.is_one_chat_on_two_servers(MINE))

# %% [markdown]
# ## All of it
#
# On its own, all five, and in at most 150 lines:

# %%
await ex08.earns_the_level(MINE)

# %% [markdown]
# <details><summary>A nudge: where to begin</summary>
#
# Not with 150 lines. Begin with a `connect` handler that lets everybody in who has a good token, and with two handlers that
# answer; that is check 1 and half of check 2. Run the checks after every few lines.
#
# </details>
#
# <details><summary>A nudge: how it gets short</summary>
#
# One handler for all events, `@sio.on("*")`, gets `(event, sid, *payload)`. It takes the token from the
# bucket, looks up what to do in a dictionary, and is the only place with a `try`. An exception class that
# knows its own ack makes every refusal one line. If it is a kind of `ConnectionRefusedError`, `connect` can raise it too.
#
# </details>
#
# <details><summary>A nudge: one order on two servers</summary>
#
# `AsyncRedisManager` is right for who came and went. Messages go into one Redis stream (`xadd`), and each server has a task
# that reads it (`xread` with `block=1000`, from the newest entry at its start) and emits to its own members with
# `ignore_queue=True`. `web.run_app` also takes an `async` function's result: in `make_app` you may `await`.
#
# </details>
#
# [The solution](../solutions/my_chat.py) has exactly 150 lines.
#
# To see the packets of a promise that is broken, start your file in a terminal and grade it there:
#
# ```
# export CHATLAB_JWT_SECRET=$(openssl rand -hex 32)
# python my_chat.py --port 3001 &
# chatlab grade http://127.0.0.1:3001 --secret-env CHATLAB_JWT_SECRET --level lesson
# ```
#
# Done? `--level contract` is what chatlab promises beyond that: keys, history, receipts, expiry while connected. How much
# of it does your file keep already?
