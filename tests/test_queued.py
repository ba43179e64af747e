"""The run that stands in for Run All sees what a learner would see, and says which cell it was."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from outputs import Rules
from tests.queued import Run, run_all

RULES = Rules(Path(__file__).with_name("nbval.cfg"))
SKIPS_LATER_CELLS = """\
import asyncio
import nest_asyncio
nest_asyncio.apply()
"""


def write(folder: Path, *sources: str, raises: int | None = None) -> Path:
    """A notebook of these cells that stores as their outputs what their last comment says."""
    cells = []
    for index, source in enumerate(sources):
        cell = nbformat.v4.new_code_cell(source, execution_count=index + 1)
        if "#" in source:
            text = source.rpartition("# ")[2]
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text + "\n")]
        if index == raises:
            cell.metadata["tags"] = ["raises-exception", "nbval-ignore-output"]
        cells.append(cell)
    path = folder / "01_try.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def replies(run: Run) -> list[str]:
    return [cell.reply for cell in run.cells]


def test_a_notebook_that_runs_through_has_no_fault(tmp_path: Path) -> None:
    slow = "time.sleep(0.2)\nprint('one')  # one"
    path = write(tmp_path, "import time", slow, "1 / 0", "2", raises=2)
    run = run_all(path)
    # The last cell shows a result that is not stored.
    assert run.faults(RULES) == ["cell 3: text/plain that is not stored"]
    assert replies(run) == ["ok", "ok", "error", "ok"]
    assert 0.2 <= run.seconds(upto=2) <= run.seconds() < 20


def test_a_cell_that_raises_by_mistake_takes_the_queue_with_it(tmp_path: Path) -> None:
    run = run_all(write(tmp_path, "1 / 0", "2"))
    assert replies(run) == ["error", "aborted"]
    assert run.faults(RULES) == [
        "cell 0 was answered 'error': ZeroDivisionError: division by zero",
        "cell 1 was answered 'aborted'",
    ]


def test_another_word_than_the_stored_one_is_a_fault(tmp_path: Path) -> None:
    (fault,) = run_all(write(tmp_path, "print('lost: some')  # lost: 0")).faults(RULES)
    assert "cell 0: stdout differs" in fault
    assert "lost: some" in fault


@pytest.mark.timeout(120)
def test_cells_that_a_patched_loop_skips_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nest_asyncio 1.6.0 under ipykernel 7: when this test fails, lesson 00 has an aside to lose.
    monkeypatch.setattr("tests.queued.STALLED_S", 3.0)
    path = write(tmp_path, SKIPS_LATER_CELLS, "asyncio.run(asyncio.sleep(1))", "1", "2")
    run = run_all(path)
    assert any("never answered" in fault for fault in run.faults(RULES)), replies(run)
