"""One connection that listens: channels are subscribed again by itself, and deafness is noticed.

python-socketio's own listener waits up to 60 seconds before it tries again, and does not know
whether it is subscribed. This one tries several times a second, asks for a sign of life where it
hears nothing, and says that it is `up` only when Redis has confirmed every channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import Future
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError

from chatlab.errors import Unavailable
from chatlab.storage.base import fail
from chatlab.storage.redis_link import Connect, retry_pauses

__all__ = ["Subscriber"]

log = logging.getLogger(__name__)

Handler = Callable[[bytes], None]

SILENCE: Final = 1.0  # seconds without a word until a sign of life is asked for, and given up on
BREATHE_EVERY: Final = 128  # messages in a row, after which others get the loop
CHANNELS_A_COMMAND: Final = 1_000


class Subscriber:
    """Hears the channels that it is told to.

    `sharded` uses the pub/sub of a Redis Cluster, in which a channel belongs to one node. `changed`
    is called on the loop whenever `listening` may have changed. `moved` is called with a channel
    that now belongs to another node.
    """

    def __init__(self, connect: Connect, *, stalled_after: float, sharded: bool = False) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.moved: Callable[[str], None] = lambda channel: None
        self.connects = 0
        self.heard = 0
        self._connect = connect
        self._stalled_after = stalled_after
        self._prefix = "S" if sharded else ""
        self._handlers: dict[str, Handler] = {}
        self._confirmed: dict[str, Future[None]] = {}
        self._outstanding: Counter[str] = Counter()
        self._resubscribing = False
        self._connection: AbstractConnection | None = None
        self._outbox: list[tuple[str, ...]] = []
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether Redis is there and has, since it came back, confirmed every channel."""
        return self._connection is not None and not self._resubscribing

    @property
    def channels(self) -> int:
        """How many channels it is to hear."""
        return len(self._handlers)

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Let go of everything."""
        for task in (self._task, self._writer):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._task = self._writer = None
        self._lost()

    def subscribe(self, channel: str, handler: Handler) -> Future[None]:
        """Hear a channel; the future is done when Redis has confirmed it, now or after an outage.

        A channel has one handler; subscribing again replaces it.
        """
        self._handlers[channel] = handler
        confirmed = self._confirmed.get(channel)
        if confirmed is None or confirmed.done():
            confirmed = self._confirmed[channel] = asyncio.get_running_loop().create_future()
        if self._connection is not None:
            self._outstanding[channel] += 1
            self._send("SUBSCRIBE", channel)
        return confirmed

    def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        if self._handlers.pop(channel, None) is None:
            return
        waiting = self._confirmed.pop(channel, None)
        if waiting is not None:
            fail(waiting, Unavailable())
        if self._connection is not None:
            self._send("UNSUBSCRIBE", channel)

    # --- the connection ----------------------------------------------------------------------

    async def _run(self) -> None:
        pause = retry_pauses()
        while True:
            await asyncio.sleep(pause())
            connection = None
            try:
                async with asyncio.timeout(self._stalled_after):
                    connection = await self._connect()
                self._connected(connection)
                pause = retry_pauses()
                await self._listen(connection)
            except (RedisError, OSError) as error:
                log.debug("not listening: %s", error)
            except Exception:
                log.exception("listening to Redis failed")
            finally:
                self._lost()
                if connection is not None:
                    with contextlib.suppress(RedisError, OSError):
                        await connection.disconnect(nowait=True)

    def _connected(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self.connects += 1
        channels = list(self._handlers)
        self._resubscribing = bool(channels)
        for first in range(0, len(channels), CHANNELS_A_COMMAND):
            some = channels[first : first + CHANNELS_A_COMMAND]
            self._outstanding.update(some)
            if self._prefix:  # the channels of one command must share a slot
                for channel in some:
                    self._send("SUBSCRIBE", channel)
            else:
                self._send("SUBSCRIBE", *some)
        self.changed()

    def _lost(self) -> None:
        self._connection = None
        self._resubscribing = False
        self._outstanding.clear()
        self._outbox.clear()
        for channel in self._handlers:
            confirmed = self._confirmed.get(channel)
            if confirmed is None or confirmed.done():
                self._confirmed[channel] = asyncio.get_running_loop().create_future()
        self.changed()

    def _send(self, word: str, *arguments: str) -> None:
        prefix = self._prefix if word != "PING" else ""
        self._outbox.append((prefix + word, *arguments))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Send what is in the outbox; the reader notices where the connection is gone."""
        while self._outbox and (connection := self._connection) is not None:
            commands, self._outbox = self._outbox, []
            try:
                async with asyncio.timeout(self._stalled_after):
                    packed = connection.pack_commands(commands)
                    await connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError):
                await connection.disconnect(nowait=True)

    async def _listen(self, connection: AbstractConnection) -> None:
        asked = False
        in_a_row = 0
        while True:
            message = await connection.read_response(timeout=SILENCE)
            if message is None:
                if asked or self._outstanding:
                    raise ConnectionError("no sign of life")
                self._send("PING")
                asked = True
                in_a_row = 0
                continue
            asked = False
            self._take(message)
            in_a_row += 1
            if in_a_row >= BREATHE_EVERY:
                in_a_row = 0
                await asyncio.sleep(0)

    def _take(self, message: Any) -> None:
        kind = message[0]
        if kind in (b"message", b"smessage"):
            self.heard += 1
            handler = self._handlers.get(message[1].decode())
            if handler is not None:
                try:
                    handler(message[2])
                except Exception:
                    log.exception("a published message could not be handled")
        elif kind in (b"subscribe", b"ssubscribe"):
            self._confirm(message[1].decode())
        elif kind == b"sunsubscribe":
            channel = message[1].decode()
            if channel in self._handlers and not self._outstanding[channel]:
                self.moved(channel)

    def _confirm(self, channel: str) -> None:
        self._outstanding[channel] -= 1
        if self._outstanding[channel] > 0:
            return
        del self._outstanding[channel]
        confirmed = self._confirmed.get(channel)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
        if self._resubscribing and not self._outstanding:
            self._resubscribing = False
            self.changed()
