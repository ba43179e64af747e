"""The checker's running verdict: the record judged again and again, off the stage's loop.

A message on its way is not lost. So a fault counts here when it is still there some seconds later,
which the verdict of a run that is over need not wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from chatlab.lab.history import check_history
from chatlab.lab.history_report import KINDS, Fault, Report
from chatlab.stage.record import Record

__all__ = ["RULES", "Checker"]

RULES: Final = {
    "lost": "acked, and missing where it should have arrived",
    "duplicated": "shown twice to one reader, or stored twice for one send",
    "out of order": "two readers, or a reader and the room's count, disagree on the order",
    "gap": "a number of the room is left out for a reader",
    "leak": "delivered to somebody who is not in the room",
    "phantom": "delivered, and never sent like that",
    "acked twice": "one send with two answers, or two answers that differ",
}
_COUNTS: Final = ("sent", "acked", "refused", "unknown", "delivered", "excused")
_OFTEN: Final = 1.0  # seconds between two looks at the record, at least
_SHARE: Final = 8  # of the time, judging takes no more than one part in so many
_SETTLED: Final = 5.0  # seconds; a silence is noticed within 4
_MOST: Final = 12_000  # events, past which the record begins anew at the next calm moment
_TRACE: Final = 14  # lines of evidence
_LONGEST: Final = 10_000.0


class Checker:
    """Judges `record` while it grows, and calls `tell` with each new verdict.

    `lateness` says by how many seconds a wire is late on purpose.
    """

    def __init__(
        self,
        record: Record,
        *,
        since: float,
        lateness: Callable[[], float],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self.record = record
        self._since = since
        self._lateness = lateness
        self._tell = tell
        self.begun = record.begun  # what is counted began then, also where the record is newer
        self._earlier: Counter[str] = Counter()
        self._shown: dict[str, dict[str, Any]] = {}  # an example of each kind that was found
        self._first_seen: dict[str, float] = {}
        self._round = 0
        self.latest = self._message(None, [])

    def begin_anew(self, *, forget: bool = False) -> None:
        """A new record, and nothing of the old verdict."""
        self._round += 1
        self.record.begin_anew(forget=forget)
        self.begun = self.record.begun
        self._earlier.clear()
        self._shown.clear()
        self._first_seen.clear()
        self._say(self._message(None, []))

    async def run(self) -> None:
        """Judge until cancelled."""
        judged, pending = -1, False
        while True:
            began = time.monotonic()
            # What was waited for can become a fault without anything new.
            if len(self.record) != judged or pending:
                judged = len(self.record)
                pending = await self._judge()
                if judged > _MOST and self.record.calm and not pending:
                    self._carry_over()
            took = time.monotonic() - began
            await asyncio.sleep(max(_OFTEN, _SHARE * took))

    async def _judge(self) -> bool:
        """One look; says whether something in it has still to settle."""
        turn, events, vouched = self._round, list(self.record.events), self.record.vouched
        report = await asyncio.to_thread(check_history, events)
        if turn != self._round:
            return True
        now = time.monotonic()
        patience = _SETTLED + self._lateness()
        names = {str(fault): fault for fault in report.faults}
        self._first_seen = {name: self._first_seen.get(name, now) for name in names}
        settled = [f for name, f in names.items() if now - self._first_seen[name] >= patience]
        self._say(self._message(report, settled, vouched))
        return len(settled) < len(names)

    def _carry_over(self) -> None:
        for row in self.latest["rows"]:
            self._earlier[row["rule"]] = row["count"]
            if row["example"] is not None:
                self._shown[row["rule"]] = row
        for name in _COUNTS:
            self._earlier[name] = self.latest["counts"][name]
        self.record.begin_anew(forget=False)
        self._first_seen.clear()

    def _say(self, message: dict[str, Any]) -> None:
        before = {name: value for name, value in self.latest.items() if name != "at"}
        self.latest = message
        if {name: value for name, value in message.items() if name != "at"} != before:
            self._tell(message)

    def _message(
        self, report: Report | None, settled: list[Fault], vouched: int = 0
    ) -> dict[str, Any]:
        counts = {name: self._earlier[name] for name in _COUNTS}
        waiting = 0
        if report is not None:
            for name in _COUNTS:
                counts[name] += report.counts[name]
            # Nobody saw these being sent, so nobody can have seen an answer.
            counts["sent"] -= vouched
            counts["unknown"] -= vouched
            waiting = sum(report.counts[kind] > 0 for kind in KINDS) and len(report.faults)
            waiting -= len(settled)
        rows = [self._row(kind, report, settled) for kind in KINDS]
        broken = [row for row in rows if row["count"]]
        return {
            "type": "verdict",
            "at": round(time.monotonic() - self._since, 2),
            "since": round(self.begun - self._since, 2),
            "ok": not broken,
            "words": _words(broken, counts, waiting),
            "counts": {**counts, "waiting": waiting},
            "rows": rows,
        }

    def _row(self, kind: str, report: Report | None, settled: list[Fault]) -> dict[str, Any]:
        mine = [fault for fault in settled if fault.kind == kind]
        count = self._earlier[kind]
        if report is not None and mine:
            # Only some of a kind are kept with their evidence; all are counted.
            fresh = sum(fault.kind == kind for fault in report.faults) - len(mine)
            count += max(len(mine), report.counts[kind] - fresh)
        example = mine[0] if mine else None
        if example is None and kind in self._shown:
            return {**self._shown[kind], "count": count}
        return {
            "rule": kind,
            "count": count,
            "ok": not count,
            "words": RULES[kind],
            "example": None if example is None else example.sentence,
            "evidence": [] if example is None else example.trace.splitlines()[:_TRACE],
        }


def _words(broken: list[dict[str, Any]], counts: dict[str, int], waiting: int) -> str:
    if broken:
        return "Broken: " + ", ".join(f"{row['count']} {row['rule']}" for row in broken) + "."
    if not counts["sent"]:
        return "Nothing has been sent yet."
    if waiting:
        return "Nothing is wrong so far; something is still on its way."
    return "Nothing lost, doubled, out of order or leaked."
