# %% [markdown]
# # Exercise 03: Error handling
#
# Two tasks and a stretch, about 20 minutes without the stretch. Before this:
# [lesson 03](../notebooks/03_error_handling.ipynb).
#
# Write where it says `# your turn`, run the cell, then run the check below it. A check starts a
# server with your code and asks it over real sockets. It answers `✓`, or `○` with advice. Any way
# of solving a task is right.

# %%
import logging
import sqlite3

from chatlab.lab.exercises import ex03
from chatlab.lab.exercises.ex03 import RequestError

log = logging.getLogger("exercise")

# %% [markdown]
# `RequestError` is the lesson's: `RequestError(error, code, retry=False, **more)`. Its `ack` is the
# answer that it stands for.

# %%
RequestError("Message cannot be empty", "empty_message", field="text").ack

# %% [markdown]
# ## 1. Always an answer
#
# Write `answered`: it takes any [handler](../notebooks/09_quick_reference.ipynb#Handler) and gives
# back one that answers, once, whatever happens.
#
# - What the handler returns is the answer, as it is.
# - When it raises a `RequestError`, the answer is what the error says.
# - When it raises anything else, the answer has the code `internal_error`, `retry` is `False`, and
#   the sentence says nothing about the cause. The cause is logged with `log`.


# %%
def answered(handler):
    async def answering(sid, *payload):
        ### BEGIN SOLUTION
        try:
            return await handler(sid, *payload)
        except RequestError as refusal:
            return refusal.ack
        except Exception:
            log.exception("%s failed", handler.__name__)
            return RequestError("Internal server error", "internal_error").ack
        ### END SOLUTION

    return answering


# %%
await ex03.every_event_is_answered_once(answered)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# One `try`, and two `except` below it, the special one first. `log.exception(…)` inside an `except`
# writes the whole traceback. Who ends a handler by cancelling it raises a `CancelledError` in it: that
# is a `BaseException`, no `Exception`, and not yours to catch.
#
# </details>
#
# [The solution](../solutions/03_error_handling.ipynb)
#
# ## 2. Only messages
#
# Write `read_message`: it gets what came with a `send-message`, whatever that is, and gives back
# the text, trimmed. This is a message:
#
# - one payload, an object
# - with `text`, a string of 1 to 500 characters once it is trimmed
# - and perhaps with `key`, a string or `None`
# - and with nothing else.
#
# For anything else it raises a `RequestError`. The code is `empty_message` for a text of nothing but
# space, `message_too_long` for one over 500 characters, and `invalid_payload` otherwise. `field` names
# what is wrong: `text`, `key`, the unknown field, or `payload` when it is not one object.


# %%
def read_message(*payload):
    ### BEGIN SOLUTION
    def wrong(code, field):
        return RequestError("This is not a message", code, field=field)

    data = payload[0] if len(payload) == 1 else None
    if not isinstance(data, dict):
        raise wrong("invalid_payload", "payload")
    shape = {"text": str, "key": str | None}
    for name in [*shape, *data]:
        if not isinstance(data.get(name), shape.get(name, ())):
            raise wrong("invalid_payload", name)
    text = data["text"].strip()
    if not text:
        raise wrong("empty_message", "text")
    if len(text) > 500:
        raise wrong("message_too_long", "text")
    return text
    ### END SOLUTION


# %%
await ex03.only_messages_get_through(read_message)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# From the outside to the inside: how many payloads are there, is it a dictionary, are its fields
# known, is each of the right type, and only then what is in it. `isinstance(None, str | None)` is
# true, so a missing key and a key of `None` can be one case: `data.get("key")`.
#
# </details>
#
# [The solution](../solutions/03_error_handling.ipynb)
#
# ## 3. Temporary or final (stretch)
#
# Write `told_as`: it gets an exception that left a handler, and gives back the `RequestError` that
# the caller is told instead.
#
# - What passes by itself is `unavailable`, with `retry=True`. These pass: an SQLite file that another
#   program has locked, a connection that was refused or lost, a time-out.
# - Everything else is `internal_error`, with `retry=False`: a bug, a missing table or file, an id
#   that is taken.
# - A `RequestError` stays as it is.


# %%
def told_as(error):
    ### BEGIN SOLUTION
    if isinstance(error, RequestError):
        return error
    # Not every OperationalError has a code: one that Python itself raises has none.
    locked = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
    if locked or isinstance(error, ConnectionError | TimeoutError):
        return RequestError("Server unavailable", "unavailable", retry=True)
    return RequestError("Internal server error", "internal_error")
    ### END SOLUTION


# %%
await ex03.tells_what_may_be_tried_again(told_as)

# %% [markdown]
# <details><summary>A nudge</summary>
#
# A kind of exception is often too wide a net. `sqlite3.OperationalError` is a locked file and a
# missing table. `OSError` is a lost connection (`ConnectionError`) and a missing file. Python's
# documentation has the tree of them under "Exception hierarchy", and the lesson's `save` shows where
# SQLite tells which it is.
#
# </details>
#
# [The solution](../solutions/03_error_handling.ipynb)
#
# Done? Your server so far is [steps/step3.py](../notebooks/steps/step3.py), and the
# [quick reference](../notebooks/09_quick_reference.ipynb) has every pattern on one page.
