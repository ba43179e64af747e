"""One connection through a proxy: two pumps that move units and ask the proxy about each.

It knows how to be silent (drop what comes, close nothing), late and cut. When to be is decided by
the proxy that owns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from chatlab.lab.frames import Unit
from chatlab.lab.http1 import Conversation, HttpParser, Namer
from chatlab.lab.packets import Seen

__all__ = ["Judge", "Link", "Outbox"]

_READ = 64 * 1024
# What may wait on a delayed wire before its reader is held up.
_LATE_LIMIT = 1024 * 1024

Fate = Literal["pass", "drop", "cut"]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Judge(Namer, Protocol):
    """What a link asks of its proxy."""

    def fate(self, link: Link, packet: Seen, to_server: bool) -> Fate:
        """What becomes of a packet. May set off a fault."""

    def silent(self, to_server: bool) -> bool:
        """Whether this direction drops everything now."""

    def lateness(self, to_server: bool) -> float:
        """Seconds by which this direction is late now."""

    def passed(self, link: Link, packet: Seen, to_server: bool) -> None:
        """A packet is about to be written to the other side."""

    async def sever(self, link: Link) -> None:
        """Do the cut that `fate` has announced."""


class Outbox:
    """Writes to one side, at once or late, in order."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._late: deque[tuple[float, bytes | None, Callable[[], None]]] = deque()
        self._waiting = 0
        self._changed = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def put(self, data: bytes | None, delay: float, before: Callable[[], None]) -> None:
        """Write `data` (None: the end of the stream) after `delay` seconds."""
        if not delay and not self._late:
            await self._write(data, before)
            return
        due = asyncio.get_running_loop().time() + delay
        self._late.append((due, data, before))
        self._waiting += len(data or b"")
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_late())
        self._changed.set()
        while self._waiting > _LATE_LIMIT:
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, data: bytes | None, before: Callable[[], None]) -> None:
        before()
        if data is None:
            if self.writer.can_write_eof():
                self.writer.write_eof()
        elif data:
            self.writer.write(data)
            await self.writer.drain()

    async def _send_late(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, RuntimeError):
            while self._late:
                due, data, before = self._late[0]
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._write(data, before)
                self._late.popleft()
                self._waiting -= len(data or b"")
                self._changed.set()
        self._late.clear()
        self._waiting = 0
        self._changed.set()
        self._sender = None

    def close(self, *, rst: bool) -> None:
        """Close this side: what was written is still delivered, unless with a reset."""
        if self._sender is not None:
            self._sender.cancel()
        if rst:
            raw = self.writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


class Link:
    """One client's connection through the wire."""

    def __init__(
        self, judge: Judge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._judge = judge
        self._client = reader
        self._outboxes = {False: Outbox(writer)}
        self._talk = Conversation(judge)
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        # Ends of a stream that a silent wire did not pass on, by direction.
        self._withheld: set[bool] = set()
        # Directions that were closed on purpose while the other one goes on.
        self._shut: set[bool] = set()
        # Whether the last unit of each direction was passed on.
        self._chain = {True: True, False: True}
        self._lost_exchange = False

    @property
    def name(self) -> str | None:
        """The client's name, once a request has been read."""
        return self._talk.name

    @property
    def websocket(self) -> bool:
        """Whether it is one by now."""
        return self._talk.upgraded

    @property
    def whole(self) -> bool:
        """Whether neither side has hung up."""
        return not any(task.done() for task in self._tasks)

    async def run(self, connect: Connect) -> None:
        """Carry the connection until it ends. `connect` opens the other side."""
        try:
            readers = {True: self._client}
            if self._judge.silent(True):
                # The server cannot be reached: nobody hears what the client says.
                self._lost_exchange = True
                self._withheld.add(True)
            else:
                try:
                    readers[False], writer = await connect()
                except OSError:
                    return
                self._outboxes[True] = Outbox(writer)
                if self._ended.is_set():
                    return  # cut while the other side was being reached
            self._tasks = [
                asyncio.create_task(self._pump(reader, to_server))
                for to_server, reader in readers.items()
            ]
            await asyncio.wait(self._tasks)
            for task in self._tasks:
                if not task.cancelled() and task.exception() is not None:
                    raise task.exception() or RuntimeError
            if self._withheld:
                await self._ended.wait()
        finally:
            self.cut()

    def cut(self, *, rst: bool = False) -> None:
        """Close both sides. What was passed on before still arrives, unless with a reset."""
        self._ended.set()
        for outbox in self._outboxes.values():
            outbox.close(rst=rst)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    async def shut(self, to_server: bool) -> None:
        """Close one direction only: that side is told that nothing more will come."""
        if to_server not in self._shut and to_server in self._outboxes:
            self._shut.add(to_server)
            await self._outboxes[to_server].put(None, 0, _nothing)

    def heal(self) -> None:
        """Go on after a silence, or close where that makes no sense any more.

        A websocket goes on: only whole messages were lost. Where a side has meanwhile hung up, or
        an HTTP request or its answer was lost, the connection is of no use to anybody.
        """
        if self._withheld or self._shut or self._lost_exchange:
            self.cut()

    # -- moving bytes ------------------------------------------------------------------------------

    async def _pump(self, reader: asyncio.StreamReader, to_server: bool) -> None:
        parser = HttpParser(self._talk, requests=to_server)
        try:
            while data := await reader.read(_READ):
                for unit in parser.feed(data):
                    await self._forward(unit, to_server)
                    if self._ended.is_set():
                        return
        except OSError:
            if not self._judge.silent(to_server):
                self.cut(rst=True)
                return
        if self._judge.silent(to_server):
            self._withheld.add(to_server)
        elif to_server in self._outboxes:
            with contextlib.suppress(OSError):
                late = self._judge.lateness(to_server)
                await self._outboxes[to_server].put(None, late, _nothing)

    async def _forward(self, unit: Unit, to_server: bool) -> None:
        if unit.continues:
            if self._chain[to_server]:
                await self._put(unit.raw, to_server)
            return
        if not unit.packets:
            await self._forward_plain(unit, to_server)
            return
        late: list[Seen] = []
        kept, dropped, severed = self._judge_packets(unit.packets, to_server, late)
        self._chain[to_server] = kept

        def arriving() -> None:
            for packet in late:
                self._judge.passed(self, packet, to_server)

        if not dropped:
            await self._put(unit.raw, to_server, arriving)
        elif kept or not (severed or self._judge.silent(to_server)):
            rest = unit.without(dropped) if unit.without else b""
            await self._put(rest, to_server, arriving)
            if not rest and unit.answer is not None:
                # Nothing remains of a POST. Only packets were to be lost, not the connection.
                self._talk.waiting.pop()
                await self._put(unit.answer, False)
        else:
            self._lost_exchange = self._lost_exchange or unit.exchange
        if severed:
            await self._judge.sever(self)

    def _judge_packets(
        self, packets: list[Seen], to_server: bool, late: list[Seen]
    ) -> tuple[bool, set[int], bool]:
        """Whether any passes, which do not, and whether the wire is to be cut at one of them.

        Those that are to be recorded when they arrive, not now, are added to `late`.
        """
        kept = False
        dropped: set[int] = set()
        for index, packet in enumerate(packets):
            fate = self._judge.fate(self, packet, to_server)
            if fate == "cut":
                return kept, dropped | set(range(index, len(packets))), True
            if fate == "drop":
                dropped.add(index)
                continue
            kept = True
            if self._judge.lateness(to_server):
                late.append(packet)
            else:
                # Now, and not when it is written, so that the record has the order of the wire
                # where one polling body holds several packets.
                self._judge.passed(self, packet, to_server)
        return kept, dropped, False

    async def _forward_plain(self, unit: Unit, to_server: bool) -> None:
        silent = self._judge.silent(to_server)
        if not unit.control:
            self._chain[to_server] = not silent
        if not silent:
            await self._put(unit.raw, to_server)
        else:
            self._lost_exchange = self._lost_exchange or unit.exchange

    async def _put(
        self, data: bytes, to_server: bool, before: Callable[[], None] | None = None
    ) -> None:
        if to_server not in self._shut and to_server in self._outboxes:
            late = self._judge.lateness(to_server)
            await self._outboxes[to_server].put(data, late, before or _nothing)


def _nothing() -> None:
    """What precedes the end of a stream."""
