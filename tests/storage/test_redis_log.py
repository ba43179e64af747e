"""The log in Redis: several servers as one, and what is kept there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from chatlab.errors import Unavailable
from chatlab.storage.redis_url import locate
from tests.storage.rooms import Rooms, seqs
from tests.waiting import until

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def address(valkey_url: str) -> str:
    return f"{valkey_url}?prefix={secrets.token_hex(6)}"


@asynccontextmanager
async def servers(address: str, count: int = 2, *rooms: str) -> AsyncIterator[list[Rooms]]:
    """Several servers' logs in one Redis, each following `rooms`."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(Rooms("redis", address)) for _ in range(count)]
        for one in found:
            for room in rooms or ("general",):
                await one.log.follow(room)
        yield found


def texts(server: Rooms, room: str = "general") -> list[str]:
    return [delivery.message.text for delivery in server.fed[room]]


async def test_every_server_is_fed_the_same_messages_in_the_same_order(address):
    async with servers(address, 3) as found:
        sent = [
            found[n % 3].log.append("general", f"user {n % 5}", str(n), None, "")
            for n in range(600)
        ]
        await asyncio.gather(*sent)
        for one in found:
            await until(lambda one=one: len(one.fed["general"]) == 600)
            assert [d.message.seq for d in one.fed["general"]] == list(range(1, 601))
        assert texts(found[0]) == texts(found[1]) == texts(found[2])
        for n in range(3):  # and what one server sent stays in its order
            own = [text for text in texts(found[0]) if int(text) % 3 == n]
            assert own == sorted(own, key=int)


async def test_a_retry_at_another_server_finds_the_first_message(address):
    async with servers(address) as (one, two):
        first = await one.send("hello", key="k")
        again = await two.send("hello", key="k")
        assert again.duplicate
        assert again.message == first.message


async def test_a_server_hears_only_of_the_rooms_that_it_follows(address):
    async with servers(address) as (one, two):
        await one.log.follow("mine")
        await two.send(room="mine")
        await two.send(room="theirs")
        await until(lambda: bool(one.fed["mine"]))
        assert not one.fed["theirs"]
        assert not two.fed["mine"]
        (ears,) = [node.ears for node in one.log.nodes.all()]
        assert ears.channels == 2
        await one.log.unfollow("mine")
        await two.send(room="mine")
        await two.send("last")
        await until(lambda: texts(one) == ["last"])
        assert len(one.fed["mine"]) == 1
        assert ears.channels == 1


async def test_following_again_at_once_misses_nothing(address):
    async with servers(address) as (one, two):
        for n in range(50):
            await one.log.unfollow("general")
            await one.log.follow("general")
            await two.send(str(n))
            await until(lambda n=n: texts(one)[-1:] == [str(n)])


@pytest.mark.parametrize("room", ["a}b{c", "{}", "}", "with spaces", "é👋", "a:b%7D", "x" * 64])
async def test_any_legal_name_is_a_room_of_its_own(address, room):
    async with servers(address, 2, room) as (one, two):
        await one.send("here", room=room)
        await until(lambda: texts(two, room) == ["here"])
        assert seqs((await two.join(room)).messages) == [1]
        assert (await two.join(room + "x" if len(room) < 64 else room[1:])).seq == 0


async def test_clusters_with_another_prefix_or_database_do_not_hear_each_other(valkey_url):
    mine = secrets.token_hex(6)
    other_database = valkey_url.removesuffix("/0") + f"/1?prefix={mine}"
    addresses = [f"{valkey_url}?prefix={mine}", f"{valkey_url}?prefix={mine}x", other_database]
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(Rooms("redis", one)) for one in addresses]
        for number, one in enumerate(found):
            await one.log.follow("general")
            await one.send(str(number))
        for number, one in enumerate(found):
            assert (await one.send("second")).message.seq == 2
            await until(lambda one=one: len(one.fed["general"]) == 2)
            assert texts(one) == [str(number), "second"]


async def test_the_scripts_are_sent_again_in_order_when_redis_has_forgotten_them(address):
    async with servers(address) as (one, two):
        for round_ in range(20):
            await one.log.nodes.command("any", "SCRIPT", "FLUSH")
            sent = [one.log.append("general", "alice", f"{round_}.{n}", None, "") for n in range(9)]
            await asyncio.sleep(0)
            sent += [one.log.append("general", "alice", f"{round_}.9", None, "")]
            await asyncio.gather(*sent, two.send("between"))
        await until(lambda: len(two.fed["general"]) == 220)
        mine = [text for text in texts(two) if text != "between"]
        assert mine == [f"{round_}.{n}" for round_ in range(20) for n in range(10)]


async def test_a_users_keys_do_not_pile_up(address):
    async with Rooms("redis", address, key_messages=20, key_ttl=60.0) as rooms:
        for n in range(200):
            await rooms.send(str(n), key=str(n))
        names = rooms.log.names
        kept = await rooms.log.nodes.command("any", "HLEN", names.keys("general", "alice"))
        assert 20 <= kept <= 26  # and the count
        order = names.key_order("general", "alice")
        assert await rooms.log.nodes.command("any", "ZCARD", order) == kept - 1
        left = await rooms.log.nodes.command("any", "PTTL", order)
        assert 0 < left <= 60_000
        assert not (await rooms.send("again", key="100")).duplicate
        assert (await rooms.send("again", key="100")).duplicate


async def test_what_a_room_is_made_of_does_not_expire_once_it_has_a_message(address):
    async with Rooms("redis", address) as rooms:
        nodes, names = rooms.log.nodes, rooms.log.names
        epoch = (await rooms.join()).epoch
        assert await nodes.command("any", "PTTL", names.meta("general")) > 0
        await rooms.send()
        assert (await rooms.join()).epoch == epoch
        for key in (names.meta("general"), names.log("general")):
            assert await nodes.command("any", "PTTL", key) == -1


async def test_a_listener_that_was_cut_off_fills_the_gap_before_anything_newer(address):
    async with servers(address) as (one, two):
        for round_ in range(10):
            await two.log.nodes.command("any", "CLIENT", "KILL", "TYPE", "pubsub")
            sent = [two.log.append("general", "bob", f"{round_}.{n}", None, "") for n in range(20)]
            await asyncio.gather(*sent, return_exceptions=True)
            await until(lambda: one.log.healthy and two.log.healthy)
        newest = (await one.join()).seq
        for server in (one, two):
            await until(lambda server=server: len(server.fed["general"]) == newest)
            assert [d.message.seq for d in server.fed["general"]] == list(range(1, newest + 1))


async def test_a_message_that_was_not_heard_is_noticed_at_the_next_append_and_read(address):
    async with servers(address) as (one, two):
        (node,) = one.log.nodes.all()
        # The faults of a real network end in a new connection; this is deafness without one.
        await node.ears._connection.send_command("UNSUBSCRIBE", one.log.names.feed("general"))
        await two.send("unheard")
        await two.send("unheard")
        await one.send("own")
        await until(lambda: texts(one) == ["unheard", "unheard", "own"])


async def test_an_address_where_nobody_answers_is_refused_in_a_sentence(valkey_url, monkeypatch):
    from chatlab.errors import SettingsError

    monkeypatch.setattr("chatlab.storage.redis.START_PATIENCE", 0.3)
    rooms = Rooms("redis", "redis://:geheim@127.0.0.1:1/0")
    with pytest.raises(SettingsError) as refused:
        await rooms.log.open()
    assert "redis://127.0.0.1:1/0 cannot be used" in str(refused.value)
    assert "geheim" not in str(refused.value)


async def test_a_closed_log_refuses(address):
    async with Rooms("redis", address) as rooms:
        await rooms.send()
    with pytest.raises(Unavailable):
        await rooms.send()
    assert locate(address).prefix in address
