"""Engine.IO and Socket.IO clients by hand, the same to a promise over polling and a websocket.

`send` and `packet` speak in Engine.IO packets (`42[…]` with the 4). Pings are answered where
something else is waited for. Nothing here judges: that is done where the promises are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from chatlab.grade.hardened_websocket import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame
from chatlab.grade.hardened_wire import Answer, Door, Refused, shown

__all__ = ["SEPARATOR", "Gone", "Peer", "Polling", "Socket", "endpoint"]

SEPARATOR: Final = "\x1e"


class Gone(Exception):
    """The server has ended the session; `code` is the websocket's, None without one."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


def endpoint(door: Door, transport: str, sid: str | None = None) -> str:
    """Where a session of this transport is asked for, or goes on."""
    return f"{door.path}?EIO=4&transport={transport}" + (f"&sid={sid}" if sid else "")


class Peer:
    """What both transports have in common. `events` are those that came so far, as `[name, …]`.

    `sid` is the Socket.IO one, None before CONNECT; the Engine.IO one stands in `handshake`.
    `headers` go with each request: a balancer's cookie, where one is in front of several servers.
    """

    def __init__(self, door: Door, who: str, handshake: dict[str, Any]) -> None:
        self.door = door
        self.who = who
        self.handshake = handshake
        self.sid: str | None = None
        self.events: list[list[Any]] = []
        self.headers: list[tuple[str, str]] = []
        self._acks: dict[int, Any] = {}
        self._calls = 0

    async def bare(self, patience: float | None = None) -> str | bytes:
        """The next packet, pings among them. Raises `Gone`, `TimeoutError`."""
        raise NotImplementedError

    async def send(self, *packets: str | bytes) -> None:
        """Packets, in one body or as a frame each. Raises `Gone` where it is refused."""
        raise NotImplementedError

    async def packet(self, patience: float | None = None) -> str | bytes:
        """The next packet that is not a ping; pings are answered."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (patience or self.door.patience)
        while (packet := await self.bare(max(0.001, end - loop.time()))) == "2":
            await self.send("3")
        if packet == "1":
            raise Gone
        self.keep(packet)
        return packet

    def keep(self, packet: str | bytes) -> None:
        """Take an event or an ack in."""
        if not isinstance(packet, str):
            return
        with contextlib.suppress(ValueError, TypeError):
            if packet.startswith("42["):
                self.events.append(json.loads(packet[2:]))
            elif packet.startswith("43"):
                digits, _, rest = packet[2:].partition("[")
                answer = json.loads("[" + rest)
                self._acks[int(digits)] = answer[0] if answer else None

    async def connect(self, token: str) -> None:
        """CONNECT with a token, and be let in. Raises `Gone` also for a refusal."""
        answer = await self.ask_in({"token": token})
        if not answer.startswith("40"):
            raise Gone

    async def ask_in(self, auth: Any, *, namespace: str = "") -> str:
        """The packet that answers a CONNECT with this auth; `namespace` with its comma."""
        await self.send(f"40{namespace}" + json.dumps(auth))
        while True:
            packet = await self.packet()
            if isinstance(packet, str) and packet[:2] in ("40", "44"):
                if packet.startswith("40{"):
                    self.sid = json.loads(packet[2:]).get("sid")
                return packet

    async def emit(self, name: str, *args: Any) -> None:
        """An event that asks for no ack."""
        await self.send("42" + _json([name, *args]))

    async def ask(self, name: str, *args: Any) -> int:
        """Send an event that asks for an ack; returns its number."""
        self._calls += 1
        await self.send(f"42{self._calls}" + _json([name, *args]))
        return self._calls

    async def call(self, name: str, *args: Any, patience: float | None = None) -> Any:
        """Send an event and return its ack. Raises `Gone`, `TimeoutError`."""
        return await self.ack(await self.ask(name, *args), patience=patience)

    async def ack(self, number: int, *, patience: float | None = None) -> Any:
        """Wait for an ack that was asked for."""
        async with asyncio.timeout(patience or self.door.patience):
            while number not in self._acks:
                await self.packet(patience)
        return self._acks.pop(number)

    def answered(self, number: int) -> bool:
        """Whether this ack has come."""
        return number in self._acks

    async def hear(
        self, wanted: Callable[[list[Any]], bool], *, patience: float | None = None
    ) -> Any:
        """The first event that is `wanted`, whether it came already or not yet."""
        seen = 0
        async with asyncio.timeout(patience or self.door.patience):
            while True:
                for event in self.events[seen:]:
                    if wanted(event):
                        return event
                seen = len(self.events)
                await self.packet(patience)

    def texts(self) -> list[str]:
        """The texts of the messages that came so far."""
        return [
            str(event[1].get("text"))
            for event in self.events
            if event[0] == "new-message" and len(event) > 1 and isinstance(event[1], dict)
        ]

    async def ended(self, *, patience: float | None = None) -> int | None:
        """Wait until the server has ended the session; the close code, None without one.

        Raises `TimeoutError` where it does not end; pings are answered meanwhile.
        """
        async with asyncio.timeout(patience or self.door.patience):
            try:
                while True:
                    await self.packet(patience)
            except Gone as gone:
                return gone.code
            except ConnectionError:
                return None

    def abort(self) -> None:
        """Break the session off, as far as it has a connection of its own."""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Polling(Peer):
    """A session over HTTP long-polling, each request on a connection of its own."""

    def __init__(self, door: Door, who: str, opening: Answer) -> None:
        first, *rest = opening.text.split(SEPARATOR)
        super().__init__(door, who, json.loads(first[1:]))
        self.url = endpoint(door, "polling", self.handshake["sid"])
        self.read: deque[str] = deque(rest)
        if "set-cookie" in opening.headers:
            self.headers = [("Cookie", opening.headers["set-cookie"].partition(";")[0])]

    @classmethod
    async def open(cls, door: Door, who: str) -> Polling:
        """Raises `Refused` where no session is given."""
        answer = await door.ask(who, "GET", endpoint(door, "polling"))
        if answer.status != 200 or not answer.text.startswith("0{"):
            raise Refused(answer)
        return cls(door, who, answer)

    async def get(self) -> Answer:
        """One poll."""
        return await self.door.ask(self.who, "GET", self.url, None, *self.headers)

    async def post(self, body: str | bytes) -> Answer:
        """One body, as it is."""
        return await self.door.ask(self.who, "POST", self.url, body, *self.headers)

    async def bare(self, patience: float | None = None) -> str | bytes:
        while not self.read:
            async with asyncio.timeout(patience or self.door.patience):
                try:
                    answer = await self.get()
                except ConnectionError:
                    raise Gone from None
            if answer.status != 200:
                raise Gone
            self.read.extend(answer.text.split(SEPARATOR))
        return self.read.popleft()

    async def send(self, *packets: str | bytes) -> None:
        body = SEPARATOR.join(packet for packet in packets if isinstance(packet, str))
        answer = await self.post(body)
        if answer.status != 200:
            raise Gone

    async def upgraded(self) -> Socket:
        """The same session on a websocket, after the probe. Raises `Refused`, `Gone`."""
        ws = await self.probe()
        await ws.send("5")
        return self.on(ws)

    def on(self, ws: WebSocket) -> Socket:
        """What the session is on the websocket that has taken it over."""
        socket = Socket(self.door, self.who, ws, self.handshake)
        socket.sid, socket.events, socket.read = self.sid, self.events, self.read
        socket._calls, socket._acks = self._calls, self._acks
        socket.headers = self.headers
        return socket

    async def probe(self) -> WebSocket:
        """A websocket for this session whose probe was answered. Raises `Refused`, `Gone`."""
        address = endpoint(self.door, "websocket", self.handshake["sid"])
        ws = await WebSocket.open(self.door, self.who, address, self.headers)
        await ws.send("2probe")
        answer = await ws.frame()
        if answer is None or answer.payload != b"3probe":
            raise Gone(None if answer is None else answer.code)
        ws.note("←", "3probe")
        return ws


class Socket(Peer):
    """A session over a websocket."""

    def __init__(self, door: Door, who: str, ws: WebSocket, handshake: dict[str, Any]) -> None:
        super().__init__(door, who, handshake)
        self.ws = ws
        self.read: deque[str] = deque()

    @classmethod
    async def open(
        cls, door: Door, who: str, *, headers: Iterable[tuple[str, str]] = (), buffer: int = 0
    ) -> Socket:
        """Raises `Refused`, and `Gone` where it ends without a session."""
        address = endpoint(door, "websocket")
        return await cls.open_at(door, who, address, headers=headers, buffer=buffer)

    @classmethod
    async def open_at(
        cls,
        door: Door,
        who: str,
        address: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        buffer: int = 0,
    ) -> Socket:
        """The same at any address."""
        ws = await WebSocket.open(door, who, address, headers, buffer=buffer)
        first = await ws.frame()
        if first is None or not first.payload.startswith(b"0{"):
            raise Gone(None if first is None else first.code)
        return cls(door, who, ws, json.loads(first.payload[1:]))

    async def bare(self, patience: float | None = None) -> str | bytes:
        if self.read:
            return self.read.popleft()
        while True:
            got = await self.ws.frame(patience=patience)
            if got is None or got.opcode == CLOSE:
                raise Gone(None if got is None else got.code)
            if got.opcode in (TEXT, BINARY):
                break
            if got.opcode == PING:
                await self.ws.line.send(frame(PONG, got.payload))
        if got.opcode == BINARY:
            return got.payload
        text = got.payload.decode("utf-8", "replace")
        self.ws.note("←", shown(text))
        return text

    async def send(self, *packets: str | bytes) -> None:
        try:
            await self.ws.send(*packets)
        except ConnectionError:
            raise Gone from None

    def abort(self) -> None:
        self.ws.line.abort()
