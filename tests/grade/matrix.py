"""Every mutation against every promise of other concerns: `python -m tests.grade.matrix [NAME …]`.

The tests try a few of those beside each mutation; this takes about six minutes. It ends with 1
where a promise of an unrelated concern is broken.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from chatlab.grade.catalogue import catalogue
from chatlab.lab import valkey
from tests.grade import broken
from tests.grade.broken import Mutation
from tests.grade.broken_trial import Servers, complaints, judge, others, serving, with_needs

AT_ONCE = 5


async def row(servers: Servers, mutation: Mutation, folder: Path, url: str) -> list[str]:
    """What is wrong with the verdicts of one mutation."""
    promises = catalogue()
    named = [promise for promise in promises if promise.id in mutation.turns]
    beside = with_needs(others(mutation, promises, all=True), mutation)
    with serving(servers, mutation, folder, url) as running:
        kept, turned = await judge(running, beside, named)
        return complaints(mutation, turned, kept)


async def matrix(names: list[str]) -> int:
    """Every row, each printed when it is done; how many say something."""
    mutations = broken.load()
    slots, wrong = asyncio.Semaphore(AT_ONCE), 0
    servers = Servers()
    try:
        with valkey(persist=False, name="matrix") as store, tempfile.TemporaryDirectory() as folder:

            async def one(mutation: Mutation) -> None:
                nonlocal wrong
                async with slots:
                    found = await row(servers, mutation, Path(folder), store.url)
                wrong += bool(found)
                print("✗" if found else "✓", mutation.name, flush=True)
                for complaint in found:
                    print("   ", complaint, flush=True)

            async with asyncio.TaskGroup() as group:
                for name in names or mutations:
                    group.create_task(one(mutations[name]))
    finally:
        servers.close()
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, asyncio.run(matrix(sys.argv[1:]))))
