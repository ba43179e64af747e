"""What lesson 02 quotes is what the repository has."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
STEPS = ROOT / "notebooks" / "steps"


def page() -> str:
    notebook = nbformat.read(ROOT / "notebooks" / "02_authentication.ipynb", as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_it_shows_what_step_2_adds_to_step_1() -> None:
    before, after = ((STEPS / f"step{n}.py").read_text().splitlines() for n in (1, 2))
    wanted = difflib.unified_diff(before, after, "step1.py", "step2.py", n=1, lineterm="")
    shown = re.search(r"^```diff\n(.*?)^```$", page(), re.MULTILINE | re.DOTALL)
    assert shown
    # A comment's line in the source has no blank at its end, a diff's empty line has one.
    assert [line.rstrip() for line in shown[1].splitlines()] == [line.rstrip() for line in wanted]


def test_the_lines_that_it_quotes_of_chatlab_are_there() -> None:
    quoted = re.search(r"^```python\n( +except .*?)^```$", page(), re.MULTILINE | re.DOTALL)
    assert quoted
    assert quoted[1] in (ROOT / "chatlab" / "server" / "admission.py").read_text()
