"""Step 4: a user who sends too much is told to wait, however many sockets they open.

Run it alone: python notebooks/steps/step4.py --port 0, with at least 32 random bytes as
CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
"""

import argparse
import asyncio
import functools
import logging
import math
import os
import socket
import sys
import time
import uuid
from collections import Counter
from datetime import UTC, datetime

import jwt
import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError

log = logging.getLogger("step4")

LONGEST = 4000  # characters in a message
PATIENCE = 2  # seconds until a handler that does not come back is answered for
RATE = 20  # events a second that a user may send for as long as they like
BURST = 40  # and as many at once

# What a client may send: the fields and their types. What may be None may be left out.
JOIN_ROOM = {"room": str}
SEND_MESSAGE = {"text": str, "room": str | None, "key": str | None}
MARK = {"room": str, "seq": int}


class Store:
    """Messages in memory, numbered in each room; a key that is known brings no second one."""

    def __init__(self):
        self.messages = []
        self.newest = Counter()
        self.by_key = {}

    async def append(self, user, room, text, key=None):
        """Store a message and return it, and whether it was there already."""
        known = self.by_key.get((user, room, key))
        if known:
            return known, True
        self.newest[room] += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {"id": uuid.uuid4().hex, "seq": self.newest[room], "timestamp": now}
        message |= {"user": user, "room": room, "text": text}
        self.messages.append(message)
        if key is not None:
            self.by_key[user, room, key] = message
        return message, False


def refused(message, code, retry=False):
    return ConnectionRefusedError(message, {"code": code, "retry": retry})


def user_of(auth, secret):
    """The user whose token came with the handshake. Raises ConnectionRefusedError."""
    token = auth.get("token") if isinstance(auth, dict) else None
    if not token:
        raise refused("Authentication required", "authentication_required")
    must_have = {"require": ["sub", "exp", "iat", "iss", "aud"]}
    ours = {"algorithms": ["HS256"], "issuer": "chatlab", "audience": "chatlab"}
    try:
        return jwt.decode(token, secret, **ours, options=must_have)["sub"]
    except jwt.ExpiredSignatureError:
        raise refused("Invalid token", "token_expired") from None
    except jwt.InvalidTokenError:
        raise refused("Invalid token", "invalid_token") from None


class RequestError(Exception):
    """A no with its reason: a sentence for people, a word for programs, whether a retry helps."""

    def __init__(self, error, code, retry=False, **more):
        super().__init__(error)
        self.ack = {"ok": False, "error": error, "code": code, "retry": retry, **more}


def answered(handler):
    """The same handler, but it answers whatever happens in it, and in time."""

    @functools.wraps(handler)
    async def answering(*arguments):
        try:
            async with asyncio.timeout(PATIENCE):
                return await handler(*arguments)
        except RequestError as refusal:
            return refusal.ack
        except (ConnectionError, TimeoutError):
            log.warning("%s cannot be done now", handler.__name__, exc_info=True)
            return RequestError("Server unavailable", "unavailable", retry=True).ack
        except Exception:
            log.exception("%s failed", handler.__name__)
            return RequestError("Internal server error", "internal_error").ack

    return answering


def checked(shape, payload):
    """The one object that came, when it has this shape. Raises RequestError."""
    data = payload[0] if len(payload) == 1 else None
    if not isinstance(data, dict):
        raise RequestError("Expected one object", "invalid_payload", field="payload")
    for name in [*shape, *data]:
        value = data.get(name)
        # Python counts True as a number.
        if isinstance(value, bool) or not isinstance(value, shape.get(name, ())):
            raise RequestError("Missing, unknown or wrong", "invalid_payload", field=name)
    return data


class TokenBucket:
    """RATE tokens a second flow in, BURST fit, and each event takes one. It starts full."""

    def __init__(self, now):
        self.tokens, self.at = BURST, now

    def flow(self, now):
        self.tokens = min(BURST, self.tokens + max(0, now - self.at) * RATE)
        self.at = now

    def take(self, now):
        """Take a token; gives the seconds until there is one, 0 when there was."""
        self.flow(now)
        if self.tokens >= 1:
            self.tokens -= 1
            return 0
        return (1 - self.tokens) / RATE

    def full(self, now):
        self.flow(now)
        return self.tokens >= BURST


def make_server(secret, store=None, clock=time.monotonic):
    sio = socketio.AsyncServer(async_mode="aiohttp")
    store = store or Store()
    buckets = {}

    async def spend(sid):
        user, now = (await sio.get_session(sid))["user"], clock()
        wait = buckets.setdefault(user, TokenBucket(now)).take(now)
        if wait:
            after = math.ceil(wait * 1000) / 1000
            sentence = "Too many requests. Slow down."
            raise RequestError(sentence, "rate_limited", retry=True, retryAfter=after)

    @sio.event
    async def connect(sid, environ, auth):
        if await sio.get_session(sid):
            return  # no connection: a client sent an event of this name
        try:
            await sio.save_session(sid, {"user": user_of(auth, secret), "room": None})
        except ConnectionRefusedError:
            raise
        except Exception:
            raise refused("Server error", "server_error", retry=True) from None

    def member_of(sid, room):
        if room is None or room not in sio.rooms(sid):
            raise RequestError("Join the room first", "not_in_room", field="room")
        return room

    @sio.on("join-room")
    @answered
    async def join_room(sid, *payload):
        await spend(sid)
        bare = len(payload) == 1 and isinstance(payload[0], str)
        room = payload[0] if bare else checked(JOIN_ROOM, payload)["room"]
        if not 1 <= len(room) <= 64 or room != room.strip() or min(room) < " ":
            raise RequestError("Not a name for a room", "invalid_room", field="room")
        async with sio.session(sid) as session:
            session["room"] = room
        await sio.enter_room(sid, room)
        joined = {"user": session["user"], "room": room}
        await sio.emit("user-joined", joined, to=room, skip_sid=sid)
        return {"ok": True, "room": room}

    @sio.on("send-message")
    @answered
    async def send_message(sid, *payload):
        await spend(sid)
        data = checked(SEND_MESSAGE, payload)
        text = data["text"].strip()
        if not text:
            raise RequestError("Message cannot be empty", "empty_message", field="text")
        if len(text) > LONGEST:
            raise RequestError("Message is too long", "message_too_long", field="text")
        session = await sio.get_session(sid)
        room = session["room"] if data.get("room") is None else data["room"]
        user, room = session["user"], member_of(sid, room)
        message, duplicate = await store.append(user, room, text, data.get("key"))
        if not duplicate:
            await sio.emit("new-message", message, to=room, skip_sid=sid)
        ack = {name: message[name] for name in ("id", "seq", "timestamp")}
        return {"ok": True, **ack, "duplicate": duplicate}

    async def report(sid, room, **cursors):
        if not 0 <= max(cursors.values()) <= store.newest[member_of(sid, room)]:
            raise RequestError("No such message", "invalid_payload", field="seq")
        async with sio.session(sid) as session:
            for name, seq in cursors.items():
                session[name] = max(session.get(name, 0), seq)
        seen = {name: session.get(name, 0) for name in ("delivered", "read")}
        receipts = {"room": room, "users": {session["user"]: seen}}
        await sio.emit("receipts", receipts, to=room, skip_sid=sid)
        return {"ok": True}

    @sio.on("mark-delivered")
    @answered
    async def mark_delivered(sid, *payload):
        await spend(sid)
        data = checked(MARK, payload)
        return await report(sid, data["room"], delivered=data["seq"])

    @sio.on("mark-read")
    @answered
    async def mark_read(sid, *payload):
        await spend(sid)
        data = checked(MARK, payload)
        return await report(sid, data["room"], delivered=data["seq"], read=data["seq"])

    @sio.on("*")
    @answered
    async def any_other(event, sid, *payload):
        await spend(sid)
        raise RequestError("Unknown event", "unknown_event")

    @sio.event
    async def disconnect(sid, reason):
        if sio.manager.is_connected(sid, "/"):
            return  # nobody left: a client sent an event of this name
        # A full bucket is as good as a new one; any other would be filled by a reconnect.
        now = clock()
        for user in [user for user, bucket in buckets.items() if bucket.full(now)]:
            del buckets[user]
        session = await sio.get_session(sid)
        if session["room"]:
            left = {"user": session["user"], "room": session["room"]}
            await sio.emit("user-left", left, to=session["room"], skip_sid=sid)

    return sio


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=3001, help="0 picks a free one")
    secret = os.environ.get("CHATLAB_JWT_SECRET", "")
    if len(secret.encode()) < 32:
        sys.exit("CHATLAB_JWT_SECRET must hold at least 32 random bytes")
    app = web.Application()
    make_server(secret).attach(app)
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
