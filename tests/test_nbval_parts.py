"""The nbval run names the cells that it leaves out, and fails for what a notebook leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.run import NBVAL, NBVAL_PYTEST

ROOT = Path(__file__).resolve().parents[1]
LEAVES_A_PROCESS = """\
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(8)"]
child = subprocess.Popen(sleep, start_new_session=True)
"""


def nbval(folder: Path, source: str, *, tags: list[str], ci: bool) -> tuple[int, str]:
    """nbval's exit code and output for two cells on a machine that has no program on its PATH."""
    cells = [nbformat.v4.new_code_cell("1", execution_count=1)]
    cells[0].outputs = [
        nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=1)
    ]
    cells.append(nbformat.v4.new_code_cell(source, execution_count=2, metadata={"tags": tags}))
    path = folder / "01_try.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    environment = {**os.environ, "PATH": "", "CI": "true" if ci else "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *NBVAL, *NBVAL_PYTEST, str(path)]
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="browsers are not on the PATH there")
def test_a_cell_whose_part_is_missing_is_left_out_by_name(tmp_path: Path) -> None:
    code, said = nbval(tmp_path, "1 / 0", tags=["needs-browser"], ci=False)
    assert code == 0, said
    assert "01_try.ipynb::Cell 1 needs browser" in said
    assert "1 passed, 1 deselected" in said


@pytest.mark.skipif(sys.platform == "darwin", reason="browsers are not on the PATH there")
def test_in_ci_a_missing_part_is_an_error(tmp_path: Path) -> None:
    code, said = nbval(tmp_path, "1 / 0", tags=["needs-browser"], ci=True)
    assert code != 0
    assert "this machine lacks a part" in said
    assert "Cell 1 needs browser" in said


def test_a_notebook_that_leaves_a_process_behind_fails_the_run(tmp_path: Path) -> None:
    code, said = nbval(tmp_path, LEAVES_A_PROCESS, tags=[], ci=False)
    assert code == 1, said
    assert "2 passed" in said
    assert "LEFT BEHIND (the run fails): process" in said
