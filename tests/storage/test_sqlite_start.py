"""A file that cannot be served is refused at start, with a sentence and without a change to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatlab.errors import SettingsError
from chatlab.storage import sqlite_file
from tests.storage.rooms import Rooms
from tests.storage.test_sqlite_failures import locked

SERVE = """
import asyncio, sys
from pathlib import Path
from chatlab.storage.sqlite import SqliteLog

async def main():
    log = SqliteLog(Path(sys.argv[1]))
    await log.open()
    print("serving", flush=True)
    sys.stdin.read()
    await log.close()

asyncio.run(main())
"""


async def refused(database: Path, **options: object) -> str:
    """The sentence with which opening `database` is refused."""
    rooms = Rooms("sqlite", database, **options)
    with pytest.raises(SettingsError) as error:
        await rooms.log.open()
    assert not rooms.log.healthy
    assert not database.with_name(f"{database.name}.serving").exists()
    return str(error.value)


async def written(database: Path, messages: int = 300) -> bytes:
    async with Rooms("sqlite", database) as rooms:
        await rooms.fill(messages)
    return database.read_bytes()


async def test_a_file_that_is_no_database(database):
    database.write_text("Dear diary, " * 100)
    assert "is not a SQLite database" in await refused(database)
    assert database.read_text().startswith("Dear diary")


async def test_the_database_of_another_program(database):
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = database.read_bytes()
    assert "is the database of another program" in await refused(database)
    assert database.read_bytes() == before


async def test_an_empty_file_is_a_new_database(database):
    database.touch()
    assert await written(database)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9])
async def test_a_file_that_is_damaged(database, where):
    content = bytearray(await written(database))
    start = int(len(content) * where) // 4096 * 4096
    content[start : start + 4096] = bytes(range(256)) * 16
    database.write_bytes(content)
    assert "is damaged" in await refused(database)


@pytest.mark.parametrize("kept", [0.3, 0.99, 0.03])
async def test_a_file_that_was_cut_short(database, kept):
    content = await written(database)
    database.write_bytes(content[: int(len(content) * kept)])
    sentence = await refused(database)
    assert "is damaged" in sentence or "is not a SQLite database" in sentence


async def test_a_large_file_is_checked_for_being_whole_but_not_page_by_page(database, monkeypatch):
    content = await written(database)
    monkeypatch.setattr(sqlite_file, "_QUICK_CHECK_BYTES", 4096)
    async with Rooms("sqlite", database) as rooms:
        assert (await rooms.send()).message.seq == 301
    database.write_bytes(content[:-4096])
    assert "is damaged" in await refused(database)


async def test_a_file_that_a_newer_chatlab_wrote(database):
    await written(database)
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "was written by a newer chatlab (its schema is 99" in await refused(database)


async def test_a_folder_that_does_not_exist(tmp_path):
    assert "is not a folder: make it" in await refused(tmp_path / "nowhere" / "chat.db")


async def test_a_folder_in_place_of_the_file(tmp_path):
    assert "is a folder: add the name" in await refused(tmp_path)


async def test_a_file_that_another_program_keeps_locked(database):
    await written(database)
    with locked(database):
        assert "is locked by another program" in await refused(database, busy=0.1)


async def test_a_file_that_is_being_served_even_under_another_name(database):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout.readline() == "serving\n"
        for name in ("chat.db", "link.db"):
            if name == "link.db":
                database.with_name(name).symlink_to(database)
            second = Rooms("sqlite", database.with_name(name))
            with pytest.raises(SettingsError, match=f"is served by another process.*{server.pid}"):
                await second.log.open()
        server.kill()
    # The lock died with its holder, though its file did not.
    assert database.with_name("chat.db.serving").exists()
    async with Rooms("sqlite", database) as rooms:
        assert (await rooms.send()).message.seq == 1


async def test_two_logs_of_one_process_do_not_share_a_file(stored, database):
    with pytest.raises(SettingsError, match="is served by another process"):
        await Rooms("sqlite", database).log.open()
    assert (await stored.send()).message.seq == 1


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder, and a process that may not do what it likes, as root may."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o777)
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
async def test_a_folder_that_may_not_be_written(nobody):
    database = nobody / "chat.db"
    await written(database)
    nobody.chmod(0o555)
    assert "the folder of the database must be writable" in await refused(database)
    assert "the folder of the database must be writable" in await refused(nobody / "new.db")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
async def test_a_file_that_may_not_be_written(nobody):
    database = nobody / "chat.db"
    await written(database)
    database.chmod(0o444)
    assert "cannot be written: check the permissions" in await refused(database)
    database.chmod(0o000)
    assert "cannot be opened: check the permissions" in await refused(database)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no such device")
async def test_a_device_in_place_of_the_file(database):
    database.symlink_to("/dev/null")
    assert "is not a file" in await refused(database)
    assert not Path("/dev/null.serving").exists()


# --- epochs after a power cut ------------------------------------------------------------------


async def unclean(database: Path, sync: str, boot: str) -> tuple[str, str]:
    """The epochs before and after a run with `sync` that ended without closing, at `boot`."""
    async with Rooms("sqlite", database, sync=sync) as rooms:
        before = (await rooms.join()).epoch
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(
        "UPDATE meta SET value = ? WHERE name = 'running'", (f"{sync} {boot}".strip(),)
    )
    connection.close()
    async with Rooms("sqlite", database, sync=sync) as rooms:
        return before, (await rooms.join()).epoch


async def test_a_power_cut_under_normal_starts_a_new_epoch(database):
    before, after = await unclean(database, "normal", "another boot")
    assert before != after


async def test_a_power_cut_under_full_loses_nothing(database):
    before, after = await unclean(database, "full", "another boot")
    assert before == after


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whether it was off")
async def test_the_death_of_the_process_alone_loses_nothing_under_normal_either(database):
    before, after = await unclean(database, "normal", sqlite_file._boot())
    assert before == after
