"""Which tasks the learner has solved, in a small file of the working copy, and a bar that shows it.

Outside a working copy (tests, the build of the notebooks, a tracked folder) it writes and shows
nothing, so that no stored output depends on it. It is no record of anything but ticks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Progress", "progress", "remember", "work_folder"]

_FILE = ".progress.json"


def work_folder() -> Path | None:
    """The working copy that we are in, or None.

    `CHATLAB_WORK` names it (empty: there is none); without it, it is the folder `work` that
    `make lab` fills, beside `authoring/work.py`, when the current folder is inside.
    """
    named = os.environ.get("CHATLAB_WORK")
    if named is not None:
        return Path(named) if named and Path(named).is_dir() else None
    here = Path.cwd()
    inside = (p for p in (here, *here.parents) if p.name == "work")
    return next((p for p in inside if (p.parent / "authoring" / "work.py").is_file()), None)


def remember(lesson: str, task: int) -> None:
    """Tick a task off. Outside a working copy, or where nothing can be written, do nothing."""
    folder = work_folder()
    if folder is None:
        return
    solved = _read(folder)
    if (lesson, task) in solved:
        return
    solved.add((lesson, task))
    content: dict[str, list[int]] = {}
    for name, number in sorted(solved):
        content.setdefault(name, []).append(number)
    # A full or read-only disk costs the tick, never the check's answer.
    with contextlib.suppress(OSError):
        _write(folder / _FILE, json.dumps({"version": 1, "solved": content}, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """Replace a file as one step: a reader sees the old one or the new one, never half of it."""
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _read(folder: Path) -> set[tuple[str, int]]:
    try:
        content: Any = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return {(str(k), int(n)) for k, tasks in content["solved"].items() for n in tasks}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()  # absent or damaged: begin again rather than bother the learner


def _all_tasks() -> list[tuple[str, int, str]]:
    """Every task that the package has a check for: lesson, number, goal."""
    from chatlab.lab.checks import Check

    try:
        package = importlib.import_module("chatlab.lab.exercises")
    except ModuleNotFoundError:
        return []
    found: dict[tuple[str, int], str] = {}
    for info in pkgutil.iter_modules(package.__path__, "chatlab.lab.exercises."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Check):
                found[value.lesson, value.task] = value.goal
    return [(lesson, task, goal) for (lesson, task), goal in sorted(found.items())]


@dataclass(frozen=True)
class Progress:
    """The tasks that exist, and which of them are solved."""

    tasks: tuple[tuple[str, int, str], ...]
    solved: frozenset[tuple[str, int]]

    def _lessons(self) -> dict[str, list[bool]]:
        rows: dict[str, list[bool]] = {}
        for lesson, task, _ in self.tasks:
            rows.setdefault(lesson, []).append((lesson, task) in self.solved)
        return rows

    def __repr__(self) -> str:
        rows = self._lessons()
        done = sum(map(sum, rows.values()))
        lines = [f"{done} of {len(self.tasks)} tasks solved"]
        lines += [f"  {k}  {''.join('✓' if t else '○' for t in v)}" for k, v in rows.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = self._lessons()
        done, total = sum(map(sum, rows.values())), len(self.tasks)
        part = 100 * done / total if total else 0
        ticks = "".join(
            f'<tr><td style="text-align:left">{k}</td>'
            f'<td style="text-align:left;letter-spacing:.2em">'
            f"{''.join('✓' if t else '○' for t in v)}</td></tr>"
            for k, v in rows.items()
        )
        return (
            '<div style="max-width:32em;color:var(--jp-content-font-color1, inherit)">'
            f"<div>{done} of {total} tasks solved</div>"
            f'<div role="progressbar" aria-valuemin="0" aria-valuemax="{total}" '
            f'aria-valuenow="{done}" style="height:.7em;border-radius:.35em;margin:.3em 0;'
            'background:var(--jp-layout-color3, #bdbdbd)"><div style="height:100%;'
            f"width:{part:.0f}%;border-radius:.35em;"
            'background:var(--jp-success-color1, #2e7d32)"></div></div>'
            f"<table>{ticks}</table></div>"
        )


def progress() -> Progress | None:
    """The bar of lesson 00: what is solved so far. None, which shows nothing, outside a copy."""
    folder = work_folder()
    if folder is None:
        return None
    return Progress(tuple(_all_tasks()), frozenset(_read(folder)))
