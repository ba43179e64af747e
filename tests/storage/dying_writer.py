"""A process that stores messages and says so, until it is killed.

    python -m tests.storage.dying_writer FILE ROUND SYNC

Prints `seq key` for each ack, at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from chatlab.storage.sqlite import SqliteLog


async def talk(log: SqliteLog, name: str) -> None:
    number = 0
    while True:
        key = f"{name}-{number}"
        acked = await log.append("general", name, f"text of {key}", key, "")
        os.write(1, f"{acked.message.seq} {key}\n".encode())
        number += 1


async def main(path: Path, name: str, sync: str) -> None:
    log = SqliteLog(path, sync=sync)
    await log.open()
    await asyncio.gather(*[talk(log, f"{name}.{user}") for user in range(8)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
