"""Checks of exercise 03: what a caller is told when a handler breaks, by bad payloads or by bugs.

Each probe puts the learner's code into a server of its own and asks it over a real socket. Which
errors pass by themselves is checked in `ex03_temporary.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect, written
from chatlab.lab.clients import RawClient, raw_client
from chatlab.lab.exercises.ex03_temporary import RequestError, tells_what_may_be_tried_again

__all__ = [
    "RequestError",
    "every_event_is_answered_once",
    "only_messages_get_through",
    "tells_what_may_be_tried_again",
]

Handler = Callable[..., Awaitable[Any]]

PATIENCE = 2.0  # seconds to wait for an answer; only a wrong solution uses them up


@contextlib.asynccontextmanager
async def _asked(sio: Any) -> AsyncIterator[tuple[Server, RawClient]]:
    """The server, running, and a client that is connected to it."""
    async with (
        background(sio, name="check 03") as server,
        raw_client(server, name="alice") as alice,
    ):
        yield server, alice


async def ask(server: Server, client: RawClient, event: str, *payload: Any) -> Any:
    """The answer; ends the check where there is none."""
    try:
        return await client.call(event, payload, timeout=PATIENCE)
    except socketio.exceptions.TimeoutError:
        raised = [line.strip() for line in str(server.logs()).splitlines() if "Error:" in line]
        cause = f" (`{raised[-1]}`)" if raised else ""
        return advice(f"a caller got no answer{cause} — catch what the handler raises")


# -- task 1 ----------------------------------------------------------------------------------------


@check("every event is answered once, whatever its handler does", task=1, lesson="03")
async def every_event_is_answered_once(answered: Callable[[Handler], Any]) -> None:
    """`answered(handler)` gives a handler that answers also when `handler` raises."""
    await _what_went_well_stays(answered)
    await _what_was_meant_stays(answered)
    for error in (KeyError("text"), TypeError("user=admin"), OSError("/srv/chat.db is gone")):
        await _what_was_not_meant_is_hidden(answered, error)
    await _cancelling_still_works(answered)


def _server(answered: Callable[[Handler], Any], handler: Handler) -> Any:
    wrapped = written(answered(handler), "answered")
    expect(
        inspect.iscoroutinefunction(wrapped),
        "`answered` gives back no `async` function — return the inner function, and do not call it",
    )
    sio = socketio.AsyncServer(async_mode="aiohttp")
    sio.on("event", wrapped)
    sio.on("ping", _pong)
    return sio


async def _pong(sid: str) -> Any:
    return {"ok": True}


async def _what_went_well_stays(answered: Callable[[Handler], Any]) -> None:
    async def echo(sid: str, *payload: Any) -> Any:
        return {"ok": True, "got": list(payload)}

    async with _asked(_server(answered, echo)) as (server, alice):
        for payload in (("hello",), (), ({"text": "hello"}, 2)):
            answer = await ask(server, alice, "event", *payload)
            expect(
                answer is not None,
                "the handler's answer did not reach the caller — return what `handler` returns",
            )
            expect(
                answer == {"ok": True, "got": list(payload)},
                f"a handler that echoes was sent {len(payload)} payloads, and the caller got "
                f"`{answer}` — pass everything on, and return the answer as it is",
            )


async def _what_was_meant_stays(answered: Callable[[Handler], Any]) -> None:
    refusal = RequestError("Message cannot be empty", "empty_message", field="text")

    async def refuses(sid: str, *payload: Any) -> Any:
        raise refusal

    answer, _ = await _answer_to_failure(answered, refuses)
    expect(
        answer == refusal.ack,
        f"a `RequestError` that says `empty_message` was answered with `{answer}` — "
        "a refusal is meant for the caller: its answer is `error.ack`",
    )


async def _what_was_not_meant_is_hidden(
    answered: Callable[[Handler], Any], error: Exception
) -> None:
    runs = []

    async def breaks(sid: str, *payload: Any) -> Any:
        runs.append(sid)
        raise error

    name, text = type(error).__name__, str(error.args[0])
    answer, log = await _answer_to_failure(answered, breaks)
    expect(
        len(runs) < 2,
        f"after a `{name}` the handler was run {len(runs)} times — run it once; "
        "trying again is the caller's decision",
    )
    expect(
        isinstance(answer, dict) and answer.get("ok") is False,
        f"the handler raised `{name}` and the caller was told `{answer}` — "
        'the answer has to say `"ok": False`',
    )
    expect(
        text not in str(answer) and name not in str(answer),
        "the caller was told the text of the exception — it may hold anything: log it, and answer "
        "with a sentence of your own",
    )
    told = (answer.get("code"), answer.get("retry"))
    expect(
        told == ("internal_error", False),
        f"after a `{name}` the answer has the code `{told[0]}` and retry `{told[1]}` — "
        "use `internal_error` and `False`",
    )
    expect(
        isinstance(answer.get("error"), str) and answer["error"].strip(),
        'there is no sentence for a person in the answer — add `"error": "Internal server error"`',
    )
    expect(
        text in log,
        f"nothing is known of the `{name}` any more — log it with `log.exception(…)`",
    )


async def _answer_to_failure(
    answered: Callable[[Handler], Any], handler: Handler
) -> tuple[Any, str]:
    """The answer, and what the server logged. Ends the check where more than an answer came."""
    async with _asked(_server(answered, handler)) as (server, alice):
        answer = await ask(server, alice, "event", {"text": "hello"})
        # A second word, an event beside the ack, would have come before this answer.
        await ask(server, alice, "ping")
        expect(
            not alice.received,
            f"one failure was told twice: beside the ack came `{alice.received!r}` — the ack is "
            "enough",
        )
        return answer, "\n".join(server.logs(full=True))


async def _cancelling_still_works(answered: Callable[[Handler], Any]) -> None:
    waiting: list[asyncio.Task[Any]] = []

    async def waits(sid: str, *payload: Any) -> Any:
        task = asyncio.current_task()
        if task is not None:
            waiting.append(task)
        await asyncio.Event().wait()

    async def cancel() -> None:
        for task in waiting:
            task.cancel()

    async with _asked(_server(answered, waits)) as (server, alice):
        call = asyncio.ensure_future(alice.call("event", {}, timeout=2 * PATIENCE))
        await server.wait_for("event")
        await server.call(cancel)
        # python-socketio 5.18.1 writes an empty ack for a handler that was cancelled.
        await asyncio.wait({call}, timeout=PATIENCE)
        answer = call.done() and call.exception() is None and call.result() is not None
        call.cancel()
        await asyncio.wait({call})
    expect(
        not answer,
        "a handler that was cancelled was answered for — `CancelledError` belongs to the one who "
        "cancels: catch `Exception`, not `BaseException`",
    )


# -- task 2 ----------------------------------------------------------------------------------------

LONGEST = 500

GOOD: list[tuple[str, Any, str]] = [
    ("`{'text': 'hello'}`", {"text": "hello"}, "hello"),
    ("`{'text': '  hello '}`", {"text": "  hello "}, "hello"),
    ("a text of 500 characters", {"text": "x" * LONGEST}, "x" * LONGEST),
    ("a text of 500 characters and some space", {"text": f" {'x' * LONGEST}\n"}, "x" * LONGEST),
    ("a message with a key", {"text": "hello", "key": "k1"}, "hello"),
]

# What was sent, and the code and field of the answer.
BAD: list[tuple[str, tuple[Any, ...], str, str]] = [
    ("`{}`", ({},), "invalid_payload", "text"),
    ("`{'text': None}`", ({"text": None},), "invalid_payload", "text"),
    ("`{'text': 42}`", ({"text": 42},), "invalid_payload", "text"),
    ("`{'text': True}`", ({"text": True},), "invalid_payload", "text"),
    ("`{'text': ['hello']}`", ({"text": ["hello"]},), "invalid_payload", "text"),
    ("`{'text': {}}`", ({"text": {}},), "invalid_payload", "text"),
    ("the payload `'hello'`", ("hello",), "invalid_payload", "payload"),
    ("the payload `['text']`", (["text"],), "invalid_payload", "payload"),
    ("the payload `None`", (None,), "invalid_payload", "payload"),
    ("no payload at all", (), "invalid_payload", "payload"),
    ("two payloads", ({"text": "hello"}, {"text": "more"}), "invalid_payload", "payload"),
    ("`{'text': ''}`", ({"text": ""},), "empty_message", "text"),
    ("`{'text': '   '}`", ({"text": "   "},), "empty_message", "text"),
    ("a text of 501 characters", ({"text": "x" * (LONGEST + 1)},), "message_too_long", "text"),
    ("a number as key", ({"text": "hello", "key": 7},), "invalid_payload", "key"),
    ("`False` as key", ({"text": "hello", "key": False},), "invalid_payload", "key"),
    ("a field `user`", ({"text": "hello", "user": "bob"},), "invalid_payload", "user"),
]


@check("only a message gets through, and anything else is told why not", task=2, lesson="03")
async def only_messages_get_through(read_message: Callable[..., Any]) -> None:
    """`read_message(*payload)` gives the text, or raises a `RequestError`."""
    stored: list[Any] = []
    crashes: list[str] = []

    async def send_message(sid: str, *payload: Any) -> Any:
        try:
            text = read_message(*payload)
            stored.append(await text if inspect.isawaitable(text) else text)
            return {"ok": True}
        except RequestError as refusal:
            return refusal.ack
        except Exception as error:
            crashes.append(f"{type(error).__name__}: {error}")
            return {"ok": False}

    sio = socketio.AsyncServer(async_mode="aiohttp")
    sio.on("send-message", send_message)
    async with _asked(sio) as (server, alice):
        for what, message, text in GOOD:
            answer = await ask(server, alice, "send-message", message)
            _did_not_crash(what, crashes)
            expect(
                answer.get("ok"),
                f"{what} was refused as `{answer.get('code')}` ({answer.get('field')}) — "
                "it is a message like any other",
            )
            expect(
                written(stored.pop(), "read_message") == text,
                f"{what} did not come out right — give back the trimmed text",
            )
        for what, payload, code, field in BAD:
            answer = await ask(server, alice, "send-message", *payload)
            _did_not_crash(what, crashes)
            expect(not answer.get("ok"), f"{what} got through — answer `{code}`")
            expect(
                answer.get("code") == code,
                f"{what} was refused as `{answer.get('code')}` — its code is `{code}`",
            )
            expect(
                answer.get("field") == field,
                f"{what} was refused for the field `{answer.get('field')}` — what is wrong is "
                f"`{field}`: `field={field!r}`",
            )
            expect(
                answer.get("retry") is False,
                f"{what} may be tried again, says the answer — it would be wrong again",
            )


def _did_not_crash(what: str, crashes: list[str]) -> None:
    expect(
        not crashes,
        f"on {what} `read_message` raised `{crashes[-1] if crashes else ''}` — look at what came "
        "before you use it",
    )
