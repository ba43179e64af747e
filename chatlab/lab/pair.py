"""Two servers with the same code, each with a line of its own to one Redis, and four people there.

Alice and Carol are on server A, Bob and Dave on server B, all in one room: enough to see whether
two servers are one chat. For more servers, and for processes that can be killed, see `Cluster`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis.asyncio

from chatlab.lab.background import App, Server, background
from chatlab.lab.clients import RawClient, raw_client
from chatlab.lab.redis_line import RedisLine, url_of_store
from chatlab.lab.timeline import settled
from chatlab.lab.tokens import mint

__all__ = ["Pair", "pair"]

_PATIENCE = 5.0


def pair(
    make: Callable[[str], App],
    store: object,
    *,
    room: str = "kitchen",
    secret: str | None = None,
    acquainted: bool = True,
) -> Pair:
    """Two servers, `server A` and `server B`: `async with pair(make, store) as two:`.

    `make(url)` makes a server, on that server's own loop; `url` is its line to `store`. Everybody
    joins `room` by `join-room`; with a `secret` their handshakes carry a token signed with it.
    `acquainted`: Alice and Bob say their names until both servers' readers have heard them, so that
    whatever a server opens to Redis is open, and then all records are cleared; False leaves that
    out. Raises `TimeoutError` where that takes longer than 5 s.
    """
    return Pair(make, store, room=room, secret=secret, acquainted=acquainted)


class Pair:
    """`a` and `b` are the servers, `line_a` and `line_b` their lines. Made by `pair`."""

    def __init__(
        self,
        make: Callable[[str], App],
        store: object,
        *,
        room: str,
        secret: str | None,
        acquainted: bool,
    ) -> None:
        self.store = store
        self._make, self._room, self._secret = make, room, secret
        self._acquainted = acquainted
        self._started: list[Any] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        self.line_a, self.a = self._serve("server A")
        self.line_b, self.b = self._serve("server B")
        self.alice = await self._enter(self.a, "alice")
        self.carol = await self._enter(self.a, "carol")
        self.bob = await self._enter(self.b, "bob")
        self.dave = await self._enter(self.b, "dave")
        if self._acquainted:
            async with asyncio.timeout(_PATIENCE):
                await self._listening()
                for writer in (self.alice, self.bob):
                    await self._introduce(writer)
            await settled(*self.clients, *self.parts)
            self.clear()

    def _serve(self, name: str) -> tuple[RedisLine, Server]:
        line = RedisLine(self.store, server=name)
        self._started.append(line)
        server = background(lambda: self._make(line.url), name=name)
        self._started.append(server)
        return line, server

    async def _enter(self, server: Server, name: str) -> RawClient:
        auth = {"name": name}
        if self._secret is not None:
            auth = {"token": mint(name, secret=self._secret)}
        client = await raw_client(server, name=name, auth=auth)
        self._started.append(client)
        await client.call("join-room", self._room, timeout=_PATIENCE)
        return client

    async def _listening(self) -> None:
        """Wait until two connections have subscribed: what is said before is heard by nobody."""
        url = url_of_store(self.store)
        # With a timeout of its own redis-py 8.1.0 sends by `asyncio.wait_for`, which on Python 3.11
        # swallows a cancellation that meets a result: this loop would then never end.
        async with redis.asyncio.from_url(url, socket_timeout=None) as database:
            while len(await database.client_list(_type="pubsub")) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def _introduce(self, writer: RawClient) -> None:
        while not all(writer.name in each.received_texts for each in (self.carol, self.dave)):
            await writer.call("send-message", {"text": writer.name}, timeout=_PATIENCE)
            # Slowly: what is told to nobody yet is said again, and a server may count.
            await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        while self._started:
            await self._started.pop().aclose()

    async def write(self, alices: str, bobs: str) -> None:
        """Alice sends one text and Bob the other, before Alice has her ack; wait for both acks.

        Bob sends as soon as server A has Alice's, so that a drawing of it is always the same; it
        says so at the top. Raises what `call` raises.
        """
        for server, name, text in ((self.a, "alice", alices), (self.b, "bob", bobs)):
            server.recorder.add("note", text=f'{name} writes "{text}"')
        known = len(self.a.received.of("send-message"))
        sending = asyncio.ensure_future(self._send(self.alice, alices))
        try:
            # Not `a.wait_for`, which gives handlers a moment to finish: Bob waits for no handler.
            async with asyncio.timeout(_PATIENCE):
                while len(self.a.received.of("send-message")) == known:  # noqa: ASYNC110
                    await asyncio.sleep(0.0005)
            await self._send(self.bob, bobs)
            await sending
        finally:
            sending.cancel()

    async def _send(self, client: RawClient, text: str) -> None:
        await client.call("send-message", {"text": text}, timeout=_PATIENCE)

    @property
    def clients(self) -> tuple[RawClient, ...]:
        """Alice, Carol, Bob and Dave."""
        return self.alice, self.carol, self.bob, self.dave

    @property
    def parts(self) -> tuple[Any, ...]:
        """What `timeline` draws, from left to right: readers outside, the store in the middle."""
        return self.carol, self.a, self.line_a, self.store, self.line_b, self.b, self.dave

    def clear(self) -> None:
        """Forget what was recorded and received, so that the next scene starts afresh."""
        parts: tuple[Any, ...] = (*self.clients, self.a, self.b, self.line_a, self.line_b)
        for part in parts:
            part.clear()
