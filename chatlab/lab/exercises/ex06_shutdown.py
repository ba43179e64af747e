"""The check of exercise 06's second task: a server that goes without taking anything along.

The clients are python-socketio's own, as they come, with their own reconnection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.clients import RawClient

__all__ = ["goes_without_a_loss", "hang_up", "sids"]

Stop = Callable[[], Awaitable[Any]]
AddChat = Callable[[Any, Callable[[str], Awaitable[str]]], Any]

PATIENCE = 2.5  # seconds in which a client that comes back has long begun to
MOMENT = 0.05  # seconds in which `stop` has noted that the server is leaving
HELD = 0.4  # seconds at most that a message is held back until another one has come
IN_TIME = 2.5  # seconds within which a server has gone that waits for one


def sids(sio: Any) -> list[str]:
    """The sids of everybody who is connected."""
    return [sid for sid, _ in sio.manager.get_participants("/", None)] if sio.manager.rooms else []


async def hang_up(sio: Any, sid: str) -> None:
    """Close the connection once everything that waits to be sent to `sid` has been sent."""
    await sio.eio.sockets[sio.manager.eio_sid_from_sid(sid, "/")].queue.put(None)


def returning_client(name: str) -> RawClient:
    """A client that comes back by itself, as python-socketio's does, but sooner."""
    client = RawClient(name)
    client.reconnection = True
    client.reconnection_delay = client.reconnection_delay_max = 0.05
    return client


async def leave(client: RawClient) -> None:
    """End it, whether it is connected, away for good, or just coming back."""
    client.reconnection = False
    returning = client._reconnect_task
    if returning is not None:
        # Not `shutdown`: python-socketio 5.18.1 may begin one more try after it has returned.
        returning.cancel()
        await asyncio.wait({returning})
    if client.connected:
        await client.aclose()
    await client._let_go()
    if client.eio.http is not None:
        await client.eio.http.close()


class Store:
    """Keeps texts; each waits while `gate` is closed."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.texts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def close(self) -> None:
        self.gate.clear()

    async def open(self) -> None:
        self.gate.set()

    async def __call__(self, text: str) -> str:
        self.begun.append(text)
        await self.gate.wait()
        self.texts.append(text)
        return f"id of {text}"


class Scene:
    """A server with the learner's handlers, and clients that come back by themselves."""

    def __init__(self, sio: Any, server: Server, store: Store, stop: Stop) -> None:
        self.sio, self.server, self.store, self.stop = sio, server, store, stop
        self.clients: list[RawClient] = []
        self.begun = asyncio.Event()
        self.took = 0.0

    async def client(self, name: str) -> RawClient:
        """Connect one more."""
        client = returning_client(name)
        self.clients.append(client)
        await client.connect(self.server.url, transports=["websocket"])
        return client

    def begin_to_stop(self) -> asyncio.Task[None]:
        """Call `stop` on the server's own loop. `begun` is set a moment later, or when it ends."""
        here = asyncio.get_running_loop()

        async def run() -> None:
            begun = time.monotonic()

            async def stop() -> None:
                there = asyncio.get_running_loop()
                telling = there.call_later(MOMENT, here.call_soon_threadsafe, self.begun.set)
                try:
                    stopped = self.stop()
                    if asyncio.iscoroutine(stopped):
                        await stopped
                finally:
                    telling.cancel()

            try:
                async with asyncio.timeout(IN_TIME + 0.5):
                    await self.server.call(stop)
            except TimeoutError:
                advice(
                    "a message could not be stored, and `stop` waited for it for ever — "
                    "wait for a second at most, then go all the same"
                )
            finally:
                self.begun.set()
            self.took = time.monotonic() - begun

        return asyncio.ensure_future(run())


@contextlib.asynccontextmanager
async def _scene(add_chat: AddChat) -> AsyncIterator[Scene]:
    sio = socketio.AsyncServer(async_mode="aiohttp")
    store = Store()
    stop = written(add_chat(sio, store), "add_chat")
    expect(callable(stop), f"`add_chat` gave back `{stop!r}` — give back the function `stop`")
    async with background(sio, name="check 06") as server:
        scene = Scene(sio, server, store, stop)
        try:
            yield scene
        finally:
            for client in scene.clients:
                await leave(client)


async def _ask(client: RawClient, text: str) -> Any:
    try:
        return await client.call("send-message", {"text": text}, timeout=PATIENCE)
    except socketio.exceptions.SocketIOError:
        return None


# A server whose thread is blocked takes seven of the seconds: three to stop, four to be given up.
@check(
    "nothing in hand is lost, and everybody comes back by themselves",
    task=2,
    lesson="06",
    limit=20.0,
)
async def goes_without_a_loss(add_chat: AddChat) -> None:
    """`add_chat(sio, store)` adds the handler, and gives back `stop`."""
    await _all_come_back(add_chat)
    await _what_is_in_hand(add_chat)
    await _one_that_never_ends(add_chat)


async def _what_is_in_hand(add_chat: AddChat) -> None:
    async with _scene(add_chat) as scene:
        alice = await scene.client("alice")
        bob = await scene.client("bob")
        answer = await _ask(alice, "hello")
        expect(
            isinstance(answer, dict) and answer.get("ok") is True,
            f"before anybody stopped anything, a message was answered with `{answer}` — "
            'store it, and answer `{"ok": True, "id": …}`',
        )
        await scene.server.call(scene.store.close)
        in_hand = asyncio.ensure_future(_ask(alice, "in hand"))
        await scene.server.wait_for("send-message", 2)
        stopping = scene.begin_to_stop()
        await scene.begun.wait()
        if stopping.done():
            await stopping  # to hear what was wrong: a server that it blocks answers nothing more
        late = asyncio.ensure_future(_ask(bob, "too late"))
        with contextlib.suppress(TimeoutError):
            await scene.server.wait_for("send-message", 3, timeout=HELD)
        await scene.server.call(scene.store.open)
        answer = await in_hand
        await stopping
        expect(
            isinstance(answer, dict),
            "a message was being stored when `stop` was called, and its sender never got an answer "
            "— wait until what is in hand has been answered, and close the connections then",
        )
        expect(
            answer.get("ok") is True,
            f"a message that was in hand was answered with `{answer}` — it had come before `stop` "
            "was called: store it and say so",
        )
        _was_sent_elsewhere(await late, scene)


def _was_sent_elsewhere(answer: Any, scene: Scene) -> None:
    expect(
        "too late" not in scene.store.begun,
        "a message that came after `stop` had been called was taken on — "
        "remember that the server is leaving, and refuse it",
    )
    expect(
        isinstance(answer, dict) and answer.get("ok") is False,
        f"a message that came after `stop` had been called was answered with `{answer}` — "
        'answer `{"ok": False, "code": "closing", "retry": True}`',
    )
    expect(
        answer.get("retry") is True,
        'a message that came too late was refused for good — say `"retry": True`: '
        "another server will take it",
    )


async def _all_come_back(add_chat: AddChat) -> None:
    async with _scene(add_chat) as scene:
        clients = [await scene.client(name) for name in ("alice", "bob", "carol")]
        gone: list[str] = []
        tried: list[str] = []
        for client in clients:
            client.on("disconnect", lambda *_, name=client.name: gone.append(name))
        await scene.begin_to_stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while len(tried) < len(clients):
                    tried = [client.name for client in clients if _tried(client)]
                    await asyncio.sleep(0.02)
        connected = [c.name for c in clients if c.name not in gone and c.name not in tried]
        expect(
            not connected,
            f"after `stop`, {_names(connected)} still had a connection, to a server that answers "
            "nothing any more — close the connection of everybody in `sids(sio)`",
        )
        away = [client.name for client in clients if client.name not in tried]
        expect(
            not away,
            f"{_names(away)} did not come back — DISCONNECT tells a client to stay away: a "
            "connection that just ends (`hang_up`) makes it look for another server",
        )


def _tried(client: RawClient) -> bool:
    entries = [entry.kind for entry in client.recorder.entries]
    # With python-socketio 5.18.1 a client that is going to come back has this task.
    return entries.count("connected") > 1 or client._reconnect_task is not None


def _names(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


async def _one_that_never_ends(add_chat: AddChat) -> None:
    async with _scene(add_chat) as scene:
        alice = await scene.client("alice")
        await scene.server.call(scene.store.close)
        in_hand = asyncio.ensure_future(_ask(alice, "never"))
        await scene.server.wait_for("send-message")
        await scene.begin_to_stop()
        in_hand.cancel()
        await asyncio.wait({in_hand})
        expect(
            scene.took <= IN_TIME,
            f"a message could not be stored, and `stop` took {scene.took:.1f} s — "
            "wait for a second at most, then go all the same",
        )
