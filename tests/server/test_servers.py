"""Two servers and one Redis: to their clients they are one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from chatlab.lab import valkey
from chatlab.lab.valkey import Valkey
from chatlab.server import leases
from chatlab.storage.base import User
from tests.server.child import chatlab
from tests.server.peer import Peer, Running, running
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with valkey(name="server tests") as one:
        yield one


@asynccontextmanager
async def servers(store: Valkey, count: int = 2, **settings: Any) -> AsyncIterator[list[Running]]:
    address = f"{store.url}?prefix={secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        given = {"storage": address, "presence_ttl": 1.0, "storage_timeout": 1.0, **settings}
        yield [await stack.enter_async_context(running(**given)) for _ in range(count)]


@pytest.fixture
async def pair(store: Valkey) -> AsyncIterator[tuple[Running, Running]]:
    async with servers(store) as (one, two):
        yield one, two


async def local_limiter(server: Running) -> float:
    async with server.http.get(server.url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith("chatlab_limiter_local "))


async def in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_a_message_reaches_the_members_at_both_servers_once(pair) -> None:
    one, two = pair
    alice, anna = await one.connect("alice"), await one.connect("anna")
    bob = await two.connect("bob")
    for peer in (alice, anna, bob):
        assert (await peer.join())["ok"]
    first = await alice.say("from one")
    second = await bob.say("from two")
    assert (first["seq"], second["seq"]) == (1, 2)
    assert [m["text"] for m in await anna.got("new-message", 2)] == ["from one", "from two"]
    assert [m["text"] for m in await alice.got("new-message")] == ["from two"]
    assert [m["text"] for m in await bob.got("new-message")] == ["from one"]
    assert (await bob.got("new-message"))[0]["id"] == first["id"]


async def test_many_who_send_at_once_at_both_servers_are_seen_in_one_order(pair) -> None:
    one, two = pair
    peers = [await (one, two)[n % 2].connect(f"user-{n}") for n in range(6)]
    for peer in peers:
        await peer.join()

    async def send(peer: Peer, number: int) -> list[dict[str, Any]]:
        return [await peer.say(f"{number}.{n}") for n in range(12)]

    acks = await asyncio.gather(*[send(peer, n) for n, peer in enumerate(peers)])
    assert sorted(ack["seq"] for some in acks for ack in some) == list(range(1, 73))
    for peer, own in zip(peers, acks, strict=True):
        got = [message["seq"] for message in await peer.got("new-message", 60)]
        assert got == sorted(got)
        assert sorted(got + [ack["seq"] for ack in own]) == list(range(1, 73))


async def test_a_sender_is_never_served_what_its_ack_told_it(pair) -> None:
    one, two = pair
    alice, bob = await one.connect("alice"), await two.connect("bob")
    await alice.join()
    await bob.join()
    acks = [await alice.say(str(n)) for n in range(19)]
    await bob.got("new-message", 19)
    await alice.call("who", {"room": "general"})
    assert [ack["seq"] for ack in acks] == list(range(1, 20))
    assert alice.of("new-message") == []


async def test_presence_and_typing_cross_servers(pair) -> None:
    one, two = pair
    alice, bob = await one.connect("alice"), await two.connect("bob")
    await alice.join()
    joined = await bob.join()
    assert (sorted(joined["users"]), joined["count"]) == (["alice", "bob"], 2)
    assert await alice.got("user-joined") == [{"user": "bob", "room": "general"}]
    await bob.call("typing", {"room": "general", "typing": True})
    assert await alice.got("typing") == [{"room": "general", "user": "bob", "typing": True}]
    assert bob.of("typing") == []
    also_alice = await two.connect("alice")
    await also_alice.join()
    await alice.sio.disconnect()
    assert (await bob.call("who", {"room": "general"}))["count"] == 2
    await also_alice.sio.disconnect()
    assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]
    assert (await bob.call("who", {"room": "general"}))["users"] == ["bob"]
    assert bob.of("user-joined") == []


async def test_receipts_reach_the_author_at_another_server_together(pair) -> None:
    one, two = pair
    author = await one.connect("author")
    readers = [await (one, two)[n % 2].connect(f"reader-{n}") for n in range(4)]
    for peer in (author, *readers):
        await peer.join()
    await author.say("hello")
    for reader in readers:
        assert (await reader.call("mark-read", {"room": "general", "seq": 1}))["ok"]

    def told() -> set[str]:
        return {user for payload in author.of("receipts") for user in payload["users"]}

    await until(lambda: len(told()) == 4)
    assert len(author.of("receipts")) <= 3


async def test_a_retry_at_the_other_server_is_the_same_message(pair) -> None:
    one, two = pair
    alice, bob = await one.connect("alice"), await two.connect("bob")
    await alice.join()
    await bob.join()
    first = await alice.say("hello", key="k")
    moved = await two.connect("alice")
    await moved.join()
    again = await moved.say("hello", key="k")
    assert again == {**first, "duplicate": True}
    await moved.say("last")
    assert [one["text"] for one in await bob.got("new-message", 2)] == ["hello", "last"]


async def test_who_comes_back_to_the_other_server_is_caught_up(pair) -> None:
    one, two = pair
    alice, bob = await one.connect("alice"), await two.connect("bob")
    joined = await alice.join()
    await bob.join()
    await alice.sio.disconnect()
    for n in range(5):
        await bob.say(str(n))
    moved = await two.connect("alice")
    back = await moved.join(after=joined["seq"], epoch=joined["epoch"])
    assert [m["text"] for m in back["messages"]] == ["0", "1", "2", "3", "4"]
    assert not back["lost"]


async def test_a_ban_closes_the_users_sockets_at_every_server(pair) -> None:
    one, two = pair
    mallory = [await one.connect("mallory"), await two.connect("mallory")]
    await one.server.directory.put(User("mallory", "Mallory", banned=True))
    async with asyncio.timeout(10):
        for peer in mallory:
            await peer.gone.wait()
            assert peer.of("banned")
    refused = await two.attempt({"token": two.token("mallory")})
    assert refused.refusal["data"]["code"] == "banned"


async def test_the_command_line_bans_at_every_server(store: Valkey) -> None:
    async with servers(store) as (one, two):
        address = one.server.settings.storage
        mallory = [await one.connect("mallory"), await two.connect("mallory")]
        await in_thread(lambda: chatlab("user", "ban", "mallory", "--storage", address))
        async with asyncio.timeout(10):
            for peer in mallory:
                await peer.gone.wait()
        listed = chatlab("user", "list", "--storage", address)
        assert listed.stdout == "mallory\tmallory\tbanned\n"


async def test_two_clusters_in_one_redis_do_not_hear_each_other(store: Valkey) -> None:
    async with servers(store, 1) as (one,), servers(store, 1) as (two,):
        alice, bob = await one.connect("alice"), await two.connect("bob")
        await alice.join()
        assert (await bob.join())["users"] == ["bob"]
        await alice.say("hello")
        await bob.say("hello")
        await alice.call("typing", {"room": "general", "typing": True})
        assert (await bob.call("who", {"room": "general"}))["users"] == ["bob"]
        assert not {"new-message", "user-joined", "typing"} & {name for name, _ in bob.events}


async def test_a_users_limit_counts_what_they_send_at_every_server(
    store: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SILENCE", PATIENCE_S)  # a pause of the machine is no outage
    async with servers(store, user_rate=0.01, user_burst=30, rate_burst=100) as (one, two):
        peers = [await one.connect("alice"), await two.connect("alice")]
        acks = await asyncio.gather(
            *[peers[n % 2].call("typing", {"room": "x", "typing": True}) for n in range(90)]
        )
        admitted = [ack for ack in acks if ack["code"] != "rate_limited"]
        assert 30 <= len(admitted) <= 30 + 2 * 10
        assert all(ack["retryAfter"] > 0 for ack in acks if ack["code"] == "rate_limited")
        again = await one.connect("alice")
        assert (await again.call("who", {"room": "x"}))["code"] == "rate_limited"
        bob = await one.connect("bob")
        assert (await bob.call("who", {"room": "x"}))["code"] == "not_in_room"


async def test_redis_frozen_answers_in_time_keeps_the_socket_and_delivers_when_it_is_back() -> None:
    with valkey(name="server failures") as store:
        async with servers(store) as (one, two):
            alice, bob = await one.connect("alice"), await two.connect("bob")
            await alice.join()
            await bob.join()
            store.freeze()
            loop = asyncio.get_running_loop()
            first = await alice.say("unknown", key="k")
            assert first["code"] == "unavailable"
            assert first["retry"]
            await until(lambda: not one.server.log.healthy)
            began = loop.time()
            for event, payload in (
                ("send-message", {"room": "general", "text": "now"}),
                ("who", {"room": "general"}),
                ("history", {"room": "general"}),
                ("join-room", {"room": "another"}),
                ("mark-read", {"room": "general", "seq": 1}),
            ):
                assert (await alice.call(event, payload))["code"] == "unavailable", event
            assert loop.time() - began < 4.0  # had each waited for Redis, it would be five
            async with one.http.get(one.url + "/healthz") as answer:
                assert answer.status == 503
            assert await local_limiter(one) == 1
            store.thaw()
            await until(lambda: one.server.log.healthy and two.server.log.healthy)
            assert await local_limiter(one) == 0
            assert (await alice.say("unknown", key="k"))["seq"] == 1
            assert [m["text"] for m in await bob.got("new-message")] == ["unknown"]
            assert not alice.gone.is_set()
            assert not bob.gone.is_set()
            assert (await alice.call("join-room", {"room": "another"}))["ok"]


async def test_an_emptied_redis_sends_clients_back_to_be_told_that_history_is_lost() -> None:
    with valkey(name="server failures") as store:
        async with servers(store) as (one, two):
            alice, bob = await one.connect("alice"), await two.connect("bob")
            old = await alice.join()
            await bob.join()
            await alice.say("before")
            await in_thread(lambda: store.restart(empty=True))
            await alice.gone.wait()
            await bob.gone.wait()
            await until(lambda: one.server.log.healthy and two.server.log.healthy)
            again = await one.connect("alice")
            joined = await again.join(after=1, epoch=old["epoch"])
            assert joined["lost"]
            assert joined["epoch"] != old["epoch"]
            assert (await again.say("after"))["seq"] == 1


async def test_users_of_a_server_that_died_are_taken_out_and_the_room_is_told(
    store: Valkey,
) -> None:
    async with servers(store) as (one, two):
        alice, bob = await one.connect("alice"), await two.connect("bob")
        await alice.join()
        await bob.join()
        presence = one.server.storage.presence
        for task in (presence._beating, *[room.look for room in presence._rooms.values()]):
            if task is not None:
                task.cancel()  # to the others it is dead now
        assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]
        assert (await bob.call("who", {"room": "general"}))["users"] == ["bob"]
