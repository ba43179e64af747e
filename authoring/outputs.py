"""What a cell printed: normalised for storing, and compared as nbval compares it.

The rules are those of tests/nbval.cfg, so that a build, the tests and a reader's diff agree.
"""

from __future__ import annotations

import configparser
import copy
import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

IMAGES = ("image/png", "image/jpeg")
# nbval compares none of these either.
NOT_COMPARED = ("metadata", "traceback", "output_type", "execution_count", "name", *IMAGES)
# How much of a difference is shown.
LINES, WIDTH = 12, 160
WIDGET = "application/vnd.jupyter.widget-view+json"


class Rules:
    """The replacements of an nbval sanitize file, applied in the order in which they stand."""

    def __init__(self, path: Path) -> None:
        parser = configparser.RawConfigParser()
        parser.read_string(path.read_text(encoding="utf-8"))
        self._rules = [
            (re.compile(parser[name]["regex"]), parser[name]["replace"])
            for name in parser.sections()
        ]

    def apply(self, value: Any) -> Any:
        """`value` with every rule applied to each text in it, however deep."""
        if isinstance(value, str):
            for pattern, replacement in self._rules:
                value = pattern.sub(replacement, value)
            return value
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if isinstance(value, dict):
            return type(value)({key: self.apply(item) for key, item in value.items()})
        return value


def normalise(outputs: Sequence[NotebookNode], rules: Rules) -> list[NotebookNode]:
    """The outputs as they are stored: streams joined, the machine's own details replaced."""
    cleaned = []
    for output in joined(outputs):
        if "data" in output:
            output["data"] = {
                kind: value if kind in IMAGES else rules.apply(value)
                for kind, value in output["data"].items()
            }
        for key in ("text", "evalue", "traceback"):
            if key in output:
                output[key] = rules.apply(output[key])
        output.pop("transient", None)
        cleaned.append(output)
    return cleaned


def joined(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """A copy in which all text of one stream stands at its first place.

    How a stream is cut into messages is a matter of timing.
    """
    result: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in copy.deepcopy(list(outputs)):
        if output["output_type"] != "stream":
            result.append(output)
        elif output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
        else:
            streams[output["name"]] = output
            result.append(output)
    return result


def differences(
    stored: Sequence[NotebookNode], fresh: Sequence[NotebookNode], rules: Rules
) -> list[str]:
    """What nbval would object to, as sentences; an empty list where the two agree.

    Images, tracebacks and the order of unlike kinds are not compared.
    """
    before, after = by_kind(stored, rules), by_kind(fresh, rules)
    found = [f"no {kind} any more" for kind in sorted(before.keys() - after.keys())]
    found += [f"{kind} that is not stored" for kind in sorted(after.keys() - before.keys())]
    for kind in sorted(before.keys() & after.keys()):
        if before[kind] != after[kind]:
            found.append(f"{kind} differs\n{unlike(before[kind], after[kind])}")
    return found


def unlike(before: list[Any], after: list[Any]) -> str:
    """The first lines in which the two differ, short enough to be read in a terminal."""
    old, new = (
        [line for value in values for line in str(value).splitlines()] for values in (before, after)
    )
    lines = list(difflib.unified_diff(old, new, "stored", "now", n=0, lineterm=""))
    return "\n".join(f"  {line[:WIDTH]}" for line in lines[2 : 2 + LINES] if line[:2] != "@@")


def by_kind(outputs: Sequence[NotebookNode], rules: Rules) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = defaultdict(list)
    for output in joined(outputs):
        if output["output_type"] == "stream":
            kinds[output["name"]].append(rules.apply(output["text"]))
            continue
        for key, value in output.items():
            if key == "data":
                for kind, shown in value.items():
                    if kind not in (*NOT_COMPARED, WIDGET):
                        kinds[kind].append(rules.apply(shown))
            elif key not in NOT_COMPARED and key != "transient":
                kinds[key].append(rules.apply(value))
    return kinds


def kinds_of_image(outputs: Sequence[NotebookNode]) -> list[list[str]]:
    """The kinds of each picture in order, to see whether two runs drew the same number of them."""
    found = [sorted(set(output.get("data", {})) & set(IMAGES)) for output in joined(outputs)]
    return [kinds for kinds in found if kinds]
