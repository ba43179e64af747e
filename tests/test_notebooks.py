"""Every notebook survives Run All, keeps to its length and time, and links to what is there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

import work
from outputs import Rules, by_kind
from tests.links import broken_links
from tests.queued import Run, run_all
from tests.seconds import NOTEBOOK_SECONDS

ROOT = Path(__file__).resolve().parents[1]
RULES = Rules(ROOT / "tests" / "nbval.cfg")
NOTEBOOKS = [path for folder in work.FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]
LESSONS = [path for path in NOTEBOOKS if path.parent.name == "notebooks"]
# The quick reference is looked things up in; it has no core.
TAUGHT = [path for path in LESSONS if not path.name.startswith("09")]
EXERCISES = [path for path in NOTEBOOKS if path.parent.name == "exercises"]
SOLUTIONS = [path for path in NOTEBOOKS if path.parent.name == "solutions"]
CI = os.environ.get("CI", "").lower() in {"1", "true"}

CORE_CELLS, CORE_WORDS = 16, 1400
CELL_LINES = 12
CORE_S, FURTHER_S, EXERCISE_S = 12.0, 10.0, 10.0
LONG_LESSONS_S = {"06": 40.0, "07": 40.0, "08": 40.0}
# A budget is for a notebook that has the machine to itself; here two kernels share it with the
# other tests. This finds a lesson that has become several times as long, and measures nothing.
SLACK = 4.0
AT_ONCE = 2


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def further(notebook: NotebookNode) -> int:
    """The index of the cell that ends the core; the number of cells where none does."""
    return next(
        (
            index
            for index, cell in enumerate(notebook.cells)
            if cell.cell_type == "markdown" and cell.source.startswith("## Further")
        ),
        len(notebook.cells),
    )


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[Run]]]:
    """A run of each notebook that is asked for, two at a time, in the order of the tests."""
    asked = {
        item.callspec.params["path"]: None
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == "test_all_cells_queued_at_once_give_what_is_stored"
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {path: pool.submit(run_all, path) for path in asked}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_all_cells_queued_at_once_give_what_is_stored(
    path: Path, runs: dict[Path, Future[Run]], request: pytest.FixtureRequest
) -> None:
    run = runs[path].result()
    core = run.seconds(further(read(path)))
    request.config.stash[NOTEBOOK_SECONDS].append(
        f"{name(path)}: {core:.1f} s core, {run.seconds() - core:.1f} s further"
        + "".join(f"; not run: {each}" for each in run.left_out)
    )
    faults = run.faults(RULES)
    assert not faults, "\n".join(faults)
    if CI:
        assert not [each for each in run.left_out if "needs" in each]
    assert run.seconds() <= SLACK * budget(path)


def budget(path: Path) -> float:
    if path.parent.name != "notebooks":
        return EXERCISE_S
    return LONG_LESSONS_S.get(path.name[:2], CORE_S + FURTHER_S)


@pytest.mark.parametrize("path", TAUGHT, ids=name)
def test_the_core_of_a_lesson_is_short_enough_for_half_an_hour(path: Path) -> None:
    notebook = read(path)
    core = notebook.cells[: further(notebook)]
    code = [cell for cell in core if cell.cell_type == "code"]
    words = sum(words_of(cell.source) for cell in core if cell.cell_type == "markdown")
    assert len(code) <= CORE_CELLS
    assert words <= CORE_WORDS


@pytest.mark.parametrize("path", TAUGHT, ids=name)
def test_a_code_cell_of_the_core_is_short_enough_to_be_read_at_once(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells[: further(notebook)] if cell.cell_type == "code"]
    # The first one imports.
    long = [cell.source for cell in code[1:] if lines_of(cell.source) > CELL_LINES]
    assert not long, "\n\n".join(f"{lines_of(each)} lines:\n{each}" for each in long)


def lines_of(code: str) -> int:
    """The lines that have something in them."""
    return sum(1 for line in code.splitlines() if line.strip())


def words_of(markdown: str) -> int:
    """The words that are read: no code, no HTML, no addresses."""
    text = re.sub(r"^```.*?^```", " ", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", text)
    text = re.sub(r"\]\([^)]*\)", "] ", text)
    return len(re.findall(r"\w[\w'’.-]*", text))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the folders are stood in for by links")
def test_every_link_leads_somewhere_from_the_learners_copy_too(tmp_path: Path) -> None:
    for folder in (*work.FOLDERS, *work.LINKED):
        if (ROOT / folder).exists():
            (tmp_path / folder).symlink_to(ROOT / folder)
    work.copy(tmp_path)
    copies = sorted((tmp_path / "work").rglob("*.ipynb"))
    assert len(copies) == len(NOTEBOOKS)
    assert [fault for path in copies for fault in broken_links(path)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_nothing_stored_is_a_warning(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [
        by_kind(cell.outputs, RULES)["stderr"]
        for cell in cells
        if "stderr" in by_kind(cell.outputs, RULES)
    ] == []


def verdicts(path: Path) -> set[str]:
    """The signs with which the stored results of checks begin."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    shown = [
        line
        for cell in cells
        for kind in ("text/plain", "stdout")
        for text in by_kind(cell.outputs, RULES).get(kind, [])
        for line in text.splitlines()
    ]
    return {line[0] for line in shown if line[:1] in {"✓", "○", "✗"}}


@pytest.mark.parametrize("path", EXERCISES, ids=name)
def test_an_exercise_is_not_already_solved(path: Path) -> None:
    assert "○" in verdicts(path)


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_a_solution_solves_its_exercise(path: Path) -> None:
    assert verdicts(path) == {"✓"}


def test_each_exercise_has_a_solution_and_a_lesson() -> None:
    assert [path.name for path in EXERCISES] == [path.name for path in SOLUTIONS]
    assert {path.name for path in EXERCISES} <= {path.name for path in LESSONS}
