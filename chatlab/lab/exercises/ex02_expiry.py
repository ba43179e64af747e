"""Check of the last task of exercise 02: a session ends when its token does, and not before.

It runs the learner's class beside real sockets and real time; tokens are stood for by their `exp`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import socketio

from chatlab.lab.background import Server, background
from chatlab.lab.checks import advice, check, expect
from chatlab.lab.clients import RawClient, Refused, raw_client

__all__ = ["PATIENCE", "ends_when_the_token_does"]

PATIENCE = 2.0
"""Seconds until a socket that was neither accepted nor refused counts as forgotten."""

LATE = 3.0
"""Seconds after `exp` in which a session has to be over; generous, for a busy machine."""

EARLY = 0.1
"""Seconds before `exp` in which a session may be over: clocks are read twice."""


class _Noting(socketio.AsyncServer):  # type: ignore[misc]
    """Notes when sessions end, and to whom something is said after they have gone."""

    def __init__(self) -> None:
        super().__init__(async_mode="aiohttp")
        self.gone: set[str] = set()
        self.spoken_to: set[str] = set()
        self.ended: dict[str, float] = {}

    def note_end(self, sid: str) -> None:
        self.ended.setdefault(sid, time.time())

    async def emit(self, event: str, data: Any = None, to: Any = None, **more: Any) -> None:
        self.spoken_to |= self.gone & {to or more.get("room")}
        await super().emit(event, data, to=to, **more)

    async def disconnect(self, sid: str, *args: Any, **more: Any) -> None:
        self.spoken_to |= self.gone & {sid}
        self.note_end(sid)
        await super().disconnect(sid, *args, **more)


@check("a session ends when its token does", task=3, lesson="02", stretch=True, limit=20.0)
async def ends_when_the_token_does(expiry_class: Callable[[Any], Any]) -> None:
    """`expiry_class(sio)` has `start(sid, exp)` and `stop(sid)`."""
    sio = _Noting()

    def begin() -> Any:
        expiry = expiry_class(sio)

        async def connect(sid: str, environ: Any, auth: Any) -> None:
            await _maybe(expiry.start(sid, auth["exp"]))

        async def refresh(sid: str, exp: float) -> bool:
            await _maybe(expiry.start(sid, exp))
            return True

        async def disconnect(sid: str, reason: str) -> None:
            sio.gone.add(sid)
            sio.note_end(sid)
            await _maybe(expiry.stop(sid))

        sio.on("connect", connect)
        sio.on("refresh-token", refresh)
        sio.on("disconnect", disconnect)
        return sio

    async with background(begin, name="check 02") as server:
        await _ends_on_time(server, sio)
        await _follows_a_refresh(server, sio)


async def _ends_on_time(server: Server, sio: _Noting) -> None:
    began = time.time()
    sooner, later = began + 0.5, began + 1.2
    async with _session(server, "late", later) as late, _session(server, "early", sooner) as early:
        first, second = _ends_of(sio, early), _ends_of(sio, late)
        await _until_gone(early, sooner, first)
        with suppress(TimeoutError):
            await late.wait_until_disconnected(timeout=max(0.0, later - time.time()) + LATE)
        expect(
            second() >= later - EARLY or second() - first() > EARLY,
            "two sessions ended together — each token has its own `exp`, so keep a timer per `sid`",
        )
        await _until_gone(late, later, second)


async def _follows_a_refresh(server: Server, sio: _Noting) -> None:
    far = time.time() + 60
    async with (
        _session(server, "refreshed", far) as refreshed,
        _session(server, "shortened", far) as shortened,
        _session(server, "clock", far) as clock,
        _session(server, "left", far) as left,
    ):
        # Everybody is in before any clock runs, however slow the machine is.
        first, second = _ends_of(sio, shortened), _ends_of(sio, clock)
        began = time.time()
        sooner, later = began + 0.6, began + 0.8
        for client, exp in ((left, sooner), (refreshed, sooner), (refreshed, far)):
            await client.call("refresh-token", exp, timeout=PATIENCE)
        await left.aclose()
        for client, exp in ((shortened, sooner), (clock, later)):
            await client.call("refresh-token", exp, timeout=PATIENCE)
        shorter = ", although its newest one ends earlier — `start` again means another `exp`"
        await _until_gone(shortened, sooner, first, shorter)
        await _until_gone(clock, later, second)
        expect(
            refreshed.connected and not refreshed.received,
            "a session that was refreshed ended with the old token — `start` for the same `sid` "
            "has to cancel the timer that runs",
        )
    expect(
        not sio.spoken_to,
        "something was sent to a client that had left — cancel its timer in `stop`",
    )


@asynccontextmanager
async def _session(server: Server, name: str, exp: float) -> AsyncIterator[RawClient]:
    try:
        client = await raw_client(server, name=name, auth={"exp": exp}, timeout=PATIENCE)
    except Refused:
        advice("a client was refused — `start` only sets a timer")
    except socketio.exceptions.ConnectionError:
        failed = [line for line in str(server.logs()).splitlines() if "Error" in line]
        said = f" with `{failed[-1].strip()}`" if failed else ""
        advice(f"`start` failed{said} — look at what it does with `sid` and `exp`")
    try:
        yield client
    finally:
        await client.aclose()


def _ends_of(sio: _Noting, client: RawClient) -> Callable[[], float]:
    """When the session of a client has ended, by the server's word; now, if it has not."""
    sid = client.get_sid()
    return lambda: sio.ended.get(sid, time.time())


async def _until_gone(
    client: RawClient, exp: float, ended: Callable[[], float], circumstance: str = ""
) -> None:
    """Wait for the end of a session that ends at `exp`, and look at how it ended."""
    with suppress(TimeoutError):
        await client.wait_until_disconnected(timeout=max(0.0, exp - time.time()) + LATE)
    expect(
        not client.connected,
        "a session went on after its token had expired"
        + (circumstance or " — emit `token-expired`, then `await sio.disconnect(sid)`"),
    )
    expect(
        ended() > exp - EARLY,
        "a session ended before its token did — `exp` is a time, not a duration: "
        "wait `exp - time.time()` seconds",
    )
    expect(
        [item.event for item in client.received] == ["token-expired"],
        "the session ended without a word, or with another — emit `token-expired` once, "
        "to this `sid` alone, before you disconnect",
    )


async def _maybe(result: Any) -> None:
    """The learner's method may be a coroutine function or not."""
    if inspect.isawaitable(result):
        await result
