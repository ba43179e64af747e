"""The checks of exercise 03 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sqlite3
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from chatlab.lab.exercises import ex03
from chatlab.lab.exercises.ex03 import RequestError

log = logging.getLogger("exercise")

FAILED = RequestError("Internal server error", "internal_error").ack


# -- task 1 ----------------------------------------------------------------------------------------


def solution(handler: Any) -> Any:
    async def answering(sid: str, *payload: Any) -> Any:
        try:
            return await handler(sid, *payload)
        except RequestError as refusal:
            return refusal.ack
        except Exception:
            log.exception("a handler failed")
            return FAILED

    return answering


def one_clause_and_a_sentence_of_its_own(handler: Any) -> Any:
    @wraps(handler)
    async def answering(*arguments: Any, **options: Any) -> Any:
        try:
            answer = await handler(*arguments, **options)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, RequestError):
                return dict(error.ack)
            log.error("%s", "".join(traceback.format_exception(error)))
            return {"ok": False, "code": "internal_error", "retry": False, "error": "Sorry"}
        return answer

    return answering


def in_a_task_of_its_own(handler: Any) -> Any:
    async def answering(*arguments: Any) -> Any:
        task = asyncio.ensure_future(handler(*arguments))
        await asyncio.wait({task})
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, RequestError):
            return error.ack
        log.error("failed", exc_info=error)
        return FAILED

    return answering


@pytest.mark.parametrize(
    "answer", [solution, one_clause_and_a_sentence_of_its_own, in_a_task_of_its_own]
)
async def test_a_wrapper_may_be_built_in_any_way(answer: Any) -> None:
    result = await ex03.every_event_is_answered_once(answer)
    assert result.done, result.advice


def wrapper(
    on_error: Callable[[Any], Any],
    *,
    catches: Any = Exception,
    on_refusal: Callable[[Any], Any] = lambda refusal: refusal.ack,
    logs: bool = True,
) -> Any:
    """An answer to task 1 that does something else when the handler raises."""

    def answered(handler: Any) -> Any:
        async def answering(sid: str, *payload: Any) -> Any:
            try:
                return await handler(sid, *payload)
            except RequestError as refusal:
                return on_refusal(refusal)
            except catches as error:
                if logs:
                    log.exception("a handler failed")
                return on_error(error)

        return answering

    return answered


def as_it_is(handler: Any) -> Any:
    return handler


def not_yet(handler: Any) -> Any:
    async def answering(sid: str, *payload: Any) -> Any: ...

    return answering


def nothing_at_all(handler: Any) -> Any: ...


def not_async(handler: Any) -> Any:
    def answering(sid: str, *payload: Any) -> Any:
        return handler(sid, *payload)

    return answering


def forgets_the_answer(handler: Any) -> Any:
    async def answering(sid: str, *payload: Any) -> Any:
        try:
            await handler(sid, *payload)
        except Exception:
            return FAILED

    return answering


def only_one_payload(handler: Any) -> Any:
    async def answering(sid: str, data: Any = None) -> Any:
        return await solution(handler)(sid, data)

    return answering


def tries_again(handler: Any) -> Any:
    async def answering(sid: str, *payload: Any) -> Any:
        try:
            return await handler(sid, *payload)
        except RequestError as refusal:
            return refusal.ack
        except Exception:
            return await solution(handler)(sid, *payload)

    return answering


def tells_twice(handler: Any) -> Any:
    """Reaches the server through the frame that called it: a learner has `sio` at hand."""

    async def answering(sid: str, *payload: Any) -> Any:
        answer = await solution(handler)(sid, *payload)
        if not answer.get("ok"):
            frame = inspect.currentframe()
            while frame is not None and "server" not in frame.f_locals:
                frame = frame.f_back
            assert frame is not None
            await frame.f_locals["server"].emit("error", answer, to=sid)
        return answer

    return answering


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (not_yet, "did not reach the caller"),
        (nothing_at_all, "`answered` gives nothing back yet"),
        (not_async, "gives back no `async` function"),
        (forgets_the_answer, "did not reach the caller"),
        (only_one_payload, "pass everything on"),
        (as_it_is, "a caller got no answer (`chatlab.lab.exercises.ex03_temporary.RequestError"),
        (wrapper(lambda _: {"ok": True}), "was told `{'ok': True}`"),
        (wrapper(lambda _: None), "was told `None`"),
        (wrapper(lambda error: FAILED | {"error": str(error)}), "the text of the exception"),
        (wrapper(lambda error: FAILED | {"error": repr(error)}), "the text of the exception"),
        (wrapper(lambda _: FAILED | {"retry": True}), "retry `True`"),
        (wrapper(lambda _: {"ok": False, "error": "Sorry"}), "the code `None`"),
        (wrapper(lambda _: FAILED | {"error": ""}), "no sentence for a person"),
        (wrapper(lambda _: FAILED, logs=False), "log it with `log.exception"),
        (wrapper(lambda _: FAILED, catches=KeyError), "a caller got no answer (`TypeError"),
        (wrapper(lambda _: FAILED, catches=BaseException), "a handler that was cancelled"),
        (wrapper(lambda _: FAILED, on_refusal=lambda _: FAILED), "its answer is `error.ack`"),
        (tries_again, "the handler was run 2 times"),
        (tells_twice, "one failure was told twice"),
    ],
)
async def test_a_wrapper_with_a_gap_is_told_which(answer: Any, advice: str) -> None:
    result = await ex03.every_event_is_answered_once(answer)
    assert not result.done
    assert advice in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


def no(code: str, field: str) -> RequestError:
    return RequestError("Not like this", code, field=field)


def checks(
    *,
    is_text: Callable[[Any], bool] = lambda text: isinstance(text, str),
    longest: int = 500,
    trim_first: bool = True,
    empty: Callable[[str], bool] = lambda text: not text.strip(),
    key: Any = str,
    known: tuple[str, ...] = ("text", "key"),
) -> Any:
    """A right answer to task 2; each argument can make it a wrong one."""

    def read_message(*payload: Any) -> str:
        if len(payload) != 1 or not isinstance(payload[0], dict):
            raise no("invalid_payload", "payload")
        data = payload[0]
        if not is_text(data.get("text")):
            raise no("invalid_payload", "text")
        if data.get("key") is not None and not isinstance(data["key"], key):
            raise no("invalid_payload", "key")
        for name in data:
            if known and name not in known:
                raise no("invalid_payload", name)
        text = str(data["text"])
        if empty(text):
            raise no("empty_message", "text")
        if len(text.strip() if trim_first else text) > longest:
            raise no("message_too_long", "text")
        return text.strip()

    return read_message


async def declared(data: Any = None, *more: Any) -> str:
    """Another right answer: a table of shapes, as in the lesson, and it is a coroutine."""
    shape = {"text": str, "key": str | None}
    if more or not isinstance(data, dict):
        raise no("invalid_payload", "payload")
    for name in [*shape, *data]:
        if not isinstance(data.get(name), shape.get(name, ())):
            raise no("invalid_payload", name)
    match len(data["text"].strip()):
        case 0:
            raise no("empty_message", "text")
        case length if length > 500:
            raise no("message_too_long", "text")
    return data["text"].strip()


@pytest.mark.parametrize("answer", [checks(), declared])
async def test_payloads_may_be_read_in_any_way(answer: Any) -> None:
    result = await ex03.only_messages_get_through(answer)
    assert result.done, result.advice


def believes(data: Any) -> str:
    return data["text"].strip()


def turns_into_text(data: Any) -> str:
    return str(data.get("text", "")).strip() or "?"


def unfinished(*payload: Any) -> Any: ...


def asks_for_one_argument(data: Any) -> str:
    return checks()(data)


def not_trimmed(*payload: Any) -> str:
    checks()(*payload)
    return payload[0]["text"]


def one_code_for_all(*payload: Any) -> str:
    try:
        return checks()(*payload)
    except RequestError as refusal:
        raise no("invalid_payload", refusal.ack["field"]) from None


def no_field(*payload: Any) -> str:
    try:
        return checks()(*payload)
    except RequestError as refusal:
        raise RequestError("Not like this", refusal.ack["code"]) from None


def try_again(*payload: Any) -> str:
    try:
        return checks()(*payload)
    except RequestError as refusal:
        refusal.ack["retry"] = True
        raise


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (unfinished, "`read_message` gives nothing back yet"),
        (believes, "on `{}` `read_message` raised `KeyError: 'text'`"),
        (turns_into_text, "`{}` got through"),
        (checks(is_text=lambda text: text is not None), "`{'text': 42}` got through"),
        (checks(is_text=lambda text: isinstance(text, str | int)), "`{'text': 42}` got through"),
        (checks(is_text=lambda text: isinstance(text, str | bool)), "`{'text': True}` got through"),
        (asks_for_one_argument, "on no payload at all `read_message` raised `TypeError"),
        (checks(empty=lambda text: not text), "`{'text': '   '}` got through"),
        (checks(longest=499), "a text of 500 characters was refused"),
        (checks(longest=5000), "a text of 501 characters got through"),
        (checks(trim_first=False), "a text of 500 characters and some space was refused"),
        (checks(key=(str, int)), "a number as key got through"),
        (checks(key=(str, bool)), "`False` as key got through"),
        (checks(known=("text",)), "a message with a key was refused"),
        (checks(known=()), "a field `user` got through"),
        (not_trimmed, "`{'text': '  hello '}` did not come out right"),
        (one_code_for_all, "its code is `empty_message`"),
        (no_field, "was refused for the field `None`"),
        (try_again, "may be tried again"),
    ],
)
async def test_what_gets_through_is_named(answer: Any, advice: str) -> None:
    result = await ex03.only_messages_get_through(answer)
    assert not result.done
    assert advice in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


def told_as(
    passes: Callable[[Exception], bool],
    *,
    sentence: Callable[[Exception], str] = lambda error: "Sorry",
    unavailable: str = "unavailable",
    refusals: bool = True,
) -> Any:
    """A right answer to the stretch where `passes` is right."""

    def answer(error: Exception) -> RequestError:
        if refusals and isinstance(error, RequestError):
            return error
        if passes(error):
            return RequestError(sentence(error), unavailable, retry=True)
        return RequestError(sentence(error), "internal_error")

    return answer


def by_code(error: Exception) -> bool:
    busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
    return busy or isinstance(error, ConnectionError | TimeoutError)


def by_text(error: Exception) -> bool:
    return "locked" in str(error) or type(error).__name__.startswith(("Connection", "Timeout"))


@pytest.mark.parametrize("answer", [told_as(by_code), told_as(by_text)])
async def test_what_passes_may_be_found_out_in_any_way(answer: Any) -> None:
    result = await ex03.tells_what_may_be_tried_again(answer)
    assert result.done, result.advice


def of(*kinds: type[Exception]) -> Callable[[Exception], bool]:
    return lambda error: isinstance(error, kinds)


def without_a_look(error: Exception) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    return isinstance(error, ConnectionError | TimeoutError)


def unfinished_too(error: Exception) -> Any: ...


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (unfinished_too, "`told_as` gives nothing back yet"),
        (told_as(lambda error: True), "a `KeyError` (`KeyError`) may be tried again"),
        (told_as(lambda error: False), "(`SQLITE_BUSY`) is final"),
        (told_as(of(sqlite3.OperationalError)), "(`ConnectionRefusedError`) is final"),
        (
            told_as(of(sqlite3.OperationalError, ConnectionError)),
            "did not answer in time (`TimeoutError`) is final",
        ),
        (
            told_as(of(sqlite3.OperationalError, ConnectionError, TimeoutError)),
            "a table that does not exist (`SQLITE_ERROR`) may be tried again",
        ),
        (
            told_as(lambda error: by_code(error) or isinstance(error, sqlite3.IntegrityError)),
            "an id that is taken",
        ),
        (
            told_as(lambda error: by_code(error) or isinstance(error, OSError)),
            "a picture that does not exist (`FileNotFoundError`) may be tried again",
        ),
        (told_as(without_a_look), "has no attribute 'sqlite_errorcode'"),
        (told_as(by_code, sentence=str), "the caller was told the text"),
        (told_as(by_code, unavailable="try_again"), "its code is `unavailable`"),
        (told_as(by_code, refusals=False), "a `RequestError` was told as"),
    ],
)
async def test_what_is_told_wrong_is_named(answer: Any, advice: str) -> None:
    result = await ex03.tells_what_may_be_tried_again(answer)
    assert not result.done
    assert advice in result.advice
