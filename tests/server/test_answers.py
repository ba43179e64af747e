"""Every event is answered exactly once, in order, with a code of the contract."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import aiohttp
import pytest

from chatlab.errors import Forbidden, Unavailable
from tests.server.peer import Running, running
from tests.waiting import until


def failure(code: str, *, retry: bool = False, **more: Any) -> dict[str, Any]:
    return {"ok": False, "code": code, "retry": retry, **more}


def without_sentence(answer: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(answer.pop("error"), str)
    return answer


@pytest.mark.parametrize(
    ("event", "payload", "expected"),
    [
        ("send-message", {}, failure("invalid_payload", field="text")),
        ("send-message", None, failure("invalid_payload", field="payload")),
        ("send-message", "hi", failure("invalid_payload", field="payload")),
        ("send-message", [{"text": "hi"}], failure("invalid_payload", field="payload")),
        ("send-message", {"text": 5}, failure("invalid_payload", field="text")),
        ("send-message", {"text": True}, failure("invalid_payload", field="text")),
        ("send-message", {"text": None}, failure("invalid_payload", field="text")),
        ("send-message", {"text": "hi", "to": "x"}, failure("invalid_payload", field="to")),
        ("send-message", {"text": "hi", "key": ""}, failure("invalid_payload", field="key")),
        ("send-message", {"text": "hi", "key": "k" * 65}, failure("invalid_payload", field="key")),
        ("send-message", {"text": "\ud800"}, failure("invalid_payload", field="text")),
        ("send-message", {"text": " \u2028\ufeff\n"}, failure("empty_message", field="text")),
        ("send-message", {"text": "x" * 4001}, failure("message_too_long", field="text")),
        ("send-message", {"text": "hi", "room": "other"}, failure("not_in_room", field="room")),
        ("join-room", {"room": "x", "after": math.nan}, failure("invalid_payload", field="after")),
        ("join-room", {"room": "x", "after": 1e400}, failure("invalid_payload", field="after")),
        ("join-room", {"room": "x", "after": 10**30}, failure("invalid_payload", field="after")),
        ("join-room", {"room": "x", "after": -1}, failure("invalid_payload", field="after")),
        ("join-room", {"room": "x", "after": 0.5}, failure("invalid_payload", field="after")),
        ("join-room", 42, failure("invalid_payload", field="room")),
        ("join-room", "", failure("invalid_room", field="room")),
        ("join-room", " padded", failure("invalid_room", field="room")),
        ("join-room", "two\nlines", failure("invalid_room", field="room")),
        ("join-room", "r" * 65, failure("invalid_room", field="room")),
        ("join-room", "private-club", failure("forbidden", field="room")),
        ("history", {"room": "general", "limit": 201}, failure("invalid_payload", field="limit")),
        (
            "history",
            {"room": "general", "after": 1, "before": 2},
            failure("invalid_payload", field="before"),
        ),
        ("history", {"room": "other"}, failure("not_in_room", field="room")),
        ("mark-read", {"room": "general", "seq": 99}, failure("invalid_payload", field="seq")),
        ("mark-delivered", {"room": "other", "seq": 1}, failure("not_in_room", field="room")),
        ("typing", {"room": "general", "typing": 1}, failure("invalid_payload", field="typing")),
        ("typing", {"room": "other", "typing": True}, failure("not_in_room", field="room")),
        ("who", {"room": "other"}, failure("not_in_room", field="room")),
        ("refresh-token", {"token": "nonsense"}, failure("invalid_token")),
        ("refresh-token", {"token": 5}, failure("invalid_payload", field="token")),
        ("no-such-event", {"x": 1}, failure("unknown_event")),
        ("*", {}, failure("unknown_event")),
        ("message", "hello", failure("unknown_event")),
    ],
)
async def test_a_bad_event_is_answered_with_its_code(
    chat: Running, event: str, payload: Any, expected: dict[str, Any]
) -> None:
    alice = await chat.connect("alice")
    await alice.join("general")
    assert without_sentence(await alice.call(event, payload)) == expected
    assert (await alice.say("still here", "general"))["ok"]


async def test_the_two_sentences_of_the_lesson_are_kept(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    assert (await alice.say("   "))["error"] == "Message cannot be empty"
    answers = [await alice.say("x") for _ in range(200)]
    limited = next(answer for answer in answers if not answer["ok"])
    assert limited["error"] == "Too many requests. Slow down."
    assert limited["code"] == "rate_limited"
    assert limited["retry"]
    assert 0 < limited["retryAfter"] <= 0.1


async def test_more_than_one_payload_is_invalid(chat: Running) -> None:
    alice = await chat.connect("alice")
    answer = await alice.sio.call("send-message", ({"text": "a"}, {"text": "b"}))
    assert without_sentence(answer) == failure("invalid_payload", field="payload")


class Oops(Exception):
    pass


def broken(how: Any) -> Any:
    """Prepare a server whose `who` handler does `how`."""

    def prepare(server: Any) -> None:
        server.handlers["who"] = how

    return prepare


async def crash(_event: Any, _request: Any) -> Any:
    raise Oops("with a secret inside")


async def cancelled(_event: Any, _request: Any) -> Any:
    raise asyncio.CancelledError


async def leave(_event: Any, _request: Any) -> Any:
    raise SystemExit(1)


async def no_json(_event: Any, _request: Any) -> Any:
    return {"what": object()}


async def half_a_pair(_event: Any, _request: Any) -> Any:
    return {"what": "\ud800"}


async def a_number(_event: Any, _request: Any) -> Any:
    return 42


async def circle(_event: Any, _request: Any) -> Any:
    answer: dict[str, Any] = {}
    answer["again"] = answer
    return answer


async def hang(_event: Any, _request: Any) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "how", [crash, cancelled, leave, no_json, half_a_pair, a_number, circle, hang]
)
async def test_whatever_a_handler_does_its_event_is_answered_once(how: Any) -> None:
    async with running(prepare=broken(how), handler_timeout=1.0) as run:
        async with run.raw() as raw:
            await raw.connect(run.token("alice"))
            await raw.send('421["who",{"room":"general"}]')
            await raw.send('422["join-room","general"]')
            assert await raw.ack(1) == {
                "ok": False,
                "error": "Internal server error",
                "code": "internal_error",
                "retry": False,
            }
            assert (await raw.ack(2))["ok"]


async def test_a_handler_that_returns_nothing_is_acked_ok() -> None:
    async def nothing(_event: Any, _request: Any) -> None:
        pass

    async with running(prepare=broken(nothing)) as run:
        alice = await run.connect("alice")
        assert await alice.call("who", {"room": "x"}) == {"ok": True}


async def test_an_event_middleware_sees_changes_and_refuses() -> None:
    seen: list[tuple[str, str]] = []

    def prepare(server: Any) -> None:
        @server.use_event
        async def watch(event: Any, proceed: Any) -> Any:
            seen.append((event.session.user, event.name))
            if event.name == "who":
                raise Forbidden("Not today")
            return await proceed()

    async with running(prepare=prepare) as run:
        alice = await run.connect("alice")
        assert (await alice.join())["ok"]
        assert (await alice.call("who", {"room": "general"}))["error"] == "Not today"
        assert seen == [("alice", "join-room"), ("alice", "who")]


async def test_answers_leave_in_the_order_of_arrival(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.send('420["join-room","general"]')
        for number in range(1, 10):
            event = ["send-message", {"text": f"{number}"}] if number % 3 else ["nonsense"]
            await raw.send(f"42{number}{json.dumps(event)}")
        order = []
        while len(order) < 10:
            frame = await raw.frame()
            if frame.startswith("43"):
                order.append(int(frame[2 : frame.index("[")]))
        assert order == list(range(10))


async def test_sends_do_not_wait_for_one_another_and_everything_else_does() -> None:
    started: list[str] = []
    gates: dict[str, asyncio.Event] = {}

    def prepare(server: Any) -> None:
        @server.use_event
        async def hold(event: Any, proceed: Any) -> Any:
            label = getattr(event.request, "text", event.name)
            started.append(label)
            await gates.setdefault(label, asyncio.Event()).wait()
            return await proceed()

    async with running(prepare=prepare) as run, run.raw() as raw:
        await raw.connect(run.token("alice"))
        gates["join-room"] = asyncio.Event()
        gates["join-room"].set()
        await raw.send('420["join-room","general"]')
        assert (await raw.ack(0))["ok"]
        await raw.send('421["send-message",{"text":"one"}]')
        await raw.send('422["send-message",{"text":"two"}]')
        await raw.send('423["who",{"room":"general"}]')
        await raw.send('424["send-message",{"text":"three"}]')
        await until(lambda: "two" in started)
        assert started == ["join-room", "one", "two"]
        gates["two"].set()
        with pytest.raises(TimeoutError):  # its answer waits for the first one's
            await raw.frame(timeout=0.05)
        gates["one"].set()
        assert (await raw.ack(1))["ok"]
        assert (await raw.ack(2))["ok"]
        await until(lambda: "who" in started)
        assert "three" not in started
        gates["who"].set()
        assert (await raw.ack(3))["ok"]
        await until(lambda: "three" in gates)
        gates["three"].set()
        assert (await raw.ack(4))["ok"]


async def test_an_event_without_an_ack_that_fails_is_answered_by_an_error_event(
    chat: Running,
) -> None:
    alice = await chat.connect("alice")
    await alice.emit("send-message", {"text": "hi"})
    (error,) = await alice.got("error")
    assert error == {"message": "Join the room first", "code": "not_in_room"}


async def test_rate_limited_is_told_at_most_once_a_second_without_acks() -> None:
    async with running(rate_burst=1, rate=0.001) as run:
        alice = await run.connect("alice")
        for _ in range(20):
            await alice.emit("who", {"room": "general"})
        # An event with an ack tells that all before it have been dealt with.
        assert (await alice.call("who", {"room": "general"}))["code"] == "rate_limited"
        limited = [error for error in alice.of("error") if error["code"] == "rate_limited"]
        assert len(limited) == 1
        assert limited[0]["message"] == "Too many requests. Slow down."
        assert limited[0]["retryAfter"] > 0


async def test_silent_storage_is_unavailable_and_a_late_message_reaches_its_sender() -> None:
    async with running(storage_timeout=0.1) as run:
        alice, bob = await run.connect("alice"), await run.connect("bob")
        await alice.join()
        await bob.join()
        log, real = run.server.log, run.server.log.append
        gate = asyncio.Event()

        def late(*args: Any) -> Any:
            async def store() -> Any:
                await gate.wait()
                return await real(*args)

            return asyncio.ensure_future(store())

        log.append = late  # type: ignore[method-assign]
        answer = await alice.say("hello", key="k")
        assert without_sentence(answer) == failure("unavailable", retry=True)
        gate.set()
        (seen_by_bob,) = await bob.got("new-message")
        (seen_by_alice,) = await alice.got("new-message")
        assert seen_by_alice == seen_by_bob
        log.append = real  # type: ignore[method-assign]
        again = await alice.say("hello", "general", key="k")
        assert (again["duplicate"], again["seq"]) == (True, seen_by_bob["seq"])


async def test_storage_that_is_known_to_be_away_answers_at_once(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()

    def away(*_args: Any) -> Any:
        raise Unavailable

    chat.server.log.append = away  # type: ignore[method-assign]
    assert (await alice.say("hello"))["code"] == "unavailable"


async def test_a_message_that_is_stored_and_then_refused_reaches_its_sender() -> None:
    def prepare(server: Any) -> None:
        @server.use_event
        async def fail_afterwards(event: Any, proceed: Any) -> Any:
            answer = await proceed()
            if event.name == "send-message":
                raise RuntimeError("after the fact")
            return answer

    async with running(prepare=prepare) as run:
        alice = await run.connect("alice")
        await alice.join()
        assert (await alice.say("hello"))["code"] == "internal_error"
        (message,) = await alice.got("new-message")
        assert message["text"] == "hello"


async def test_a_flood_in_hand_pauses_reading_and_every_event_is_still_answered() -> None:
    async with running(max_pending=4, rate_burst=1000, user_burst=1000) as run:
        async with run.raw() as raw:
            await raw.connect(run.token("alice"))
            await raw.send('420["join-room","general"]')
            for number in range(1, 101):
                await raw.send(f'42{number}["send-message",{{"text":"{number}"}}]')
            assert [(await raw.ack(n))["ok"] for n in range(101)] == [True] * 101


async def test_at_shutdown_what_is_in_hand_is_acked_and_the_rest_told_closing() -> None:
    gates = {"quick": asyncio.Event(), "slow": asyncio.Event()}

    def prepare(server: Any) -> None:
        @server.use_event
        async def hold(event: Any, proceed: Any) -> Any:
            gate = gates.get(getattr(event.request, "text", ""))
            if gate:
                await gate.wait()
            return await proceed()

    async with running(prepare=prepare, shutdown_grace=0.3) as run, run.raw() as raw:
        await raw.connect(run.token("alice"))
        await raw.send('420["join-room","general"]')
        await raw.send('421["send-message",{"text":"quick"}]')
        await raw.send('422["send-message",{"text":"slow"}]')
        (inbox,) = run.server.inboxes.values()
        await until(lambda: len(inbox.running) == 2)
        closing = asyncio.create_task(run.server.shut_down())
        assert (await raw.ack(0))["ok"]
        while await raw.frame() != '42["closing"]':
            pass
        await raw.send('423["send-message",{"text":"late"}]')
        gates["quick"].set()
        assert (await raw.ack(1))["ok"]
        for number in (2, 3):
            assert without_sentence(await raw.ack(number)) == failure("closing", retry=True)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with run.raw():
                pass
        with pytest.raises(ConnectionError):
            await raw.frame()
        gates["slow"].set()
        await closing
