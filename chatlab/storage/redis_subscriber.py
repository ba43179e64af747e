"""One connection that listens: channels are subscribed again by itself, and deafness is noticed.

python-socketio's own listener waits up to 60 seconds before it tries again, and does not know
whether it is subscribed. This one tries several times a second, asks for a sign of life where it
hears nothing, and says that it is `up` only when Redis has confirmed every channel.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError, MovedError, RedisError

from chatlab.errors import Unavailable
from chatlab.storage.base import cancelled, fail
from chatlab.storage.redis_connect import Connect, hang_up, in_words
from chatlab.storage.redis_link import retry_pauses

__all__ = ["Handler", "Subscriber", "Subscription"]

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[bytes], None]
Subscription: TypeAlias = tuple[Handler, Future[None]]
"""What is called with each message, and what is done when Redis has confirmed the channel."""

SILENCE: Final = 1.0  # seconds without a word until a sign of life is asked for, and given up on
BREATHE_EVERY: Final = 128  # messages in a row, after which others get the loop
CHANNELS_A_COMMAND: Final = 1_000


class Subscriber:
    """Hears the channels that it is told to.

    `sharded` uses the pub/sub of a Redis Cluster, in which a channel belongs to one node. `changed`
    is called on the loop whenever `up` may have changed. `astray` is called with a channel that
    Redis does not let it hear here (any more); `adopted` with one that was taken over from another
    node, once Redis has confirmed it.
    """

    def __init__(self, connect: Connect, *, stalled_after: float, sharded: bool = False) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.astray: Callable[[str], None] = lambda channel: None
        self.adopted: Callable[[str], None] = lambda channel: None
        self.connects = 0
        self.reason: str | None = None
        self.heard = 0
        self._connect = connect
        self._stalled_after = stalled_after
        self._prefix = "S" if sharded else ""
        self._handlers: dict[str, Handler] = {}
        self._confirmed: dict[str, Future[None]] = {}
        self._outstanding: Counter[str] = Counter()
        self._adopted: set[str] = set()
        self._resubscribing = False
        self._connection: AbstractConnection | None = None
        self._outbox: list[tuple[str, ...]] = []
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._session: asyncio.Timeout | None = None

    @property
    def up(self) -> bool:
        """Whether Redis is there and has, since it came back, confirmed every channel."""
        return self._connection is not None and not self._resubscribing

    @property
    def channels(self) -> int:
        """How many channels it is to hear."""
        return len(self._handlers)

    @property
    def subscribed(self) -> list[str]:
        """The channels that it is to hear."""
        return list(self._handlers)

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Let go of everything."""
        await cancelled(self._task, self._writer)
        self._task = self._writer = None
        self._lost()

    def reconnect(self, reason: str) -> None:
        """Let go of the connection, make another, and subscribe to every channel again."""
        if self._session is not None and not self._session.expired():
            self.reason = reason
            self._session.reschedule(0)

    def subscribe(self, channel: str, handler: Handler) -> Future[None]:
        """Hear a channel; the future is done when Redis has confirmed it, now or after an outage.

        A channel has one handler; subscribing again replaces it.
        """
        confirmed = self._confirmed.get(channel)
        if confirmed is None or confirmed.done():
            confirmed = asyncio.get_running_loop().create_future()
        self._add(channel, handler, confirmed)
        return confirmed

    def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        if channel in self._handlers:
            _, confirmed = self.release(channel)
            fail(confirmed, Unavailable())

    def release(self, channel: str) -> Subscription:
        """Hear a channel no more, since another node is to: what `adopt` needs."""
        handler, confirmed = self._handlers.pop(channel), self._confirmed.pop(channel)
        self._adopted.discard(channel)
        if self._connection is not None:
            self._send("UNSUBSCRIBE", channel)
        return handler, confirmed

    def adopt(self, channel: str, subscription: Subscription) -> None:
        """Hear a channel that another node has released; `adopted` tells when that is so."""
        self._add(channel, *subscription)
        self._adopted.add(channel)

    def _add(self, channel: str, handler: Handler, confirmed: Future[None]) -> None:
        self._handlers[channel], self._confirmed[channel] = handler, confirmed
        if self._connection is not None:
            self._outstanding[channel] += 1
            self._send("SUBSCRIBE", channel)

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
                async with asyncio.timeout(None) as self._session:
                    await self._listen(connection)
            except (RedisError, OSError) as error:
                self._down(in_words(error, self._stalled_after))
            except Exception as error:
                log.exception("listening to Redis failed")
                self._down(in_words(error, self._stalled_after))
            finally:
                if connection is not None:
                    await hang_up(connection)

    def _down(self, reason: str) -> None:
        if self._connection is None or self.reason is None:  # else it was told to reconnect
            self.reason = reason
        self._lost()

    def _connected(self, connection: AbstractConnection) -> None:
        self._connection, self.reason = connection, None
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
        self._connection = self._session = None
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
                await hang_up(connection)

    async def _listen(self, connection: AbstractConnection) -> None:
        asked = False
        in_a_row = 0
        while True:
            try:
                message = await connection.read_response(timeout=SILENCE)
            except MovedError as error:
                self._refused(error.slot_id)
                continue
            if message is None:
                if asked or self._outstanding:
                    raise ConnectionError(f"silent for {2 * SILENCE:g} s")
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
                self.astray(channel)

    def _refused(self, slot: int) -> None:
        """The node does not have this slot: what was to be heard of it here cannot be."""
        for channel in [one for one in self._outstanding if key_slot(one.encode()) == slot]:
            del self._outstanding[channel]
            if channel in self._handlers:
                self.astray(channel)
        self._check_resubscribed()

    def _confirm(self, channel: str) -> None:
        self._outstanding[channel] -= 1
        if self._outstanding[channel] > 0:
            return
        del self._outstanding[channel]
        confirmed = self._confirmed.get(channel)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
        if channel in self._adopted:
            self._adopted.discard(channel)
            self.adopted(channel)
        self._check_resubscribed()

    def _check_resubscribed(self) -> None:
        if self._resubscribing and not self._outstanding:
            self._resubscribing = False
            self.changed()
