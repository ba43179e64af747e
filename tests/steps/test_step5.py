"""What lesson 05 has taught: several servers are one chat, and a room has one order on all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio

from chatlab import doctor
from chatlab.lab import RawClient, valkey
from chatlab.lab.redis_line import RedisLine
from chatlab.lab.tokens import mint
from notebooks.steps import step5
from tests.waiting import until

SECRET = "a secret of the tests, more than 32 bytes long"
shared = pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")


@pytest.fixture
def store() -> Iterator[Any]:
    with valkey() as store:
        yield store


@pytest.fixture
async def database(store: Any) -> AsyncIterator[Any]:
    async with redis.asyncio.from_url(store.url, decode_responses=True) as database:
        yield database


@pytest.fixture
def line(store: Any) -> Iterator[RedisLine]:
    with RedisLine(store, server="server A") as line:
        yield line


@pytest.fixture
def urls(run_step: Callable[..., str], store: Any, line: RedisLine) -> list[str]:
    """Two servers that share a Valkey, the first of them over a line."""
    environment = {"CHATLAB_JWT_SECRET": SECRET}
    return [run_step("step5", "--redis", url, **environment) for url in (line.url, store.url)]


@pytest.fixture
async def enter(join: Callable[..., Any]) -> Callable[..., Any]:
    async def connect(url: str, name: str, room: str = "general") -> RawClient:
        client: RawClient = await join(url, name, {"token": mint(name, secret=SECRET)})
        assert await client.call("join-room", room, timeout=20) == {"ok": True, "room": room}
        return client

    return connect


async def send(client: RawClient, text: str, **more: Any) -> Any:
    return await client.call("send-message", {"text": text, **more}, timeout=3)


def got(client: RawClient) -> list[tuple[int, str]]:
    return [(item.data["seq"], item.data["text"]) for item in client.received.of("new-message")]


async def test_one_server_needs_no_redis(
    run_step: Callable[..., str], enter: Callable[..., Any]
) -> None:
    url = run_step("step5", CHATLAB_JWT_SECRET=SECRET)
    alice, bob = await enter(url, "alice"), await enter(url, "bob")
    first = await send(alice, "hello", key="k1")
    assert first["seq"] == 1
    assert await send(alice, "hello", key="k1") == first | {"duplicate": True}
    await bob.wait_for("new-message")
    assert got(bob) == [(1, "hello")]
    assert got(alice) == []


@shared
async def test_a_message_reaches_the_members_on_every_server_once_and_its_sender_never(
    urls: list[str], enter: Callable[..., Any]
) -> None:
    alice, carol = await enter(urls[0], "alice"), await enter(urls[0], "carol")
    bob = await enter(urls[1], "bob")
    for n in range(5):
        assert (await send(alice, f"message {n}"))["seq"] == n + 1
    assert (await send(bob, "the end"))["seq"] == 6
    for client in (alice, carol):
        await client.wait_for(lambda items: items and items[-1].data.get("text") == "the end")
    everything = [(n + 1, f"message {n}") for n in range(5)]
    assert got(carol) == [*everything, (6, "the end")]
    assert got(bob) == everything
    assert got(alice) == [(6, "the end")]
    assert "sid" not in carol.received.of("new-message")[0].data


@shared
async def test_two_who_send_at_once_are_read_in_one_order_everywhere(
    urls: list[str], enter: Callable[..., Any], line: RedisLine
) -> None:
    alice, carol = await enter(urls[0], "alice"), await enter(urls[0], "carol")
    bob, dave = await enter(urls[1], "bob"), await enter(urls[1], "dave")
    line.delay(0.2)
    answers = await asyncio.gather(send(alice, "at 8?"), send(bob, "at 9?"))
    for reader in (carol, dave):
        await reader.wait_for("new-message", 2)
    assert sorted(answer["seq"] for answer in answers) == [1, 2]
    assert got(carol) == got(dave)


@shared
async def test_a_key_is_known_on_every_server(urls: list[str], enter: Callable[..., Any]) -> None:
    one, two = [await enter(url, "alice") for url in urls]
    bob = await enter(urls[1], "bob")
    first = await send(one, "hello", key="k1")
    assert await send(two, "hello", key="k1") == first | {"duplicate": True}
    assert (await send(bob, "hello", key="k1"))["seq"] == 2
    await one.wait_for("new-message")
    assert got(one) == [(2, "hello")]


@shared
async def test_a_server_follows_only_the_rooms_that_its_members_are_in(
    urls: list[str], enter: Callable[..., Any], database: Any, line: RedisLine
) -> None:
    alice, bob = await enter(urls[0], "alice", "tea"), await enter(urls[1], "bob", "coffee")
    carol = await enter(urls[1], "carol", "coffee")
    assert sorted(await database.pubsub_channels("room:*")) == ["room:coffee", "room:tea"]
    line.recorder.clear()
    await send(bob, "one lump or two?")
    await carol.wait_for("new-message")
    await send(alice, "none")
    assert "one lump or two?" not in str(line.recorder.entries)
    await bob.disconnect()
    await carol.disconnect()

    async def left() -> bool:
        return list(await database.pubsub_channels("room:*")) == ["room:tea"]

    await until(left)
    dave = await enter(urls[1], "dave", "tea")
    await send(alice, "hello again")
    await dave.wait_for("new-message")
    assert got(dave) == [(2, "hello again")]


@shared
async def test_what_the_channel_did_not_bring_is_read_from_the_stream(
    urls: list[str], enter: Callable[..., Any], database: Any
) -> None:
    alice, bob = await enter(urls[0], "alice"), await enter(urls[1], "bob")
    await send(alice, "one")
    await bob.wait_for("new-message")
    # Stored and never published, as by a server whose words were lost.
    entry = {"seq": 2, "room": "general", "user": "carol", "text": "two", "sid": None}
    await database.incr("seq:general")
    await database.xadd("room:general", {"entry": json.dumps(entry)}, id="2-0")
    assert (await send(alice, "three"))["seq"] == 3
    await bob.wait_for("new-message", 3)
    assert got(bob) == [(1, "one"), (2, "two"), (3, "three")]


@shared
async def test_members_are_served_again_when_redis_comes_back(
    urls: list[str], enter: Callable[..., Any], store: Any
) -> None:
    alice, bob = await enter(urls[0], "alice"), await enter(urls[1], "bob")
    await send(alice, "before")
    store.kill()
    answer = await send(alice, "while it is away", key="k1")
    assert (answer["code"], answer["retry"]) == ("unavailable", True)
    store.restart()

    async def stored() -> bool:
        return bool((await send(alice, "while it is away", key="k1"))["ok"])

    await until(stored)
    await bob.wait_for("new-message", 2)
    assert got(bob) == [(1, "before"), (2, "while it is away")]


@shared
async def test_who_came_who_has_read_and_who_left_is_told_on_every_server(
    urls: list[str], enter: Callable[..., Any]
) -> None:
    alice = await enter(urls[0], "alice")
    bob = await enter(urls[1], "bob")
    await alice.wait_for("user-joined")
    await send(alice, "hello")
    await bob.wait_for("new-message")
    assert (await bob.call("mark-read", {"room": "general", "seq": 1}, timeout=20))["ok"]
    await alice.wait_for("receipts")
    await bob.disconnect()
    await alice.wait_for("user-left")


def test_a_server_is_made_without_a_word_to_redis() -> None:
    assert step5.make_server(SECRET, url="redis://127.0.0.1:1/0") is not None
