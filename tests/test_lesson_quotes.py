"""What a lesson quotes from a file is what stands in that file today."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS = ROOT / "notebooks" / "steps"
SOURCES = sorted((ROOT / "authoring").glob("0[0-8]_*.py"))


def text_of(source: Path) -> str:
    """The text cells of a lesson, one after the other."""
    cells = jupytext.read(source, fmt="py:percent").cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def difference(before: str, after: str) -> str:
    """What a lesson shows folded: the unified difference of two steps, one line of context."""
    lines = difflib.unified_diff(
        (STEPS / before).read_text(encoding="utf-8").splitlines(),
        (STEPS / after).read_text(encoding="utf-8").splitlines(),
        before,
        after,
        n=1,
        lineterm="",
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_difference_that_a_lesson_ends_with_is_that_of_the_steps(source: Path) -> None:
    for block in blocks(text_of(source), "diff"):
        before, after = re.findall(r"^(?:---|\+\+\+) (step\d\.py)$", block, flags=re.MULTILINE)
        assert block == difference(before, after), (
            f"{before} or {after} has changed; this belongs into {source.name}:\n\n"
            + "".join(f"# {line}".rstrip() + "\n" for line in difference(before, after).split("\n"))
        )


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_lines_that_a_lesson_quotes_from_chatlab_are_there(source: Path) -> None:
    for section in re.findall(r"^## In chatlab\n(.*?)(?=^## )", text_of(source), re.M | re.S):
        files = re.findall(r"\]\(\.\./(chatlab/[\w/]+\.py)\)", section)
        code = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        for block in blocks(section, "python"):
            assert block in code, f"{source.name} quotes what is in none of {files}:\n\n{block}"
