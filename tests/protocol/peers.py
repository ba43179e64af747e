"""Engine.IO clients by hand, the same to a test over polling, over a websocket and upgraded.

`send` and `packet` speak in Engine.IO packets ("42[...]" with the 4), binary ones as bytes. Pings
are answered where a test waits for something else; `bare` ones are left to it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from contextlib import suppress
from typing import Any, Literal

import pytest

from tests.protocol.wire import CLOSE, Answer, Place, WebSocket

Way = Literal["polling", "websocket", "upgrade"]
WAYS: tuple[Way, ...] = ("polling", "websocket", "upgrade")
every_way = pytest.mark.parametrize("way", WAYS)

SEPARATOR = "\x1e"
ENGINE, SOCKET = "/engine.io/", "/socket.io/"
both_endpoints = pytest.mark.parametrize("path", [ENGINE, SOCKET])


class Gone(Exception):
    """The server has ended the session; `packet` is its last word where it had one."""

    def __init__(self, packet: str | None = None) -> None:
        super().__init__(packet)
        self.packet = packet


def target(path: str, transport: str, sid: str | None = None) -> str:
    return f"{path}?EIO=4&transport={transport}" + (f"&sid={sid}" if sid else "")


async def ask(
    place: Place, method: str, where: str, body: str | bytes | None = None, **headers: str
) -> Answer:
    """One HTTP request on a connection of its own."""
    line = await place.line()
    try:
        data = body.encode() if isinstance(body, str) else body
        return await line.request(method, where, data, headers.items())
    finally:
        await line.close()


class Polling:
    """A session over HTTP long-polling, each request on a connection of its own."""

    def __init__(self, place: Place, path: str, opening: Answer) -> None:
        self.place = place
        self.path = path
        first, *rest = opening.text.split(SEPARATOR)
        assert first.startswith("0"), opening
        self.handshake: dict[str, Any] = json.loads(first[1:])
        self.sid: str = self.handshake["sid"]
        self.url = target(path, "polling", self.sid)
        self._read: deque[str] = deque(rest)

    @classmethod
    async def open(cls, place: Place, path: str = SOCKET) -> Polling:
        answer = await ask(place, "GET", target(path, "polling"))
        assert answer.status == 200, answer
        return cls(place, path, answer)

    async def get(self) -> Answer:
        return await ask(self.place, "GET", self.url)

    async def post(self, body: str | bytes, **headers: str) -> Answer:
        return await ask(self.place, "POST", self.url, body, **headers)

    async def poll(self) -> list[str]:
        """The packets of one poll. Raises `Gone` when there is no session."""
        answer = await self.get()
        if answer.status != 200:
            raise Gone(answer.text)
        return answer.text.split(SEPARATOR)

    async def bare(self) -> str | bytes:
        """The next packet, pings among them."""
        while not self._read:
            self._read.extend(await self.poll())
        packet = self._read.popleft()
        return base64.b64decode(packet[1:]) if packet.startswith("b") else packet

    async def packet(self) -> str | bytes:
        """The next packet that is not a ping; pings are answered."""
        while (packet := await self.bare()) == "2":
            await self.post("3")
        if packet == "1":
            raise Gone("1")
        return packet

    async def send(self, *packets: str | bytes) -> None:
        """Packets in one body. Raises `Gone` when it is refused."""
        answer = await self.post(SEPARATOR.join(map(_in_body, packets)))
        if answer.status != 200:
            raise Gone(answer.text)

    async def ended(self) -> int | None:
        """Wait for the end of the session, whatever still comes."""
        with suppress(Gone):
            while True:
                await self.packet()
        return None

    async def upgraded(self) -> Socket:
        """The same session on a websocket, after the probe."""
        ws = await WebSocket.open(self.place, target(self.path, "websocket", self.sid))
        await ws.send("2probe")
        assert await ws.message() == "3probe"
        await ws.send("5")
        return Socket(ws, self.handshake, self._read)

    async def close(self) -> None:
        """End the session, unless it has ended."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.post("1")


def _in_body(packet: str | bytes) -> str:
    return packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()


class Socket:
    """A session over a websocket."""

    def __init__(
        self, ws: WebSocket, handshake: dict[str, Any], read: deque[str] | None = None
    ) -> None:
        self.ws = ws
        self.handshake = handshake
        self.sid: str = handshake["sid"]
        self._read: deque[str] = read or deque()

    @classmethod
    async def open(cls, place: Place, path: str = SOCKET, **options: Any) -> Socket:
        ws = await WebSocket.open(place, target(path, "websocket"), **options)
        first = await ws.message()
        assert isinstance(first, str)
        assert first.startswith("0"), first
        return cls(ws, json.loads(first[1:]))

    async def bare(self) -> str | bytes:
        """The next packet, pings among them. Raises `Gone` when the server has closed."""
        if self._read:
            return self._read.popleft()
        message = await self.ws.message()
        if message is None:
            raise Gone
        return message

    async def packet(self) -> str | bytes:
        """The next packet that is not a ping; pings are answered."""
        while (packet := await self.bare()) == "2":
            await self.send("3")
        return packet

    async def send(self, *packets: str | bytes) -> None:
        await self.ws.send(*packets)

    async def ended(self) -> int | None:
        """Wait for the server to close; the code that it gives."""
        code = None
        while (frame := await self.ws.frame()) is not None:
            if frame.opcode == CLOSE:
                code = frame.code
                break
        return code

    async def close(self) -> None:
        await self.ws.close()


Peer = Polling | Socket


async def session(place: Place, way: Way, path: str = SOCKET) -> Peer:
    """A new session, on the transport that `way` leads to."""
    if way == "websocket":
        return await Socket.open(place, path)
    polling = await Polling.open(place, path)
    return await polling.upgraded() if way == "upgrade" else polling


async def connected(
    place: Place, way: Way = "websocket", namespace: str = "/", auth: str = ""
) -> Peer:
    """A session that is connected to a namespace and has read what it was told there."""
    peer = await session(place, way)
    await connect(peer, namespace, auth)
    return peer


async def connect(peer: Peer, namespace: str = "/", auth: str = "") -> str:
    """CONNECT, and the Socket.IO session id of the answer."""
    prefix = "" if namespace == "/" else namespace + ","
    await peer.send(f"40{prefix}{auth}")
    answer = await peer.packet()
    assert isinstance(answer, str)
    assert answer.startswith(f"40{prefix}{{"), answer
    assert await peer.packet() == f'42{prefix}["auth",{auth or "{}"}]'
    sid: str = json.loads(answer[2 + len(prefix) :])["sid"]
    return sid
