"""Step 2: nobody gets in without a token of ours, and messages bear the token's name.

Run it alone: python notebooks/steps/step2.py --port 0, with at least 32 random bytes as
CHATLAB_JWT_SECRET. With the same secret, `chatlab token alice` prints a token.
"""

import argparse
import os
import socket
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime

import jwt
import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError


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


def make_server(secret, store=None):
    sio = socketio.AsyncServer(async_mode="aiohttp")
    store = store or Store()

    @sio.event
    async def connect(sid, environ, auth):
        try:
            await sio.save_session(sid, {"user": user_of(auth, secret), "room": None})
        except ConnectionRefusedError:
            raise
        except Exception:
            raise refused("Server error", "server_error", retry=True) from None

    @sio.on("join-room")
    async def join_room(sid, room):
        async with sio.session(sid) as session:
            session["room"] = room
        await sio.enter_room(sid, room)
        joined = {"user": session["user"], "room": room}
        await sio.emit("user-joined", joined, to=room, skip_sid=sid)
        return {"ok": True, "room": room}

    @sio.on("send-message")
    async def send_message(sid, data):
        session = await sio.get_session(sid)
        user, room = session["user"], session["room"]
        message, duplicate = await store.append(user, room, data["text"], data.get("key"))
        if not duplicate:
            await sio.emit("new-message", message, to=room, skip_sid=sid)
        ack = {name: message[name] for name in ("id", "seq", "timestamp")}
        return {"ok": True, **ack, "duplicate": duplicate}

    async def report(sid, **cursors):
        async with sio.session(sid) as session:
            for name, seq in cursors.items():
                session[name] = max(session.get(name, 0), seq)
        seen = {name: session.get(name, 0) for name in ("delivered", "read")}
        receipts = {"room": session["room"], "users": {session["user"]: seen}}
        await sio.emit("receipts", receipts, to=session["room"], skip_sid=sid)
        return {"ok": True}

    @sio.on("mark-delivered")
    async def mark_delivered(sid, data):
        return await report(sid, delivered=data["seq"])

    @sio.on("mark-read")
    async def mark_read(sid, data):
        return await report(sid, delivered=data["seq"], read=data["seq"])

    @sio.event
    async def disconnect(sid, reason):
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
