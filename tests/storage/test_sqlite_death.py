"""What was acked is there after the process was killed, and what was not is there once or never."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.storage.rooms import Rooms, seqs

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 20


def kill_a_writer(database: Path, name: str, sync: str, acks: int) -> list[tuple[int, str]]:
    """Start a writer, kill it after so many acks, and return all that it printed."""
    command = [sys.executable, "-m", "tests.storage.dying_writer", str(database), name, sync]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        printed = [writer.stdout.readline() for _ in range(acks)]
        writer.kill()
        printed += writer.stdout.readlines()
    # The last line may have been cut in the middle; then nobody was told.
    lines = [line.split() for line in printed if line.endswith("\n")]
    return [(int(seq), key) for seq, key in lines]


@pytest.mark.timeout(180)
async def test_every_message_that_was_acked_outlives_kill_9(database):
    chance = random.Random(9)
    acked: dict[str, int] = {}
    epochs = set()
    for round_ in range(ROUNDS):
        sync = ("full", "normal")[round_ % 2]
        told = kill_a_writer(database, str(round_), sync, chance.randrange(1, 150))
        acked |= {key: seq for seq, key in told}
        async with Rooms("sqlite", database, clock=time.time) as rooms:
            messages = await rooms.everything()
            assert seqs(messages) == list(range(1, len(messages) + 1))
            texts = {message.text: message.seq for message in messages}
            assert len(texts) == len(messages)
            assert {key: texts.get(f"text of {key}") for key in acked} == acked
            seq, key = told[-1]
            again = await rooms.send(f"text of {key}", user=key.rpartition("-")[0], key=key)
            assert (again.message.seq, again.duplicate) == (seq, True)
            epochs.add((await rooms.join()).epoch)
    assert len(epochs) == 1 or sys.platform != "linux"


@pytest.mark.parametrize(("sync", "pragma"), [("full", 2), ("normal", 1)])
async def test_a_commit_waits_for_the_disk_unless_told_otherwise(database, sync, pragma):
    # What no test can do is cut the power: that the writer asks for the right thing must do.
    async with Rooms("sqlite", database, sync=sync) as rooms:
        await rooms.send()
        writing = rooms.log._store._connection
        assert writing.execute("PRAGMA synchronous").fetchone() == (pragma,)
        assert writing.execute("PRAGMA journal_mode").fetchone() == ("wal",)
