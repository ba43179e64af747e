"""A backup taken while the server serves can be restored, and clients are told that it was."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from chatlab import ChatClient
from chatlab.lab import process
from chatlab.lab.part import Part
from chatlab.lab.process import Process
from chatlab.lab.valkey import Valkey
from tests.deploy.files import ROOT

NEW_EPOCHS = ROOT / "deploy" / "new_epochs.py"
NAME = "deploy-restored"


class Store:
    """A server on a store that can be copied and put back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: Process | None = None

    def start(self) -> Process:
        self.server = process("--storage", self.url, name=NAME)
        return self.server

    def stop(self) -> None:
        assert self.server is not None
        self.server.stop()

    @property
    def url(self) -> str:
        raise NotImplementedError

    def back_up(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.stop()


class Sqlite(Store):
    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/chat.db"

    def back_up(self) -> None:
        with (
            closing(sqlite3.connect(self.folder / "chat.db")) as store,
            closing(sqlite3.connect(self.folder / "backup")) as copy,
        ):
            store.backup(copy)

    def restore(self) -> None:
        for path in self.folder.glob("chat.db*"):
            path.unlink()
        shutil.copy(self.folder / "backup", self.folder / "chat.db")


class InValkey(Store):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.valkey = Valkey(name="deploy-store")

    @property
    def url(self) -> str:
        return self.valkey.url

    def back_up(self) -> None:
        with redis.Redis.from_url(self.url) as asking:
            asking.config_set("auto-aof-rewrite-percentage", 0)
            assert asking.info("persistence")["aof_rewrite_in_progress"] == 0
            shutil.copytree(self.valkey.folder / "appendonlydir", self.folder / "backup")
            asking.config_set("auto-aof-rewrite-percentage", 100)

    def restore(self) -> None:
        self.valkey.kill()
        shutil.rmtree(self.valkey.folder / "appendonlydir")
        shutil.copytree(self.folder / "backup", self.valkey.folder / "appendonlydir")
        self.valkey.restart()

    def close(self) -> None:
        self.stop()
        part: Part = self.valkey
        part.stop()


@pytest.fixture(params=[Sqlite, InValkey])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = request.param(tmp_path)
    yield made
    made.close()


async def test_after_a_restore_and_new_epochs_who_returns_is_told_that_history_is_lost(
    store: Store,
) -> None:
    server = store.start()
    async with ChatClient(server, server.token("alice")) as alice:
        before = await alice.join("general")
        for text in ("one", "two", "three"):
            await alice.send(text)
        store.back_up()
        await alice.send("four")
    store.stop()
    store.restore()
    subprocess.run([sys.executable, NEW_EPOCHS, store.url], check=True, capture_output=True)
    server = store.start()
    async with ChatClient(server, server.token("bob")) as bob:
        joined = await bob.join("general")
        assert [message.text for message in joined.messages] == ["one", "two", "three"]
        # They have the numbers that alice knows of others.
        await bob.send("another four")
        await bob.send("five")
    async with ChatClient(server, server.token("alice")) as alice:
        again = await alice.join("general", after=4, epoch=before.epoch)
        assert again.lost
        assert again.messages[-1].text == "five"
