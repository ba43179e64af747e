"""The check of exercise 03's stretch: which errors pass by themselves, and which never do.

Every error is caused for real, inside a handler: by a locked file, a closed port, a storage that
says nothing. What a wrapper does with errors in general is checked in `ex03.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import socketio

from chatlab.lab.background import background
from chatlab.lab.checks import check, expect, written
from chatlab.lab.clients import raw_client

__all__ = ["RequestError", "tells_what_may_be_tried_again"]


class RequestError(Exception):
    """A no with its reason: a sentence for people, a word for programs, whether a retry helps."""

    def __init__(self, error: str, code: str, retry: bool = False, **more: Any) -> None:
        super().__init__(error)
        self.ack: dict[str, Any] = {
            "ok": False,
            "error": error,
            "code": code,
            "retry": retry,
            **more,
        }


class Storage:
    """A small SQLite file and what can go wrong around it, each as a handler's work."""

    def __init__(self, folder: str) -> None:
        self._file = Path(folder) / "chat.db"
        with self._open() as db:
            db.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, text TEXT)")
            db.execute("INSERT INTO messages VALUES (1, 'hello')")

    @contextlib.contextmanager
    def _open(self) -> Any:
        db = sqlite3.connect(self._file, timeout=0, isolation_level=None)
        try:
            yield db
        finally:
            db.close()

    async def locked(self) -> None:
        with self._open() as backup, self._open() as db:
            backup.execute("BEGIN EXCLUSIVE")
            db.execute("INSERT INTO messages (text) VALUES ('more')")

    async def no_such_table(self) -> None:
        with self._open() as db:
            db.execute("INSERT INTO mesages (text) VALUES ('more')")

    async def twice(self) -> None:
        with self._open() as db:
            db.execute("INSERT INTO messages VALUES (1, 'again')")

    async def damaged_text(self) -> None:
        with self._open() as db:
            db.execute("SELECT CAST(x'ff' AS TEXT)").fetchall()

    async def no_file(self) -> None:
        self._file.with_name("picture.png").read_bytes()

    async def nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as was_here:
            address = was_here.getsockname()
        await asyncio.open_connection(*address)

    async def says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            reader, writer = await asyncio.open_connection(*silent.getsockname())
            try:
                async with asyncio.timeout(0.05):
                    await reader.readline()
            finally:
                writer.close()

    async def a_bug(self) -> None:
        message: dict[str, str] = {}
        message["text"].strip()


Cause = Callable[[Storage], Awaitable[None]]

PASSES: list[tuple[str, Cause]] = [
    ("a file that another program has locked", Storage.locked),
    ("a port where nobody listens just now", Storage.nobody_listens),
    ("a storage that did not answer in time", Storage.says_nothing),
]
STAYS: list[tuple[str, Cause, str]] = [
    ("a `KeyError`", Storage.a_bug, "what is no matter of storage or of the line is a bug"),
    (
        "a table that does not exist",
        Storage.no_such_table,
        "it is an `OperationalError` as the locked file is: look at its `sqlite_errorcode`",
    ),
    ("an id that is taken", Storage.twice, "it will be taken the next time too"),
    (
        "a picture that does not exist",
        Storage.no_file,
        "it is an `OSError`, and so is a lost connection: name the kinds that pass",
    ),
    ("a text that cannot be read", Storage.damaged_text, "it is as damaged the next time"),
]


@check("the caller is told what may be tried again", task=3, lesson="03", stretch=True, limit=8.0)
async def tells_what_may_be_tried_again(told_as: Callable[[Exception], Any]) -> None:
    """`told_as(error)` gives the `RequestError` that a caller is told instead of `error`."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        for what, cause in PASSES:
            answer, raised = await _answer_to(told_as, cause, storage)
            _hides(answer, raised)
            expect(
                answer.get("retry") is True,
                f"{what} (`{_name(raised)}`) is final, says the answer — it passes by itself: "
                "`retry=True`",
            )
            expect(
                answer.get("code") == "unavailable",
                f"{what} is told as `{answer.get('code')}` — its code is `unavailable`",
            )
        for what, cause, remedy in STAYS:
            answer, raised = await _answer_to(told_as, cause, storage)
            _hides(answer, raised)
            expect(
                answer.get("retry") is False,
                f"{what} (`{_name(raised)}`) may be tried again, says the answer — {remedy}",
            )
            expect(
                answer.get("code") == "internal_error",
                f"{what} is told as `{answer.get('code')}` — its code is `internal_error`",
            )

        async def refuses(_: Storage) -> None:
            raise RequestError("Too many requests", "rate_limited", retry=True, retryAfter=2)

        answer, raised = await _answer_to(told_as, refuses, storage)
        expect(
            answer == getattr(raised, "ack", None),
            f"a `RequestError` was told as `{answer.get('code')}` — it says already what it is to "
            "say: give it back",
        )


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


def _hides(answer: dict[str, Any], raised: BaseException) -> None:
    expect(
        str(raised).strip() == "" or str(raised) not in str(answer),
        f"the caller was told the text of a `{type(raised).__name__}` — write a sentence of your "
        "own, the same for all",
    )


async def _answer_to(
    told_as: Callable[[Exception], Any], cause: Cause, storage: Storage
) -> tuple[dict[str, Any], BaseException]:
    """What a caller is told when `cause` happens in a handler, and what was raised."""
    raised: list[Exception] = []
    failed: list[BaseException] = []

    async def handler(sid: str) -> Any:
        try:
            await cause(storage)
        except Exception as error:
            raised.append(error)
        try:
            told = told_as(raised[0])
            told = written(await told if inspect.isawaitable(told) else told, "told_as")
            return told.ack
        except Exception as error:
            failed.append(error)
            return {}

    sio = socketio.AsyncServer(async_mode="aiohttp")
    sio.on("event", handler)
    async with (
        background(sio, name="check 03") as server,
        raw_client(server, name="alice") as alice,
    ):
        answer = await alice.call("event", timeout=2)
    if failed:
        raise failed[0]
    expect(
        isinstance(answer, dict) and answer.get("ok") is False,
        f"`told_as` gave back an answer of `{answer}` — give back a `RequestError`",
    )
    return answer, raised[0]
