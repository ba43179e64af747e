"""The checks of exercise 01 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
import uuid
from collections import defaultdict
from typing import Any

import pytest
import socketio

from chatlab.lab.exercises import ex01

NoAnswer = socketio.exceptions.TimeoutError


def on_send_message(make: Any) -> Any:
    """An answer to tasks 1 and 3: `make(sio, store)` gives the handler."""

    def add_handler(sio: Any, store: Any) -> None:
        sio.on("send-message", handler=make(sio, store))

    return add_handler


# -- task 1 ----------------------------------------------------------------------------------------


@on_send_message
def the_solution(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any:
        try:
            message_id = await store(data["text"])
        except OSError:
            return {"ok": False, "error": "The message could not be stored"}
        return {"ok": True, "id": message_id}

    return send_message


@on_send_message
def a_task_that_is_awaited(sio: Any, store: Any) -> Any:
    """Says more than it has to, and nothing at all where storing fails."""

    async def send_message(sid: str, *args: Any) -> Any:
        storing = asyncio.create_task(store(args[0]["text"]))
        await asyncio.wait({storing})
        return {"id": storing.result(), "ok": True, "timestamp": time.time()}

    return send_message


@pytest.mark.parametrize("answer", [the_solution, a_task_that_is_awaited])
async def test_the_ack_may_be_made_in_any_way(answer: Any) -> None:
    result = await ex01.acks_what_is_stored(answer)
    assert result.done, result.advice


@on_send_message
def acks_before_storing(sio: Any, store: Any) -> Any:
    numbers, tasks = itertools.count(1), []

    async def send_message(sid: str, data: Any) -> Any:
        tasks.append(asyncio.create_task(store(data["text"])))
        await asyncio.sleep(0)  # far enough for a store that has nothing to wait for
        return {"ok": True, "id": f"m{next(numbers)}"}

    return send_message


@on_send_message
def acks_nothing(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> None:
        await store(data["text"])

    return send_message


@on_send_message
def acks_true(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> bool:
        await store(data["text"])
        return True

    return send_message


@on_send_message
def makes_up_an_id(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any:
        await store(data["text"])
        return {"ok": True, "id": "m0"}

    return send_message


@on_send_message
def stores_the_payload(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any:
        return {"ok": True, "id": await store(data)}

    return send_message


@on_send_message
def says_ok_whatever_happens(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any:
        message_id = None
        with contextlib.suppress(OSError):
            message_id = await store(data["text"])
        return {"ok": True, "id": message_id}

    return send_message


@on_send_message
def crashes(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any:
        return {"ok": True, "id": await store(data["txt"])}

    return send_message


def forgets_to_register(sio: Any, store: Any) -> None:
    async def send_message(sid: str, data: Any) -> Any: ...


@on_send_message
def the_stub(sio: Any, store: Any) -> Any:
    async def send_message(sid: str, data: Any) -> Any: ...

    return send_message


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (acks_before_storing, "the ack came before the message was stored"),
        (acks_nothing, "the answer was empty"),
        (acks_true, "the answer was `True`"),
        (makes_up_an_id, "the ack says `id: 'm0'` and the message was stored as `'m1'`"),
        (stores_the_payload, "was stored instead of the text"),
        (says_ok_whatever_happens, "`ok` is True only for what is stored"),
        (crashes, "no answer came: the handler raised `KeyError: 'txt'`"),
        (forgets_to_register, "nothing handles `send-message`"),
        (the_stub, "nothing was stored"),
    ],
)
async def test_an_ack_that_cannot_be_relied_on_is_named(answer: Any, named: str) -> None:
    result = await ex01.acks_what_is_stored(answer)
    assert not result.done
    assert named in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


async def solution(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for attempt in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            if attempt < tries - 1:
                await sleep(0.1 * 2**attempt)
    raise ConnectionError(f"no answer in {tries} tries")


async def callback_and_jitter(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    """With `emit` and a future, full jitter, and a pause after the last try as well."""
    key, left, longest = str(random.random()), tries, 0.05
    while True:
        answer = asyncio.get_running_loop().create_future()

        def take(data: Any, answer: Any = answer) -> None:
            answer.done() or answer.set_result(data)

        await client.emit("send-message", {"key": key, "text": text}, callback=take)
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            left -= 1
            await sleep(random.uniform(0, longest))
            longest *= 2
            if not left:
                raise


@pytest.mark.parametrize("answer", [solution, callback_and_jitter])
async def test_sending_may_be_written_in_any_way(answer: Any) -> None:
    result = await ex01.sends_reliably(answer)
    assert result.done, result.advice


# The two calls before were of the first part of the check.
@pytest.mark.parametrize("held", [(5,), (5, 6)], ids=["the third", "the third and the fourth"])
async def test_an_ack_that_a_busy_machine_holds_back_is_waited_for_longer(
    held: tuple[int, ...],
) -> None:
    calls = 0

    class Busy:
        """A client whose loop stands still while it waits for these acks."""

        def __init__(self, client: Any) -> None:
            self.client = client

        async def call(self, *args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls in held:
                asyncio.get_running_loop().call_soon(time.sleep, 2 * ex01.SOON)
            return await self.client.call(*args, **options)

    async def held_back(client: Any, text: str, **options: Any) -> Any:
        return await solution(Busy(client), text, **options)

    result = await ex01.sends_reliably(held_back)
    assert result.done, result.advice
    assert calls > 2 + 3 + 16 * 4  # the second part was tried once more


async def a_new_key_for_each_try(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    for attempt in range(tries):
        payload = {"text": text, "key": uuid.uuid4().hex}
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            await sleep(0.1 * 2**attempt)
    raise ConnectionError


async def the_text_as_key(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    for attempt in range(tries):
        try:
            return await client.call("send-message", {"text": text, "key": text}, timeout=timeout)
        except NoAnswer:
            await sleep(0.1 * 2**attempt)
    raise ConnectionError


async def no_key(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    return await client.call("send-message", {"text": text}, timeout=timeout)


async def for_ever(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for attempt in itertools.count():
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            await sleep(0.1 * 2 ** min(attempt, 9))
    raise AssertionError


async def no_pause(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for _ in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            continue
    raise ConnectionError


async def the_same_pause(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for _ in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            await sleep(0.1)
    raise ConnectionError


async def gives_up_silently(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for attempt in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except NoAnswer:
            await sleep(0.1 * 2**attempt)
    return None


async def catches_pythons_timeout(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload = {"text": text, "key": uuid.uuid4().hex}
    for attempt in range(tries):
        try:
            return await client.call("send-message", payload, timeout=timeout)
        except TimeoutError:
            await sleep(0.1 * 2**attempt)
    raise ConnectionError


async def waits_a_minute(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    return await client.call("send-message", {"text": text, "key": uuid.uuid4().hex})


async def one_try_too_few(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    return await solution(client, text, tries=tries - 1, timeout=timeout, sleep=sleep)


async def sends_all_tries_anyway(
    client: Any, text: str, *, tries: int = 4, timeout: float = 0.3, sleep: Any = asyncio.sleep
) -> Any:
    payload, answer = {"text": text, "key": uuid.uuid4().hex}, None
    for _ in range(tries):
        answer = await client.call("send-message", payload, timeout=timeout)
    return answer


async def gives_nothing_back(client: Any, text: str, **options: Any) -> None:
    await solution(client, text, **options)


async def a_stub(client: Any, text: str, **options: Any) -> Any: ...


def not_async(client: Any, text: str, **options: Any) -> Any: ...


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (a_new_key_for_each_try, "each try had another key"),
        (the_text_as_key, "two messages went out with the same key"),
        (no_key, "send `text` and a `key`"),
        (for_ever, "it was still trying after"),
        (no_pause, "there was no pause between the tries"),
        (the_same_pause, "the pauses do not grow"),
        (gives_up_silently, "it gave up without a word"),
        (catches_pythons_timeout, "catch `socketio.exceptions.TimeoutError`"),
        (waits_a_minute, "it still waits after 1 try"),
        (one_try_too_few, "`tries` was 4, and it gave up after 3"),
        (sends_all_tries_anyway, "a message that was answered was sent again"),
        (gives_nothing_back, "it gave back `None`"),
        (a_stub, "no `send-message` arrived"),
        (not_async, "begin it with `async def`"),
    ],
)
async def test_a_sender_that_cannot_be_relied_on_is_named(answer: Any, named: str) -> None:
    result = await ex01.sends_reliably(answer)
    assert not result.done
    assert named in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


@on_send_message
def a_lock_for_each_key(sio: Any, store: Any) -> Any:
    answers: dict[Any, Any] = {}
    locks: dict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def send_message(sid: str, data: Any) -> Any:
        mine = (await sio.get_session(sid))["user"], data["key"]
        async with locks[mine]:
            if mine not in answers:
                try:
                    answers[mine] = {"ok": True, "id": await store(data["text"])}
                except OSError:
                    return {"ok": False, "error": "The message could not be stored"}
            return answers[mine]

    return send_message


@on_send_message
def the_task_that_stores(sio: Any, store: Any) -> Any:
    """Keeps what is under way, says `duplicate`, and does not answer what failed."""
    under_way: dict[Any, asyncio.Task[str]] = {}

    async def send_message(sid: str, data: Any) -> Any:
        async with sio.session(sid) as session:
            mine = f"{session['user']}/{data['key']}"
        task = under_way.get(mine)
        duplicate = task is not None and (not task.done() or task.exception() is None)
        if task is None or not duplicate:
            task = under_way[mine] = asyncio.create_task(store(data["text"]))
        message_id = await asyncio.shield(task)
        return {"ok": True, "id": message_id, "duplicate": duplicate}

    return send_message


@pytest.mark.parametrize("answer", [a_lock_for_each_key, the_task_that_stores])
async def test_a_retry_may_be_made_exact_in_any_way(answer: Any) -> None:
    result = await ex01.retries_exactly(answer)
    assert result.done, result.advice


def keyed_by(name: str) -> Any:
    """The solution, but for what it takes as the name of a message."""

    def make(sio: Any, store: Any) -> Any:
        answers: dict[Any, Any] = {}
        locks: dict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def send_message(sid: str, data: Any) -> Any:
            user = (await sio.get_session(sid))["user"]
            mine = {
                "sid": (sid, data["key"]),
                "key": data["key"],
                "text": (user, data["text"]),
            }[name]
            async with locks[mine]:
                if mine not in answers:
                    answers[mine] = {"ok": True, "id": await store(data["text"])}
                return answers[mine]

        return send_message

    return on_send_message(make)


@on_send_message
def another_answer(sio: Any, store: Any) -> Any:
    known = set()

    async def send_message(sid: str, data: Any) -> Any:
        mine = (await sio.get_session(sid))["user"], data["key"]
        if mine in known:
            return {"ok": True, "duplicate": True}
        known.add(mine)
        return {"ok": True, "id": await store(data["text"])}

    return send_message


@on_send_message
def refuses_the_retry(sio: Any, store: Any) -> Any:
    known = set()

    async def send_message(sid: str, data: Any) -> Any:
        mine = (await sio.get_session(sid))["user"], data["key"]
        if mine in known:
            return {"ok": False, "error": "Sent twice"}
        known.add(mine)
        return {"ok": True, "id": await store(data["text"])}

    return send_message


@on_send_message
def looks_and_then_waits(sio: Any, store: Any) -> Any:
    answers: dict[Any, Any] = {}

    async def send_message(sid: str, data: Any) -> Any:
        mine = (await sio.get_session(sid))["user"], data["key"]
        if mine not in answers:
            answers[mine] = {"ok": True, "id": await store(data["text"])}
        return answers[mine]

    return send_message


@on_send_message
def remembers_the_failure(sio: Any, store: Any) -> Any:
    under_way: dict[Any, asyncio.Task[str]] = {}

    async def send_message(sid: str, data: Any) -> Any:
        mine = (await sio.get_session(sid))["user"], data["key"]
        if mine not in under_way:
            under_way[mine] = asyncio.create_task(store(data["text"]))
        return {"ok": True, "id": await under_way[mine]}

    return send_message


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (the_solution, "a retry was stored a second time"),
        (keyed_by("sid"), "a retry over a new connection was stored a second time"),
        (keyed_by("key"), "another user's message with the same key was not stored"),
        (keyed_by("text"), "the same text with another key was not stored"),
        (another_answer, "the retry's `{'ok': True}`"),
        (refuses_the_retry, "and the retry's `{'ok': False"),
        (looks_and_then_waits, "while the first try was still being stored was stored too"),
        (remembers_the_failure, "the retry was not stored either"),
        (the_stub, "a message was not stored"),
    ],
)
async def test_a_retry_that_is_not_exact_is_named(answer: Any, named: str) -> None:
    result = await ex01.retries_exactly(answer)
    assert not result.done
    assert named in result.advice
