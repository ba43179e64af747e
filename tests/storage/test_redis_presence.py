"""Who is in a room over several servers, of which some die, freeze, or lose sight of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import InvalidPayload, Unavailable
from chatlab.lab import valkey
from chatlab.storage import redis_presence
from chatlab.storage.redis_presence import RedisPresence
from tests.storage.nodes import Server, connected, some_prefix
from tests.waiting import PATIENCE_S, until

TTL = 0.6


class Seen(RedisPresence):
    """The presence of one server, and what it announced."""

    def __init__(self, server: Server, *, ttl: float = TTL) -> None:
        super().__init__(server.nodes, server.names, ttl=ttl)
        self.nodes, self.names = server.nodes, server.names
        self.came: list[tuple[str, str]] = []
        self.left: list[tuple[str, str]] = []
        self.changed = self._record
        server.on_back(self.back)

    def _record(self, room: str, user: str, *, here: bool) -> None:
        (self.came if here else self.left).append((room, user))

    def freeze(self) -> None:
        """As SIGSTOP would: it says nothing more."""
        self._tell = lambda name, one: None

    def thaw(self) -> None:
        del self._tell

    async def users(self, room: str = "general") -> list[str]:
        shown, count = await self.who(room, 200)
        assert count == len(shown)
        return sorted(shown)

    async def entries(self, room: str = "general") -> list[str]:
        """The keys that Redis has of a room."""
        keys = [self.names.here(room), self.names.servers(room)]
        return [key for key in keys if await self.nodes.command(key, "EXISTS", key)]


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(persist=False, name="valkey-presence")
    yield store
    store.stop()


@contextlib.asynccontextmanager
async def servers(
    url: str, count: int, *, ttl: float = TTL, stalled_after: float = 5.0
) -> AsyncIterator[list[Seen]]:
    prefix = some_prefix()
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            connection = connected(url, prefix, stalled_after=stalled_after)
            server = await stack.enter_async_context(connection)
            made.append(Seen(server, ttl=ttl))
            stack.push_async_callback(made[-1].close)
        yield made


@pytest.fixture
async def pair(store) -> AsyncIterator[list[Seen]]:
    async with servers(store.url, 2) as pair:
        yield pair


async def test_everybody_sees_everybody_whichever_server_they_are_on(pair):
    one, two = pair
    await one.enter("general", "alice")
    await two.enter("general", "bob")
    assert await one.users() == await two.users() == ["alice", "bob"]
    assert await one.users("other") == []


async def test_a_user_on_two_servers_comes_once_and_leaves_once(pair):
    one, two = pair
    await one.enter("general", "alice")
    await two.enter("general", "alice")
    one.leave("general", "alice")
    assert await one.users() == ["alice"]
    two.leave("general", "alice")
    assert await two.users() == []
    assert one.came + two.came == [("general", "alice")]
    assert one.left + two.left == [("general", "alice")]


async def test_a_room_that_was_left_leaves_nothing_behind(pair):
    one, two = pair
    for _ in range(3):
        await one.enter("general", "alice")
        await two.enter("general", "alice")
        one.leave("general", "alice")
        two.leave("general", "alice")
    await until(lambda: len(one) == len(two) == 0)
    assert await one.entries() == []


async def test_leaving_and_entering_again_at_once_ends_inside(pair):
    one, _ = pair
    await one.enter("general", "alice")
    for _ in range(10):
        one.leave("general", "alice")
        await one.enter("general", "alice")
    assert await one.users() == ["alice"]
    one.leave("general", "alice")
    entering = asyncio.ensure_future(one.enter("general", "alice"))
    await asyncio.sleep(0)
    one.leave("general", "alice")
    await entering
    assert await one.users() == []
    assert len(one.came) == len(one.left)


async def test_a_crowd_that_comes_at_once_is_all_there(pair):
    one, two = pair
    names = [f"user{number}" for number in range(300)]
    half = len(names) // 2
    await asyncio.gather(
        *(one.enter("general", name) for name in names[:half]),
        *(two.enter("general", name) for name in names[half:]),
    )
    shown, count = await one.who("general", 200)
    assert count == 300
    assert len(set(shown)) == 200
    assert set(shown) <= set(names)
    assert await one.who("general", 0) == ([], 300)
    assert sorted(one.came + two.came) == sorted(("general", name) for name in names)
    assert sorted((await two.who("general", 1000))[0]) == sorted(names)
    for name in names[:half]:
        one.leave("general", name)
    await until(lambda: len(one) == 0)
    assert (await two.who("general", 0))[1] == 150


@pytest.mark.parametrize("name", ["}{", "with, commas", "nul\0", "ünïcødé", "%7D"])
async def test_any_name_is_a_name(pair, name):
    one, two = pair
    await one.enter(name, name)
    await two.enter(name, name)
    assert await two.users(name) == [name]
    one.leave(name, name)
    two.leave(name, name)
    assert await two.users(name) == []


async def test_a_name_that_utf8_cannot_hold_is_refused(pair):
    one, _ = pair
    with pytest.raises(InvalidPayload):
        await one.enter("general", "\ud800")
    one.leave("general", "\ud800")
    assert await one.who("\ud800", 10) == ([], 0)
    assert len(one) == 0


# --- servers that die --------------------------------------------------------------------------


async def test_the_users_of_a_dead_server_are_gone_after_a_ttl_and_told_of_once(store):
    async with servers(store.url, 3) as (one, two, dead):
        for server in (one, two, dead):
            await server.enter("general", "everywhere")
        await dead.enter("general", "alice")
        await dead.enter("general", "bob")
        await one.enter("general", "carol")
        dead.freeze()
        await until(lambda: len(one.left + two.left) == 2)
        assert await two.users() == ["carol", "everywhere"]
        assert sorted(one.left + two.left) == [("general", "alice"), ("general", "bob")]


async def test_who_does_not_count_the_dead_even_where_nobody_else_looked(pair):
    asking, dead = pair
    await dead.enter("general", "alice")
    assert await asking.users() == ["alice"]
    dead.freeze()
    key = dead.names.servers("general")
    server = dead._server.encode()
    expiry = float(await asking.nodes.command(key, "ZSCORE", key, server))

    async def expired() -> bool:
        seconds, micros = await asking.nodes.command(key, "TIME")
        return int(seconds) * 1000 + int(micros) / 1000 > expiry + 1

    await until(expired)
    assert await asking.users() == []
    assert asking.left == [("general", "alice")]
    assert await asking.entries() == []


async def test_a_user_who_moved_from_a_dead_server_never_left(pair):
    one, dead = pair
    await dead.enter("general", "alice")
    await one.enter("general", "alice")
    dead.freeze()
    key = one.names.servers("general")

    async def one_is_left() -> bool:
        return int(await one.nodes.command(key, "ZCARD", key)) == 1

    await until(one_is_left)
    assert await one.users() == ["alice"]
    assert one.left == []


async def test_a_server_that_was_frozen_registers_again_and_says_so(pair):
    one, frozen = pair
    await one.enter("general", "alice")
    await frozen.enter("general", "bob")
    frozen.freeze()
    await until(lambda: one.left == [("general", "bob")])
    frozen.thaw()
    await until(lambda: frozen.came == [("general", "bob")] * 2)
    assert await one.users() == ["alice", "bob"]
    assert frozen.left == []
    assert one.came == [("general", "alice")]


async def test_a_server_that_is_late_but_was_not_missed_says_nothing(pair):
    late, _ = pair
    await late.enter("general", "alice")
    late.freeze()
    key = late.names.servers("general")
    await late.nodes.command(key, "ZADD", key, 1, late._server)  # long ago
    late.thaw()
    await late.enter("general", "bob")
    assert await late.users() == ["alice", "bob"]
    assert late.left == []
    assert late.came == [("general", "alice"), ("general", "bob")]


async def test_beats_keep_many_rooms_alive_and_come_one_a_room(store):
    ttl = 5 * TTL  # so many rooms take a while on a busy machine
    async with servers(store.url, 2, ttl=ttl) as (one, other):
        rooms = [f"room {number}" for number in range(300)]
        await asyncio.gather(*(one.enter(room, "alice") for room in rooms))
        run, beats = one.nodes.run, []

        async def counted(script: object, keys: list[str], *args: object) -> bytes:
            beats.append(keys[0])
            return await run(script, keys, *args)

        one.nodes.run = counted
        started = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - started > 1.5 * ttl)
        elapsed = asyncio.get_running_loop().time() - started
        assert len(beats) <= len(rooms) * (elapsed / (ttl / 3) * 16 / 15 + 1)
        for room in rooms:
            assert await other.users(room) == ["alice"]
        assert one.left == other.left == []


async def test_keys_go_by_themselves_when_every_server_is_gone(store):
    async with servers(store.url, 2, ttl=0.1) as (dead, watching):
        await dead.enter("general", "alice")
        dead.freeze()

        async def gone() -> bool:
            return await watching.entries() == []

        await until(gone)
        assert watching.left == []


async def test_closing_leaves_every_room_and_waits_no_longer(store, monkeypatch):
    monkeypatch.setattr(redis_presence, "LEAVING", None)
    async with servers(store.url, 2, ttl=15.0) as (closing, staying):
        rooms = [f"room {number}" for number in range(200)]
        for server in (closing, staying):
            await asyncio.gather(*(server.enter(room, "both") for room in rooms))
        await asyncio.gather(*(closing.enter(room, "alice") for room in rooms))
        await closing.close()
        assert sorted(closing.left) == sorted((room, "alice") for room in rooms)
        for room in rooms[::50]:
            assert await staying.users(room) == ["both"]
        assert len(closing) == 0
        with pytest.raises(Unavailable):
            await closing.enter("general", "late")


async def test_a_random_walk_over_three_servers_ends_where_the_users_are(store):
    walk = random.Random(5)
    async with servers(store.url, 3) as made:
        inside: list[set[tuple[str, str]]] = [set() for _ in made]
        entering = []
        for _ in range(1500):
            at = walk.randrange(3)
            spot = (f"room{walk.randrange(4)}", f"user{walk.randrange(6)}")
            if spot in inside[at]:
                inside[at].discard(spot)
                made[at].leave(*spot)
            else:
                inside[at].add(spot)
                entering.append(asyncio.ensure_future(made[at].enter(*spot)))
                await asyncio.sleep(0)  # it has asked now; what follows comes behind it
        await asyncio.gather(*entering)
        await until(lambda: all(one.task is None for s in made for one in s._rooms.values()))
        expected = set().union(*inside)
        for room in range(4):
            name = f"room{room}"
            users = sorted(user for where, user in expected if where == name)
            assert await made[0].users(name) == users
        for spot in {(f"room{r}", f"user{u}") for r in range(4) for u in range(6)}:
            came = sum(server.came.count(spot) for server in made)
            left = sum(server.left.count(spot) for server in made)
            assert came - left == (spot in expected)


# --- while Redis is away -----------------------------------------------------------------------


@pytest.fixture
def broken() -> Iterator[object]:
    store = valkey(name="valkey-presence-away")
    yield store
    store.stop()


async def test_what_happened_while_redis_was_away_is_made_good(broken):
    async with servers(broken.url, 2) as (one, two):
        await one.enter("general", "stays")
        await one.enter("general", "leaves")
        await one.enter("left", "leaves")
        await two.enter("general", "bob")
        broken.kill()
        await until(lambda: not one.nodes.up and not two.nodes.up)
        one.leave("general", "leaves")
        one.leave("left", "leaves")
        with pytest.raises(Unavailable):
            await one.enter("general", "late")
        with pytest.raises(Unavailable):
            await one.who("general", 10)
        broken.restart()
        await until(lambda: one.left == [("general", "leaves"), ("left", "leaves")])
        await until(lambda: two.nodes.up)
        assert await two.users() == ["bob", "stays"]
        assert await two.users("left") == []
        assert len(one) == 1
        await one.enter("general", "late")
        assert await two.users() == ["bob", "late", "stays"]


async def test_an_entry_that_redis_may_have_made_is_corrected(broken):
    async with servers(broken.url, 1, stalled_after=1.0) as (one,):
        await one.enter("general", "stays")
        broken.freeze()
        with pytest.raises(Unavailable):
            await one.enter("general", "perhaps")
        with pytest.raises(Unavailable):
            await one.enter("new", "perhaps")
        broken.thaw()
        await until(lambda: one.nodes.up)
        await until(lambda: list(one._rooms) == ["general"])
        await until(lambda: not one._rooms["general"].doubted)
        assert await one.users() == ["stays"]
        assert await one.entries("new") == []


async def test_an_outage_longer_than_a_ttl_makes_nobody_leave(broken, monkeypatch):
    # One beat is the time that the others get when Redis is back: here longer than the test.
    monkeypatch.setattr(redis_presence, "BEATS", 1.5 / PATIENCE_S)
    async with servers(broken.url, 2, ttl=1.5) as (one, two):
        await one.enter("general", "alice")
        await two.enter("general", "bob")
        key = one.names.servers("general")
        broken.kill()
        await until(lambda: not one.nodes.up and not two.nodes.up)
        away = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - away > 1.6)
        broken.restart()
        await until(lambda: one.nodes.up and two.nodes.up)

        async def both_alive() -> bool:
            seconds, _ = await one.nodes.command(key, "TIME")
            return (
                int(await one.nodes.command(key, "ZCOUNT", key, int(seconds) * 1000, "+inf")) == 2
            )

        await until(both_alive)
        assert await one.users() == ["alice", "bob"]
        assert one.left + two.left == []


async def test_a_redis_that_comes_back_empty_is_told_everything_again(broken):
    async with servers(broken.url, 2) as (one, two):
        await one.enter("general", "alice")
        await two.enter("general", "bob")
        broken.restart(empty=True)
        await until(lambda: len(one.came) == 2 and len(two.came) == 2)
        assert await one.users() == await two.users() == ["alice", "bob"]
        assert one.left + two.left == []


async def test_a_redis_that_comes_back_as_it_was_a_while_ago_is_corrected(broken, tmp_path):
    earlier = tmp_path / "earlier"
    async with servers(broken.url, 2, ttl=15.0) as (one, two):
        await one.enter("general", "left since")
        await two.enter("general", "stays")
        broken.kill()
        await until(lambda: not one.nodes.up and not two.nodes.up)
        shutil.copytree(broken.folder, earlier)
        broken.restart()
        await until(lambda: one.nodes.up and two.nodes.up)
        one.leave("general", "left since")
        await one.enter("general", "came since")
        assert await two.users() == ["came since", "stays"]
        broken.kill()
        await until(lambda: not one.nodes.up and not two.nodes.up)
        shutil.rmtree(broken.folder)
        shutil.copytree(earlier, broken.folder)
        broken.restart()
        await until(lambda: ("general", "left since") in one.left[1:])
        await until(lambda: two.nodes.up)
        assert await two.users() == ["came since", "stays"]
        assert two.left == []


async def test_closing_while_redis_is_away_does_not_wait_for_it(broken):
    async with servers(broken.url, 1, stalled_after=10 * PATIENCE_S) as (one,):
        await one.enter("general", "alice")
        broken.freeze()
        one.leave("general", "alice")
        await one.close()
        assert len(one) == 0
        broken.thaw()
