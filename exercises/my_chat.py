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

...  # your turn


async def make_app(secret, url):
    """The chat. `url` is that of a Redis that it shares with other servers, or None."""
    options = {"async_mode": "aiohttp"}
    ...  # your turn
    sio = socketio.AsyncServer(**options)
    app = web.Application()
    sio.attach(app)
    ...  # your turn
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
