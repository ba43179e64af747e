# %% [markdown]
# # Exercise 02: Authentication
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 02](../notebooks/02_authentication.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check starts a
# server with your code and knocks at it over real sockets. It answers `✓`, or `○` with advice.
# Any way of solving a task is right.

# %%
import asyncio
import time

import jwt
import socketio
from socketio.exceptions import ConnectionRefusedError

from chatlab.lab.exercises import ex02

# %% [markdown]
# ## 1. The door
#
# Write the handler that decides who gets in.
#
# - The token is in `auth["token"]`. Valid is what is signed with `secret` by HS256, made by
#   `chatlab` for `chatlab`, and has `sub`, `exp`, `iss` and `aud`.
# - For a valid token the [session](../notebooks/09_quick_reference.ipynb#Session) is
#   `{"user": <its sub>}`.
# - For any other the answer is `Invalid token` with `{"code": "invalid_token", "retry": False}`.


# %%
def add_handshake(sio, secret):
    @sio.event
    async def connect(sid, environ, auth):
        ### BEGIN SOLUTION
        try:
            claims = jwt.decode(
                auth["token"],
                secret,
                algorithms=["HS256"],
                issuer="chatlab",
                audience="chatlab",
                options={"require": ["sub", "exp", "iss", "aud"]},
            )
        except jwt.InvalidTokenError:
            refusal = {"code": "invalid_token", "retry": False}
            raise ConnectionRefusedError("Invalid token", refusal) from None
        await sio.save_session(sid, {"user": claims["sub"]})
        ### END SOLUTION


# %%
await ex02.lets_in_who_has_a_token(add_handshake)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# `jwt.decode` does all of the checking, once you tell it what you expect: `algorithms`, `issuer`
# and `audience` say what has to be in the token, and `options={"require": [...]}` says which claims
# may not be absent. Everything that it finds wrong is a `jwt.InvalidTokenError`.
#
# </details>
#
# [The solution](../solutions/02_authentication.ipynb)
#
# ## 2. No, whatever happens
#
# `auth` can be `None`, a list or a number. The database behind `connect` can be away. Write
# `fail_closed`: it takes any `connect` handler and gives back one that
# [fails closed](../notebooks/09_quick_reference.ipynb#Fail-closed).
#
# - What `connect` accepts or refuses stays as it is, with its own words and code.
# - When it raises anything else, the client is told `Server error` with
#   `{"code": "server_error", "retry": True}`, and nothing about what happened.


# %%
def fail_closed(connect):
    async def guarded(sid, environ, auth):
        ### BEGIN SOLUTION
        try:
            return await connect(sid, environ, auth)
        except ConnectionRefusedError:
            raise
        except Exception:
            refusal = {"code": "server_error", "retry": True}
            raise ConnectionRefusedError("Server error", refusal) from None
        ### END SOLUTION

    return guarded


# %%
await ex02.refuses_whatever_goes_wrong(fail_closed)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Three things may leave `connect`: a value (`False` means no), a `ConnectionRefusedError` that it
# raised on purpose, and any other exception. Only the last one needs something new. Mind which
# `ConnectionRefusedError` you catch: Python has one of its own, and it means something else.
#
# </details>
#
# [The solution](../solutions/02_authentication.ipynb)
#
# ## 3. Until `exp` (stretch)
#
# A token is looked at once, at the door. A socket that stays open outlives it. Write `Expiry`:
#
# - `start(sid, exp)` is called when a client gets in, and again whenever it has brought a fresh
#   token. At `exp` (seconds, as `time.time()` counts them) the client gets the event
#   `token-expired`, and then its connection ends.
# - `stop(sid)` is called by the `disconnect` handler, whoever ended the connection.
#
# Both run in the server's event loop. They may be `async def` if you like.


# %%
class Expiry:
    def __init__(self, sio):
        self.sio = sio
        ### BEGIN SOLUTION
        self.timers = {}
        ### END SOLUTION

    def start(self, sid, exp):
        ### BEGIN SOLUTION
        self.stop(sid)
        self.timers[sid] = asyncio.create_task(self.end(sid, exp - time.time()))
        ### END SOLUTION

    def stop(self, sid):
        ### BEGIN SOLUTION
        timer = self.timers.pop(sid, None)
        if timer:
            timer.cancel()

    async def end(self, sid, seconds):
        await asyncio.sleep(seconds)
        del self.timers[sid]  # or `stop`, called by the disconnect below, would cancel this task
        await self.sio.emit("token-expired", to=sid)
        await self.sio.disconnect(sid)
        ### END SOLUTION


# %%
await ex02.ends_when_the_token_does(Expiry)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# Keep one task for each `sid` in a dictionary: `asyncio.create_task` of a coroutine that sleeps,
# emits and disconnects. A task can be cancelled. `sio.disconnect` calls the `disconnect` handler,
# which calls `stop`: see that your task does not cancel itself in the middle of its work.
#
# </details>
#
# [The solution](../solutions/02_authentication.ipynb)
#
# Done? [Lesson 03](../notebooks/03_error_handling.ipynb) goes on.
