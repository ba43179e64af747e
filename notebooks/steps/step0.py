"""Step 0: a chat with rooms. It believes everybody and promises nothing.

Run it alone: python notebooks/steps/step0.py --port 0
"""

import argparse
import socket

import socketio
from aiohttp import web


def make_server():
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.event
    async def connect(sid, environ, auth):
        name = (auth or {}).get("name", "somebody")
        await sio.save_session(sid, {"user": name, "room": None})

    @sio.on("join-room")
    async def join_room(sid, room):
        async with sio.session(sid) as session:
            session["room"] = room
        await sio.enter_room(sid, room)
        joined = {"user": session["user"], "room": room}
        await sio.emit("user-joined", joined, to=room, skip_sid=sid)

    @sio.on("send-message")
    async def send_message(sid, data):
        session = await sio.get_session(sid)
        message = {"user": session["user"], "room": session["room"], "text": data["text"]}
        await sio.emit("new-message", message, to=session["room"], skip_sid=sid)

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
    app = web.Application()
    make_server().attach(app)
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None)


if __name__ == "__main__":
    main()
