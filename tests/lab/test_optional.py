"""A cell that needs a missing part says so and keeps the stored result in view."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from chatlab import doctor
from chatlab.lab import optional

CELL = "if here('node'):\n    print('run')"


@pytest.fixture
def without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(doctor.PARTS, "node", lambda: None)
    monkeypatch.setattr(optional, "_TRACKED", tmp_path)
    return tmp_path


@pytest.fixture
def shell() -> Any:
    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(config=config, user_ns={"here": optional.here})
    yield shell
    InteractiveShell.clear_instance()


def store(folder: Path, *outputs: Any) -> None:
    cell = nbformat.v4.new_code_cell(CELL, outputs=list(outputs))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "03_some.ipynb")


def test_where_the_part_is_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(doctor.PARTS, "node", lambda: "v20")
    assert optional.here("node")
    assert capsys.readouterr().out == ""


def test_the_stored_result_is_shown_instead(
    without_node: Path, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = nbformat.v4.new_output("stream", text="as it was\n")
    shown = nbformat.v4.new_output("execute_result", {"text/plain": "42"}, execution_count=1)
    store(without_node, printed, shown)
    shell.run_cell(CELL, store_history=True)
    said = capsys.readouterr().out
    assert said.startswith("not run here: this machine has no Node.js. Where it was run:\n\nas it")
    assert "42" in said


def test_packages_that_set_up_could_not_install_are_a_missing_part_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(doctor.PARTS, "node", lambda: "v20")
    assert not optional.here("node", packages=str(tmp_path))
    assert capsys.readouterr().out.startswith("not run here: set-up could not install")
    (tmp_path / "node_modules").mkdir()
    assert optional.here("node", packages=str(tmp_path))


def test_a_cell_that_was_changed_has_no_stored_result(
    without_node: Path, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store(without_node, nbformat.v4.new_output("stream", text="as it was\n"))
    (without_node / "04_damaged.ipynb").write_text("{")
    shell.run_cell(CELL + "  # changed", store_history=True)
    assert capsys.readouterr().out == "not run here: this machine has no Node.js.\n"


def test_outside_of_a_notebook_it_only_says_so(
    without_node: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not optional.here("node")
    assert capsys.readouterr().out == "not run here: this machine has no Node.js.\n"
    with pytest.raises(ValueError):
        optional.here("abacus")


def test_the_command_starts_node() -> None:
    if not doctor.has("node"):
        with pytest.raises(FileNotFoundError):
            optional.node_command()
        return
    command = [*optional.node_command(), "-p", "6 * 7"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"
