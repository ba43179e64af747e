"""Hardened: who stands at the door. Sockets that never connect, session ids, foreign pages."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Final

from chatlab.grade.hardened_peers import Gone, Socket, endpoint
from chatlab.grade.hardened_trials import closed, enter, hardened, joined, polling
from chatlab.grade.hardened_wire import Door, Refused
from chatlab.grade.judge import must
from chatlab.grade.promise import AUTHENTICATION, Broken, NotJudged
from chatlab.grade.target import Target

CONNECT_WITHIN: Final = 10.0  # seconds: the contract's
ELSEWHERE: Final = "https://elsewhere.example"


@hardened(
    "connect-timeout",
    AUTHENTICATION,
    "A socket that has sent no CONNECT within 10 s is closed.",
    users=0,
)
async def connect_timeout(target: Target, door: Door) -> None:
    peer = await Socket.open(door, "mallory")
    ended, _ = await closed(peer, patience=CONNECT_WITHIN + target.timeout)
    must(ended, f"a socket that sends no CONNECT should be closed within {CONNECT_WITHIN:g} s")


@hardened(
    "deaf-before-connect",
    AUTHENTICATION,
    "Before CONNECT succeeds, or after it was refused, a socket receives no event.",
    needs=("delivered",),
)
async def deaf_before_connect(target: Target, door: Door) -> None:
    room = target.room()
    strangers = [await Socket.open(door, f"stranger {number}") for number in (1, 2, 3)]
    for stranger, auth in zip(strangers, (None, {"token": "x"}, ["token"]), strict=True):
        if auth is not None:
            await _refused(stranger, auth)
    talker = await joined(target, door, room, 0)
    other = await joined(target, door, room, 1)
    await talker.call("send-message", {"text": "among ourselves"})
    await other.hear(lambda event: event[0] == "new-message")
    other.abort()
    for stranger in strangers:
        # Whatever was sent to it before comes before the answer to a CONNECT.
        try:
            await stranger.ask_in({"token": await target.token(0)})
        except Gone:
            pass
        except TimeoutError:
            await closed(stranger, patience=0.1)
        must(
            not stranger.events,
            f"a socket that was not let in should hear nothing, and heard {stranger.events[:1]}",
        )


async def _refused(stranger: Socket, auth: object) -> None:
    try:
        answer = await stranger.ask_in(auth)
    except Gone:
        return
    except TimeoutError:
        raise Broken(f"CONNECT with {auth!r} was neither accepted nor refused") from None
    must(answer.startswith("44"), f"CONNECT with {auth!r} should be refused")


@hardened(
    "nothing-before-connect",
    AUTHENTICATION,
    "An event before CONNECT is not handled.",
    users=1,
)
async def nothing_before_connect(target: Target, door: Door) -> None:
    peer = await Socket.open(door, "mallory")
    await peer.send(f'4280["join-room","{target.room()}"]')
    with contextlib.suppress(Gone, TimeoutError):
        await peer.ask_in({"token": await target.token(0)})
    must(not peer.answered(80), "an event before CONNECT should not be handled, and was acked")


@hardened(
    "session-ids",
    AUTHENTICATION,
    "Session ids are long and cannot be guessed from one another.",
    users=0,
)
async def session_ids(target: Target, door: Door) -> None:
    peers = [await Socket.open(door, "mallory") for _ in range(4)]
    sids = [str(peer.handshake.get("sid", "")) for peer in peers]
    must(len(set(sids)) == len(sids), "two sessions have the same sid")
    for sid in sids:
        must(len(sid) >= 16, f"a sid of {len(sid)} characters can be guessed: 16 are the least")
    for one, two in itertools.pairwise(sids):
        same = sum(a == b for a, b in zip(one, two, strict=False))
        must(same <= len(one) // 2, "one sid can be guessed from another: they are nearly the same")


@hardened(
    "foreign-sids",
    AUTHENTICATION,
    "A session id that is unknown, or only a Socket.IO one, opens nothing: 400.",
    users=1,
)
async def foreign_sids(target: Target, door: Door) -> None:
    await polling(door, "alice")
    peer = await enter(target, door, way="polling")
    engine = str(peer.handshake["sid"])
    guesses = {
        "an unknown session id": "A" * len(engine),
        "an empty session id": "%20",
        "a session id in another case": engine.swapcase(),
        "a Socket.IO session id": peer.sid or os.urandom(9).hex(),
    }
    must(peer.sid != engine, "the Socket.IO id, which others may see, is the session's secret")
    for what, sid in guesses.items():
        for method, body in (("GET", None), ("POST", "40")):
            answer = await door.ask("mallory", method, endpoint(door, "polling", sid), body)
            must(answer.status == 400, f"{what} should be answered 400, not {answer.status}")
        try:
            ws = await Socket.open_at(door, "mallory", endpoint(door, "websocket", sid))
        except (Refused, Gone):
            continue
        raise Broken(f"{what} should open no websocket, and opened one: {ws.handshake}")


@hardened(
    "sids-are-no-rooms",
    AUTHENTICATION,
    "Joining a room that is named as somebody's session receives nothing meant for that one.",
    needs=("join-acked",),
)
async def sids_are_no_rooms(target: Target, door: Door) -> None:
    victim = await joined(target, door, target.room(), 0)
    spy = await enter(target, door, 1)
    names = [name for name in (victim.sid, str(victim.handshake["sid"])) if name]
    for name in names:
        await spy.call("join-room", name)
    # What only the victim is told: that it asked for what does not exist.
    await victim.emit("no-such-event", {})
    try:
        told = await victim.hear(lambda event: event[0] in ("error", "message-error"))
    except TimeoutError:
        raise NotJudged("the server tells a socket nothing that others may not hear") from None
    await spy.call("join-room", names[0])
    must(told not in spy.events, "who joins a room named by another's sid hears what is private")


@hardened(
    "foreign-pages",
    AUTHENTICATION,
    "A page of another origin may not talk to the server.",
    users=0,
)
async def foreign_pages(target: Target, door: Door) -> None:
    await _must_be_shut(door, "a page of another origin", ("Origin", ELSEWHERE))
    await _must_be_shut(door, "a page without an origin (a file, a sandbox)", ("Origin", "null"))
    own = await door.ask("page", "GET", endpoint(door, "polling"), None, ("Origin", door.origin))
    if own.status >= 400:
        try:
            await Socket.open(door, "page", headers=[("Origin", door.origin)])
        except Refused:
            raise Broken(f"a page of the server's own origin, {door.origin}, is refused") from None


@hardened(
    "forwarded-host",
    AUTHENTICATION,
    "`X-Forwarded-Host` of anybody makes no page one of the server's own.",
    users=0,
    needs=("foreign-pages",),
)
async def forwarded_host(target: Target, door: Door) -> None:
    name = ELSEWHERE.partition("://")[2]
    await _must_be_shut(
        door,
        "a page of another origin that sends X-Forwarded-Host",
        ("Origin", ELSEWHERE),
        ("X-Forwarded-Host", name),
        ("X-Forwarded-Proto", "https"),
    )


async def _must_be_shut(door: Door, what: str, *headers: tuple[str, str]) -> None:
    answer = await door.ask("page", "GET", endpoint(door, "polling"), None, *headers)
    # Without this header a browser keeps the answer from the page.
    allowed = answer.headers.get("access-control-allow-origin")
    if answer.status == 200:
        must(allowed not in ("*", headers[0][1]), f"{what} is let in: CORS allows {allowed}")
    try:
        await Socket.open(door, "page", headers=headers)
    except (Refused, Gone):
        return
    raise Broken(f"{what} should open no websocket, and opened one")


@hardened(
    "metrics-are-private",
    AUTHENTICATION,
    "`/metrics` is for the server's own machine: not for what comes through a proxy.",
    users=0,
)
async def metrics_are_private(target: Target, door: Door) -> None:
    address = f"{door.base}/metrics"
    here = await door.ask("operator", "GET", address)
    if here.status == 404:
        raise NotJudged("the server has no /metrics")
    if "via" in here.headers:
        raise NotJudged("a proxy is in between, and says itself who asks")
    for hops in ("203.0.113.7", "127.0.0.1", "203.0.113.7, 127.0.0.1"):
        answer = await door.ask("stranger", "GET", address, None, ("X-Forwarded-For", hops))
        must(
            answer.status >= 400,
            f"/metrics through a proxy (X-Forwarded-For: {hops}) was answered {answer.status}",
        )
