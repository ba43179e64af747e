"""What a promise's trial works with: the server's addresses, users and tokens of its own, clients.

Everything that a trial opened is closed when the trial is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp

from chatlab.grade.client import Client, why
from chatlab.grade.control import Control
from chatlab.grade.evidence import Redactor, Trace
from chatlab.grade.promise import NotJudged, Unready
from chatlab.grade.tokens import Tokens

__all__ = ["NAMES", "Place", "Target", "silence"]

NAMES: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
"""What a trial's users are called in the evidence."""

_MOMENT: Final = 0.3  # seconds in which a server sends what it should not
_MOMENTS: Final = 10


@dataclass(frozen=True, slots=True)
class Place:
    """What is graded: the addresses, and how tokens are made for it."""

    urls: tuple[str, ...]
    tokens: Tokens
    session: aiohttp.ClientSession
    control: Control | None = None
    path: str = "/socket.io/"
    redact: Redactor = field(default_factory=Redactor)


class Target:
    """One trial's hold on the server.

    `users` are ids that nobody else uses meanwhile; `timeout` is how long, in seconds, an answer
    may take before it counts as none; `trace` is the evidence so far.
    """

    def __init__(self, place: Place, users: Sequence[str], *, timeout: float = 5.0) -> None:
        self.place = place
        self.users = tuple(users)
        self.timeout = timeout
        self.trace = Trace(place.redact)
        self._clients: list[Client] = []
        self._mark = secrets.token_hex(4)
        self._rooms = 0

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers' addresses: the graded one, then those of `--also`."""
        return self.place.urls

    @property
    def session(self) -> aiohttp.ClientSession:
        """For plain HTTP."""
        return self.place.session

    def room(self, prefix: str = "grade") -> str:
        """The name of a room that nobody has used."""
        self._rooms += 1
        return f"{prefix}-{self._mark}-{self._rooms}"

    def nobody(self) -> str:
        """The id of a user who does not exist."""
        return f"grade-nobody-{secrets.token_hex(4)}"

    def address(self, server: int = 0, *, transport: str = "websocket", **query: str) -> str:
        """The address of a server's Engine.IO endpoint."""
        parts = urlsplit(self.urls[server])
        base = parts.path.rstrip("/") + self.place.path
        asked = urlencode({"EIO": "4", "transport": transport, **query})
        return f"{parts.scheme}://{parts.netloc}{base}?{asked}"

    async def token(
        self,
        user: int = 0,
        *,
        kind: str = "good",
        ttl: float = 900.0,
        rooms: Sequence[str] = (),
        user_id: str | None = None,
    ) -> str:
        """A token of a kind (`tokens.KINDS`) for `users[user]`, or for `user_id`.

        Raises `NotJudged` where it cannot be made.
        """
        named = self.users[user] if user_id is None else user_id
        return await asyncio.to_thread(
            self.place.tokens.make, named, kind=kind, ttl=ttl, rooms=rooms
        )

    async def socket(self, user: int = 0, *, server: int = 0, name: str | None = None) -> Client:
        """A client whose websocket is open and who has not sent CONNECT.

        Raises `NotJudged` where the server opens none.
        """
        called = name or NAMES[user % len(NAMES)]
        if name is None and any(client.name == called for client in self._clients):
            called += str(1 + sum(c.name.startswith(called) for c in self._clients))
        named = self.users[user] if self.users else ""
        client = Client(self.trace, name=called, user=named, timeout=self.timeout)
        self._clients.append(client)
        await client.open(self.session, self.address(server))
        return client

    async def knock(self, auth: Any = None, *, user: int = 0, server: int = 0) -> Client:
        """A client that has sent CONNECT with `auth`; look at `accepted`, `refused`, `refusal`.

        Raises `Silent` where the server does not decide.
        """
        client = await self.socket(user, server=server)
        await client.connect(auth)
        return client

    async def enter(
        self,
        user: int = 0,
        *,
        server: int = 0,
        token: str | None = None,
        name: str | None = None,
    ) -> Client:
        """A client that the server has let in. Raises `NotJudged` where it does not."""
        client = await self.socket(user, server=server, name=name)
        if not await client.connect({"token": token or await self.token(user)}):
            told = client.refusal.get("message") if isinstance(client.refusal, dict) else None
            raise Unready(f"the server did not let {client.name} in: {told or 'it closed'}")
        return client

    async def joined(self, room: str, *users: int, server: int = 0) -> list[Client]:
        """Clients of these users, in `room`. Raises `NotJudged` where that fails."""
        clients = [await self.enter(user, server=server) for user in users]
        for client in clients:
            await client.join(room)
        return clients

    async def quiet(self) -> None:
        """Wait until nothing has come for a moment, a longer one where the machine is busy."""
        for _ in range(_MOMENTS):
            before, began = self.trace.count, time.monotonic()
            await asyncio.sleep(_MOMENT)
            late = time.monotonic() - began - _MOMENT
            if self.trace.count == before and late < _MOMENT / 4:
                return

    async def control(self, *words: str) -> None:
        """Have `--control` do something. Raises `NotJudged` where it cannot."""
        if self.place.control is None:
            raise NotJudged(f"needs --control {words[0]}")
        await self.place.control.run(self.trace, *words)

    async def reachable(self, server: int = 0) -> bool:
        """Whether the server answers HTTP at all."""
        return not await silence(self.session, self.urls[server], self.timeout)

    async def close(self) -> None:
        """End the trace and close every client."""
        self.trace.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*(client.close() for client in self._clients))


async def silence(session: aiohttp.ClientSession, url: str, timeout: float) -> str:
    """Why nobody answers HTTP at `url` within `timeout` seconds; empty where somebody does."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(timeout)):
            return ""
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return why(error)
