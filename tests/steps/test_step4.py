"""What lesson 04 has taught: who sends too much is told to wait, and cannot get around it."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chatlab.lab import RawClient, Server, background, raw_client
from chatlab.lab.tokens import mint
from notebooks.steps import step4

SECRET = "a secret of the tests, more than 32 bytes long"
TINY = 1e-6  # seconds; more than a float loses
TOO_MANY = {
    "ok": False,
    "error": "Too many requests. Slow down.",
    "code": "rate_limited",
    "retry": True,
}


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(clock: Clock) -> AsyncIterator[Server]:
    async with background(lambda: step4.make_server(SECRET, clock=clock), name="step4") as server:
        yield server


def connect(server: Server, name: str) -> Any:
    return raw_client(server, name=name, auth={"token": mint(name, secret=SECRET)})


async def admitted(client: RawClient, events: int) -> int:
    """How many of so many events are let through."""
    answers = [await client.call("who-knows", timeout=20) for _ in range(events)]
    codes = [answer["code"] for answer in answers]
    assert set(codes) <= {"unknown_event", "rate_limited"}
    return codes.count("unknown_event")


async def test_as_many_as_the_burst_are_let_through_and_the_rest_is_told_when_to_come_back(
    server: Server, clock: Clock
) -> None:
    async with connect(server, "alice") as alice:
        assert await admitted(alice, step4.BURST) == step4.BURST
        answer = await alice.call("send-message", {"text": "one more"}, timeout=20)
        assert answer == TOO_MANY | {"retryAfter": 1 / step4.RATE}
        clock.now += answer["retryAfter"] + TINY
        assert await admitted(alice, 2) == 1
        clock.now += 1000
        assert await admitted(alice, step4.BURST + 5) == step4.BURST


async def test_every_event_counts(server: Server) -> None:
    async with connect(server, "alice") as alice:
        assert await admitted(alice, step4.BURST) == step4.BURST
        events: list[tuple[str, Any]] = [
            ("join-room", "general"),
            ("send-message", {"text": "hello"}),
            ("mark-delivered", {"room": "general", "seq": 0}),
            ("mark-read", {"room": "general", "seq": 0}),
            ("no-such-event", None),
        ]
        for event, payload in events:
            answer = await alice.call(event, payload, timeout=20)
            assert answer["code"] == "rate_limited", event


async def test_another_user_does_not_notice(server: Server) -> None:
    async with connect(server, "mallory") as mallory, connect(server, "bob") as bob:
        await admitted(mallory, step4.BURST + 1)
        assert await admitted(bob, 5) == 5


async def test_more_sockets_give_no_more(server: Server) -> None:
    async with connect(server, "mallory") as one, connect(server, "mallory") as two:
        assert await admitted(one, step4.BURST) == step4.BURST
        assert await admitted(two, 5) == 0


async def test_coming_back_gives_no_more(server: Server) -> None:
    async with connect(server, "mallory") as mallory:
        assert await admitted(mallory, step4.BURST) == step4.BURST
    async with connect(server, "mallory") as again:
        assert await admitted(again, 5) == 0


def kept() -> int:
    """How many buckets the server keeps."""
    gc.collect()  # those of the servers of other tests
    return sum(isinstance(each, step4.TokenBucket) for each in gc.get_objects())


async def test_when_somebody_leaves_the_buckets_that_are_full_again_are_forgotten(
    server: Server, clock: Clock
) -> None:
    async with connect(server, "alice") as alice:
        for name, events in (("bob", 3), ("mallory", step4.BURST)):
            async with connect(server, name) as client:
                await client.call("join-room", "general", timeout=20)
                await admitted(client, events)
        clock.now += 10 / step4.RATE  # enough for bob's, not for mallory's
        async with connect(server, "carol") as carol:
            await carol.call("join-room", "general", timeout=20)
            await alice.call("join-room", "general", timeout=20)
        await alice.wait_for("user-left")
        assert kept() == 3  # alice's, carol's and mallory's
        clock.now += 1000
        async with connect(server, "carol") as carol:
            await carol.call("join-room", "general", timeout=20)
        await alice.wait_for("user-left", 2)
        assert kept() == 1  # carol's, who took a token just now


async def test_a_clock_that_steps_back_locks_nobody_out(server: Server, clock: Clock) -> None:
    async with connect(server, "alice") as alice:
        assert await admitted(alice, 5) == 5
        clock.now -= 3600
        assert await admitted(alice, step4.BURST) == step4.BURST - 5
        clock.now += 1 / step4.RATE + TINY
        assert await admitted(alice, 2) == 1


async def test_it_runs_alone(run_step: Callable[..., str], join: Callable[..., Any]) -> None:
    url = run_step("step4", CHATLAB_JWT_SECRET=SECRET)
    alice = await join(url, "alice", {"token": mint("alice", secret=SECRET)})
    began = time.monotonic()
    answers = [await alice.call("join-room", "general", timeout=20) for _ in range(200)]
    flowed_in = step4.RATE * (time.monotonic() - began)
    assert answers[: step4.BURST] == [{"ok": True, "room": "general"}] * step4.BURST
    assert sum(answer["ok"] for answer in answers) <= step4.BURST + flowed_in
    refused = [answer for answer in answers if not answer["ok"]]
    assert {answer["code"] for answer in refused} == {"rate_limited"}
    assert all(0 < answer["retryAfter"] <= 1 / step4.RATE for answer in refused)
