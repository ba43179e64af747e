"""The checker's verdict: counts, faults with their evidence, and two verdicts side by side.

It shows what `history_rules.py` found and finds nothing itself.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chatlab.lab import history_events as ev
from chatlab.lab.history_trace import Found, traces

__all__ = ["KINDS", "Comparison", "Fault", "Found", "Report", "compare", "report"]

KINDS = ("lost", "duplicated", "out of order", "gap", "leak", "phantom", "acked twice")
"""Every kind of fault, in the order in which they are shown."""

_KEPT = 20  # faults of a kind that are kept with their evidence; all are counted


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """One fault. `trace` is what was recorded of it, in order; shown, it is a line an event."""

    kind: str
    sentence: str
    room: str
    events: tuple[ev.Event, ...] = field(default=(), compare=False)
    begin: float = field(default=0.0, compare=False)

    @property
    def trace(self) -> str:
        """Who did and saw what, with seconds since the run began."""
        return "\n".join(ev.line(event, self.begin) for event in self.events)

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"

    def __repr__(self) -> str:
        return "\n".join([str(self), *(f"  {line}" for line in self.trace.splitlines())])


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The verdict on a run.

    `counts` has how many messages were `sent`, in how many `attempts`; how many were `acked`,
    `refused`, or neither (`unknown`); how many deliveries there were (`delivered`), how many
    losses are `excused` because the client was told; and the number of each kind of fault.
    `faults` keeps at most 20 of a kind, with their traces.
    """

    counts: Mapping[str, int]
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """No fault of any kind."""
        return not any(self.counts[kind] for kind in KINDS)

    def of(self, kind: str) -> tuple[Fault, ...]:
        """The faults of one kind. Raises `ValueError` for a kind that does not exist."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of fault; they are {', '.join(KINDS)}")
        return tuple(fault for fault in self.faults if fault.kind == kind)

    def words(self) -> str:
        """The verdict without numbers that differ from run to run: `lost: some · leak: 0 · …`."""
        return " · ".join(f"{kind}: {'some' if self.counts[kind] else 0}" for kind in KINDS)

    def _examples(self) -> list[Fault]:
        first: dict[str, Fault] = {}
        for fault in self.faults:
            first.setdefault(fault.kind, fault)
        return list(first.values())

    def _numbers(self) -> str:
        parts = [f"{name} {self.counts[name]:,}" for name in ("sent", "acked", "delivered")]
        parts += [
            f"{name} {self.counts[name]:,}" for name in ("unknown", "excused") if self.counts[name]
        ]
        return " · ".join(parts)

    def __repr__(self) -> str:
        kinds = " · ".join(
            f"{_sign(self.counts[kind])} {kind} {self.counts[kind]:,}" for kind in KINDS
        )
        return "\n".join([self._numbers(), kinds, *(f"  {fault}" for fault in self._examples())])

    def _repr_html_(self) -> str:
        return Comparison({"": self})._repr_html_()


class Comparison:
    """Several verdicts beside each other: a column for each, a row for each kind of fault."""

    def __init__(self, reports: Mapping[str, Report], *, counts: bool = True) -> None:
        self.reports = dict(reports)
        self._counts = counts

    def rows(self) -> list[tuple[str, list[str]]]:
        """What is shown: the row's name and a cell for each report."""
        reports = list(self.reports.values())
        rows = []
        if self._counts:
            names = ["sent", "acked", "unknown", "delivered", "excused"]
            for name in names:
                if name in names[:2] or any(report.counts[name] for report in reports):
                    rows.append((name, [f"{report.counts[name]:,}" for report in reports]))
        for kind in KINDS:
            rows.append((kind, [self._cell(report.counts[kind]) for report in reports]))
        return rows

    def _cell(self, number: int) -> str:
        return f"{_sign(number)} {f'{number:,}' if self._counts or not number else 'some'}"

    def __repr__(self) -> str:
        rows = [("", list(self.reports)), *self.rows()]
        wide = [max(len(cells[i]) for _, cells in rows) for i in range(len(self.reports))]
        return "\n".join(
            f"{name:<12}  " + "  ".join(c.rjust(w) for c, w in zip(cells, wide, strict=True))
            for name, cells in rows
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:right'>{html.escape(n)}</th>" for n in self.reports)
        body = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
            + "".join(f"<td style='text-align:right;{_colour(c)}'>{c}</td>" for c in cells)
            + "</tr>"
            for name, cells in self.rows()
        )
        table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        return table + "".join(_evidence(name, each) for name, each in self.reports.items())


def compare(reports: Mapping[str, Report], *, counts: bool = True) -> Comparison:
    """Verdicts side by side, by name: `compare({"stock": one, "chatlab": other})`.

    `counts=False` writes *some* for a number, for runs in which it differs from time to time.
    """
    return Comparison(reports, counts=counts)


def report(
    found: Iterable[Found],
    counts: Mapping[str, int],
    events: Sequence[ev.Event],
    *,
    begin: float,
) -> Report:
    """Count what was found, and look up the events that prove the first of each kind."""
    found = sorted(found, key=lambda fault: KINDS.index(fault.kind))
    total: Counter[str] = Counter()
    number: Counter[str] = Counter()
    kept = []
    for fault in found:
        total[fault.kind] += fault.count
        number[fault.kind] += 1
        if number[fault.kind] <= _KEPT:
            kept.append(fault)
    return Report(
        {**counts, **{kind: total[kind] for kind in KINDS}},
        tuple(
            Fault(fault.kind, fault.sentence, fault.room, trace, begin)
            for fault, trace in zip(kept, traces(kept, events), strict=True)
        ),
    )


def _sign(number: int) -> str:
    return "✗" if number else "✓"


def _colour(cell: str) -> str:
    if cell.startswith("✗"):
        return "color:var(--jp-error-color1, #c62828);font-weight:bold"
    return "color:var(--jp-success-color1, #2e7d32)" if cell.startswith("✓") else ""


def _evidence(name: str, report: Report) -> str:
    lines = "".join(
        f"<details><summary>{html.escape((f'{name}: ' if name else '') + str(fault))}</summary>"
        f"<pre style='margin:0 0 0 1.5em'>{html.escape(fault.trace)}</pre></details>"
        for fault in report._examples()
    )
    return f"<div>{lines}</div>" if lines else ""
