"""Check of exercise 01 on the sender's side: tries again, with one key, growing pauses, and an end.

The learner's function sends to a server that always answers, over a wire that loses acks. Pauses
go through a `sleep` of the check's own, so that nobody waits for them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import mean
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect
from chatlab.lab.clients import raw_client
from chatlab.lab.inbox import Received
from chatlab.lab.proxy import Proxy
from chatlab.lab.timeline import settled

__all__ = ["PATIENCE", "SOON", "sends_reliably"]

SOON = 0.15  # seconds within which an ack that waits for nothing has come
PATIENCE = 2.0  # seconds within which an ack has come that shall come at all
TRIES = 4
ROUNDS = 16  # sends whose pauses are averaged: enough to tell growth from jitter

Send = Callable[..., Awaitable[Any]]


class Pauses:
    """Stands in for `asyncio.sleep`: notes how long the pause would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float, *_: Any) -> None:
        self.seconds.append(float(seconds))
        await asyncio.sleep(0)


@check("send until an ack comes, with one key, growing pauses, and an end", task=2, lesson="01")
async def sends_reliably(send: Send) -> None:
    """`send(client, text, tries=…, timeout=…, sleep=…)` is the learner's function."""
    sio = socketio.AsyncServer(async_mode="aiohttp")

    async def answer(sid: str, data: Any) -> dict[str, Any]:
        return {"ok": True, "id": data["text"]}

    sio.on("send-message", handler=answer)
    async with background(sio, name="check 01") as server:
        await _one_is_enough(send, server)
        await _the_third_is_answered(send, server)
        server.clear()
        await _nobody_answers(send, server)


async def _one_is_enough(send: Send, server: Server) -> None:
    async with raw_client(server, name="alice") as alice:
        for _ in range(2):
            # With time: an ack that a busy machine brings late is no reason for a second try.
            sending = send(alice, "hello", timeout=PATIENCE, sleep=Pauses())
            answer = await _finished(sending, server, patience=2 * PATIENCE)
            expect(server.received, "no `send-message` arrived — `client.call` sends it")
            expect(
                answer == {"ok": True, "id": "hello"},
                f"it gave back `{answer!r}` — give back the ack, as it came",
            )
        expect(
            len(server.received) == 2,
            "a message that was answered was sent again — stop at the first ack",
        )
        keys = [_key(item) for item in server.received]
        expect(
            keys[0] != keys[1],
            "two messages went out with the same key — make a new one for each message, "
            "for example `uuid.uuid4().hex`",
        )


async def _the_third_is_answered(send: Send, server: Server) -> None:
    # A fourth try may be a busy machine's, whose third ack came late: then once more, with time.
    for timeout in (SOON, PATIENCE / 2):
        server.clear()
        try:
            answer = await _two_acks_are_lost(send, server, timeout)
        except Exception:
            if timeout > SOON or len(server.received) < 3:
                raise
            continue
        tries = server.received
        if len(tries) <= 3:
            break
    expect(
        len(tries) == 3,
        f"two acks were lost, and {len(tries)} tries arrived instead of 3 — after each timeout "
        "try again, and stop at the first ack",
    )
    expect(
        {item.text for item in tries} == {"hello"},
        f"the tries said {[item.text for item in tries]} — each try is the same message",
    )
    expect(
        len({_key(item) for item in tries}) == 1,
        "each try had another key — make the key once, before the first try",
    )
    expect(
        answer == {"ok": True, "id": "hello"},
        f"it gave back `{answer!r}` — give back the ack of the try that was answered",
    )


async def _two_acks_are_lost(send: Send, server: Server, timeout: float) -> Any:
    with Proxy(server, name="check 01", drop="ack", at=(1, 2)) as wire:
        async with raw_client(wire, name="alice") as alice:
            sending = send(alice, "hello", tries=TRIES, timeout=timeout, sleep=Pauses())
            patience = PATIENCE + 2 * timeout
            return await _finished(sending, server, patience=patience, gave_up_after=3)


async def _nobody_answers(send: Send, server: Server) -> None:
    pauses = [Pauses() for _ in range(ROUNDS)]
    with Proxy(server, name="check 01", drop="ack") as wire:
        async with raw_client(wire, name="alice") as alice:
            sending = [
                asyncio.ensure_future(
                    send(alice, f"message {n}", tries=TRIES, timeout=SOON, sleep=pauses[n])
                )
                for n in range(ROUNDS)
            ]
            too_many = asyncio.ensure_future(
                server.wait_for(lambda items: _most_tries(items) > TRIES, timeout=3 * PATIENCE)
            )
            watched: set[asyncio.Future[Any]] = {asyncio.gather(*sending, return_exceptions=True)}
            await asyncio.wait(
                watched | {too_many}, timeout=2 * PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
            ended = [task for task in sending if task.done()]
            for task in [*sending, too_many]:
                task.cancel()
            await asyncio.wait({*sending, too_many}, timeout=SOON)
            await settled(wire, server)  # the last try may be on its way
    most = _most_tries(server.received)
    expect(
        most <= TRIES and len(ended) == ROUNDS,
        f"nobody answered, `tries` was {TRIES}, and it was still trying after {most} — "
        "raise an exception when `tries` are used up",
    )
    expect(
        most == TRIES,
        f"nobody answered, `tries` was {TRIES}, and it gave up after {most}",
    )
    expect(
        all(task.exception() is not None for task in ended),
        "it gave up without a word — raise an exception, or the caller believes that all is well",
    )
    _pauses_grow([one.seconds for one in pauses])


def _pauses_grow(rounds: list[list[float]]) -> None:
    expect(
        all(len(seconds) >= TRIES - 1 for seconds in rounds),
        "there was no pause between the tries — `await sleep(…)` between one try and the next "
        "(the argument `sleep`, so that the check need not wait)",
    )
    first, last = (mean(seconds[at] for seconds in rounds) for at in (0, TRIES - 2))
    expect(first > 0, "the first pause was 0 seconds — begin with a little more")
    expect(
        last > 1.3 * first,
        "the pauses do not grow — double the pause with each try (a random part of it is fine)",
    )


async def _finished(
    sending: Awaitable[Any],
    server: Server,
    *,
    patience: float = PATIENCE,
    gave_up_after: int | None = None,
) -> Any:
    """What the learner's function gives back; too slow, or given up too early, is advice."""
    expect(asyncio.iscoroutine(sending), "it is not `async` — begin it with `async def`")
    task = asyncio.ensure_future(sending)
    done, _ = await asyncio.wait({task}, timeout=patience)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=SOON)
        number = len(server.received)
        advice(
            f"an ack was lost, and it still waits after {number} "
            f"{'try' if number == 1 else 'tries'} — give `client.call` the `timeout`"
        )
    error = task.exception()
    if isinstance(error, socketio.exceptions.TimeoutError | TimeoutError) and gave_up_after:
        number = len(server.received)
        expect(
            number >= gave_up_after,
            f"it gave up at {'the first' if number == 1 else f'number {number} of the'} lost ack"
            f"{'' if number == 1 else 's'} — catch `socketio.exceptions.TimeoutError`, which is "
            "not Python's own, and try again",
        )
    return task.result()


def _key(item: Received) -> str:
    key = item.data.get("key") if isinstance(item.data, dict) else None
    if not isinstance(key, str) or not key:
        advice(f"a try arrived as `{item.data!r}` — send `text` and a `key`, a word of your own")
    return key


def _most_tries(items: list[Received]) -> int:
    return max(Counter(item.text for item in items).values(), default=0)
