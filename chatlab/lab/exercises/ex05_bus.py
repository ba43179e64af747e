"""What exercise 05 puts around a learner's class: a chat server, a Valkey, a line between them.

The server is real and so is the Valkey; only what is passed on between servers is the learner's. It
is no example of a server: the lesson has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis.asyncio
import redis.exceptions
import socketio
from aiohttp import web

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice
from chatlab.lab.clients import RawClient, raw_client
from chatlab.lab.redis_line import RedisLine
from chatlab.lab.valkey import valkey

__all__ = ["PATIENCE", "Bus", "Site", "sites"]

PATIENCE = 3.0  # seconds to wait for a message; only a wrong solution uses them up


class Bus:
    """Channels in Redis, for one server. `heard(channel, data)` gets what is published, in turn.

    `redis` is the client of redis-py beneath, which answers in text.
    """

    def __init__(self, url: str, heard: Callable[[str, Any], Awaitable[None]]) -> None:
        # No timeout of its own: with one, redis-py 8.1.0 can swallow a cancellation (Python 3.11).
        self.redis = redis.asyncio.from_url(url, decode_responses=True, socket_timeout=None)
        self._heard = heard
        self._pubsub: Any = self.redis.pubsub()
        self._listening: asyncio.Task[None] | None = None
        self._confirmed: dict[tuple[str, str], asyncio.Event] = {}

    async def publish(self, channel: str, data: Any) -> None:
        """Tell all who have subscribed to `channel` now, this server too if it has.

        `data` is a string, or what JSON can hold.
        """
        await self.redis.publish(channel, data if isinstance(data, str) else json.dumps(data))

    async def subscribe(self, channel: str) -> None:
        """From now on, hear what is published on `channel`. Returns when that is so."""
        await self._change("subscribe", channel)

    async def unsubscribe(self, channel: str) -> None:
        """Hear nothing of `channel` any more. Returns when that is so."""
        await self._change("unsubscribe", channel)

    async def _change(self, what: str, channel: str) -> None:
        confirmed = self._confirmed[what, channel] = asyncio.Event()
        await getattr(self._pubsub, what)(channel)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        # Called from `heard` it is not confirmed before that has returned.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE / 2):
                await confirmed.wait()

    async def close(self) -> None:
        """End it."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        await self._pubsub.aclose()
        await self.redis.aclose()

    async def _listen(self) -> None:
        with contextlib.suppress(redis.exceptions.ConnectionError):
            # A channel of nobody's: without one the listening would end with the last channel.
            await self._pubsub.subscribe("nobody's")
            async for told in self._pubsub.listen():
                if told["type"] == "message":
                    await self._heard(told["channel"], _read(told["data"]))
                elif (told["type"], told["channel"]) in self._confirmed:
                    self._confirmed[told["type"], told["channel"]].set()


def _read(data: str) -> Any:
    """What was published: an object where it is JSON's, else the string."""
    try:
        found = json.loads(data)
    except ValueError:
        return data
    return found if isinstance(found, dict | list) else data


class Site:
    """One server of a check: `part` is the learner's object on it, `bus` and `line` what it uses.

    `make(bus, deliver)` makes the part; `deliver(room, message)` hands a message to the clients in
    the room on this server, but for its sender. What the part raises is in `failed`.
    """

    def __init__(self, name: str, store: Any, make: Callable[..., Any]) -> None:
        self.name, self._make = name, make
        self.failed: list[BaseException] = []
        self.part: Any = None
        self.line = RedisLine(store, server=name)
        self.bus: Bus
        self.server: Server = background(self._app, name=name)
        self._clients: list[RawClient] = []

    async def _app(self) -> web.Application:
        self._sio = sio = socketio.AsyncServer(async_mode="aiohttp")
        self.bus = Bus(self.line.url, self._heard)
        self.part = self._make(self.bus, self._deliver)
        for event, handler in (
            ("join-room", self._join),
            ("leave-room", self._leave),
            ("send-message", self._send),
        ):
            sio.on(event, handler)
        app = web.Application()
        sio.attach(app)

        async def close(_: web.Application) -> None:
            await self.bus.close()

        app.on_cleanup.append(close)
        return app

    # -- what the server does ----------------------------------------------------------------------

    async def _do(self, name: str, *arguments: Any) -> Any:
        try:
            return await getattr(self.part, name)(*arguments)
        except Exception as error:
            self.failed.append(error)
            return None

    async def _heard(self, channel: str, data: Any) -> None:
        await self._do("heard", channel, data)

    async def _deliver(self, room: str, message: dict[str, Any]) -> None:
        await self._sio.emit("new-message", message, to=room, skip_sid=message.get("sid"))

    async def _join(self, sid: str, room: str) -> Any:
        await self._sio.enter_room(sid, room)
        await self._do("joined", room)
        return {"ok": True}

    async def _leave(self, sid: str, room: str) -> Any:
        await self._sio.leave_room(sid, room)
        await self._do("left", room)
        return {"ok": True}

    async def _send(self, sid: str, data: Any) -> Any:
        message = {"room": data["room"], "text": data["text"], "sid": sid}
        await self._do("send", data["room"], message)
        return {"ok": True}

    # -- what a check does -------------------------------------------------------------------------

    async def client(self, name: str, room: str | None = None) -> RawClient:
        """Connect a client, and have it join."""
        client = await raw_client(self.server, name=name)
        self._clients.append(client)
        if room is not None:
            await self.ask(client, "join-room", room)
        return client

    async def rest(self) -> None:
        """Return when what was published before has come over the line."""

        async def ping() -> None:
            await self.bus.redis.ping()

        await self.server.call(ping)

    async def ask(self, client: RawClient, event: str, data: Any) -> None:
        """Do something as a client; ends the check where it is not answered, or the part failed."""
        try:
            await client.call(event, data, timeout=2 * PATIENCE)
        except socketio.exceptions.TimeoutError:
            self.complain()
            advice(
                f"`{event}` was not answered within {2 * PATIENCE:g} s — "
                "look for a wait or a loop that never ends"
            )
        self.complain()

    def complain(self) -> None:
        """Raise what the learner's object raised."""
        if self.failed:
            raise self.failed[0]

    async def aclose(self) -> None:
        """End it."""
        for client in self._clients:
            await client.aclose()
        await self.server.aclose()
        await self.line.aclose()


@contextlib.asynccontextmanager
async def sites(make: Callable[..., Any], *names: str) -> AsyncIterator[list[Site]]:
    """Servers of these names that share a Valkey."""
    async with contextlib.AsyncExitStack() as stack:
        store = valkey(persist=False, name="check 05")
        stack.push_async_callback(store.aclose)
        found = []
        for name in names:
            found.append(Site(name, store, make))
            stack.push_async_callback(found[-1].aclose)
        yield found
