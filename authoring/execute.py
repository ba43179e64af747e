"""Runs a built notebook in a kernel and keeps what is already stored where nothing changed.

A rebuild on unchanged sources therefore changes no byte, on any machine and Python.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from outputs import Rules, differences, kinds_of_image, normalise
from source import SourceError

CELL_TIMEOUT_S = 60
START_TIMEOUT_S = 120


def execute(
    built: NotebookNode,
    *,
    name: str,
    folder: Path,
    missing: Callable[[Sequence[str]], str | None],
) -> float:
    """Run every code cell of `built` in place, as a learner would from the top.

    `missing` says which part, named by a cell's tags, this machine lacks, if any; such a cell is
    not run and stays without a result. Returns the seconds that the cells took, the kernel's
    start not counted. Raises SourceError when a cell raises that is not tagged so.
    """
    client = NotebookClient(
        built,
        timeout=CELL_TIMEOUT_S,
        startup_timeout=START_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        allow_errors=False,
        # A kernel's own remarks about its debugger and its transport are of no use here.
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel():
        began = time.monotonic()
        for index, cell in enumerate(built.cells):
            if cell.cell_type != "code" or missing(cell.metadata.get("tags", [])):
                continue
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError) as error:
                raise SourceError(f"{name}, cell {index}: {error}") from None
            cell.metadata.pop("execution", None)
        return time.monotonic() - began


def settle(built: NotebookNode, stored: NotebookNode | None, rules: Rules) -> list[NotebookNode]:
    """Normalise what was just run, and keep each stored result that still says the same.

    A cell's stored outputs stay where its source is the same and nbval would see no difference:
    a picture is drawn anew only when the cell that draws it changes. So do those of a cell that
    was not run, and of one tagged `nbval-ignore-output`, whose result is a measurement.
    Returns the cells that were not run and have no stored result either.
    """
    kept = stored_outputs(stored)
    unrun = []
    for cell in built.cells:
        if cell.cell_type != "code":
            continue
        cell["outputs"] = normalise(cell.outputs, rules)
        before = kept[cell.source].pop(0) if kept[cell.source] else None
        ran = cell.execution_count is not None
        if before is None:
            if not ran and cell.source.strip():
                unrun.append(cell)
        elif not ran or same(before, cell, rules):
            number = cell.execution_count
            cell["outputs"] = before.outputs
            cell["execution_count"] = before.execution_count if number is None else number
        renumber(cell)
    return unrun


def same(before: NotebookNode, cell: NotebookNode, rules: Rules) -> bool:
    if "nbval-ignore-output" in cell.metadata.get("tags", []):
        return bool(before.outputs) == bool(cell.outputs)
    return not differences(before.outputs, cell.outputs, rules) and (
        kinds_of_image(before.outputs) == kinds_of_image(cell.outputs)
    )


def renumber(cell: NotebookNode) -> None:
    """A result carries its cell's number a second time; the two must not part."""
    for output in cell.outputs:
        if output["output_type"] == "execute_result":
            output["execution_count"] = cell.execution_count


def stored_outputs(stored: NotebookNode | None) -> dict[str, list[NotebookNode]]:
    """The executed cells of the notebook on disk by their source, so that a moved cell is found."""
    found: dict[str, list[NotebookNode]] = defaultdict(list)
    for cell in stored.cells if stored is not None else []:
        if cell.cell_type == "code" and cell.execution_count is not None:
            found[cell.source].append(cell)
    return found


def load(path: Path) -> NotebookNode | None:
    """The notebook on disk, or None where there is none yet."""
    if not path.exists():
        return None
    return nbformat.read(path, as_version=4)


def dump(built: NotebookNode) -> str:
    """The notebook as the text of its file, after checking that it is a valid one."""
    nbformat.validate(built)
    return nbformat.writes(built).rstrip("\n") + "\n"
