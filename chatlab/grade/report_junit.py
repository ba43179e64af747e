"""The report as JUnit XML, as continuous-integration systems take it: a suite for each concern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from chatlab.grade.promise import CONCERNS
from chatlab.grade.result import Report, Result, Verdict

__all__ = ["as_junit"]

# What XML 1.0 cannot hold, whatever a server sent.
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(report: Report) -> str:
    """The report as XML text.

    A broken promise is a failure, one that was not judged is skipped; the evidence is the case's
    `system-out`.
    """
    root = ElementTree.Element("testsuites", name="chatlab grade")
    _count(root, report.results, report.seconds)
    for concern in CONCERNS:
        results = [result for result in report.results if result.promise.concern == concern]
        if not results:
            continue
        suite = ElementTree.SubElement(root, "testsuite", name=concern)
        _count(suite, results, sum(result.seconds for result in results))
        suite.set("skipped", str(_of(results, Verdict.NOT_JUDGED)))
        for result in results:
            _case(suite, result)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(suite: ElementTree.Element, result: Result) -> None:
    promise = result.promise
    where = f"{promise.concern.replace(' ', '_')}.{promise.level.name.lower()}"
    case = ElementTree.SubElement(
        suite,
        "testcase",
        name=_legal(f"{promise.id}: {promise.sentence}"),
        classname=f"chatlab.grade.{where}",
        time=f"{result.seconds:.3f}",
    )
    if result.verdict is Verdict.BROKEN:
        told = ElementTree.SubElement(case, "failure", message=_legal(result.said), type="broken")
        told.text = _legal("\n".join(str(packet) for packet in result.evidence))
    elif result.verdict is Verdict.NOT_JUDGED:
        ElementTree.SubElement(case, "skipped", message=_legal(result.said))
    if result.evidence and result.verdict is not Verdict.BROKEN:
        out = ElementTree.SubElement(case, "system-out")
        out.text = _legal("\n".join(str(packet) for packet in result.evidence))


def _count(element: ElementTree.Element, results: Sequence[Result], seconds: float) -> None:
    element.set("tests", str(len(results)))
    element.set("failures", str(_of(results, Verdict.BROKEN)))
    element.set("errors", "0")
    element.set("time", f"{seconds:.3f}")


def _of(results: Sequence[Result], verdict: Verdict) -> int:
    return sum(result.verdict is verdict for result in results)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
