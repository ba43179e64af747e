"""A Socket.IO client over one websocket that records every packet and can misbehave.

It never reconnects and hides nothing: what it sends is what it was told to send. It is for judging
a server, not for talking to one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import aiohttp

from chatlab.grade.evidence import Trace
from chatlab.grade.promise import Silent, Unready
from chatlab.lab.packets import decode

__all__ = ["Client", "Closing", "Heard", "why"]

_T = TypeVar("_T")

# The original lesson's limit is ten events in each second: this stays below it.
_PACE: Final = 4.0
_PACE_BURST: Final = 6.0


class Heard:
    """An event that arrived: its name, its first argument, and when (monotonic seconds)."""

    __slots__ = ("at", "data", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name, self.data, self.at = name, data, time.monotonic()

    def __repr__(self) -> str:
        return f"Heard({self.name!r}, {self.data!r})"


class Closing:
    """How a connection ended: `dismissed` by a Socket.IO DISCONNECT, then the websocket's code."""

    __slots__ = ("at", "code", "dismissed")

    def __init__(self, code: int | None, *, dismissed: bool) -> None:
        self.code, self.dismissed, self.at = code, dismissed, time.monotonic()


class Client:
    """One connection. `name` is for the evidence; `user` is the id that its token names."""

    def __init__(self, trace: Trace, *, name: str, user: str = "", timeout: float = 5.0) -> None:
        self.name = name
        self.user = user
        self.timeout = timeout
        self.pongs = True
        self.opening: dict[str, Any] | None = None
        self.accepted: dict[str, Any] | None = None
        self.refusal: Any = None
        self.refused = False
        self.dismissed = False
        self.closing: Closing | None = None
        self.heard: list[Heard] = []
        self.packets: list[str] = []
        self.acks: dict[int, list[Any]] = {}
        self._asked: dict[int, str] = {}
        self.pings = 0
        self._trace = trace
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._number = 0
        self._tokens, self._filled = _PACE_BURST, time.monotonic()

    # -- the connection ----------------------------------------------------------------------------

    async def open(
        self, session: aiohttp.ClientSession, address: str, **options: Any
    ) -> dict[str, Any]:
        """Open the websocket; returns the Engine.IO handshake. `options` are aiohttp's.

        Raises `Unready` where the server does not open one.
        """
        try:
            async with asyncio.timeout(self.timeout):
                self._socket = await session.ws_connect(
                    address,
                    max_msg_size=0,
                    autoping=True,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    **options,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = why(error)
            raise Unready(f"the server opened no websocket for {self.name}: {reason}") from None
        self._reader = asyncio.create_task(self._read())
        opening = await self.wait(lambda: self.opening)
        if opening is None:
            raise Unready(f"the server sent {self.name} no Engine.IO handshake")
        return opening

    async def connect(self, auth: Any = None, *, timeout: float | None = None) -> bool:
        """Send CONNECT with `auth` (None: nothing); whether the server accepted.

        Raises `Silent` where it neither accepts, refuses nor closes.
        """
        await self.raw("40" if auth is None else "40" + _json(auth))

        def decided() -> bool | None:
            if self.accepted is not None:
                return True
            return False if self.refused or self.closing else None

        answer = await self.wait(decided, timeout)
        if answer is None:
            raise Silent(f"CONNECT of {self.name} was neither accepted nor refused")
        return answer

    async def raw(self, text: str | bytes) -> None:
        """Send a websocket message as it is; nothing happens where the socket is closed."""
        if self._socket is None or self._socket.closed:
            self._trace.add(self.name, "·", "is closed: nothing sent")
            return
        if isinstance(text, bytes):
            self._trace.add(self.name, "→", f"<{len(text)} bytes>")
            sending = self._socket.send_bytes(text)
        else:
            self._trace.add(self.name, "→", text)
            sending = self._socket.send_str(text)
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await sending

    async def close(self) -> None:
        """Close the websocket, as a client that goes away does."""
        if self._socket is not None:
            with contextlib.suppress(Exception):
                await self._socket.close()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    # -- talking -----------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any, hurry: bool = False) -> None:
        """Send an event without an ack. `hurry`: without regard for the server's limits."""
        await self._pace(hurry)
        await self.raw("42" + _json([event, *args]))

    async def begin(self, event: str, *args: Any, hurry: bool = False) -> int:
        """Send an event with an ack and do not wait; returns the ack's number for `answer`."""
        await self._pace(hurry)
        number, self._number = self._number, self._number + 1
        self._asked[number] = event
        await self.raw(f"42{number}" + _json([event, *args]))
        return number

    async def answer(self, number: int, *, timeout: float | None = None) -> Any:
        """The first ack of that number. Raises `Silent` where none comes in time."""

        def given() -> tuple[Any] | None:
            return (self.acks[number][0],) if number in self.acks else None

        found = await self.wait(given, timeout)
        if found is None:
            how = "the connection was closed" if self.closing else "no ack came"
            event = self._asked.get(number, "event")
            raise Silent(f"`{event}` of {self.name} was not answered: {how}")
        return found[0]

    async def ask(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """Send an event and return its ack (one argument as itself, several as a tuple).

        Raises `Silent` where none comes in time.
        """
        return await self.answer(await self.begin(event, *args), timeout=timeout)

    async def join(self, room: str) -> dict[str, Any]:
        """Join by the bare name and return the ack. Raises `Unready` where that fails."""
        return await self._set_up("join-room", room)

    async def say(self, text: str, **more: Any) -> dict[str, Any]:
        """Send a message and return its ack. Raises `Unready` where that fails."""
        return await self._set_up("send-message", {"text": text, **more})

    async def _set_up(self, event: str, payload: Any) -> dict[str, Any]:
        try:
            ack = await self.ask(event, payload)
        except Silent:
            raise Unready(f"{event}, which comes first, was not answered") from None
        if not (isinstance(ack, dict) and ack.get("ok") is True):
            said = ack.get("error") if isinstance(ack, dict) else ack
            raise Unready(f"{event}, which comes first, was refused: {said}")
        return ack

    # -- what arrived ------------------------------------------------------------------------------

    def of(self, event: str) -> list[Any]:
        """The data of the events of that name, oldest first."""
        return [heard.data for heard in self.heard if heard.name == event]

    @property
    def texts(self) -> list[Any]:
        """The texts of the messages that arrived."""
        return [data.get("text") for data in self.of("new-message") if isinstance(data, dict)]

    async def expect(
        self,
        event: str,
        matching: Callable[[Any], bool] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """The first event of that name whose data match, waited for. Raises `Silent`."""

        def found() -> tuple[Any] | None:
            for heard in self.heard:
                if heard.name == event and (matching is None or matching(heard.data)):
                    return (heard.data,)
            return None

        arrived = await self.wait(found, timeout)
        if arrived is None:
            raise Silent(f"{self.name} should have received `{event}`, but none came")
        return arrived[0]

    async def expect_text(self, text: str, *, timeout: float | None = None) -> dict[str, Any]:
        """The `new-message` with this text, waited for. Raises `Silent`."""

        def same(data: Any) -> bool:
            return isinstance(data, dict) and data.get("text") == text

        message: dict[str, Any] = await self.expect("new-message", same, timeout=timeout)
        return message

    async def ended(self, *, timeout: float | None = None) -> Closing | None:
        """How the connection ended, waited for; None where it still stands."""
        return await self.wait(lambda: self.closing, timeout)

    async def wait(self, found: Callable[[], _T | None], timeout: float | None = None) -> _T | None:
        """What `found` gives as soon as it is not None; None after `timeout` or at the end."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while (value := found()) is None:
            left = deadline - time.monotonic()
            if left <= 0 or self.closing is not None:
                return None
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
        return value

    # -- inside ------------------------------------------------------------------------------------

    async def _pace(self, hurry: bool) -> None:
        if hurry:
            return
        now = time.monotonic()
        self._tokens = min(_PACE_BURST, self._tokens + (now - self._filled) * _PACE)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / _PACE)

    async def _read(self) -> None:
        socket = self._socket
        if socket is None:
            return
        try:
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._trace.add(self.name, "←", message.data)
                    await self._hear(message.data)
                elif message.type == aiohttp.WSMsgType.BINARY:
                    self._trace.add(self.name, "←", f"<{len(message.data)} bytes>")
                self._changed.set()
        except (aiohttp.ClientError, ConnectionError):
            pass
        finally:
            code = socket.close_code
            self.closing = Closing(code, dismissed=self.dismissed)
            self._trace.add(self.name, "·", f"connection closed (websocket code {code})")
            self._changed.set()

    async def _hear(self, text: str) -> None:
        self.packets.append(text)
        if text == "2":
            self.pings += 1
            if self.pongs:
                await self.raw("3")
        elif text.startswith("0"):
            with contextlib.suppress(ValueError):
                self.opening = json.loads(text[1:])
        elif text.startswith("4"):
            self._take(text[1:])

    def _take(self, text: str) -> None:
        seen = decode(text)
        if seen is None:
            return
        if seen.packet == "connect":
            self.accepted = {}
        elif seen.packet == "connect_error":
            self.refused, self.refusal = True, seen.data
        elif seen.packet == "disconnect":
            self.dismissed = True
        elif seen.packet == "ack" and seen.id is not None:
            self.acks.setdefault(seen.id, []).append(seen.data)
        elif seen.packet == "event" and seen.name is not None:
            self.heard.append(Heard(seen.name, seen.data))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def why(error: BaseException) -> str:
    """What went wrong with a connection, in a few words for a person."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"it answered with HTTP {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return str(error) or type(error).__name__
