"""Reads a py:percent source and makes the notebooks that it stands for, not yet executed.

It knows cells, tags and the solution markers; what a notebook prints is the business of execute.py.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
AUTHORING = ROOT / "authoring"

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
TURN = "...  # your turn"
STEM = re.compile(r"\d\d_[a-z0-9_]+")

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class SourceError(Exception):
    """A source that cannot be built; the text names the file, the line or cell, and the remedy."""


@dataclass(frozen=True)
class Target:
    """One notebook to build: its source, its kind and where it goes.

    `kind` is "notebooks", "exercises" or "solutions", the folder that the notebook is built into.
    """

    source: Path
    kind: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.name}"


def targets(root: Path = ROOT, only: str = "") -> list[Target]:
    """Every notebook that the sources under `root` ask for, in the order of the lessons.

    `only` keeps those whose name begins with it: "01", "exercises/01", "solutions".
    """
    found = []
    for source in sorted((root / "authoring").glob("[0-9][0-9]_*.py")):
        found.append(Target(source, "notebooks", root / "notebooks" / f"{source.stem}.ipynb"))
    for source in sorted((root / "authoring" / "exercises").glob("[0-9][0-9]_*.py")):
        for kind in ("exercises", "solutions"):
            found.append(Target(source, kind, root / kind / f"{source.stem}.ipynb"))
    for target in found:
        if not STEM.fullmatch(target.source.stem):
            raise SourceError(
                f"{target.source.name}: a source is named NN_words.py, in lower case, "
                "because all folders share its stem"
            )
    return [target for target in found if target.name.startswith(only) or wanted(target, only)]


def programs(target: Target) -> list[Target]:
    """The programs that go with an exercise: what a learner writes as a file and not in cells.

    `authoring/exercises/08/my_chat.py` is for exercise 08: `exercises/my_chat.py`, with the
    solution cut out, and `solutions/my_chat.py`.
    """
    if target.kind == "notebooks":
        return []
    folder = target.source.parent / target.source.stem[:2]
    return [
        Target(source, target.kind, target.path.with_name(source.name))
        for source in sorted(folder.glob("*.py"))
    ]


def program(target: Target) -> str:
    """The text of one program of an exercise. Raises SourceError as `notebook` does."""
    text = target.source.read_text(encoding="utf-8")
    check_markers(text, target.source.name)
    cut = cut_solutions if target.kind == "exercises" else drop_markers
    # A marker that stood alone leaves the empty lines of both its sides.
    return re.sub(r"\n{4,}", "\n\n\n", cut(text)) + "\n"


def wanted(target: Target, only: str) -> bool:
    """True where `only` names the target without its folder, as NB=01 does."""
    return target.path.name.startswith(only)


def notebook(target: Target) -> nbformat.NotebookNode:
    """The notebook of one target: cells, tags and ids, with no output yet.

    Raises SourceError for an unclosed, nested or stray solution marker.
    """
    text = target.source.read_text(encoding="utf-8")
    check_markers(text, target.source.name)
    parsed = jupytext.reads(text, fmt="py:percent")
    cells = []
    for cell in parsed.cells:
        tags = list(cell.metadata.get("tags", []))
        if target.kind == "exercises":
            if "solution" in tags:
                continue
            source = cut_solutions(cell.source)
        else:
            source = drop_markers(cell.source)
        cells.append(new_cell(cell.cell_type, source, tags))
    for index, cell in enumerate(cells):
        cell["id"] = cell_id(target.source.stem, index)
    built = nbformat.v4.new_notebook(cells=cells)
    built.metadata = nbformat.from_dict(
        {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    )
    return built


def new_cell(kind: str, source: str, tags: list[str]) -> nbformat.NotebookNode:
    make: Any = {
        "code": nbformat.v4.new_code_cell,
        "markdown": nbformat.v4.new_markdown_cell,
        "raw": nbformat.v4.new_raw_cell,
    }[kind]
    cell: nbformat.NotebookNode = make(source)
    if tags:
        cell.metadata["tags"] = tags
    return cell


def cell_id(stem: str, index: int) -> str:
    """An id that stays the same from build to build; nbformat's own is random."""
    return hashlib.sha1(f"{stem}:{index}".encode(), usedforsecurity=False).hexdigest()[:8]


def check_markers(text: str, name: str) -> None:
    """Raise SourceError unless every BEGIN is closed in its own cell and no two are nested."""
    opened = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped == BEGIN:
            if opened:
                raise SourceError(f"{name}:{number}: a solution inside that of line {opened}")
            opened = number
        elif stripped == END:
            if not opened:
                raise SourceError(f"{name}:{number}: the end of a solution that has no beginning")
            opened = 0
        elif line.startswith("# %%") and opened:
            raise SourceError(f"{name}:{opened}: this solution is not closed before the next cell")
        elif "SOLUTION" in stripped and stripped.startswith("###"):
            raise SourceError(f"{name}:{number}: write {BEGIN!r} or {END!r}, not {stripped!r}")
    if opened:
        raise SourceError(f"{name}:{opened}: this solution is never closed")


def cut_solutions(source: str) -> str:
    """A cell as the learner gets it: each marked block is one `...  # your turn` in its place."""
    kept: list[str] = []
    inside = False
    for line in source.splitlines():
        if line.strip() == BEGIN:
            inside = True
            kept.append(line[: len(line) - len(line.lstrip())] + TURN)
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def drop_markers(source: str) -> str:
    """A cell as the solution shows it: the marked lines stay and the markers go."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))
