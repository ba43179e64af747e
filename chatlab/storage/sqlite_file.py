"""The database file: where it is, whether it can be used, and what is in it.

Everything that can be wrong with it at start becomes a `SettingsError` with one sentence. What is
done with it afterwards is not decided here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chatlab.errors import SettingsError

__all__ = ["check", "closed", "connect", "explained", "path_of", "prepare", "started"]

_APPLICATION: Final = int.from_bytes(b"chat", "big")
_SCHEMA: Final = 1
_OLDEST_SQLITE: Final = (3, 38)  # the first that always has JSON; window functions are older

_QUICK_CHECK_BYTES: Final = 256 * 1024 * 1024
"""Up to this size the whole file is checked at start: about half a second (350 to 550 MB/s were
measured on two cores, the file being in memory)."""

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE rooms (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE messages (
    room INTEGER NOT NULL, seq INTEGER NOT NULL,
    id TEXT NOT NULL, user TEXT NOT NULL, text TEXT NOT NULL, timestamp TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
CREATE TABLE members (
    room INTEGER NOT NULL, user TEXT NOT NULL,
    sent INTEGER NOT NULL, delivered INTEGER NOT NULL, read INTEGER NOT NULL,
    PRIMARY KEY (room, user)
) WITHOUT ROWID;
-- With a rowid, which grows with time: the oldest keys are found without an index of their own.
CREATE TABLE keys (
    number INTEGER PRIMARY KEY,
    room INTEGER NOT NULL, user TEXT NOT NULL, key TEXT NOT NULL,
    id TEXT NOT NULL, seq INTEGER NOT NULL, timestamp TEXT NOT NULL, digest TEXT NOT NULL,
    sent INTEGER NOT NULL,
    UNIQUE (room, user, key)
);
CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL, banned INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX banned ON users (id) WHERE banned;
-- Whoever changes a user, by whatever tool, is noticed by the server.
CREATE TRIGGER user_added AFTER INSERT ON users
    BEGIN UPDATE meta SET value = value + 1 WHERE name = 'users'; END;
CREATE TRIGGER user_changed AFTER UPDATE ON users
    BEGIN UPDATE meta SET value = value + 1 WHERE name = 'users'; END;
CREATE TRIGGER user_removed AFTER DELETE ON users
    BEGIN UPDATE meta SET value = value + 1 WHERE name = 'users'; END;
INSERT INTO meta VALUES ('users', 0), ('probe', 0), ('running', '');
"""

_WRONG: Final = {
    "SQLITE_NOTADB": "{path} is not a SQLite database: move it away, or choose another --storage",
    "SQLITE_CORRUPT": "{path} is damaged ({error}): restore it from a backup, or save what can be "
    "read with the sqlite3 program's .recover",
    "SQLITE_BUSY": "{path} is locked by another program: close whatever has it open",
    "SQLITE_LOCKED": "{path} is locked by another program: close whatever has it open",
    "SQLITE_READONLY": "{path} cannot be written: check the permissions of the file and its folder",
    "SQLITE_CANTOPEN": "{path} cannot be opened: check the permissions of the file and its folder",
    "SQLITE_PERM": "{path} cannot be opened: check the permissions of the file and its folder",
    "SQLITE_FULL": "{path} cannot be written: the disk is full",
}


def path_of(url: str) -> Path:
    """The file that `sqlite:///relative` or `sqlite:////absolute` names.

    Raises `SettingsError` for a URL without a file's name.
    """
    name = url.removeprefix("sqlite:///")
    if name == url or not name or name.endswith(("/", ":memory:")):
        raise SettingsError(
            f"{url} names no file: use sqlite:///relative/path, sqlite:////absolute/path, "
            "or memory:// to store nothing"
        )
    return Path(name)


def connect(path: Path, *, busy: float, sync: str = "full") -> sqlite3.Connection:
    """A connection in autocommit mode that waits `busy` seconds for another's lock.

    `sync` is `full` or `normal`. Raises `sqlite3.Error`.
    """
    # Absolute, so that SQLite takes no name for one of its special ones.
    connection = sqlite3.connect(
        path.absolute(), timeout=busy, isolation_level=None, check_same_thread=False
    )
    try:
        set_sync(connection, sync)
        connection.execute("PRAGMA cache_size = -16000")
    except BaseException:
        connection.close()
        raise
    return connection


def set_sync(connection: sqlite3.Connection, sync: str) -> None:
    """`full`: a commit has reached the disk when it is done. `normal`: it has left the process."""
    full = sync == "full"
    connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
    # macOS: its fsync alone leaves data in the drive's cache. Elsewhere this does nothing.
    connection.execute(f"PRAGMA fullfsync = {int(full)}")


def check(path: Path) -> None:
    """What can be said before the file is opened. Raises `SettingsError`."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        needed = ".".join(map(str, _OLDEST_SQLITE))
        raise SettingsError(
            f"this Python has SQLite {sqlite3.sqlite_version}, chatlab needs {needed} or newer"
        )
    folder = path.absolute().parent
    # os.path answers "no" where pathlib would raise, as in a folder that may not be entered.
    if not os.path.isdir(folder):
        raise SettingsError(
            f"{folder} is not a folder: make it before {path.name} can be kept there"
        )
    if os.path.isdir(path):
        raise SettingsError(f"{path} is a folder: add the name of a file to it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise SettingsError(f"{path} is not a file: choose another --storage")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite says about `path` into a `SettingsError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _sentence(path, error) from error


def _sentence(path: Path, error: sqlite3.Error) -> SettingsError:
    name = getattr(error, "sqlite_errorname", None) or ""
    for prefix, sentence in _WRONG.items():
        if name.startswith(prefix):
            return SettingsError(sentence.format(path=path, error=error))
    return SettingsError(f"{path} cannot be used: {error}")


def prepare(connection: sqlite3.Connection, path: Path, *, thorough: bool) -> None:
    """Make sure that the file is ours and whole, and create what is in it if it is new.

    `thorough` looks through the whole file, or, where it is large, through all but the messages
    and keys; a file that was cut short is noticed in any case. Raises `SettingsError` or
    `sqlite3.Error`.
    """
    if _is_new(connection, path):
        _use_wal(connection, path)
        _create(connection, path)
    elif thorough:
        _use_wal(connection, path)
        _look_through(connection, path)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    # In this order: another process may be making the file. What had tables then has their owner's
    # number by now, since both are written by one commit.
    tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    if _pragma(connection, "application_id") == _APPLICATION:
        schema = _pragma(connection, "user_version")
        if schema > _SCHEMA:
            raise SettingsError(
                f"{path} was written by a newer chatlab (its schema is {schema}, this one knows "
                f"{_SCHEMA}): upgrade chatlab"
            )
        return False
    if tables:
        raise SettingsError(f"{path} is the database of another program: choose another --storage")
    return True


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    # Two processes that do this at once to a new file may both be told that it is locked, at once
    # and whatever the timeout is.
    for attempt in range(50):
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
            break
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or attempt == 49:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise SettingsError(
            f"{path} is on a file system without shared memory, which SQLite's WAL needs: "
            "choose a local disk"
        )


def _create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_new(connection, path):
            for statement in _statements(_TABLES):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('token', ?)", (secrets.token_hex(16),))
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    # executescript() would commit first, and two processes may create the file at once.
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements


def _look_through(connection: sqlite3.Connection, path: Path) -> None:
    pages, page_size = _pragma(connection, "page_count"), _pragma(connection, "page_size")
    if pages * page_size <= _QUICK_CHECK_BYTES:
        checks = ["PRAGMA quick_check(1)"]
    else:
        checks = [f"PRAGMA quick_check({table})" for table in ("meta", "rooms", "users")]
    for statement in checks:
        found = connection.execute(statement).fetchall()[0][0]
        if found != "ok":
            error = sqlite3.DatabaseError(found.splitlines()[-1])
            error.sqlite_errorname = "SQLITE_CORRUPT"
            raise error


def started(connection: sqlite3.Connection, sync: str) -> str:
    """Note that the file is being served, and return the token of its epochs.

    With `sync` at `normal` a power cut may take acked messages, and their `seq` would be given to
    others. So where such a run did not end in `closed`, and the machine may have been off since,
    the token is a new one: every room starts a new epoch, and clients are told that history is
    lost. Leaves the connection with `sync`. Raises `sqlite3.Error`.
    """
    set_sync(connection, "full")
    connection.execute("BEGIN IMMEDIATE")
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    token, running, boot = str(meta["token"]), str(meta["running"]), _boot()
    if running.startswith("normal ") and (not boot or running != f"normal {boot}"):
        token = secrets.token_hex(16)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'token'", (token,))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'running'", (f"{sync} {boot}",))
    connection.execute("COMMIT")
    set_sync(connection, sync)
    return token


def closed(connection: sqlite3.Connection) -> None:
    """Note that everything has reached the disk. Raises `sqlite3.Error`."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    set_sync(connection, "full")
    connection.execute("UPDATE meta SET value = '' WHERE name = 'running'")


def _boot() -> str:
    """What is the same until the machine is started again; empty where that is not known."""
    try:  # Linux
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchall()[0][0])
