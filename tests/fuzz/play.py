"""Plays a script against a server, with a client beside it that keeps to the rules.

What comes back is a list of sentences about what the server did wrong as far as clients can see;
what it logged and what it still remembers is `server.py`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fuzz import script as steps
from tests.fuzz.frames import BINARY, TEXT, Frame
from tests.fuzz.script import Script, Step
from tests.fuzz.wire import PATIENCE, Wire, connect

__all__ = ["HANDSHAKE", "Player", "Witness", "encoded", "play", "request"]

_BLANKS: Final = {
    "{deep}": "[" * 30_000,
    "{long}": "x" * 5_000,
    "{full}": "x" * 60_000,
    "{over}": "x" * 70_000,
}
HANDSHAKE: Final = (
    "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: localhost\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_IDLE: Final = 0.005
"""Seconds after which a poll is taken to be waiting."""

_UNKNOWN: Final = "no-such-session"


def encoded(packet: str | bytes) -> bytes:
    """One Engine.IO packet as a websocket message."""
    if isinstance(packet, bytes):
        return Frame(BINARY, packet).encode()
    return Frame(TEXT, packet.encode("utf-8", "surrogatepass")).encode()


def request(method: str, query: str, body: bytes = b"", headers: str = "") -> bytes:
    """A whole HTTP request that is as it should be."""
    return (
        f"{method} /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode("utf-8", "surrogatepass") + body


class Witness:
    """A client that keeps to the rules, on a chat server or on the one of the official suites."""

    def __init__(self, port: int, user: str, token: str | None) -> None:
        self.user = user
        self._port = port
        self._token = token
        self._wire: Wire
        self._acks = 0
        self._answers: dict[int, Any] = {}
        self._seen: set[int] = set()

    async def arrive(self) -> None:
        """Connect and, where there is a chat, join. Raises `AssertionError` where that fails."""
        self._wire = await connect(self._port)
        self._wire.on_packet = self._got
        self._wire.write(HANDSHAKE.format(sid="").encode())
        self._write("40" + (json.dumps({"token": self._token}) if self._token else ""))
        if self._token:
            joined = await self._call("join-room", {"room": "general"})
            self._seen.add(joined["seq"])
        else:
            await self._call("message-with-ack", 0)

    async def ask(self) -> None:
        """Send something and be answered."""
        if self._token:
            sent = await self._call("send-message", {"text": "still there", "room": "general"})
            self._seen.add(sent["seq"])
        else:
            await self._call("message-with-ack", self._acks)

    async def go(self) -> None:
        """Leave; what was received must be without a gap."""
        self._wire.end()
        assert await self._wire.closed(), "a websocket stays open after its client has left"
        assert not self._wire.faults, self._wire.faults
        if self._seen:
            missing = set(range(min(self._seen), max(self._seen) + 1)) - self._seen
            assert not missing, f"messages {sorted(missing)} never came"

    def _write(self, packet: str) -> None:
        self._wire.write(encoded(packet))

    async def _call(self, name: str, payload: Any) -> Any:
        self._acks += 1
        number = self._acks
        self._write(f"42{number}" + json.dumps([name, payload]))
        answered = await self._wire.until(lambda: number in self._answers)
        state = "gone" if self._wire.ended else "waiting"
        assert answered, f"{self.user} is not answered to {name} ({state})"
        answer = self._answers.pop(number)
        assert not self._token or answer[0]["ok"], f"{self.user}: {name} fails: {answer}"
        return answer[0]

    def _got(self, packet: str) -> None:
        if packet.startswith("43"):
            number, _, rest = packet[2:].partition("[")
            self._answers[int(number)] = json.loads("[" + rest)
        elif packet.startswith('42["new-message"'):
            self._seen.add(json.loads(packet[2:])[1]["seq"])


@dataclass
class _Actor:
    user: str
    sid: str = _UNKNOWN
    wire: Wire | None = None


@dataclass
class Player:
    """One playing of one script. `token_of` gives a valid token of a user, "" where there are no
    users; `number` makes the users' names; with `tidy` every session is closed at the end."""

    port: int
    token_of: Callable[[str], str]
    number: int = 0
    tidy: bool = True
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        group = self.number % 50
        self._actors = [_Actor(f"fuzz{group}-{who}") for who in range(steps.ACTORS)]
        self._wires: list[Wire] = []
        self._sids: set[str] = set()
        user = f"witness{group}"
        self._witness = Witness(self.port, user, self.token_of(user) or None)

    async def play(self, script: Script) -> list[str]:
        """Perform the steps and clear up; returns the faults that clients can see."""
        try:
            await self._witness.arrive()
            for step in script:
                await self._perform(step)
            await self._witness.ask()
            await self._end()
            await self._witness.ask()
            await self._witness.go()
        except AssertionError as error:
            self.faults.append(str(error))
        finally:
            for wire in self._wires:
                if not wire.ended:
                    wire.transport.abort()
                self.faults += wire.faults
        return self.faults

    async def _perform(self, step: Step) -> None:
        actor = self._actors[step.who] if hasattr(step, "who") else self._actors[0]
        match step:
            case steps.Open():
                await self._open(step, actor)
            case steps.Say():
                await self._say(step, actor)
            case steps.Frames():
                await self._frames(step, actor)
            case steps.Bytes():
                if actor.wire is not None:
                    actor.wire.write(self._filled(step.data, actor))
            case steps.Poll():
                wire = await self._connect()
                wire.write(request("GET", f"EIO=4&transport=polling&sid={actor.sid}"))
            case steps.Upgrade():
                await self._upgrade(step, actor)
            case steps.Request():
                await self._request(step)
            case steps.Cut():
                await self._cut(step, actor)
            case steps.Deaf():
                if actor.wire is not None and not actor.wire.ended:
                    actor.wire.transport.pause_reading()
            case steps.Meanwhile():
                await self._witness.ask()

    # --- the steps -----------------------------------------------------------------------------

    async def _connect(self) -> Wire:
        wire = await connect(self.port)
        self._wires.append(wire)
        return wire

    async def _open(self, step: steps.Open, actor: _Actor) -> None:
        wire = await self._connect()
        if step.after:
            wire.write(b"GET /socket.io/?EIO=3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await wire.until(lambda: wire.statuses)
        if step.transport == "websocket":
            early = b"".join(self._message(packet, actor) for packet in step.early)
            wire.write(HANDSHAKE.format(sid="").encode() + early)
            actor.wire = wire
        else:
            wire.write(request("GET", "EIO=4&transport=polling"))
            actor.wire = None
        if not await wire.until(lambda: wire.packets) and not wire.ended:
            self.faults.append(f"a {step.transport} session is not opened: {wire.statuses}")
        if wire.packets and wire.packets[0].startswith("0"):
            actor.sid = json.loads(wire.packets[0][1:])["sid"]
            self._sids.add(actor.sid)
        if step.transport != "websocket":
            wire.end()

    async def _say(self, step: steps.Say, actor: _Actor) -> None:
        if actor.wire is not None and not step.post:
            actor.wire.write(b"".join(self._message(packet, actor) for packet in step.packets))
            return
        packets = (p if isinstance(p, str) else p.decode("latin-1") for p in step.packets)
        body = "\x1e".join(self._filled(packet, actor) for packet in packets)
        wire = await self._connect()
        query = f"EIO=4&transport=polling&sid={actor.sid}"
        wire.write(request("POST", query, body.encode("utf-8", "surrogatepass")))
        # A careful client posts one body at a time; `Request` is there for the others.
        await wire.until(lambda: wire.statuses, 0.2)

    async def _frames(self, step: steps.Frames, actor: _Actor) -> None:
        if actor.wire is not None:
            data = b"".join(
                frame.encode(self._filled(frame.payload, actor)) for frame in step.frames
            )
            await self._in_pieces(actor.wire, data, step.pieces)

    async def _in_pieces(self, wire: Wire, data: bytes, pieces: int) -> None:
        size = -(-len(data) // pieces) or 1
        for start in range(0, len(data), size):
            wire.write(data[start : start + size])
            for _ in range(3 if pieces > 1 else 0):
                await asyncio.sleep(0)  # lets the other side see a piece before the next

    async def _upgrade(self, step: steps.Upgrade, actor: _Actor) -> None:
        wire = await self._connect()
        messages = b"".join(self._message(packet, actor) for packet in step.packets)
        handshake = HANDSHAKE.format(sid=f"&sid={actor.sid}").encode()
        wire.write(handshake + messages if step.early else handshake)
        if not step.early:
            await wire.until(lambda: wire.statuses)
            if wire.websocket:
                wire.write(messages)
        actor.wire = wire

    async def _request(self, step: steps.Request) -> None:
        wire = await self._connect()
        wire.bodiless = step.method == "HEAD"
        body = self._filled(step.body, self._actors[0])
        head = f"{step.method} /socket.io/{self._filled(step.query, self._actors[0])} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in step.headers)
        if step.framing in ("chunked", "both"):
            head += "Transfer-Encoding: chunked\r\n"
        lengths = {"length": 0, "both": 0, "short": -1, "beyond": 5}
        if step.framing in lengths:
            head += f"Content-Length: {len(body) + lengths[step.framing]}\r\n"
        if step.framing in ("chunked", "both"):
            half = len(body) // 2
            parts = (part for part in (body[:half], body[half:]) if part)
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        data = (head + "\r\n").encode("utf-8", "surrogatepass") + body
        await self._in_pieces(wire, data, step.pieces)

    async def _cut(self, step: steps.Cut, actor: _Actor) -> None:
        if step.how == "leave":
            await self._say(steps.Say(step.who, ("1",)), actor)
        elif actor.wire is not None:
            if step.how == "end":
                actor.wire.end()
            else:
                actor.wire.transport.abort()

    # --- the end -------------------------------------------------------------------------------

    async def _end(self) -> None:
        for wire in self._wires:
            wire.end()
        for wire in self._wires:
            if not await wire.closed():
                self.faults.append(
                    f"a connection stays open after its client's end: {wire.statuses}"
                )
        if self.tidy:
            await asyncio.gather(*(self._close(sid) for sid in sorted(self._sids)))

    async def _close(self, sid: str) -> None:
        """Fetch what a session has left, as a polling client does, and end it."""
        query = f"EIO=4&transport=polling&sid={sid}"
        while True:
            poll = await self._connect()
            poll.write(request("GET", query))
            await poll.until(lambda poll=poll: poll.statuses, _IDLE)
            if poll.statuses != [200] or poll.packets[0] in ("1", "6"):
                break
            await _leave(poll)
        wire = await self._connect()
        wire.write(request("POST", query, b"1"))
        if not await wire.until(lambda: wire.statuses):
            self.faults.append("the end of a session is not answered")
        await _leave(poll)
        await _leave(wire)

    # --- blanks --------------------------------------------------------------------------------

    def _message(self, packet: str | bytes, actor: _Actor) -> bytes:
        return encoded(self._filled(packet, actor))

    def _filled(self, text: Any, actor: _Actor) -> Any:
        mark = "{" if isinstance(text, str) else b"{"
        if mark not in text:
            return text
        blanks = dict(_BLANKS)
        blanks["{token}"] = self.token_of(actor.user)
        for who, other in enumerate(self._actors):
            blanks[f"{{sid{who}}}"] = other.sid
        for blank, value in blanks.items():
            if isinstance(text, str):
                text = text.replace(blank, value)
            else:
                text = text.replace(blank.encode(), value.encode())
        return text


async def _leave(wire: Wire) -> None:
    wire.end()
    await wire.closed()


async def play(port: int, token_of: Callable[[str], str], script: Script, **how: Any) -> list[str]:
    """Play one script; returns the faults that clients can see."""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(6 * PATIENCE):
            return await Player(port, token_of, **how).play(script)
    return ["the server does not take connections"]
