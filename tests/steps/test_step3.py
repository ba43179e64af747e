"""What lesson 03 has taught: every event is answered, whatever came and whatever broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chatlab.lab import Server, background
from chatlab.lab.tokens import mint
from notebooks.steps import step3

SECRET = "a secret of the tests, more than 32 bytes long"
NOBODY = {"ok": False, "error": "Internal server error", "code": "internal_error", "retry": False}
LATER = {"ok": False, "error": "Server unavailable", "code": "unavailable", "retry": True}


@pytest.fixture
def url(run_step: Callable[..., str]) -> str:
    return run_step("step3", CHATLAB_JWT_SECRET=SECRET)


@pytest.fixture
async def enter(join: Callable[..., Any]) -> Callable[..., Any]:
    async def connect(url: str, name: str, room: str | None = "general") -> Any:
        client = await join(url, name, {"token": mint(name, secret=SECRET)})
        if room is not None:
            answer = await client.call("join-room", room, timeout=20)
            assert answer == {"ok": True, "room": room}
        return client

    return connect


@pytest.fixture
async def breakable() -> AsyncIterator[tuple[Server, step3.Store]]:
    """The step in this process, with a store whose `append` a test may replace."""
    store = step3.Store()
    async with background(lambda: step3.make_server(SECRET, store), name="step3") as server:
        yield server, store


JUNK: list[tuple[str, tuple[Any, ...], str, str | None]] = [
    ("send-message", (), "invalid_payload", "payload"),
    ("send-message", ("hello",), "invalid_payload", "payload"),
    ("send-message", (["hello"],), "invalid_payload", "payload"),
    ("send-message", (None,), "invalid_payload", "payload"),
    ("send-message", ({"text": "hello"}, {"text": "more"}), "invalid_payload", "payload"),
    ("send-message", ({},), "invalid_payload", "text"),
    ("send-message", ({"text": None},), "invalid_payload", "text"),
    ("send-message", ({"text": 42},), "invalid_payload", "text"),
    ("send-message", ({"text": True},), "invalid_payload", "text"),
    ("send-message", ({"text": ["hello"]},), "invalid_payload", "text"),
    ("send-message", ({"text": "hello", "user": "bob"},), "invalid_payload", "user"),
    ("send-message", ({"text": "hello", "key": 7},), "invalid_payload", "key"),
    ("send-message", ({"text": " \n"},), "empty_message", "text"),
    ("send-message", ({"text": "x" * 4001},), "message_too_long", "text"),
    ("send-message", ({"text": "hello", "room": "elsewhere"},), "not_in_room", "room"),
    ("join-room", (), "invalid_payload", "payload"),
    ("join-room", (5,), "invalid_payload", "payload"),
    ("join-room", ({"room": 5},), "invalid_payload", "room"),
    ("join-room", ("",), "invalid_room", "room"),
    ("join-room", (" general",), "invalid_room", "room"),
    ("join-room", ("gene\x00ral",), "invalid_room", "room"),
    ("join-room", ("x" * 65,), "invalid_room", "room"),
    ("mark-read", ({"room": "general", "seq": True},), "invalid_payload", "seq"),
    ("mark-read", ({"room": "general", "seq": 1.5},), "invalid_payload", "seq"),
    ("mark-read", ({"room": "general", "seq": 2},), "invalid_payload", "seq"),
    ("mark-read", ({"room": "general", "seq": -1},), "invalid_payload", "seq"),
    ("mark-delivered", ({"room": "elsewhere", "seq": 0},), "not_in_room", "room"),
    ("sned-message", ({"text": "hello"},), "unknown_event", None),
    ("sned-message", (), "unknown_event", None),
]


async def test_what_is_not_a_request_is_answered_at_once_with_what_is_wrong_with_it(
    url: str, enter: Callable[..., Any]
) -> None:
    alice, bob = await enter(url, "alice"), await enter(url, "bob")
    for event, payload, code, field in JUNK:
        answer = await alice.call(event, payload, timeout=20)
        assert isinstance(answer["error"], str), (event, payload)
        told = {name: answer.get(name) for name in ("ok", "code", "retry", "field")}
        wanted = {"ok": False, "code": code, "retry": False, "field": field}
        assert told == wanted, (event, payload)
    good = {"text": "  hello ", "room": None, "key": None}
    assert (await alice.call("send-message", good, timeout=20))["seq"] == 1
    await bob.wait_for("new-message")
    assert bob.received_texts[-1] == "hello"


async def test_who_has_joined_nothing_reaches_nobody(url: str, enter: Callable[..., Any]) -> None:
    bob, mallory = await enter(url, "bob", "private-board"), await enter(url, "mallory", None)
    carol = await enter(url, "carol", "private-board")
    for payload in ({"text": "psst"}, {"text": "psst", "room": "private-board"}):
        answer = await mallory.call("send-message", payload, timeout=20)
        assert answer["code"] == "not_in_room"
    await carol.call("send-message", {"text": "among us"}, timeout=20)
    await bob.wait_for("new-message")
    assert bob.received.of("new-message").texts == ["among us"]


@pytest.mark.parametrize("what", [ConnectionError("no route to 10.1.2.3"), TimeoutError()])
async def test_what_passes_by_itself_may_be_tried_again(
    breakable: tuple[Server, step3.Store], enter: Callable[..., Any], what: Exception
) -> None:
    server, store = breakable
    alice, whole = await enter(server.url, "alice"), store.append

    async def away(*_: Any, **__: Any) -> Any:
        raise what

    store.append = away  # type: ignore[method-assign]
    assert await alice.call("send-message", {"text": "hello"}, timeout=20) == LATER
    assert type(what).__name__ in "\n".join(server.logs(full=True))
    store.append = whole  # type: ignore[method-assign]
    assert (await alice.call("send-message", {"text": "hello"}, timeout=20))["ok"]


async def test_a_handler_that_does_not_come_back_is_answered_for(
    breakable: tuple[Server, step3.Store],
    enter: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, store = breakable
    monkeypatch.setattr(step3, "PATIENCE", 0.1)
    alice = await enter(server.url, "alice")

    async def hangs(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    store.append = hangs  # type: ignore[method-assign]
    assert await alice.call("send-message", {"text": "hello"}, timeout=20) == LATER


async def test_a_bug_is_logged_with_its_cause_and_answered_without(
    breakable: tuple[Server, step3.Store], enter: Callable[..., Any]
) -> None:
    server, store = breakable
    alice = await enter(server.url, "alice")

    async def wrong(*_: Any, **__: Any) -> Any:
        return {}["the password is 1234"]

    store.append = wrong  # type: ignore[method-assign]
    assert await alice.call("send-message", {"text": "hello"}, timeout=20) == NOBODY
    assert "the password is 1234" in "\n".join(server.logs(full=True))


async def test_an_event_with_the_name_of_the_librarys_own_changes_nothing(
    url: str, enter: Callable[..., Any]
) -> None:
    alice, bob = await enter(url, "alice"), await enter(url, "bob")
    await alice.emit("disconnect", "a lie")
    await alice.emit("connect", ({}, {"token": mint("bob", secret=SECRET)}))
    assert (await alice.call("send-message", {"text": "still here"}, timeout=20))["ok"]
    await bob.wait_for("new-message")
    assert bob.received.of("user-left") == []
    assert bob.received[-1].data["user"] == "alice"
    await alice.disconnect()
    await bob.wait_for("user-left")
