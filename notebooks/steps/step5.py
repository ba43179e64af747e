"""Step 5: several servers are one chat, and a room has one order on all of them.

Run it alone: python notebooks/steps/step5.py --port 0, with at least 32 random bytes as
CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token. Servers that are
started with the same `--redis redis://…` share their rooms.
"""

import argparse
import asyncio
import functools
import json
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
import redis.asyncio as redis
import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError

log = logging.getLogger("step5")

LONGEST = 4000  # characters in a message
PATIENCE = 2  # seconds until a handler that does not come back is answered for
RATE = 20  # events a second that a user may send for as long as they like
BURST = 40  # and as many at once
REMEMBERED = 24 * 3600  # seconds for which a key is known

# What a client may send: the fields and their types. What may be None may be left out.
JOIN_ROOM = {"room": str}
SEND_MESSAGE = {"text": str, "room": str | None, "key": str | None}
MARK = {"room": str, "seq": int}


class Store:
    """Messages in memory, numbered in each room; a key that is known brings no second one.

    `deliver` is called with each new message and the sid of its sender.
    """

    def __init__(self, deliver=None):
        self.deliver = deliver
        self.messages = []
        self.newest = Counter()
        self.by_key = {}

    async def append(self, user, room, text, key=None, sid=None):
        """Store a message and return it, and whether it was there already."""
        known = self.by_key.get((user, room, key))
        if known:
            return known, True
        self.newest[room] += 1
        message = new_message(user, room, text) | {"seq": self.newest[room]}
        self.messages.append(message)
        if key is not None:
            self.by_key[user, room, key] = message
        await self.deliver(message, sid)
        return message, False

    async def follow(self, room):
        """The room has its first member on this server."""

    async def forget(self, room):
        """The room has lost its last member on this server."""


# One script runs at a time, so whoever is first is first for everybody.
APPEND = """
local known = redis.call('GET', KEYS[3])
if known then return {known, 1} end
local message = cjson.decode(ARGV[1])
message.seq = redis.call('INCR', KEYS[1])
local entry = cjson.encode(message)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, message.seq .. '-0', 'entry', entry)
if ARGV[2] ~= '' then redis.call('SET', KEYS[3], entry, 'EX', ARGV[2]) end
redis.call('PUBLISH', KEYS[2], entry)
return {entry, 0}
"""


class SharedStore(Store):
    """The same in Redis: each room is a stream, and a channel that says what is new in it.

    Members are served from the channel, in the order of `seq`, the sender's own server included;
    what the channel did not bring is read from the stream.
    """

    def __init__(self, url, deliver=None):
        super().__init__(deliver)
        self.redis = redis.from_url(url, decode_responses=True)
        self.script = self.redis.register_script(APPEND)
        self.channels = self.redis.pubsub()
        self.served = {}
        self.listening = None

    async def append(self, user, room, text, key=None, sid=None):
        entry = json.dumps(new_message(user, room, text) | {"sid": sid})
        known = "key:" + json.dumps([user, room, key])
        keys = [f"seq:{room}", f"room:{room}", known]
        entry, duplicate = await self.script(keys, [entry, "" if key is None else REMEMBERED])
        message = json.loads(entry)
        self.newest[room] = max(self.newest[room], message["seq"])
        return message, bool(duplicate)

    async def follow(self, room):
        self.newest[room] = self.served[room] = int(await self.redis.get(f"seq:{room}") or 0)
        if self.listening is None:
            # A channel of nobody's: without one the listening would end with the last room.
            await self.channels.subscribe("chat")
            self.listening = asyncio.create_task(self.listen())
        await self.channels.subscribe(f"room:{room}")

    async def forget(self, room):
        self.served.pop(room, None)
        await self.channels.unsubscribe(f"room:{room}")

    async def listen(self):
        async with self.redis, self.channels:
            while True:
                try:
                    for room in list(self.served):
                        await self.serve(room, None)
                    async for told in self.channels.listen():
                        room, said = told["channel"].removeprefix("room:"), told["type"]
                        if room in self.served:
                            await self.serve(room, told["data"] if said == "message" else None)
                except redis.RedisError:
                    log.warning("Redis is away", exc_info=True)
                    await asyncio.sleep(0.2)

    async def serve(self, room, entry):
        """Hand on what is new: this entry, or the stream's where it is not the next one."""
        entries = [] if entry is None else [json.loads(entry)]
        if [each["seq"] for each in entries] != [self.served[room] + 1]:
            stored = await self.redis.xrange(f"room:{room}", min=f"{self.served[room] + 1}-0")
            entries = [json.loads(fields["entry"]) for _, fields in stored]
        for message in entries:
            if room in self.served:
                self.served[room] = message["seq"]
                self.newest[room] = max(self.newest[room], message["seq"])
                await self.deliver(message, message.pop("sid"))


def new_message(user, room, text):
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"id": uuid.uuid4().hex, "timestamp": now, "user": user, "room": room, "text": text}


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
        except (ConnectionError, TimeoutError, redis.ConnectionError, redis.TimeoutError):
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


def make_server(secret, store=None, clock=time.monotonic, url=None):
    # Who came, who left and who has read what may get lost: that goes by the library's manager.
    manager = socketio.AsyncRedisManager(url) if url else None
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)
    store = store or (SharedStore(url) if url else Store())
    members = {}  # the sids in each room, on this server
    moving = asyncio.Lock()
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

    async def deliver(message, sid):
        # To the members on this server: the others serve their own.
        to = {"to": message["room"], "skip_sid": sid, "ignore_queue": True}
        await sio.emit("new-message", message, **to)

    store.deliver = deliver

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
        async with moving:
            if room not in members:
                await store.follow(room)
            if sio.manager.is_connected(sid, "/"):
                members.setdefault(room, set()).add(sid)
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
        message, duplicate = await store.append(user, room, text, data.get("key"), sid)
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
        async with moving:
            for room in [room for room, sids in members.items() if sid in sids]:
                members[room].discard(sid)
                if not members[room]:
                    del members[room]
                    await store.forget(room)
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
    parser.add_argument("--redis", metavar="URL", help="share rooms with other servers")
    given = parser.parse_args()
    secret = os.environ.get("CHATLAB_JWT_SECRET", "")
    if len(secret.encode()) < 32:
        sys.exit("CHATLAB_JWT_SECRET must hold at least 32 random bytes")
    app = web.Application()
    make_server(secret, url=given.redis).attach(app)
    listener = socket.create_server(("127.0.0.1", given.port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
