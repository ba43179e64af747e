"""Runs the cases of the Autobahn test suite, which the package `kosoku` brings, against an echo.

A case is judged by the package alone; here the verdicts are only gathered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kosoku import FailureError, run_fuzzingclient

from tests.rfc6455.echo import serving

__all__ = ["COMPRESSION", "Verdicts", "judge"]

COMPRESSION = ("12.*", "13.*")
"""The cases of permessage-deflate, which chatlab does not offer unless it is told to."""


@dataclass
class Verdicts:
    """What came of the cases: how many of each kind, and the ids of those that failed."""

    kinds: Counter[str]
    failed: dict[str, str]

    def __len__(self) -> int:
        return self.kinds.total()

    @property
    def passed(self) -> int:
        return len(self) - len(self.failed)


async def judge(
    name: str,
    cases: Sequence[str] | None = None,
    *,
    without: Sequence[str] = COMPRESSION,
    at_a_time: int = 4,
) -> Verdicts:
    """Run cases (ids or patterns; None is all) against one of the echoes.

    Compression is on when its cases are wanted, as it is not `without` them.
    """
    compression = not set(COMPRESSION) <= set(without)
    async with serving(name, compression=compression) as url:
        try:
            results: Sequence[Any] = await run_fuzzingclient(
                url, cases, list(without), concurrency=at_a_time
            )
        except FailureError as error:
            results = error.results
    failed = {
        result.case_id: f"{result.behavior.value}: {result.result} {result.result_close}"
        for result in results
        if not result.passed
    }
    return Verdicts(Counter(result.behavior.value for result in results), failed)
