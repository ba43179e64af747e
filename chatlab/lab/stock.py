"""A chat on stock python-socketio, as most are written: `python -m chatlab.lab.stock --redis URL`.

Lessons and the chaos run hold chatlab against it; its faults are the point, so it is for nothing
else. It emits to the room and answers ok, and shares its rooms through python-socketio's own Redis
manager where `--redis` is given.
"""

# It imports nothing of chatlab, and is written as the documentation of python-socketio has it.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import jwt
import socketio
from aiohttp import web

__all__ = ["main", "make_app"]


def make_app(
    redis: str | None = None,
    *,
    channel: str = "socketio",
    secret: str | None = None,
    audience: str = "chatlab",
    **engine: Any,
) -> web.Application:
    """The chat as an aiohttp application, with `/healthz`.

    `redis` is the address that AsyncRedisManager gets, with the name of its one `channel`; None
    leaves the server on its own. With a `secret`, a client's token is verified and names the user;
    a client without one may call itself as it likes (`{"name": …}`). `engine` goes to
    socketio.AsyncServer.
    """
    manager = socketio.AsyncRedisManager(redis, channel=channel) if redis else None
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager, **engine)

    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        given = auth if isinstance(auth, dict) else {}
        user = str(given.get("name", sid))
        if secret and given.get("token"):
            try:
                claims = jwt.decode(given["token"], secret, algorithms=["HS256"], audience=audience)
            except jwt.InvalidTokenError:
                raise socketio.exceptions.ConnectionRefusedError("Invalid token") from None
            user = claims["sub"]
        await sio.save_session(sid, {"user": user, "room": None})

    @sio.on("join-room")
    async def join_room(sid: str, data: Any) -> dict[str, Any]:
        room = data["room"] if isinstance(data, dict) else data
        async with sio.session(sid) as session:
            session["room"] = room
        await sio.enter_room(sid, room)
        return {"ok": True, "room": room}

    @sio.on("leave-room")
    async def leave_room(sid: str, data: Any) -> dict[str, Any]:
        room = data["room"] if isinstance(data, dict) else data
        await sio.leave_room(sid, room)
        return {"ok": True, "room": room}

    @sio.on("send-message")
    async def send_message(sid: str, data: Any) -> dict[str, Any]:
        session = await sio.get_session(sid)
        room = data.get("room") or session["room"]
        if room is None:
            return {"ok": False, "error": "Join a room first", "code": "not_in_room"}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {
            "id": uuid.uuid4().hex,
            "room": room,
            "user": session["user"],
            "text": data["text"],
            "timestamp": now,
        }
        await sio.emit("new-message", message, to=room, skip_sid=sid)
        return {"ok": True, "id": message["id"], "timestamp": now}

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    sio.attach(app)
    return app


async def _serve(app: web.Application, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows: it is killed
            break
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        sys.stdout.write(f"listening on http://127.0.0.1:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. Tokens are verified with CHATLAB_JWT_SECRET, where it is set."""
    parser = argparse.ArgumentParser(prog="stock", description="A chat on stock python-socketio.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--redis", metavar="URL", help="share rooms through this Redis")
    parser.add_argument("--channel", default="socketio", help="the manager's channel there")
    parser.add_argument("--ping-interval", type=float, default=25.0, help="seconds")
    parser.add_argument("--ping-timeout", type=float, default=20.0, help="seconds")
    given = parser.parse_args(arguments)
    app = make_app(
        given.redis,
        channel=given.channel,
        secret=os.environ.get("CHATLAB_JWT_SECRET"),
        audience=os.environ.get("CHATLAB_JWT_AUDIENCE", "chatlab"),
        ping_interval=given.ping_interval,
        ping_timeout=given.ping_timeout,
    )
    asyncio.run(_serve(app, given.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
