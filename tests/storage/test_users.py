"""The directory: in memory, in the file, and from the command line beside a server."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatlab.errors import SettingsError, Unavailable
from chatlab.settings import Settings
from chatlab.storage import open_storage, open_users, sqlite_file
from chatlab.storage.base import RoomLog, User, UserDirectory
from chatlab.storage.sqlite_users import UserFile
from tests.waiting import PATIENCE_S, until

Storage = tuple[RoomLog, UserDirectory]


@pytest.fixture
def url(kind: str, database: Path) -> str:
    return "memory://" if kind == "memory" else f"sqlite:///{database}"


@pytest.fixture
async def storage(url: str) -> AsyncIterator[Storage]:
    store = open_storage(Settings(storage=url, jwt_secret="s" * 32))
    log, directory = store.log, store.directory
    await log.open()
    yield log, directory
    await log.close()


async def test_users_are_added_changed_found_and_listed(storage):
    _, directory = storage
    await directory.put(User("bob", "Bob"))
    await directory.put(User("alice", "Alice"))
    await directory.put(User("bob", "Robert", banned=True))
    assert await directory.get("bob") == User("bob", "Robert", banned=True)
    assert await directory.get("carol") is None
    assert await directory.list() == [User("alice", "Alice"), User("bob", "Robert", banned=True)]
    assert await directory.banned(["alice", "bob", "carol"]) == {"bob"}
    assert await directory.banned([]) == set()


@pytest.mark.parametrize("name", ["", "nul\0", "' OR 1=1 --", "ünïcødé", "x" * 10_000])
async def test_any_name_is_a_name(storage, name):
    _, directory = storage
    await directory.put(User(name, name, banned=True))
    assert await directory.get(name) == User(name, name, banned=True)
    assert await directory.banned([name, "nul"]) == {name}


async def test_a_name_that_utf8_cannot_hold_is_nobody(storage):
    _, directory = storage
    assert await directory.get("\ud800") is None
    assert await directory.banned(["\ud800"]) == set()
    with pytest.raises(ValueError, match="valid Unicode"):
        await directory.put(User("\ud800", "Lone"))


async def test_a_change_is_announced(storage):
    _, directory = storage
    announced = asyncio.Event()
    directory.changed = announced.set
    await directory.put(User("bob", "Bob", banned=True))
    await asyncio.wait_for(announced.wait(), PATIENCE_S)


async def test_messages_are_no_change_of_users(storage):
    log, directory = storage
    changes = []
    directory.changed = lambda: changes.append(1)
    for _ in range(10):
        await log.append("general", "alice", "hello", None, "")
        await asyncio.sleep(0.03)
    assert changes == []


async def test_the_directory_is_open_while_the_log_is(database):
    store = open_storage(Settings(storage=f"sqlite:///{database}", jwt_secret="s" * 32))
    log, directory = store.log, store.directory
    with pytest.raises(Unavailable):
        await directory.get("bob")
    await log.open()
    await directory.put(User("bob", "Bob"))
    await log.close()
    for asked in (directory.list(), directory.banned(["bob"]), directory.put(User("eve", "Eve"))):
        with pytest.raises(Unavailable):
            await asked


# --- the command line's ------------------------------------------------------------------------


def test_the_command_line_makes_a_file_that_a_server_then_serves(database):
    url = f"sqlite:///{database}"
    with open_users(url, create=True) as users:
        users.put(User("alice", "Alice"))
        users.put(User("bob", "Bob"))
        assert users.set_banned("bob", True) == User("bob", "Bob", banned=True)
        assert users.set_banned("carol", True) is None
        assert users.get("bob") == User("bob", "Bob", banned=True)
        assert users.get("\ud800") is None
        assert users.set_banned("\ud800", True) is None
        assert [user.id for user in users.list()] == ["alice", "bob"]
        assert users.set_banned("bob", False) == User("bob", "Bob")
        with pytest.raises(ValueError, match="valid Unicode"):
            users.put(User("\ud800", ""))
    assert [path.name for path in database.parent.iterdir()] == ["chat.db"]

    async def serve() -> list[User]:
        store = open_storage(Settings(storage=url, jwt_secret="s" * 32))
        log, directory = store.log, store.directory
        await log.open()
        found = await directory.list()
        await log.close()
        return found

    assert asyncio.run(serve()) == [User("alice", "Alice"), User("bob", "Bob")]


def test_a_typing_error_in_the_path_makes_no_file(database):
    with pytest.raises(SettingsError, match="does not exist yet"):
        open_users(f"sqlite:///{database}")
    assert not database.exists()


def test_users_in_memory_are_out_of_reach(database):
    with pytest.raises(SettingsError, match="in the server's own memory"):
        open_users("memory://")


def test_a_file_that_cannot_be_used_is_a_sentence(database):
    database.write_text("Dear diary, " * 100)
    with pytest.raises(SettingsError, match="is not a SQLite database"):
        open_users(f"sqlite:///{database}")
    with pytest.raises(SettingsError, match="is not a folder"):
        open_users(f"sqlite:///{database.parent}/nowhere/chat.db", create=True)
    with pytest.raises(SettingsError, match="is not known"):
        open_users("mysql:///chat.db")


BAN = """
import sys
from chatlab.storage import open_users
with open_users(sys.argv[1]) as users:
    users.set_banned("bob", True)
"""


async def test_a_ban_from_another_process_is_noticed_between_messages(database):
    url = f"sqlite:///{database}"
    store = open_storage(Settings(storage=url, jwt_secret="s" * 32))
    log, directory = store.log, store.directory
    noticed: list[None] = []
    directory.changed = lambda: noticed.append(None)
    await log.open()
    try:
        await directory.put(User("bob", "Bob"))
        await until(lambda: len(noticed) == 1)
        other = subprocess.Popen([sys.executable, "-c", BAN, url])
        sent = 0
        while other.poll() is None:
            await log.append("general", "alice", "hello", None, "")
            sent += 1
        assert other.returncode == 0
        await until(lambda: len(noticed) == 2)
        assert sent > 10
        assert await directory.banned(["alice", "bob"]) == {"bob"}
    finally:
        await log.close()


@pytest.mark.parametrize("statement", [1, 2])
def test_a_file_that_another_makes_while_it_is_looked_at_is_no_strangers(
    database, monkeypatch, statement
):
    really, seen, made = sqlite_file.connect, itertools.count(1), []

    def connect(path, **options):
        monkeypatch.setattr(sqlite_file, "connect", really)  # for the other one
        connection = really(path, **options)

        def look(_sql):
            if next(seen) == statement + 1:
                UserFile(path, create=True).close()
                made.append(path)

        connection.set_trace_callback(look)
        return connection

    monkeypatch.setattr(sqlite_file, "connect", connect)
    with UserFile(database, create=True) as users:
        users.put(User("alice", "Alice"))
        assert made == [database]
        assert [user.id for user in users.list()] == ["alice"]


MAKE = """
import sys
from chatlab.storage import open_users
from chatlab.storage.base import User
sys.stdin.read(1)
with open_users(sys.argv[1], create=True) as users:
    users.put(User(sys.argv[2], ""))
"""


def test_several_processes_may_make_the_file_at_once(database):
    url = f"sqlite:///{database}"
    made = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, url, str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for process in made:
        process.stdin.write("x")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in made]
    assert errors == [""] * 6
    with open_users(url) as users:
        assert [user.id for user in users.list()] == list("012345")
