"""The lesson's complete server on stock python-socketio, as plain as its documentation has it.

`PEER_SECRET=… python bench/stock.py [--port 0] [--redis URL]`. It stores, orders and limits
nothing; chatlab is measured against it.
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import socketio
from aiohttp import web


def make_app(secret: str, redis: str | None = None) -> web.Application:
    manager = socketio.AsyncRedisManager(redis) if redis else None
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)

    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        if not auth or not auth.get("token"):
            raise socketio.exceptions.ConnectionRefusedError("Authentication required")
        try:
            claims = jwt.decode(auth["token"], secret, algorithms=["HS256"], audience="chatlab")
        except jwt.InvalidTokenError:
            raise socketio.exceptions.ConnectionRefusedError("Invalid token") from None
        await sio.save_session(sid, {"name": claims["username"], "room": None})

    @sio.on("join-room")
    async def join_room(sid: str, room: str) -> dict[str, Any]:
        session = await sio.get_session(sid)
        await sio.enter_room(sid, room)
        await sio.save_session(sid, {**session, "room": room})
        await sio.emit("user-joined", {"user": session["name"]}, to=room, skip_sid=sid)
        return {"ok": True}

    @sio.on("send-message")
    async def send_message(sid: str, data: dict[str, Any]) -> dict[str, Any]:
        session = await sio.get_session(sid)
        text = data["text"].strip()
        if not text:
            return {"ok": False, "error": "Message cannot be empty"}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {
            "id": int(time.time() * 1000),
            "user": session["name"],
            "text": text,
            "room": session["room"],
            "timestamp": now,
        }
        await sio.emit("new-message", message, to=session["room"], skip_sid=sid)
        return {"ok": True, "id": message["id"], "timestamp": now}

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        session = await sio.get_session(sid)
        if session.get("room"):
            gone = {"user": session["name"]}
            await sio.emit("user-left", gone, to=session["room"], skip_sid=sid)

    app = web.Application()
    sio.attach(app)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--redis")
    given = parser.parse_args()
    app = make_app(os.environ["PEER_SECRET"], given.redis)

    async def say_where(_app: web.Application) -> None:
        sys.stdout.write(f"listening on http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    import socket

    listening = socket.create_server(("127.0.0.1", given.port), backlog=1024)
    port = listening.getsockname()[1]
    app.on_startup.append(say_where)
    web.run_app(app, sock=listening, print=None, access_log=None)


if __name__ == "__main__":
    main()
