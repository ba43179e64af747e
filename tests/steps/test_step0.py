"""What lesson 00 has taught: rooms, and messages to everybody in one but the sender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import socketio

from chatlab.lab import Received


@pytest.fixture
async def alice_and_bob(run_step: Callable[..., str], join: Callable[..., Any]) -> Any:
    url = run_step("step0")
    alice, bob = await join(url, "alice"), await join(url, "bob")
    await alice.emit("join-room", "general")
    await bob.emit("join-room", "general")
    await alice.wait_for("user-joined")
    return alice, bob


async def test_a_message_reaches_the_others_in_the_room(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    await bob.emit("send-message", {"text": "hello"})
    await alice.wait_for("new-message")
    message = {"user": "bob", "room": "general", "text": "hello"}
    assert alice.received.of("new-message") == [Received("new-message", message)]
    assert bob.received == []


async def test_a_message_does_not_leave_its_room(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    await bob.call("join-room", "kitchen", timeout=20)
    await bob.emit("send-message", {"text": "for the kitchen"})
    await alice.emit("send-message", {"text": "for general"})
    # Bob never left general, so this one tells that the earlier one has been handled.
    await bob.wait_for("new-message")
    assert alice.received.of("new-message") == []


async def test_who_leaves_is_announced(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    await bob.disconnect()
    await alice.wait_for("user-left")
    assert alice.received[-1].data == {"user": "bob", "room": "general"}


async def test_no_event_is_answered_with_more_than_nothing(alice_and_bob: Any) -> None:
    alice, _ = alice_and_bob
    assert await alice.call("send-message", {"text": "hello"}, timeout=20) is None


async def test_somebody_without_a_name_gets_in_all_the_same(
    run_step: Callable[..., str], join: Callable[..., Any]
) -> None:
    url = run_step("step0")
    client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
    alice = await join(url, "alice")
    await alice.emit("join-room", "general")
    await client.connect(url, transports=["websocket"])
    await client.emit("join-room", "general")
    await alice.wait_for("user-joined")
    await client.disconnect()
    assert alice.received[0].data["user"] == "somebody"
