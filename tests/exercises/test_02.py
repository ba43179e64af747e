"""The checks of exercise 02 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import jwt
import pytest
from socketio.exceptions import ConnectionRefusedError as Refusal

from chatlab.lab.exercises import ex02

INVALID = Refusal("Invalid token", {"code": "invalid_token", "retry": False})
SERVER_ERROR = Refusal("Server error", {"code": "server_error", "retry": True})
OURS: dict[str, Any] = {"algorithms": ["HS256"], "issuer": "chatlab", "audience": "chatlab"}
MUST_HAVE = {"require": ["sub", "exp", "iss", "aud"]}


# -- task 1 ----------------------------------------------------------------------------------------


def door(verify: Callable[[str, str], Any], **session: Any) -> Callable[[Any, str], None]:
    """An answer to task 1 that differs from others in how it verifies a token."""

    def add_handshake(sio: Any, secret: str) -> None:
        @sio.event
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            try:
                user = verify(auth["token"], secret)
            except jwt.InvalidTokenError:
                raise INVALID from None
            await sio.save_session(sid, session or {"user": user})

    return add_handshake


def solution(token: str, secret: str) -> Any:
    return jwt.decode(token, secret, **OURS, options=MUST_HAVE)["sub"]


def by_hand(token: str, secret: str) -> Any:
    """Looks at each claim itself."""
    claims = jwt.decode(token, secret, algorithms=["HS256"], options={"verify_aud": False})
    if claims.get("aud") != "chatlab" or claims.get("iss") != "chatlab":
        raise jwt.InvalidTokenError
    if "sub" not in claims or "exp" not in claims:
        raise jwt.InvalidTokenError
    return claims["sub"]


def handler_without_a_decorator(sio: Any, secret: str) -> None:
    async def check(sid: str, environ: Any, auth: Any = None) -> None:
        try:
            user = solution((auth or {}).get("token", ""), secret)
        except Exception:
            raise Refusal("Invalid token", {"code": "invalid_token"}) from None
        async with sio.session(sid) as session:
            session["user"] = user

    sio.on("connect", handler=check)


@pytest.mark.parametrize("answer", [door(solution), door(by_hand), handler_without_a_decorator])
async def test_the_door_may_be_built_in_any_way(answer: Any) -> None:
    result = await ex02.lets_in_who_has_a_token(answer)
    assert result.done, result.advice


def without(**changed: Any) -> Callable[[str, str], Any]:
    """The solution's verifier with other arguments; None takes one away."""

    def verify(token: str, secret: str) -> Any:
        arguments: dict[str, Any] = {**OURS, "options": MUST_HAVE, **changed}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        return jwt.decode(token, secret, **arguments).get("sub")

    return verify


def as_the_header_says(token: str, secret: str) -> Any:
    algorithm = jwt.get_unverified_header(token)["alg"]
    return jwt.decode(token, secret, **{**OURS, "algorithms": [algorithm]}, options=MUST_HAVE)[
        "sub"
    ]


def nothing(sio: Any, secret: str) -> None: ...


def open_door(sio: Any, secret: str) -> None:
    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None: ...


def forgets_who_it_is(sio: Any, secret: str) -> None:
    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        try:
            solution(auth["token"], secret)
        except jwt.InvalidTokenError:
            raise INVALID from None


def believes_the_payload(sio: Any, secret: str) -> None:
    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        try:
            user = solution(auth["token"], secret)
        except jwt.InvalidTokenError:
            raise INVALID from None
        await sio.save_session(sid, {"user": auth.get("user", user)})


def says_only_no(sio: Any, secret: str) -> None:
    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> bool | None:
        try:
            await sio.save_session(sid, {"user": solution(auth["token"], secret)})
        except jwt.InvalidTokenError:
            return False
        return None


def catches_nothing(sio: Any, secret: str) -> None:
    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await sio.save_session(sid, {"user": solution(auth["token"], secret)})


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (nothing, "no connect handler"),
        (open_door, "whose token is only a word got in"),
        (door(without(options={"verify_signature": False})), "another secret got in"),
        (door(as_the_header_says), "HS512 got in"),
        (door(without(algorithms=["HS256", "HS512"])), "HS512 got in"),
        (door(without(options={**MUST_HAVE, "verify_exp": False})), "an expired token got in"),
        (door(without(options={"require": ["sub"]})), "a token without `exp` got in"),
        (door(without(options={**MUST_HAVE, "verify_aud": False})), "for another service got in"),
        (door(without(audience=None)), "a valid token was refused"),
        (door(without(issuer=None)), "of another issuer got in"),
        (door(without(options={"require": ["exp"]})), "a token without `sub` got in"),
        (door(solution, name="alice"), "does not say who it is"),
        (forgets_who_it_is, "does not say who it is"),
        (believes_the_payload, "the session of alice says `bob`"),
        (says_only_no, "without the code `invalid_token`"),
        (catches_nothing, "neither accepted nor refused"),
    ],
)
async def test_a_door_with_a_gap_is_told_which(answer: Any, advice: str) -> None:
    result = await ex02.lets_in_who_has_a_token(answer)
    assert not result.done
    assert advice in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


def closed(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> Any:
        try:
            return await connect(sid, environ, auth)
        except Refusal:
            raise
        except Exception:
            raise SERVER_ERROR from None

    return guarded


def closed_for_any_arguments(connect: Any) -> Any:
    @wraps(connect)
    async def guarded(*arguments: Any) -> Any:
        try:
            answer = await connect(*arguments)
        except BaseException as error:
            raise (error if isinstance(error, Refusal) else SERVER_ERROR) from None
        if answer is False:
            raise Refusal("Not today")
        return answer

    return guarded


@pytest.mark.parametrize("answer", [closed, closed_for_any_arguments])
async def test_a_guard_may_be_built_in_any_way(answer: Any) -> None:
    result = await ex02.refuses_whatever_goes_wrong(answer)
    assert result.done, result.advice


def guard(on_error: Callable[[Exception], Any], *, catches: Any = Exception) -> Any:
    """An answer to task 2 that does something else when `connect` breaks."""

    def fail_closed(connect: Any) -> Any:
        async def guarded(sid: str, environ: Any, auth: Any) -> Any:
            try:
                return await connect(sid, environ, auth)
            except Refusal:
                raise
            except catches as error:
                return on_error(error)

        return guarded

    return fail_closed


def refuse(*arguments: Any) -> Callable[[Exception], Any]:
    def on_error(error: Exception) -> None:
        raise Refusal(*(a.format(error) if isinstance(a, str) else a for a in arguments))

    return on_error


def drops_the_answer(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> None:
        try:
            await connect(sid, environ, auth)
        except Refusal:
            raise
        except Exception:
            raise SERVER_ERROR from None

    return guarded


def one_word_for_all(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> Any:
        try:
            return await connect(sid, environ, auth)
        except Exception:
            raise SERVER_ERROR from None

    return guarded


def refuses_everybody(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> None:
        try:
            if await connect(sid, environ, auth) is not True:
                raise SERVER_ERROR
        except Refusal:
            raise
        except Exception:
            raise SERVER_ERROR from None

    return guarded


def keeps_the_auth(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> Any:
        try:
            return await connect(sid, environ, None)
        except Refusal:
            raise
        except Exception:
            raise SERVER_ERROR from None

    return guarded


def empty(connect: Any) -> Any:
    async def guarded(sid: str, environ: Any, auth: Any) -> None: ...

    return guarded


DATA = {"code": "server_error", "retry": True}


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (lambda connect: None, "`fail_closed` gives nothing back yet"),
        (empty, "a `KeyError` while deciding let the client in"),
        (guard(lambda error: None), "a `KeyError` while deciding let the client in"),
        (guard(lambda error: False), "was told the code `None`"),
        (guard(refuse("Server error", DATA), catches=KeyError), "neither accepted nor refused"),
        (guard(refuse("Server error", DATA), catches=LookupError), "`TypeError: list`"),
        (guard(refuse("{}", DATA)), "the text of the exception"),
        (guard(refuse("Server error: {!r}", DATA)), "the text of the exception"),
        (guard(refuse("Server error")), "was told the code `None`"),
        (guard(refuse("Invalid token", {"code": "invalid_token"})), "the code `invalid_token`"),
        (guard(refuse("Server error", {"code": "server_error"})), "may try again"),
        (one_word_for_all, "the refusal `banned` became `server_error`"),
        (drops_the_answer, "returned False, which means no, let the client in"),
        (keeps_the_auth, "did not get its `auth`"),
        (refuses_everybody, "a client whom `connect` accepts was refused"),
    ],
)
async def test_a_guard_with_a_gap_is_told_which(answer: Any, advice: str) -> None:
    result = await ex02.refuses_whatever_goes_wrong(answer)
    assert not result.done
    assert advice in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


class Expiry:
    def __init__(self, sio: Any) -> None:
        self.sio = sio
        self.timers: dict[str, Any] = {}

    def start(self, sid: str, exp: float) -> Any:
        self.stop(sid)
        self.timers[sid] = asyncio.create_task(self.end(sid, exp - time.time()))

    def stop(self, sid: str) -> Any:
        timer = self.timers.pop(sid, None)
        if timer:
            timer.cancel()

    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        del self.timers[sid]
        await self.sio.emit("token-expired", to=sid)
        await self.sio.disconnect(sid)


class OneWatch:
    """No timers at all: one task looks at every session from time to time."""

    def __init__(self, sio: Any) -> None:
        self.sio, self.ends = sio, {}
        self.watch: asyncio.Task[None] | None = None

    async def start(self, sid: str, exp: float) -> None:
        self.ends[sid] = exp
        self.watch = self.watch or asyncio.create_task(self.look())

    async def stop(self, sid: str) -> None:
        self.ends.pop(sid, None)

    async def look(self) -> None:
        while True:
            for sid in [sid for sid, exp in self.ends.items() if exp <= time.time()]:
                await self.sio.emit("token-expired", room=sid)
                await self.sio.eio.disconnect(self.sio.manager.eio_sid_from_sid(sid, "/"))
                self.ends.pop(sid, None)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [Expiry, OneWatch])
async def test_a_session_may_be_ended_in_any_way(answer: Any) -> None:
    result = await ex02.ends_when_the_token_does(answer)
    assert result.done, result.advice


class Empty(Expiry):
    def start(self, sid: str, exp: float) -> Any: ...


class NeverCancels(Expiry):
    """The timer of the old token runs on when a fresh one comes."""

    def start(self, sid: str, exp: float) -> Any:
        self.timers[sid] = asyncio.create_task(self.end(sid, exp - time.time()))

    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
        self.timers.pop(sid, None)
        await self.sio.emit("token-expired", to=sid)
        await self.sio.disconnect(sid)


class KeepsTheFirst(Expiry):
    def start(self, sid: str, exp: float) -> Any:
        if sid not in self.timers:
            super().start(sid, exp)


class OneForAll(Expiry):
    """One timer, which each new session takes over."""

    def start(self, sid: str, exp: float) -> Any:
        self.stop("")
        self.timers[""] = asyncio.create_task(self.end(sid, exp - time.time()))

    def stop(self, sid: str) -> Any:
        if not sid:
            super().stop("")

    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.sio.emit("token-expired", to=sid)
        await self.sio.disconnect(sid)


class EndsEverybody(Expiry):
    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for each in list(self.timers):
            self.timers.pop(each)
            await self.sio.emit("token-expired", to=each)
            await self.sio.disconnect(each)


class StopsNothing(Expiry):
    def stop(self, sid: str) -> Any: ...

    def start(self, sid: str, exp: float) -> Any:
        super().stop(sid)
        super().start(sid, exp)


class Silent(Expiry):
    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        del self.timers[sid]
        await self.sio.disconnect(sid)


class TellsEverybody(Expiry):
    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        del self.timers[sid]
        await self.sio.emit("token-expired")
        await self.sio.disconnect(sid)


class OnlyTells(Expiry):
    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.sio.emit("token-expired", to=sid)


class TooEarly(Expiry):
    def start(self, sid: str, exp: float) -> Any:
        super().start(sid, exp - 0.4)


class ForADuration(Expiry):
    """Takes `exp` for a number of seconds."""

    def start(self, sid: str, exp: float) -> Any:
        super().start(sid, exp + time.time())


class CancelsItself(Expiry):
    async def end(self, sid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.sio.emit("token-expired", to=sid)
        await self.sio.disconnect(sid)


class Breaks(Expiry):
    def start(self, sid: str, exp: float) -> Any:
        raise LookupError("which session?")


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Empty, "went on after its token had expired"),
        (NeverCancels, "was refreshed ended with the old token"),
        (KeepsTheFirst, "although its newest one ends earlier"),
        (OneForAll, "went on after its token had expired"),
        (EndsEverybody, "two sessions ended together"),
        (StopsNothing, "sent to a client that had left"),
        (Silent, "without a word"),
        (TellsEverybody, "to this `sid` alone"),
        (OnlyTells, "went on after its token had expired"),
        (TooEarly, "ended before its token did"),
        (ForADuration, "went on after its token had expired"),
        (Breaks, "LookupError: which session?"),
    ],
)
async def test_a_clock_with_a_fault_is_told_which(answer: Any, advice: str) -> None:
    result = await ex02.ends_when_the_token_does(answer)
    assert not result.done
    assert advice in result.advice
