"""What came of a run: one verdict a promise, and what they make together."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chatlab.grade.evidence import Packet
from chatlab.grade.promise import Level, Promise

__all__ = ["Report", "Result", "Verdict"]


class Verdict(enum.Enum):
    """What came of one promise."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_JUDGED = "not judged"

    @property
    def sign(self) -> str:
        """One character for a table."""
        return {"kept": "✓", "broken": "✗", "not judged": "○"}[self.value]


@dataclass(frozen=True, slots=True)
class Result:
    """One promise's verdict; `said` is how it was broken, or why it was not judged."""

    promise: Promise
    verdict: Verdict
    said: str = ""
    evidence: tuple[Packet, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. `level` is the level that was asked for."""

    url: str
    level: Level
    results: tuple[Result, ...]
    seconds: float = 0.0

    def __repr__(self) -> str:
        told = []
        for level in self.levels:
            counts = self.counts(level)
            each = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
            told.append(f"{level.title} {each}")
        return f"<Report {'; '.join(told) or 'of nothing'}>"

    def of(self, verdict: Verdict) -> tuple[Result, ...]:
        """The results with this verdict."""
        return tuple(result for result in self.results if result.verdict is verdict)

    @property
    def verdicts(self) -> dict[str, str]:
        """Each promise's id with its verdict's word."""
        return {result.promise.id: result.verdict.value for result in self.results}

    def counts(self, level: Level | None = None, concern: str | None = None) -> Counter[Verdict]:
        """How many of each verdict, at one level or of one concern or of all."""
        return Counter(
            result.verdict
            for result in self.results
            if level in (None, result.promise.level) and concern in (None, result.promise.concern)
        )

    @property
    def levels(self) -> Sequence[Level]:
        """The levels that were graded, lowest first."""
        return sorted({result.promise.level for result in self.results})

    @property
    def broken(self) -> bool:
        """Whether any promise was broken."""
        return bool(self.of(Verdict.BROKEN))

    def earned(self, level: Level) -> bool:
        """Whether every promise of this level that was judged was kept, and one was."""
        counts = self.counts(level)
        return not counts[Verdict.BROKEN] and counts[Verdict.KEPT] > 0
