"""The report for people: a table by concern, the evidence of what was broken, and a summary.

It is plain text, fitted to the width it is given; for programs there are `report_json` and
`report_junit`.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable
from typing import Final, TextIO

from chatlab.grade.promise import CONCERNS, Promise
from chatlab.grade.result import Report, Result, Verdict

__all__ = ["listing", "table", "wants_colour", "width_of"]

_COLOURS: Final = {Verdict.KEPT: "32", Verdict.BROKEN: "31", Verdict.NOT_JUDGED: "33"}
_NARROWEST: Final = 40


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: only a terminal, and not with NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int:
    """How many columns `stream` has; 100 where it is no terminal."""
    if not stream.isatty() and "COLUMNS" not in os.environ:
        return 100
    return max(_NARROWEST, min(120, shutil.get_terminal_size((100, 24)).columns))


def table(report: Report, *, width: int = 100, colour: bool = False, evidence: int = 8) -> str:
    """The whole report as text, lines no wider than `width`.

    `evidence` is how many packets are shown below a broken promise.
    """
    width = max(_NARROWEST, width)
    lines = [f"chatlab grade {report.url}", ""]
    for concern in CONCERNS:
        results = [result for result in report.results if result.promise.concern == concern]
        if not results:
            continue
        lines.append(_bold(concern.upper(), colour) + "  " + _counts(results, colour))
        for result in results:
            lines += _lines(result, width, colour, evidence)
        lines.append("")
    lines += _summary(report, width, colour)
    return "\n".join(lines) + "\n"


def listing(promises: Iterable[Promise], *, width: int = 100) -> str:
    """Every promise: level, id and sentence, by concern."""
    promises = list(promises)
    column = max((len(promise.id) for promise in promises), default=0)
    lines: list[str] = []
    for concern in CONCERNS:
        mine = [promise for promise in promises if promise.concern == concern]
        if mine:
            lines += [*([""] if lines else []), concern.upper()]
        for promise in mine:
            first = f"  {promise.level.title:<8}  {promise.id:<{column}}  "
            needs = _means(promise)
            sentence = promise.sentence + (f" ({needs})" if needs else "")
            if len(first) + 30 > width:
                lines.append(first.rstrip())
                lines += _wrapped(sentence, "      ", width)
            else:
                lines += _wrapped(sentence, first, width)
    return "\n".join(lines) + "\n"


def _means(promise: Promise) -> str:
    means = [f"--control {word}" for word in promise.control]
    if promise.servers > 1:
        means.append("--also")
    return "needs " + ", ".join(means) if means else ""


def _lines(result: Result, width: int, colour: bool, evidence: int) -> list[str]:
    promise = result.promise
    sign = _painted(result.verdict.sign, result.verdict, colour)
    first, *more = _wrapped(f"{promise.sentence}  [{promise.id}]", "    ", width)
    lines = [f"  {sign} {first[4:]}", *more]
    if result.said:
        said = _wrapped(result.said, "      ", width)
        lines += [_painted(line, result.verdict, colour) for line in said]
    if result.verdict is Verdict.BROKEN:
        # The last packets: the trial ended with what showed it.
        lines += [_cut(f"      {packet}", width) for packet in result.evidence[-evidence:]]
    return lines


def _summary(report: Report, width: int, colour: bool) -> list[str]:
    lines = []
    for level in report.levels:
        counts = report.counts(level)
        kept, broken, rest = (counts[verdict] for verdict in Verdict)
        words = [f"{kept} kept", f"{broken} broken", f"{rest} not judged"]
        if broken:
            end, verdict = "", Verdict.BROKEN
        elif not kept:
            end, verdict = "nothing was judged", Verdict.NOT_JUDGED
        elif rest:
            end, verdict = "kept in full, as far as it was judged", Verdict.KEPT
        else:
            end, verdict = "kept in full", Verdict.KEPT
        sign = _painted(verdict.sign, verdict, colour)
        told = ", ".join(words) + (f": {end}" if end else "")
        first, *more = _wrapped(told, f"  {level.title:<8}  ", width)
        lines += [f"{sign}{first[1:]}", *more]
    return lines or ["Nothing was graded."]


def _counts(results: Iterable[Result], colour: bool) -> str:
    counts = [result.verdict for result in results]
    return "  ".join(
        _painted(f"{verdict.sign} {counts.count(verdict)}", verdict, colour)
        for verdict in Verdict
        if counts.count(verdict)
    )


def _wrapped(text: str, first: str, width: int) -> list[str]:
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,  # an id is copied whole, into --only
    )
    return lines or [first.rstrip()]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _painted(text: str, verdict: Verdict, colour: bool) -> str:
    return f"\x1b[{_COLOURS[verdict]}m{text}\x1b[0m" if colour else text


def _bold(text: str, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text
