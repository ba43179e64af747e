"""A process of its own whose disk becomes full while it stores messages, and is freed again.

    python -m tests.storage.full_disk limit FOLDER     no file may grow past 300 KB (RLIMIT_FSIZE)
    python -m tests.storage.full_disk ballast FOLDER   a file takes what is left of the disk

Its last line of output is JSON: what was acked, in order, and what it saw on the way.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from chatlab.errors import Unavailable
from chatlab.protocol import Message
from tests.storage.rooms import Rooms
from tests.waiting import until

BATCH = 40


def limit(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    return fill, free


def ballast(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    weight = folder / "ballast"

    def fill() -> None:
        with weight.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                file.truncate(file.tell() - 100_000)

    return fill, weight.unlink


async def batch(rooms: Rooms, name: str) -> list[Message]:
    """The messages that were acked of a batch that is made at once."""
    text = "x" * 1_000
    sent = [
        rooms.log.append("general", "alice", f"{name} {n} {text}", f"{name} {n}", "")
        for n in range(BATCH)
    ]
    done = await asyncio.gather(*sent, return_exceptions=True)
    assert all(not isinstance(one, BaseException) or isinstance(one, Unavailable) for one in done)
    return [one.message for one in done if not isinstance(one, BaseException)]


async def main(how: str, folder: Path) -> None:
    fill, free = {"limit": limit, "ballast": ballast}[how](folder)
    async with Rooms("sqlite", folder / "chat.db") as rooms:
        acked = await batch(rooms, "before")
        fill()
        number, sizes = 0, []
        while rooms.log.healthy:
            got = await batch(rooms, f"filling {number}")
            acked += got
            sizes.append(len(got))
            number += 1
        refused = rooms.log.append("general", "alice", "known", None, "")
        at_once = refused.done() and isinstance(refused.exception(), Unavailable)
        assert await batch(rooms, "known") == []
        readable = len((await rooms.page(limit=200)).messages)
        free()
        await until(lambda: rooms.log.healthy)
        acked += await batch(rooms, "after")
        seen = {
            "acked": [[one.id, one.seq, one.text] for one in acked],
            "whole": set(sizes) <= {0, BATCH},
            "failed": sizes[-1] == 0,
            "refused_at_once": at_once,
            "readable": readable,
        }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
