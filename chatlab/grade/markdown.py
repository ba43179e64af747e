"""Writes the promises into docs/grade.md: `python -m chatlab.grade.markdown docs/grade.md`.

What stands outside the two marks is written by hand and left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chatlab.grade.catalogue import catalogue
from chatlab.grade.promise import CONCERNS, Level, Promise

__all__ = ["BEGIN", "END", "promises_as_markdown", "with_promises"]

BEGIN: Final = "<!-- promises: written by `python -m chatlab.grade.markdown docs/grade.md` -->"
END: Final = "<!-- end of promises -->"


def promises_as_markdown(promises: Iterable[Promise]) -> str:
    """A section for each level, in it a table for each concern."""
    promises = list(promises)
    parts = []
    for level in Level:
        mine = [promise for promise in promises if promise.level is level]
        parts.append(f"### {level.title}: {len(mine)} promises")
        for concern in CONCERNS:
            rows = [_row(promise) for promise in mine if promise.concern == concern]
            if rows:
                head = f"| {concern} | | needs |\n|---|---|---|"
                parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts)


def with_promises(text: str, promises: Iterable[Promise]) -> str:
    """`text` with what stands between the marks written anew.

    Raises `ValueError` where a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the text has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{promises_as_markdown(promises)}\n\n{END}{after}"


def _row(promise: Promise) -> str:
    means = [f"`--control {word}`" for word in promise.control]
    if promise.servers > 1:
        means.append("`--also`")
    sentence = promise.sentence.replace("|", "\\|")
    return f"| `{promise.id}` | {sentence} | {', '.join(means)} |"


def main(arguments: list[str]) -> int:
    """Rewrite the file that is named; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("python -m chatlab.grade.markdown FILE\n")
        return 2
    file = Path(arguments[0])
    file.write_text(with_promises(file.read_text(encoding="utf-8"), catalogue()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
