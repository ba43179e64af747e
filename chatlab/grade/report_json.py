"""The report as JSON, for programs; docs/grade.md describes it, and it only ever grows."""

from __future__ import annotations

import json
from typing import Any

from chatlab.grade.result import Report, Result, Verdict

__all__ = ["as_json", "as_object"]


def as_json(report: Report) -> str:
    """The report as JSON text, indented, with a final newline."""
    return json.dumps(as_object(report), indent=2, ensure_ascii=False) + "\n"


def as_object(report: Report) -> dict[str, Any]:
    """The report as what JSON can hold."""
    return {
        "format": 1,
        "url": report.url,
        "level": report.level.name.lower(),
        "broken": report.broken,
        "seconds": round(report.seconds, 3),
        "levels": {
            level.name.lower(): {
                **{v.value.replace(" ", "_"): report.counts(level)[v] for v in Verdict},
                "earned": report.earned(level),
            }
            for level in report.levels
        },
        "promises": [_result(result) for result in report.results],
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "id": result.promise.id,
        "concern": result.promise.concern,
        "level": result.promise.level.name.lower(),
        "promise": result.promise.sentence,
        "verdict": result.verdict.value,
        "said": result.said,
        "seconds": round(result.seconds, 3),
        "evidence": [
            {"at": round(packet.at, 4), "who": packet.who, "way": packet.way, "text": packet.text}
            for packet in result.evidence
        ],
    }
