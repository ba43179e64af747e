"""How promises are run: verdicts, what comes first, second tries, users, and what goes missing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from chatlab.grade import (
    Broken,
    Level,
    NotJudged,
    Promise,
    Report,
    Silent,
    Unreachable,
    Unready,
    Verdict,
    grade,
    promise,
)
from chatlab.grade.promise import AUTHENTICATION, ERRORS
from chatlab.grade.target import Target
from chatlab.grade.tokens import altered, unsigned
from chatlab.grade.users import Users
from chatlab.lab import background, process
from chatlab.lab.process import Process

SECRET = "a-secret-of-the-frame's-own-tests-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    running = process(name="frame", env={"CHATLAB_JWT_SECRET": SECRET})
    yield running
    running.stop()


def made(id: str, trial: Any, **more: Any) -> Promise:
    more.setdefault("users", 1)
    level = more.pop("level", Level.LESSON)
    return promise(id, ERRORS, level, f"The promise {id}.", **more)(trial)


async def graded(server: Process, *promises: Promise, **more: Any) -> Report:
    more.setdefault("timeout", 2.0)
    return await grade(server.url, secret=SECRET, promises=promises, **more)


async def keeps(_target: Target) -> None:
    """Nothing goes wrong."""


async def breaks(_target: Target) -> None:
    raise Broken("it is broken")


async def test_a_trial_that_returns_is_kept_with_its_packets_as_evidence(server: Process) -> None:
    async def trial(target: Target) -> None:
        await target.enter(0)

    (result,) = (await graded(server, made("one", trial))).results
    assert result.verdict is Verdict.KEPT
    ways = [(packet.who, packet.way) for packet in result.evidence]
    assert ways == [("alice", "←"), ("alice", "→"), ("alice", "←")]
    assert result.evidence[1].text == '40{"token":"<token>"}'


async def test_a_broken_promise_says_how(server: Process) -> None:
    report = await graded(server, made("one", breaks))
    assert report.verdicts == {"one": "broken"}
    assert report.results[0].said == "it is broken"
    assert report.broken


async def test_what_builds_on_a_broken_promise_is_not_judged(server: Process) -> None:
    report = await graded(
        server,
        made("third", keeps, needs=("second",)),
        made("second", keeps, needs=("first",)),
        made("first", breaks),
    )
    assert report.verdicts == {"third": "not judged", "second": "not judged", "first": "broken"}
    assert report.results[1].said == "needs first, which is broken"


async def test_what_a_promise_needs_may_be_left_out_of_a_run(server: Process) -> None:
    report = await graded(
        server, made("second", keeps, needs=("first",)), made("first", breaks), only=["second"]
    )
    assert report.verdicts == {"second": "kept"}


async def test_a_promise_does_not_wait_for_one_that_comes_later(server: Process) -> None:
    report = await graded(
        server,
        made("early", keeps, needs=("late", "high")),
        made("late", keeps, alone=True),
        made("high", keeps, level=Level.CONTRACT),
    )
    assert set(report.verdicts.values()) == {"kept"}


@pytest.mark.parametrize("error", [Silent, Unready])
async def test_what_came_too_late_is_tried_once_more_with_twice_the_patience(
    server: Process, error: type[Exception]
) -> None:
    patience: list[float] = []

    async def trial(target: Target) -> None:
        patience.append(target.timeout)
        if len(patience) == 1:
            raise error("nothing came")

    report = await graded(server, made("slow", trial), timeout=3.0)
    assert report.verdicts == {"slow": "kept"}
    assert patience == [3.0, 6.0]


async def test_what_is_plainly_broken_is_not_tried_again(server: Process) -> None:
    tries: list[int] = []

    async def trial(_target: Target) -> None:
        tries.append(1)
        raise Broken("at once")

    await graded(server, made("one", trial))
    assert len(tries) == 1


@pytest.mark.parametrize(("pauses", "verdict"), [(1, "kept"), (2, "kept"), (3, "broken")])
async def test_what_broke_while_the_machine_stood_still_is_tried_again(
    server: Process, pauses: int, verdict: str
) -> None:
    tries: list[int] = []

    async def trial(_target: Target) -> None:
        tries.append(1)
        if len(tries) <= pauses:
            time.sleep(0.3)
            raise Broken("at once")

    report = await graded(server, made("one", trial))
    assert report.verdicts == {"one": verdict}
    assert len(tries) == min(pauses + 1, 3)


async def test_a_pause_before_a_trial_does_not_excuse_it(server: Process) -> None:
    tries: list[int] = []

    async def pause(_target: Target) -> None:
        time.sleep(0.3)

    async def trial(_target: Target) -> None:
        tries.append(1)
        raise Broken("at once")

    await graded(server, made("one", pause), made("two", trial, level=Level.CONTRACT))
    assert len(tries) == 1


async def test_an_answer_without_what_it_should_hold_is_a_broken_promise(server: Process) -> None:
    async def trial(_target: Target) -> None:
        {}["seq"]

    (result,) = (await graded(server, made("one", trial))).results
    assert result.verdict is Verdict.BROKEN
    assert "has not the promised shape (KeyError: 'seq')" in result.said


async def test_a_fault_of_a_trial_costs_no_other_verdict(server: Process) -> None:
    async def trial(_target: Target) -> None:
        raise ZeroDivisionError("a mistake in the trial")

    report = await graded(server, made("odd", trial), made("good", keeps))
    assert report.verdicts == {"odd": "not judged", "good": "kept"}


async def test_each_trial_has_users_and_rooms_of_its_own(server: Process) -> None:
    seen: list[str] = []

    async def trial(target: Target) -> None:
        seen.extend([*target.users, target.room()])

    await graded(server, *(made(f"p{number}", trial, users=2) for number in range(4)))
    assert len(seen) == len(set(seen)) == 4 * 3


async def test_means_that_were_not_given_are_named(server: Process) -> None:
    report = await graded(
        server, made("far", keeps, servers=2), made("hard", keeps, control=("ban", "unban"))
    )
    assert [result.said for result in report.results] == [
        "needs a second server of the same cluster: give --also URL",
        "needs --control ban",
    ]


async def test_risky_promises_come_last_and_what_is_alone_has_no_company(server: Process) -> None:
    order: list[str] = []
    company: set[str] = set()

    def noting(name: str, *, alone: bool) -> Any:
        async def trial(_target: Target) -> None:
            order.append(name)
            company.add(name)
            await asyncio.sleep(0.05)
            assert not alone or company == {name}
            company.remove(name)

        return trial

    report = await graded(
        server,
        made("risky", noting("risky", alone=True), risky=True),
        made("alone", noting("alone", alone=True), alone=True),
        made("plain", noting("plain", alone=False)),
        made("other", noting("other", alone=False)),
    )
    assert set(report.verdicts.values()) == {"kept"}
    assert order[2:] == ["alone", "risky"]


async def test_after_the_server_is_gone_nothing_is_judged_but_what_ended_it() -> None:
    server = process(name="mortal", env={"CHATLAB_JWT_SECRET": SECRET})

    async def trial(_target: Target) -> None:
        await asyncio.to_thread(server.kill)
        raise Broken("that was the end of it")

    try:
        report = await graded(
            server,
            made("before", keeps),
            made("fatal", trial, alone=True),
            made("after", keeps, alone=True),
        )
    finally:
        server.stop()
    assert report.verdicts == {"before": "kept", "fatal": "broken", "after": "not judged"}
    assert report.results[2].said == "the server is gone since fatal was tried"


async def test_nobody_at_the_address_is_a_sentence() -> None:
    with pytest.raises(Unreachable, match="nobody answers at http://127.0.0.1:1"):
        await grade("http://127.0.0.1:1", secret=SECRET, only=["admits"])


async def test_a_server_that_is_only_starting_may_take_longer_for_its_first_answer() -> None:
    async def late(_request: web.Request) -> web.Response:
        await asyncio.sleep(1.0)
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_route("*", "/", late)
    with (
        background(app, name="late") as server,
        pytest.raises(Unreachable, match="not as Socket.IO v5: .* HTTP 404"),
    ):
        await grade(server.url, secret=SECRET, only=["admits"], timeout=0.8)


async def test_another_path_than_socket_ios_is_a_sentence(server: Process) -> None:
    with pytest.raises(Unreachable, match="not as Socket.IO v5: .* HTTP 404"):
        await graded(server, made("one", keeps), path="/elsewhere/")


async def test_every_client_of_a_run_is_closed_when_it_ends(server: Process) -> None:
    clients: list[Any] = []

    async def trial(target: Target) -> None:
        clients.extend(await target.joined(target.room(), 0, 0))

    await graded(server, made("one", trial))
    assert [client.closing is not None for client in clients] == [True, True]


async def test_a_wrong_secret_breaks_one_promise_and_says_what_to_look_at(server: Process) -> None:
    report = await grade(
        server.url, secret="not the server's secret", level="lesson", concerns=[AUTHENTICATION]
    )
    broken = report.of(Verdict.BROKEN)
    assert [result.promise.id for result in broken] == ["admits"]
    assert "are the secret, issuer, audience and claims right?" in broken[0].said


# --- users ------------------------------------------------------------------------------------


async def test_known_users_are_lent_to_one_at_a_time() -> None:
    users = Users(["ann", "ben"])
    lent = await users.borrow(2)
    waiting = asyncio.create_task(users.borrow(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    await users.give_back(lent, tired=False)
    assert set(await waiting) <= {"ann", "ben"}


async def test_more_users_than_are_known_cannot_be_lent() -> None:
    with pytest.raises(NotJudged, match="needs 3 users that the server knows: give --user 3 times"):
        await Users(["ann", "ben"]).borrow(3)


async def test_made_up_users_are_never_the_same() -> None:
    users = Users()
    assert len({*await users.borrow(3), *await users.borrow(3)}) == 6


async def test_a_server_that_knows_its_users_is_found_out(tmp_path: Any) -> None:
    command = [*_serve(), "--storage", f"sqlite:///{tmp_path}/chat.db"]
    server = process(name="strict", command=command, env={"CHATLAB_JWT_SECRET": SECRET})
    try:
        report = await graded(server, made("one", keeps), made("none", keeps, users=0))
    finally:
        server.stop()
    assert report.verdicts == {"one": "not judged", "none": "kept"}
    assert "give --user ID" in report.results[0].said


def _serve() -> list[str]:
    import sys

    return [sys.executable, "-m", "chatlab", "serve", "--port", "0"]


# --- tokens -----------------------------------------------------------------------------------


def test_a_forged_token_differs_in_its_claims_and_an_unsigned_one_has_no_signature() -> None:
    import jwt

    token = jwt.encode({"sub": "ann", "iss": "chatlab"}, "s" * 32, algorithm="HS256")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(altered(token), "s" * 32, algorithms=["HS256"])
    assert altered(token).split(".")[2] == token.split(".")[2]
    claims = jwt.decode(unsigned(token), options={"verify_signature": False})
    assert claims["sub"] == "ann"
    assert re.fullmatch(r"[^.]+\.[^.]+\.", unsigned(token))
