"""A chat server to take home: stock python-socketio, one file, at most 150 lines.

Run it: python my_chat.py --port 0, with at least 32 random bytes as CHATLAB_JWT_SECRET. Servers
that are started with the same --redis redis://… are to be one chat."""

import argparse
import asyncio
import os
import socket
import sys
from datetime import UTC, datetime

import jwt
import redis.asyncio as redis
import socketio
from aiohttp import web

### BEGIN SOLUTION
RATE, BURST = 20, 40  # events a second that a user may send for long, and how many at once
LONGEST, PATIENCE = 4000, 2  # characters of a message; seconds that an answer may take
OURS = {"algorithms": ["HS256"], "issuer": "chatlab", "audience": "chatlab"}
CLAIMS = {"require": ["sub", "exp", "iat", "iss", "aud"]}


class Refusal(socketio.exceptions.ConnectionRefusedError):
    # A no: a sentence for people, a word for programs, and whether to try again.
    def __init__(self, error, code, retry=False, **more):
        super().__init__(error, {"code": code, "retry": retry})
        self.ack = {"ok": False, "error": error, "code": code, "retry": retry, **more}


def must(condition, *refusal, **more):
    if not condition:
        raise Refusal(*refusal, **more)


def user_of(auth, secret):
    """The user that the handshake's token names. Raises Refusal."""
    given = isinstance(auth, dict) and auth.get("token")
    must(given, "Authentication required", "authentication_required")
    try:
        return jwt.decode(given, secret, options=CLAIMS, **OURS)["sub"]
    except Exception as error:  # whatever it was, nobody gets in by it
        expired = isinstance(error, jwt.ExpiredSignatureError)
        raise Refusal("Invalid token", "token_expired" if expired else "invalid_token") from None


### END SOLUTION


async def make_app(secret, url):
    """The chat. `url` is that of a Redis that it shares with other servers, or None."""
    options = {"async_mode": "aiohttp"}
    ### BEGIN SOLUTION
    # The events of one client are handled one after the other: its messages keep their order.
    options |= {"async_handlers": False, "max_http_buffer_size": 65_536}
    options["client_manager"] = socketio.AsyncRedisManager(url) if url else None
    store, buckets = redis.from_url(url, decode_responses=True) if url else None, {}
    ### END SOLUTION
    sio = socketio.AsyncServer(**options)
    app = web.Application()
    sio.attach(app)
    ### BEGIN SOLUTION

    async def deliver(message):
        to = {"to": "room:" + message["room"], "skip_sid": message.pop("sid"), "ignore_queue": True}
        await sio.emit("new-message", message, **to)

    async def follow(last):
        """Deliver what the servers have put into the stream, in the order that it has there."""
        while True:
            try:
                for _, entries in await store.xread({"chat": last}, block=1000):
                    for last, message in entries:
                        await deliver(message)
            except redis.RedisError:
                await asyncio.sleep(0.2)

    if store:
        newest = await store.xrevrange("chat", count=1)
        sio.following = asyncio.create_task(follow(newest[0][0] if newest else "0-0"))

    def spend(user):
        now = asyncio.get_running_loop().time()
        tokens, then = buckets.get(user, (BURST, now))
        tokens = min(BURST, tokens + (now - then) * RATE)
        buckets[user] = (tokens - (tokens >= 1), now)
        after = round((1 - tokens) / RATE + 0.001, 3)
        must(tokens >= 1, "Too many requests. Slow down.", "rate_limited", True, retryAfter=after)

    async def join_room(sid, user, data):
        room = data.get("room") if isinstance(data, dict) else data
        must(isinstance(room, str), "A room's name is a text", "invalid_payload", field="room")
        must(room == room.strip() and 1 <= len(room) <= 64, "No name for a room", "invalid_room")
        await sio.enter_room(sid, "room:" + room)
        await sio.save_session(sid, {"user": user, "room": room})
        await sio.emit("user-joined", {"user": user, "room": room}, to=f"room:{room}", skip_sid=sid)
        return {"room": room}

    async def send_message(sid, user, data):
        must(isinstance(data, dict), "A message is an object", "invalid_payload", field="payload")
        must(data.keys() <= {"text", "room"}, "There is an unknown field", "invalid_payload")
        text, room = data.get("text"), data.get("room", (await sio.get_session(sid))["room"])
        must(isinstance(text, str), "A message has a text", "invalid_payload", field="text")
        must(text.strip(), "Message cannot be empty", "empty_message", field="text")
        must(len(text.strip()) <= LONGEST, "The message is too long", "message_too_long")
        must(f"room:{room}" in sio.rooms(sid), "Join the room first", "not_in_room", field="room")
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        ack = {"id": os.urandom(16).hex(), "timestamp": now}
        message = {**ack, "user": user, "room": room, "text": text.strip(), "sid": sid}
        await (store.xadd("chat", message, maxlen=10_000) if store else deliver(message))
        return ack

    @sio.on("*")
    async def any_event(event, sid, data=None, *more):
        """Every event is answered, whatever happens in its handler, and in time."""
        try:
            async with asyncio.timeout(PATIENCE):
                user = (await sio.get_session(sid))["user"]
                spend(user)
                handler = {"join-room": join_room, "send-message": send_message}.get(event)
                must(handler, "Unknown event", "unknown_event")
                return {"ok": True, **await handler(sid, user, data)}
        except Refusal as no:
            await asyncio.sleep(0)  # whoever floods lets the others have their turn
            return no.ack
        except (OSError, redis.ConnectionError, redis.TimeoutError):
            return Refusal("Server unavailable", "unavailable", retry=True).ack
        except Exception as error:
            print(f"{event} failed: {error!r}", file=sys.stderr)
            return Refusal("Internal server error", "internal_error").ack

    @sio.event
    async def connect(sid, environ, auth):
        if not await sio.get_session(sid):  # else a client sent an event of this name
            await sio.save_session(sid, {"user": user_of(auth, secret), "room": None})

    @sio.event
    async def disconnect(sid, reason):
        if not sio.manager.is_connected(sid, "/"):  # likewise
            for room in set(sio.rooms(sid)) - {sid}:
                left = {"user": (await sio.get_session(sid))["user"], "room": room[5:]}
                await sio.emit("user-left", left, to=room, skip_sid=sid)

    ### END SOLUTION
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=3001, help="0 picks a free one")
    parser.add_argument("--redis", metavar="URL", help="share rooms with other servers")
    given, secret = parser.parse_args(), os.environ.get("CHATLAB_JWT_SECRET", "")
    if len(secret.encode()) < 32:
        sys.exit("CHATLAB_JWT_SECRET must hold at least 32 random bytes")
    listener = socket.create_server(("127.0.0.1", given.port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(make_app(secret, given.redis), sock=listener, print=None)
