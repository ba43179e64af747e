"""A running server, a python-socketio client and a bare websocket, for the tests of this folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import socketio
from aiohttp import web

from chatlab.server import ChatServer
from chatlab.settings import Settings
from tests.waiting import PATIENCE_S, until

SECRET = "a secret of the tests that is long enough"


class Peer:
    """A python-socketio client that keeps everything it is sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sio = socketio.AsyncClient(reconnection=False)
        self.events: list[tuple[str, Any]] = []
        self.refusal: Any = None
        self.gone = asyncio.Event()
        self.sio.on("*", self._event)
        self.sio.on("connect_error", self._refused)
        self.sio.on("disconnect", self._gone)

    async def _event(self, name: str, *args: Any) -> None:
        self.events.append((name, args[0] if args else None))

    async def _refused(self, data: Any) -> None:
        self.refusal = data

    async def _gone(self, *_reason: Any) -> None:
        self.gone.set()

    def of(self, name: str) -> list[Any]:
        """The payloads of every event of this name so far."""
        return [payload for event, payload in self.events if event == name]

    async def got(self, name: str, count: int = 1) -> list[Any]:
        """Wait for `count` events of this name."""
        await until(lambda: len(self.of(name)) >= count)
        return self.of(name)

    async def call(self, name: str, payload: Any = None, *, timeout: float = PATIENCE_S) -> Any:
        return await self.sio.call(name, payload, timeout=timeout)

    async def emit(self, name: str, payload: Any = None) -> None:
        await self.sio.emit(name, payload)

    async def join(self, room: str = "general", **more: Any) -> Any:
        return await self.call("join-room", {"room": room, **more})

    async def say(self, text: str, room: str | None = None, **more: Any) -> Any:
        payload = {"text": text, **more}
        if room is not None:
            payload["room"] = room
        return await self.call("send-message", payload)


class Raw:
    """A websocket that speaks Engine.IO by hand, and can therefore say anything."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, text: str) -> None:
        await self.ws.send_str(text)

    async def frame(self, timeout: float = PATIENCE_S) -> str:
        """The next frame, answering pings on the way. Raises `ConnectionError` at the end."""
        while True:
            message = await self.ws.receive(timeout=timeout)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"closed: {self.ws.close_code}")
            if message.data == "2":
                await self.send("3")
                continue
            return str(message.data)

    async def connect(self, token: str | None) -> str:
        """CONNECT with a token and return the answer."""
        await self.send("40" + json.dumps({"token": token}) if token is not None else "40")
        return await self.frame()

    async def ack(self, ack_id: int) -> Any:
        """Read up to the ack with this id."""
        prefix = f"43{ack_id}["
        while not (frame := await self.frame()).startswith(prefix):
            pass
        return json.loads(frame[len(prefix) - 1 :])[0]

    async def closed(self, timeout: float = PATIENCE_S) -> int | None:
        """Read until the server has closed; the close code."""
        while True:
            message = await self.ws.receive(timeout=timeout)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return self.ws.close_code


class Running:
    """A server in this loop, and whoever is connected to it."""

    def __init__(self, server: ChatServer, url: str, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.url = url
        self.http = http
        self.peers: list[Peer] = []

    def token(self, user: str, **more: Any) -> str:
        return self.server.admission.tokens.issue(user, **more)

    async def connect(
        self, user: str, *, transports: list[str] | None = None, token: Any = None, **more: Any
    ) -> Peer:
        """A connected client of `user`."""
        peer = await self.attempt(
            {"token": token or self.token(user, **more)}, transports=transports
        )
        assert peer.refusal is None, peer.refusal
        return peer

    async def attempt(self, auth: Any, *, transports: list[str] | None = None) -> Peer:
        """A client that may have been refused; then `refusal` says how."""
        peer = Peer(self.url)
        self.peers.append(peer)
        try:
            await peer.sio.connect(self.url, auth=auth, transports=transports or ["websocket"])
        except socketio.exceptions.ConnectionError:
            await until(lambda: peer.refusal is not None)
        return peer

    @asynccontextmanager
    async def raw(self, **headers: str) -> AsyncIterator[Raw]:
        url = self.url + "/socket.io/?EIO=4&transport=websocket"
        async with self.http.ws_connect(url, headers=headers, autoping=False) as ws:
            raw = Raw(ws)
            assert (await raw.frame()).startswith("0")
            yield raw

    def empty(self) -> bool:
        """Whether no registry of the server remembers anybody."""
        server, transport = self.server, self.server.transport
        return not any(
            (
                len(server.sessions),
                len(server.rooms),
                server.inboxes,
                server.rooms.serving.sending,
                transport.eio.sockets,
                transport.environ,
                transport.pending_connects,
                transport._binary_packet,
                transport.manager.rooms.get("/"),
                transport.manager.eio_to_sid,
                transport.manager.pending_connect,
                server.admission.caps.users,
                server.admission.caps.addresses,
            )
        )


@asynccontextmanager
async def running(**given: Any) -> AsyncIterator[Running]:
    """A server with these settings; `--dev` and one secret unless told otherwise."""
    prepare = given.pop("prepare", None)
    settings = Settings(**{"dev": True, "port": 0, "jwt_secret": SECRET, **given})
    server = ChatServer(settings)
    if prepare:
        prepare(server)
    runner = web.AppRunner(server.app(), handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as http:
            run = Running(server, url, http)
            try:
                yield run
            finally:
                for peer in run.peers:
                    await peer.sio.disconnect()
    finally:
        await runner.cleanup()
    assert run.empty(), "the server remembers somebody"
