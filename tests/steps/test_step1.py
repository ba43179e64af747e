"""What lesson 01 has taught: every event is answered, and a message is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
async def alice_and_bob(run_step: Callable[..., str], join: Callable[..., Any]) -> Any:
    url = run_step("step1")
    alice, bob = await join(url, "alice"), await join(url, "bob")
    for client in (alice, bob):
        assert await client.call("join-room", "general", timeout=20) == {
            "ok": True,
            "room": "general",
        }
    return alice, bob


async def test_an_ack_names_the_message_that_the_others_get(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    ack = await alice.call("send-message", {"text": "hello"}, timeout=20)
    await bob.wait_for("new-message")
    message = bob.received[-1].data
    assert ack == {
        "ok": True,
        "id": message["id"],
        "seq": 1,
        "timestamp": message["timestamp"],
        "duplicate": False,
    }
    assert (message["user"], message["room"], message["text"]) == ("alice", "general", "hello")


async def test_a_retry_with_the_same_key_is_answered_with_the_first_message(
    alice_and_bob: Any,
) -> None:
    alice, bob = alice_and_bob
    payload = {"text": "hello", "key": "k1"}
    first = await alice.call("send-message", payload, timeout=20)
    again = await alice.call("send-message", payload, timeout=20)
    assert again == first | {"duplicate": True}
    assert (await alice.call("send-message", {"text": "more"}, timeout=20))["seq"] == 2
    await bob.wait_for("new-message", 2)
    assert bob.received_texts[-2:] == ["hello", "more"]


async def test_ten_tries_at_once_store_one_message(alice_and_bob: Any) -> None:
    alice, _ = alice_and_bob
    payload = {"text": "hello", "key": "k1"}
    tries = [alice.call("send-message", payload, timeout=20) for _ in range(10)]
    acks = await asyncio.gather(*tries)
    assert {ack["seq"] for ack in acks} == {1}
    assert [ack["duplicate"] for ack in acks].count(False) == 1


async def test_a_key_is_its_users_own(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    payload = {"text": "hello", "key": "k1"}
    assert not (await alice.call("send-message", payload, timeout=20))["duplicate"]
    assert not (await bob.call("send-message", payload, timeout=20))["duplicate"]


async def test_a_key_survives_a_new_connection(
    alice_and_bob: Any, join: Callable[..., Any]
) -> None:
    alice, _ = alice_and_bob
    payload = {"text": "hello", "key": "k1"}
    first = await alice.call("send-message", payload, timeout=20)
    await alice.disconnect()
    again = await join(alice.connection_url, "alice")
    await again.call("join-room", "general", timeout=20)
    assert await again.call("send-message", payload, timeout=20) == first | {"duplicate": True}


async def test_the_sender_hears_how_far_the_others_have_read(alice_and_bob: Any) -> None:
    alice, bob = alice_and_bob
    await alice.call("send-message", {"text": "hello"}, timeout=20)
    await bob.call("mark-delivered", {"room": "general", "seq": 1}, timeout=20)
    await bob.call("mark-read", {"room": "general", "seq": 1}, timeout=20)
    await alice.wait_for("receipts", 2)
    seen = [item.data["users"]["bob"] for item in alice.received.of("receipts")]
    assert seen == [{"delivered": 1, "read": 0}, {"delivered": 1, "read": 1}]
