"""Runs a notebook as JupyterLab's Run All does: every cell is queued before the first one ends.

nbval and nbclient send one cell at a time and cannot see a fault that skips the cells behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from build import missing
from outputs import Rules, differences, kinds_of_image

STALLED_S = 60.0
START_S = 120.0
SHOWN = {"stream", "display_data", "execute_result", "error"}


@dataclass
class Cell:
    """A code cell, what it gave this time and how the kernel replied; "" is no reply at all."""

    index: int
    stored: NotebookNode
    outputs: list[NotebookNode] = field(default_factory=list)
    reply: str = ""
    idle_at: float = 0.0

    @property
    def tags(self) -> Sequence[str]:
        return list(self.stored.metadata.get("tags", []))

    @property
    def may_raise(self) -> bool:
        return "raises-exception" in self.tags


@dataclass
class Run:
    """One notebook's run: its cells, those left out and why, and where the seconds went."""

    cells: list[Cell]
    left_out: list[str]
    started_at: float

    def seconds(self, upto: int | None = None) -> float:
        """From the first cell's start to the end of the last one before cell `upto`."""
        ends = [cell.idle_at for cell in self.cells if upto is None or cell.index < upto]
        return max([*ends, self.started_at]) - self.started_at

    def faults(self, rules: Rules) -> list[str]:
        """What is wrong with it, as sentences that name the cell."""
        found = []
        for cell in self.cells:
            where = f"cell {cell.index}"
            if not cell.reply:
                found.append(f"{where} was never answered: it was skipped, or the kernel hangs")
            elif cell.reply != "ok" and not cell.may_raise:
                found.append(f"{where} was answered {cell.reply!r}{raised(cell.outputs)}")
            elif not {"nbval-ignore-output", "nbval-skip"} & set(cell.tags):
                changes = differences(cell.stored.outputs, cell.outputs, rules)
                if kinds_of_image(cell.stored.outputs) != kinds_of_image(cell.outputs):
                    changes.append("another number of pictures")
                found += [f"{where}: {change}" for change in changes]
        return found


def run_all(path: Path) -> Run:
    """Queue all code cells of the notebook at once in a new kernel, and gather what comes back.

    Ends when every cell is done or nothing has come for a minute. Raises RuntimeError where the
    kernel does not start. May be called from any thread that has no running loop.
    """
    return asyncio.run(_run_all(path))


async def _run_all(path: Path) -> Run:
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(cwd=str(path.parent), extra_arguments=["--IPKernelApp.log_level=40"])
    client = manager.client()
    try:
        client.start_channels()
        await client.wait_for_ready(timeout=START_S)
        return await gather(client, notebook)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def gather(client: Any, notebook: NotebookNode) -> Run:
    queued: dict[str, Cell] = {}
    left_out = []
    started_at = time.monotonic()
    for index, stored in enumerate(notebook.cells):
        if stored.cell_type != "code" or not stored.source.strip():
            continue
        cell = Cell(index, stored)
        part = missing(cell.tags)
        if part or "nbval-skip" in cell.tags:
            left_out.append(f"cell {index}" + (f" needs {part}" if part else " is skipped"))
            continue
        # JupyterLab sends the same: only a cell that is tagged so lets the queue go on.
        sent = client.execute(stored.source, allow_stdin=False, stop_on_error=not cell.may_raise)
        queued[sent] = cell
    await collect_outputs(client, queued)
    await collect_replies(client, queued)
    return Run(list(queued.values()), left_out, started_at)


async def collect_outputs(client: Any, queued: dict[str, Cell]) -> None:
    clear_before_next: set[str] = set()
    while not all(cell.idle_at for cell in queued.values()):
        try:
            message = await client.get_iopub_msg(timeout=STALLED_S)
        except Empty:
            return
        sender = message["parent_header"].get("msg_id", "")
        cell = queued.get(sender)
        if cell is None:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            cell.idle_at = time.monotonic()
        elif kind == "clear_output":
            if content.get("wait"):
                clear_before_next.add(sender)
            else:
                cell.outputs.clear()
        elif kind in SHOWN:
            if sender in clear_before_next:
                clear_before_next.discard(sender)
                cell.outputs.clear()
            cell.outputs.append(nbformat.v4.output_from_msg(message))


async def collect_replies(client: Any, queued: dict[str, Cell]) -> None:
    # The last reply may be a moment behind the last "idle"; one that is missing never comes.
    while not all(cell.reply for cell in queued.values()):
        try:
            message = await client.get_shell_msg(timeout=2.0)
        except Empty:
            return
        cell = queued.get(message["parent_header"].get("msg_id", ""))
        if cell is not None:
            cell.reply = message["content"]["status"]


def raised(outputs: Sequence[NotebookNode]) -> str:
    return "".join(
        f": {output['ename']}: {output['evalue']}"
        for output in outputs
        if output["output_type"] == "error"
    )
