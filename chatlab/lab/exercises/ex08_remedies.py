"""What to do about each broken promise of the level Lesson: one sentence for the learner.

Each names the lesson that has the code. A promise that is not here is answered with its own text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["REMEDIES"]

REMEDIES: Final[Mapping[str, str]] = {
    # acknowledgements
    "join-acked": 'return `{"ok": True}` from the handler of `join-room`, whose argument is the '
    "room's name (lesson 01)",
    "send-acked": 'return `{"ok": True, "id": …, "timestamp": …}` from the handler of '
    "`send-message` (lesson 01)",
    "acked-once": "answer with the handler's return value, and with nothing else (lesson 01)",
    "ids-differ": "a clock gives the same number twice: take random bytes, `uuid.uuid4().hex` "
    "(lesson 01)",
    "delivered": "emit `new-message` with all five fields `to` the room of the sender (lesson 01)",
    "ack-names-message": "make `id` and `timestamp` once, and put the same into both (lesson 01)",
    "timestamps": '`datetime.now(UTC).isoformat(timespec="milliseconds")` ends in `+00:00`: write '
    "`Z` instead (steps/step1.py)",
    "sender-skipped": "emit with `skip_sid=` the sender's sid, also when the message has come "
    "from another server (lesson 01)",
    # authentication
    "admits": "take the token of `auth`, verify it with CHATLAB_JWT_SECRET, HS256, issuer and "
    "audience `chatlab`; and look whether your `connect` handler raises (lesson 02)",
    "no-token-refused": 'raise socketio\'s `ConnectionRefusedError("Authentication required")`; '
    "`auth` may also be None (lesson 02)",
    "garbage-refused": "catch everything that `jwt.decode` raises, and refuse with `Invalid "
    "token`: another exception in `connect` lets them in half (lesson 02)",
    "forged-refused": "let `jwt.decode` verify the signature, with the secret (lesson 02)",
    "unsigned-refused": 'give `jwt.decode` `algorithms=["HS256"]`, and never the token\'s own '
    "(lesson 02)",
    "expired-refused": "let `jwt.decode` look at `exp`, and require that there is one (lesson 02)",
    "user-of-token": "the user is the token's `sub`, which `save_session` keeps at connect: "
    "what a payload says about it counts for nothing (lesson 02)",
    "stranger-deaf": "refuse in `connect` by raising, and never emit without `to` (lesson 02)",
    # errors
    "empty-refused": "refuse what `strip()` leaves nothing of, with `Message cannot be empty` "
    "(lesson 03)",
    "trimmed": "send on what `strip()` leaves of the text (lesson 03)",
    "failure-acked": "wrap every handler: whatever it raises becomes an answer "
    '`{"ok": False, "error": …}` (lesson 03)',
    "validated": "look at the types before you use them, and say what is wrong (lesson 03)",
    "cause-not-sent": "log the exception, and answer `Internal server error`: its text is for you "
    "(lesson 03)",
    "goes-on": "one bad event must not end what handles the next one (lesson 03)",
    "stranger-unheard": "before any join there is no room, and an emit to `None` reaches "
    "everybody: refuse it (lesson 03)",
    "stays-up": "an event may come without a payload, with another one, and without an ack "
    "(lesson 03)",
    # rate limiting
    "flood-limited": "take a token of a bucket for each event, before its handler (lesson 04)",
    "flood-told": "answer an event too many: `Too many requests. Slow down.` (lesson 04)",
    "flood-acked": "return the refusal as the ack: who is not answered waits for a timeout "
    "(lesson 04)",
    "flood-ends": "let tokens flow in by the clock (lesson 04)",
    "flood-spares-others": "one bucket for each user, not one for all (lesson 04)",
    "sockets-share-limit": "keep the buckets by user, not by sid (lesson 04)",
    "reconnecting-no-way-round": "do not forget a bucket at a disconnect unless it is full "
    "(lesson 04)",
    # scaling
    "room-keeps": "`enter_room` at a join, and emit `to` that room only (lesson 05)",
    "join-announced": "emit `user-joined` with `user` to the others in the room (lesson 00)",
    "leave-announced": "emit `user-left` with `user` in the `disconnect` handler (lesson 00)",
    "rooms-span-servers": "give the server a `client_manager=socketio.AsyncRedisManager(url)` "
    "where `--redis` is given (lesson 05)",
    "announced-across-servers": "emit `user-joined` and `user-left` by the manager, without "
    "`ignore_queue` (lesson 05)",
    "each-once-across-servers": "a message goes to each server once, and that one emits it to its "
    "own members: `ignore_queue=True` (lesson 05)",
    "one-order-across-servers": "the manager delivers at home first: put messages into one stream "
    "instead, and let every server deliver what it reads there, its own too (lesson 05)",
}
