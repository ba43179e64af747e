"""A disk that is full, a file that is locked or gone: what is lost is said, nothing is halved."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chatlab.errors import Unavailable
from tests.storage.rooms import Rooms, seqs
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE meta SET value = value WHERE name = 'probe'")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
connection.close()
"""


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process holds a write transaction."""
    other = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "locked\n"
        yield
        other.stdin.close()
        other.wait()


@pytest.fixture
async def patient(database: Path) -> AsyncIterator[Rooms]:
    """A log that waits for locks for longer than a test, and soon says that it does."""
    async with Rooms("sqlite", database, busy=50.0, stalled_after=0.1) as rooms:
        yield rooms


@pytest.fixture
async def calm(database: Path) -> AsyncIterator[Rooms]:
    """The same, which is not expected to say so."""
    async with Rooms("sqlite", database, busy=50.0, stalled_after=PATIENCE_S) as rooms:
        yield rooms


# --- a full disk -------------------------------------------------------------------------------


def fill_the_disk(command: list[str]) -> dict:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_what_was_seen(seen: dict) -> None:
    assert seen["whole"], "a batch was stored in part"
    assert seen["failed"]
    assert seen["readable"] >= 40
    assert seen["refused_at_once"]
    assert [seq for _, seq, _ in seen["acked"]] == list(range(1, len(seen["acked"]) + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of files")
async def test_what_no_longer_fits_is_refused_and_seq_goes_on_without_gap(database):
    seen = fill_the_disk(
        [sys.executable, "-m", "tests.storage.full_disk", "limit", str(database.parent)]
    )
    check_what_was_seen(seen)
    async with Rooms("sqlite", database) as rooms:
        stored = [[one.id, one.seq, one.text] for one in await rooms.everything()]
    assert stored == seen["acked"]


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system")
def test_a_file_system_that_is_full_and_freed_again(tmp_path):
    # A mount namespace of its own: what is mounted there is gone when the process is.
    unshare = next((one for one in (["unshare", "-m"], ["unshare", "-rm"]) if _mounts(one)), None)
    if unshare is None:
        pytest.skip("may not mount a file system")
    script = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    child = [sys.executable, "-m", "tests.storage.full_disk", "ballast", str(tmp_path)]
    check_what_was_seen(fill_the_disk([*unshare, "sh", "-c", script, str(tmp_path), *child]))


def _mounts(unshare: list[str]) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- a locked file -----------------------------------------------------------------------------


async def test_a_lock_that_lasts_makes_appends_fail_until_it_is_gone(database, caplog):
    async with Rooms("sqlite", database, busy=0.1) as rooms:
        await rooms.fill(3)
        with locked(database):
            with pytest.raises(Unavailable):
                await rooms.send("too late")
            assert not rooms.log.healthy
            known = rooms.log.append("general", "alice", "known to fail", None, "")
            assert known.done()
            with pytest.raises(Unavailable):
                await known
            with pytest.raises(Unavailable):
                await rooms.mark(read=1)
            assert seqs((await rooms.page()).messages) == [1, 2, 3]
        await until(lambda: rooms.log.healthy)
        assert (await rooms.send("at last")).message.seq == 4
        assert [one.text for one in await rooms.everything()] == ["1", "2", "3", "at last"]
    assert "messages cannot be stored: database is locked" in caplog.text
    assert "messages can be stored again" in caplog.text


async def test_a_short_lock_is_waited_for(patient, database):
    with locked(database):
        sent = patient.log.append("general", "alice", "hello", None, "")
        await asyncio.sleep(0)
    assert (await sent).message.seq == 1


async def test_a_commit_that_does_not_return_is_known_and_may_still_succeed(patient, database):
    with locked(database):
        sent = patient.log.append("general", "alice", "stuck", None, "")
        await until(lambda: not patient.log.healthy)
        with pytest.raises(Unavailable):  # else this would wait for the lock
            await patient.send("known to fail")
        assert not sent.done()
    assert (await sent).message.seq == 1
    assert patient.log.healthy
    assert (await patient.send("next")).message.seq == 2


async def test_what_arrives_during_a_commit_is_the_next_transaction(calm, database, monkeypatch):
    store, sizes = calm.log._store, []

    def commit(operations, *, really=store.commit):
        sizes.append(len(operations))
        return really(operations)

    monkeypatch.setattr(store, "commit", commit)
    with locked(database):
        sent = [calm.log.append("general", "alice", "first", None, "")]
        await until(lambda: sizes == [1])
        for number in range(20):
            sent.append(calm.log.append("general", "alice", str(number), None, ""))
            await asyncio.sleep(0)
    await asyncio.gather(*sent)
    assert sizes == [1, 20]


async def test_who_stops_waiting_does_not_take_the_message_back(calm, database):
    with locked(database):
        sent = asyncio.wait_for(calm.log.append("general", "alice", "hello", "k", ""), 0.05)
        with pytest.raises(TimeoutError):
            await sent
        waiting = asyncio.create_task(calm.send("another"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await until(lambda: len(calm.fed["general"]) == 2)
    assert (await calm.send("hello", key="k")).message.seq == 1
    assert seqs(await calm.everything()) == [1, 2]


async def test_no_more_than_so_many_wait(database):
    async with Rooms("sqlite", database, busy=50.0, most_waiting=10) as rooms:
        with locked(database):
            sent = [rooms.log.append("general", "alice", str(n), None, "") for n in range(11)]
            with pytest.raises(Unavailable):
                await sent[10]
        assert [(await one).message.seq for one in sent[:10]] == list(range(1, 11))
        assert (await rooms.send()).message.seq == 11


async def test_a_lock_does_not_keep_the_log_from_closing(database):
    async with Rooms("sqlite", database, busy=0.2) as rooms:
        with locked(database):
            sent = rooms.log.append("general", "alice", "hello", None, "")
            await rooms.log.close()
            with pytest.raises(Unavailable):
                await sent


# --- a file that goes away ---------------------------------------------------------------------


async def test_nothing_is_acked_into_a_file_that_was_removed(stored, database, caplog):
    await stored.fill(3)
    away = database.rename(database.with_name("moved.db"))
    with pytest.raises(Unavailable):
        await stored.send("lost")
    assert "was removed or replaced" in caplog.text
    away.rename(database)
    await until(lambda: stored.log.healthy)
    assert (await stored.send("kept")).message.seq == 4


async def test_an_unforeseen_fault_fails_its_batch_and_no_more(stored, caplog, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("chatlab.storage.sqlite_rows.replace", broken)
        with pytest.raises(Unavailable):
            await stored.send("never stored", key="k")
    await until(lambda: stored.log.healthy)
    sent = await stored.send("stored", key="k")
    assert (sent.message.seq, sent.duplicate) == (1, False)
    assert "ZeroDivisionError" in caplog.text


# --- closing -----------------------------------------------------------------------------------


async def test_closing_stores_what_was_appended_and_leaves_one_file(database):
    rooms = Rooms("sqlite", database)
    await rooms.log.open()
    sent = [rooms.log.append("general", "alice", str(n), None, "") for n in range(3_000)]
    await rooms.log.close()
    assert all(one.done() for one in sent)
    assert len(rooms.fed["general"]) == 3_000
    assert [path.name for path in database.parent.iterdir()] == ["chat.db"]
    with pytest.raises(Unavailable):
        await rooms.send()
    for asked in (rooms.join(), rooms.page(), rooms.mark()):
        with pytest.raises(Unavailable):
            await asked
    await rooms.log.close()
    async with Rooms("sqlite", database) as again:
        assert len(await again.everything()) == 3_000


async def test_a_log_that_was_never_opened_says_unavailable(database):
    rooms = Rooms("sqlite", database)
    with pytest.raises(Unavailable):
        await rooms.send()
    with pytest.raises(Unavailable):
        await rooms.join()
    await rooms.log.close()
    assert list(database.parent.iterdir()) == []
