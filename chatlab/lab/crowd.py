"""A small crowd that talks while something breaks: the scenes of lesson 06.

What a client does when it is back, and with a message that comes, is written in the lesson; the
rest of it is here, and writes down everything for the checker. It breaks nothing and judges
nothing; the chaos run has thirty clients of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import socketio

from chatlab.backoff import Backoff
from chatlab.client import ChatClient
from chatlab.errors import ChatError
from chatlab.lab.calm import calm
from chatlab.lab.history import Delivered, History
from chatlab.lab.proxy import Proxy

__all__ = ["LAST", "ChatPerson", "Crowd", "Person"]

LAST: Final = "Is everybody there?"
"""What is said when all else has been."""

_NAMES: Final = ("alice", "bob", "carol", "dave", "erin", "frank")
_ANSWER: Final = 0.8  # seconds until an ack that has not come is waited for no longer
_TRIES: Final = 12  # about eight seconds, pauses included
_LONGEST_PAUSE: Final = 0.5
_BACK: Final = 10.0  # seconds until one who is not back is no longer waited for
_QUIET: Final = 0.4  # seconds without anything new, after which nothing is expected any more


class Person:
    """A user with python-socketio's own client, which comes back by itself after a cut.

    It shows what it hears and asks for nothing; the lesson's own kinds do more, in `back` and in
    `heard`. Everything that it does and sees goes into the crowd's history.
    """

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.room = crowd.room
        self.crowd = crowd
        self.history = crowd.history
        self.history.client(name, shows=True)
        self._sends = itertools.count(1)
        self._in = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.sio: Any = socketio.AsyncClient(
            reconnection_delay=0.1, reconnection_delay_max=0.5, handle_sigint=False
        )
        self.sio.on("connect", self._connected)
        self.sio.on("disconnect", self._lost)
        self.sio.on("new-message", self._came)

    # -- what the lesson writes --------------------------------------------------------------------

    async def back(self) -> None:
        """It is connected, for the first time or again: join the room."""
        await self.call("join-room", {"room": self.room})

    async def heard(self, message: dict[str, Any]) -> None:
        """A message came, or one of its own was acked."""
        self.show(message)

    # -- what the lesson uses ----------------------------------------------------------------------

    def show(self, message: dict[str, Any]) -> None:
        """Put it on the screen: from here on it counts as seen."""
        self.history.shown(self.name, _delivered(message))

    async def call(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        """Ask the server. Raises python-socketio's exceptions where no answer comes, or a no."""
        if event == "join-room":
            self.history.joining(self.name, self.room, after=data.get("after"))
        answer: dict[str, Any] = await self.sio.call(event, data, timeout=_ANSWER)
        if event == "join-room":
            told = {key: answer[key] for key in ("seq", "epoch", "lost") if key in answer}
            self.history.joined(self.name, self.room, ok=answer["ok"], **told)
        if not answer["ok"]:
            raise socketio.exceptions.SocketIOError(f"{event}: {answer.get('code')}")
        return answer

    async def say(self, text: str) -> None:
        """Send until it is acked, as lesson 01 does: the same key each time."""
        data = {"room": self.room, "text": text, "key": uuid.uuid4().hex}
        for attempt in range(_TRIES):
            number = next(self._sends)
            try:
                async with asyncio.timeout(_ANSWER):
                    await self._in.wait()
                self.history.sent(self.name, number, self.room, text, key=data["key"])
                answer = await self.sio.call("send-message", data, timeout=_ANSWER)
            except (TimeoutError, socketio.exceptions.SocketIOError):
                answer = {"ok": False, "retry": True, "code": "unavailable"}
            else:
                stored = True if answer["ok"] else None if answer.get("retry") else False
                told = {key: answer[key] for key in ("id", "seq", "code") if key in answer}
                self.history.acked(self.name, number, stored=stored, **told)
            if answer["ok"]:
                await self.heard({**data, **answer, "user": self.name})
                return
            if not answer.get("retry"):
                return
            pause = min(_LONGEST_PAUSE, 0.1 * 2**attempt)
            await asyncio.sleep(max(random.uniform(0, pause), answer.get("retryAfter", 0)))  # noqa: S311

    # -- coming and going --------------------------------------------------------------------------

    async def enter(self) -> None:
        """Connect, and return when it is in the room. Raises `TimeoutError`."""
        token = self.crowd.cluster.token(self.name)
        url = self.crowd.wire.url
        async with asyncio.timeout(_BACK):
            # `retry`: what the scene before has broken, a balancer may notice late.
            await self.sio.connect(
                url,
                auth={"token": token},
                transports=["websocket"],
                wait_timeout=_BACK,
                retry=True,
            )
            await self._in.wait()

    async def wait_until_in(self) -> None:
        """Wait until it is connected and in the room. Raises `TimeoutError`."""
        async with asyncio.timeout(_BACK):
            await self._in.wait()

    async def leave(self) -> None:
        """Go for good."""
        for task in self._tasks:
            task.cancel()
        returning = self.sio._reconnect_task
        if returning is not None:
            # Not `shutdown`: python-socketio 5.18.1 may begin one more try after it has returned.
            returning.cancel()
            await asyncio.wait({returning})
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self.sio.disconnect()

    def _connected(self) -> None:
        self.history.connected(self.name)
        self._spawn(self._return())

    async def _return(self) -> None:
        # Not `connected`: python-socketio 5.18.1 sets that only after its "connect" handlers.
        while self.sio.namespaces:
            try:
                await self.back()
            except socketio.exceptions.SocketIOError:
                await asyncio.sleep(0.1)
            else:
                self._in.set()
                return

    def _lost(self, *_: Any) -> None:
        self._in.clear()
        self.history.disconnected(self.name)

    async def _came(self, message: dict[str, Any]) -> None:
        self.history.arrived(self.name, _delivered(message))
        with contextlib.suppress(socketio.exceptions.SocketIOError):
            await self.heard(message)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class ChatPerson:
    """A user with chatlab's own client, `ChatClient`."""

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.room = crowd.room
        self._history = crowd.history
        self._reading: asyncio.Task[None] | None = None
        self.client = ChatClient(
            crowd.wire,
            crowd.cluster.token(name),
            name=name,
            timeout=_ANSWER,
            retries=_TRIES,
            recorder=crowd.history.recorder(name),
            backoff=Backoff(base=0.1, cap=_LONGEST_PAUSE),
        )

    async def enter(self) -> None:
        """Connect and join. Raises what the client's last try raised, after ten seconds."""
        late = time.monotonic() + _BACK
        while True:
            try:
                await self.client.connect()
                await self.client.join(self.room)
                break
            except ChatError as error:
                # The client's patience is that for an ack: too short for the start of a scene.
                if not error.retry or time.monotonic() > late:
                    raise
                await asyncio.sleep(0.1)
        self._reading = asyncio.create_task(self._history.read(self.client))

    async def say(self, text: str) -> None:
        """Send until it is acked."""
        with contextlib.suppress(ChatError):
            await self.client.send(text, self.room)

    async def wait_until_in(self) -> None:
        """Wait until it is connected: it joins again by itself. Raises `TimeoutError`."""
        async with asyncio.timeout(_BACK):
            while not self.client.connected:  # noqa: ASYNC110 - there is nothing to wait on
                await asyncio.sleep(0.02)

    async def leave(self) -> None:
        """Go for good."""
        await self.client.close()
        if self._reading is not None:
            await self._reading


class Crowd:
    """Six people of one `kind` in one room of `cluster`, behind a `wire` that can be broken.

        async with Crowd(Person, cluster) as crowd:
            await crowd.talk(2.0)
            await crowd.rest()
        crowd.history.check()

    `kind` is `Person`, a subclass, or whatever has its `enter`, `say`, `wait_until_in` and
    `leave`; `names` are theirs. `cluster` is a `Cluster`, or whatever has a `url`, a `name` and a
    `token`. The room is a new one each time.
    """

    def __init__(
        self,
        kind: Callable[[str, Crowd], Any],
        cluster: Any,
        *,
        names: Sequence[str] = _NAMES,
    ) -> None:
        self.cluster = cluster
        self.room = f"general-{secrets.token_hex(2)}"
        self.history = History()
        # By room: two crowds may be at one cluster at the same time.
        self.wire = Proxy(cluster, name=f"wire of {self.room}")
        self.begun = time.monotonic()
        self.faults: list[tuple[float, float]] = []
        self.people = [kind(name, self) for name in names]

    async def __aenter__(self) -> Self:
        try:
            await calm(self.cluster)
            await asyncio.gather(*(person.enter() for person in self.people))
        except BaseException:
            await self._close()
            raise
        self.begun = time.monotonic()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(person.leave() for person in self.people))
        await self.wire.aclose()

    async def talk(self, seconds: float, *, rate: float = 8.0) -> None:
        """Everybody sends `rate` messages a second; returns when each was acked or given up."""
        async with asyncio.TaskGroup() as sending:
            for number in range(int(seconds * rate)):
                for person in self.people:
                    sending.create_task(person.say(f"{person.name} {number}"))
                    await asyncio.sleep(1 / rate / len(self.people))

    @contextlib.asynccontextmanager
    async def breaking(self) -> AsyncIterator[None]:
        """Mark the time of a fault, for the picture."""
        begun = time.monotonic()
        yield
        self.faults.append((begun, time.monotonic()))

    async def rest(self) -> None:
        """Wait until everybody is back and nothing new comes: what is missing now stays missing."""
        await asyncio.gather(*(person.wait_until_in() for person in self.people))
        # It tells a client that something before it is missing.
        await self.people[0].say(LAST)
        seen, since = -1, time.monotonic()
        while time.monotonic() < since + _QUIET:
            if len(self.history) != seen:
                seen, since = len(self.history), time.monotonic()
            await asyncio.sleep(0.02)
        self.history.end()


def _delivered(message: dict[str, Any]) -> Delivered:
    text, seq = str(message["text"]), message.get("seq")
    return Delivered(message["room"], message["user"], text, message["id"], seq)
