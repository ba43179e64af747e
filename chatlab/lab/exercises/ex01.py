"""Checks of exercise 01 on the server's side: an ack that means stored, and a retry that is exact.

The learner's handler runs in a server of its own and stores into a `Store` of the check's, which
can be slow or broken. The sender's side is checked in `ex01_sending.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect
from chatlab.lab.clients import RawClient, raw_client
from chatlab.lab.exercises.ex01_sending import PATIENCE, SOON, sends_reliably

__all__ = ["acks_what_is_stored", "retries_exactly", "sends_reliably"]

AddHandler = Callable[[Any, Callable[[str], Awaitable[str]]], Any]


class Store:
    """What the learner's handler stores into. It waits while `gate` is closed."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked: list[Any] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, text: str) -> str:
        self.asked.append(text)
        await self.gate.wait()
        if self.broken:
            raise OSError("the disk is full")
        self.texts.append(text)
        return f"m{len(self.texts)}"

    async def close(self) -> None:
        self.gate.clear()

    async def open(self) -> None:
        self.gate.set()


@contextlib.asynccontextmanager
async def _serving(add_handler: AddHandler) -> AsyncIterator[tuple[Server, Store]]:
    sio, store = socketio.AsyncServer(async_mode="aiohttp"), Store()

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await sio.save_session(sid, {"user": auth["user"]})

    async def still_there(sid: str) -> bool:
        await asyncio.sleep(SOON)
        return True

    sio.on("connect", handler=connect)
    sio.on("still-there", handler=still_there)
    add_handler(sio, store)
    expect(
        "send-message" in sio.handlers.get("/", {}),
        'nothing handles `send-message` — write your handler under `@sio.on("send-message")`',
    )
    async with background(sio, name="check 01") as server:
        yield server, store


def _client(server: object, user: str = "alice") -> Any:
    return raw_client(server, name=user, auth={"user": user})


async def _ask(server: Server, client: RawClient, payload: dict[str, Any]) -> Any:
    """The answer to one message; no answer at all becomes advice."""
    try:
        return await client.call("send-message", payload, timeout=PATIENCE)
    except socketio.exceptions.TimeoutError:
        log = server.logs()
        raised = log[-1].splitlines()[-1].strip() if log else ""
        reason = f"the handler raised `{raised}`" if raised else "the handler never came to an end"
        advice(f"no answer came: {reason}")


async def _has_been_answered(client: RawClient, asking: asyncio.Future[Any]) -> bool:
    """Whether there is an answer already, after the server has had `SOON` for it.

    By the server's clock, and with everything that it said: a machine that pauses hides nothing.
    """
    with contextlib.suppress(socketio.exceptions.TimeoutError):
        await client.call("still-there", timeout=PATIENCE)
    await asyncio.wait({asking}, timeout=0)
    return asking.done() and asking.exception() is None


async def _is_not_ok(client: RawClient, payload: dict[str, Any], remedy: str) -> None:
    """Ask while the store is broken. No answer is one, too."""
    asking = asyncio.ensure_future(client.call("send-message", payload, timeout=2 * PATIENCE))
    if await _has_been_answered(client, asking):
        answer = asking.result()
        expect(
            not (isinstance(answer, dict) and answer.get("ok")),
            f"`store` raised an `OSError`, and the answer was `{answer}` — {remedy}",
        )
    asking.cancel()
    await asyncio.wait({asking})


# -- task 1 ----------------------------------------------------------------------------------------


@check("the ack comes when the message is stored, and says as what", task=1, lesson="01")
async def acks_what_is_stored(add_handler: AddHandler) -> None:
    """`add_handler(sio, store)` registers a handler of `send-message`."""
    async with _serving(add_handler) as (server, store), _client(server) as alice:
        for number, text in enumerate(("hello", "hello again"), start=1):
            answer = await _ask(server, alice, {"text": text})
            if not store.asked:
                advice("nothing was stored — `await store(…)` with the text of the message")
            expect(
                store.asked[-1] == text,
                f"`{store.asked[-1]!r}` was stored instead of the text — the text is in "
                '`data["text"]`',
            )
            expect(
                len(store.asked) == number,
                "one message was stored more than once — call `store` once for each event",
            )
            _is_an_ack(answer, f"m{number}")
        await _waits_for_the_store(server, store, alice)
        store.broken = True
        await _is_not_ok(alice, {"text": "too much"}, "`ok` is True only for what is stored")


def _is_an_ack(answer: Any, stored_as: str) -> None:
    expect(
        answer is not None,
        "the answer was empty — what the handler returns is the ack: `return` one",
    )
    expect(
        isinstance(answer, dict) and answer.get("ok") is True,
        f'the answer was `{answer!r}` — for a stored message it is `{{"ok": True, "id": …}}`',
    )
    expect(
        answer.get("id") == stored_as,
        f"the ack says `id: {answer.get('id')!r}` and the message was stored as `{stored_as!r}` — "
        "`store` gives you the id: `await` it and use it",
    )


async def _waits_for_the_store(server: Server, store: Store, alice: RawClient) -> None:
    before = len(store.texts)
    await server.call(store.close)
    asking = asyncio.ensure_future(_ask(server, alice, {"text": "slowly"}))
    try:
        early = await _has_been_answered(alice, asking) and len(store.texts) == before
    finally:
        await server.call(store.open)
        await asyncio.wait({asking}, timeout=PATIENCE)
    expect(
        not early,
        "the ack came before the message was stored — `await store(…)` before you return",
    )


# -- task 3 ----------------------------------------------------------------------------------------


@check("a retry is stored once and answered alike", task=3, lesson="01", stretch=True)
async def retries_exactly(add_handler: AddHandler) -> None:
    """`add_handler(sio, store)` registers a handler of `send-message` that knows keys."""
    async with _serving(add_handler) as (server, store), _client(server, "bob") as bob:
        probe = Retries(server, store)
        async with _client(server) as alice:
            first = await probe.new(alice, "k1", "a message", "begin with your handler of task 1")
            await probe.again(alice, "k1", first, "a retry", "look the key up before you store")
            what = "the same text with another key"
            await probe.new(alice, "k2", what, "two messages may say the same: look at the key")
        async with _client(server) as alice:
            what = "a retry over a new connection"
            await probe.again(alice, "k1", first, what, "remember keys by user, not by `sid`")
        what = "another user's message with the same key"
        await probe.new(bob, "k1", what, "remember user and key together")
        await probe.both_at_once(bob, "k3")
        await probe.after_a_failure(bob, "k4")


class Retries:
    """Sends "hello" under one key or another, and looks at what was stored and answered."""

    def __init__(self, server: Server, store: Store) -> None:
        self._server, self._store = server, store

    async def new(self, client: RawClient, key: str, what: str, remedy: str) -> dict[str, Any]:
        """Send what has to be stored, and give its ack back."""
        before = len(self._store.texts)
        answer = await _ask(self._server, client, {"text": "hello", "key": key})
        expect(len(self._store.texts) == before + 1, f"{what} was not stored — {remedy}")
        _is_an_ack(answer, f"m{before + 1}")
        kept: dict[str, Any] = answer
        return kept

    async def again(
        self, client: RawClient, key: str, first: dict[str, Any], what: str, remedy: str
    ) -> None:
        """Send what must not be stored again and is answered as the first time."""
        before = len(self._store.texts)
        answer = await _ask(self._server, client, {"text": "hello", "key": key})
        expect(len(self._store.texts) == before, f"{what} was stored a second time — {remedy}")
        _alike(first, answer)

    async def both_at_once(self, client: RawClient, key: str) -> None:
        """The sender's patience ends while the store is still at work, and a second try comes."""
        before = len(self._store.texts)
        self._server.clear()
        await self._server.call(self._store.close)
        payload = {"text": "hello", "key": key}
        tries = [asyncio.ensure_future(_ask(self._server, client, payload)) for _ in range(2)]
        try:
            await self._server.wait_for("send-message", 2, timeout=PATIENCE)
        finally:
            await self._server.call(self._store.open)
            await asyncio.wait(tries, timeout=PATIENCE)
        expect(
            len(self._store.texts) == before + 1,
            "a retry that came while the first try was still being stored was stored too — let it "
            "wait for the first: an `asyncio.Lock` for each key, or keep the task that stores",
        )
        first, second = (task.result() for task in tries)
        _is_an_ack(first, f"m{before + 1}")
        _alike(first, second)

    async def after_a_failure(self, client: RawClient, key: str) -> None:
        """What could not be stored is stored when it is tried again."""
        payload = {"text": "hello", "key": key}
        before = len(self._store.texts)
        self._store.broken = True
        await _is_not_ok(client, payload, "only what is stored is ok")
        self._store.broken = False
        with contextlib.suppress(socketio.exceptions.TimeoutError):
            await client.call("send-message", payload, timeout=PATIENCE)
        expect(
            len(self._store.texts) == before + 1,
            "`store` raised an `OSError`, and the retry was not stored either — remember a key "
            "only when its message is stored",
        )


def _alike(first: dict[str, Any], again: Any) -> None:
    expect(again is not None, "the retry got an empty answer — give it the first one's")
    # Saying that it is a duplicate is what the wire contract does; it may be left out.
    kept = {name: value for name, value in first.items() if name != "duplicate"}
    if isinstance(again, dict):
        again = {name: value for name, value in again.items() if name != "duplicate"}
    expect(
        again == kept,
        f"the first answer was `{kept}` and the retry's `{again}` — keep the answer with the key",
    )
