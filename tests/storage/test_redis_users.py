"""The user directory in Redis: what a server sees of it, and what the command line does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from chatlab.errors import SettingsError, Unavailable
from chatlab.lab import valkey
from chatlab.storage.base import User
from chatlab.storage.redis_users import RedisDirectory, UserStore
from tests.storage.nodes import Server, connected, some_prefix
from tests.waiting import until


@pytest.fixture(scope="module")
def store() -> Iterator[object]:
    store = valkey(name="valkey-users")
    yield store
    store.stop()


@pytest.fixture
def prefix() -> str:
    return some_prefix()


@pytest.fixture
async def server(store, prefix) -> AsyncIterator[Server]:
    async with connected(store.url, prefix) as server:
        yield server


@pytest.fixture
async def directory(server) -> RedisDirectory:
    directory = RedisDirectory(server.nodes, server.names)
    server.on_back(directory.back)
    return directory


@pytest.fixture
def url(store, prefix) -> str:
    return f"{store.url}?prefix={prefix}"


async def test_users_are_added_changed_found_and_listed(directory):
    await directory.put(User("bob", "Bob"))
    await directory.put(User("alice", "Alice"))
    await directory.put(User("bob", "Robert", banned=True))
    assert await directory.get("bob") == User("bob", "Robert", banned=True)
    assert await directory.get("carol") is None
    assert await directory.list() == [User("alice", "Alice"), User("bob", "Robert", banned=True)]
    assert await directory.banned(["alice", "bob", "carol"]) == {"bob"}
    assert await directory.banned([]) == set()


@pytest.mark.parametrize("name", ["", "nul\0", "} {users}", "ünïcødé", "x" * 10_000])
async def test_any_name_is_a_name(directory, name):
    await directory.put(User(name, name, banned=True))
    assert await directory.get(name) == User(name, name, banned=True)
    assert await directory.banned([name, "nul"]) == {name}


async def test_a_name_that_utf8_cannot_hold_is_nobody(directory):
    assert await directory.get("\ud800") is None
    assert await directory.banned(["\ud800"]) == set()
    assert await directory.set_banned("\ud800", True) is None
    with pytest.raises(ValueError, match="valid Unicode"):
        await directory.put(User("\ud800", "Lone"))


async def test_the_banned_among_thousands_are_found(directory):
    for number in range(0, 2_500, 500):
        await directory.put(User(f"user{number}", "", banned=True))
    asked = [f"user{number}" for number in range(2_500)]
    assert await directory.banned(asked) == {f"user{number}" for number in range(0, 2_500, 500)}


async def test_an_entry_that_nobody_can_read_lets_nobody_in(directory, server):
    key = server.names.users
    await server.nodes.command(key, "HSET", key, "mallory", "{not json")
    assert await directory.get("mallory") == User("mallory", "mallory", banned=True)
    assert await directory.banned(["mallory"]) == {"mallory"}


async def test_a_change_is_heard_by_every_server(store, prefix, directory):
    async with connected(store.url, prefix) as other:
        heard: list[None] = []
        elsewhere = RedisDirectory(other.nodes, other.names)
        elsewhere.changed = lambda: heard.append(None)
        other.on_back(elsewhere.back)
        await until(lambda: len(heard) == 1)  # on listening, because nothing was heard before
        await directory.put(User("bob", "Bob", banned=True))
        await until(lambda: len(heard) == 2)
        assert await elsewhere.banned(["bob"]) == {"bob"}


async def test_two_bans_at_once_lose_neither_name_nor_ban(directory):
    await directory.put(User("bob", "Bob"))
    await asyncio.gather(*(directory.set_banned("bob", True) for _ in range(20)))
    assert await directory.get("bob") == User("bob", "Bob", banned=True)


async def test_a_ban_while_a_server_was_cut_off_is_looked_up_when_it_is_back():
    store = valkey(name="valkey-users-away")
    try:
        async with connected(store.url, "t") as server:
            directory = RedisDirectory(server.nodes, server.names)
            heard: list[int] = []
            directory.changed = lambda: heard.append(1)
            server.on_back(directory.back)
            await until(lambda: bool(heard))
            store.kill()
            await until(lambda: not server.nodes.up)
            with pytest.raises(Unavailable):
                await directory.get("bob")
            heard.clear()
            store.restart()
            await until(lambda: bool(heard))
            assert await directory.get("bob") is None
    finally:
        store.stop()


# --- the command line's ------------------------------------------------------------------------


def test_the_command_line_has_the_same_directory(url):
    with UserStore(url) as users:
        users.put(User("alice", "Alice"))
        users.put(User("bob", "Bob"))
        assert users.set_banned("bob", True) == User("bob", "Bob", banned=True)
        assert users.set_banned("carol", True) is None
        assert users.get("bob") == User("bob", "Bob", banned=True)
        assert [user.id for user in users.list()] == ["alice", "bob"]
        with pytest.raises(ValueError, match="valid Unicode"):
            users.put(User("\ud800", ""))


async def test_the_command_line_works_beside_a_running_loop(url, directory):
    heard: list[int] = []
    directory.changed = lambda: heard.append(1)
    await until(lambda: bool(heard))
    heard.clear()
    with UserStore(url) as users:
        users.put(User("bob", "Bob", banned=True))
    await until(lambda: bool(heard))
    assert await directory.banned(["bob"]) == {"bob"}


def test_a_redis_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr("chatlab.storage.redis_users._PATIENCE", 0.2)
    with pytest.raises(SettingsError, match=r"redis://127\.0\.0\.1:1/0 cannot be used"):
        UserStore("redis://127.0.0.1:1/0")


def test_a_redis_that_goes_away_is_a_sentence():
    store = valkey(persist=False, name="valkey-users-gone")
    try:
        with UserStore(store.url) as users:
            store.kill()
            with pytest.raises(SettingsError, match="it does not answer"):
                users.put(User("bob", "Bob"))
    finally:
        store.stop()
