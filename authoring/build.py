"""Builds notebooks/, exercises/ and solutions/ from the py:percent sources in authoring/.

It decides what to build and reports; authoring/README.md says how a source is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from chatlab import doctor
from execute import dump, execute, load, settle
from outputs import Rules
from source import ROOT, SourceError, Target, notebook, program, programs, targets

KINDS = ("notebooks", "exercises", "solutions")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="01, exercises/01 or solutions; default: all")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--execute", action="store_true", help="with --check: compare a rebuild")
    parser.add_argument("--anew", action="store_true", help="keep no stored result")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        chosen = choose(options.root, options.only)
        if options.check:
            faults = check(options.root, chosen, everything=not options.only)
            if options.execute and not faults:
                faults = [fault for one in chosen for fault in compare_rebuild(options.root, one)]
            for fault in faults:
                say(f"✗ {fault}")
            if not faults:
                say(f"✓ {len(chosen)} notebooks are in step with their sources")
            return 1 if faults else 0
        for target in chosen:
            build(options.root, target, anew=options.anew)
    except SourceError as error:
        say(f"✗ {error}")
        return 1
    return 0


def choose(root: Path, only: Sequence[str]) -> list[Target]:
    if not only:
        return targets(root)
    chosen = []
    for name in only:
        found = targets(root, name)
        if not found:
            raise SourceError(f"no source for {name!r}; there is authoring/NN_name.py")
        chosen += [target for target in found if target not in chosen]
    return chosen


def build(root: Path, target: Target, *, anew: bool = False) -> None:
    """Build and execute one notebook, and write it where that changes its file.

    The programs of an exercise come first: its cells run them.
    """
    for each in programs(target):
        each.path.parent.mkdir(exist_ok=True)
        write(each, program(each), "")
    text, seconds = rebuild(root, target, load(target.path), anew=anew)
    target.path.parent.mkdir(exist_ok=True)
    write(target, text, f"  {seconds:.1f} s")


def write(target: Target, text: str, remark: str) -> None:
    """Write the file where that changes it, and say which of the two it was."""
    before = target.path.read_text(encoding="utf-8") if target.path.exists() else ""
    if text != before:
        target.path.write_text(text, encoding="utf-8", newline="\n")
    say(f"{'=' if text == before else '✓'} {target.name}{remark}")


def rebuild(
    root: Path, target: Target, stored: NotebookNode | None, *, anew: bool = False
) -> tuple[str, float]:
    """The text of the notebook's file as a build makes it now, and the seconds its cells took."""
    rules = Rules(root / "tests" / "nbval.cfg")
    built = notebook(target)
    with tempfile.TemporaryDirectory(prefix="chatlab-build-") as spare:
        folder = target.path.parent if target.path.parent.exists() else Path(spare)
        seconds = execute(built, name=target.name, folder=folder, missing=missing)
    unrun = settle(built, None if anew else stored, rules)
    if unrun:
        lacking = ", ".join(
            sorted({missing(cell.metadata.get("tags", [])) or "" for cell in unrun})
        )
        raise SourceError(
            f"{target.name}: {len(unrun)} cells need {lacking}, which this machine lacks, and have "
            "no stored result to keep; build it on a machine that has it"
        )
    return dump(built), seconds


def missing(tags: Sequence[str]) -> str | None:
    """The part that a `needs-…` tag asks for and that this machine lacks, or None."""
    return next((part for part in doctor.needed(tags) if not doctor.has(part)), None)


def check(root: Path, chosen: Sequence[Target], *, everything: bool) -> list[str]:
    """What is out of step between sources and notebooks, without running anything."""
    faults = []
    for target in chosen:
        faults += [
            f"{each.name} is not what its source says: make notebooks"
            for each in programs(target)
            if not each.path.exists() or each.path.read_text(encoding="utf-8") != program(each)
        ]
        stored = load(target.path)
        if stored is None:
            faults.append(f"{target.name} is not built: make notebooks")
            continue
        faults += [f"{target.name}: {fault}" for fault in out_of_step(notebook(target), stored)]
        if dump(stored) != target.path.read_text(encoding="utf-8"):
            faults.append(f"{target.name} was saved by something else: make notebooks")
    if everything:
        known = {target.path for target in chosen}
        strays = [path for kind in KINDS for path in sorted((root / kind).glob("*.ipynb"))]
        faults += [
            f"{path.parent.name}/{path.name} has no source in authoring/"
            for path in strays
            if path not in known
        ]
    return faults


def out_of_step(built: NotebookNode, stored: NotebookNode) -> list[str]:
    if built.metadata != stored.metadata:
        return ["its metadata are not those of a build"]
    if len(built.cells) != len(stored.cells):
        return [f"{len(stored.cells)} cells, {len(built.cells)} in its source: make notebooks"]
    faults = []
    for index, (new, old) in enumerate(zip(built.cells, stored.cells, strict=True)):
        if (new.cell_type, new.source, new.metadata, new.id) != (
            old.cell_type,
            old.source,
            old.metadata,
            old.id,
        ):
            faults.append(f"cell {index} is not what its source says: make notebooks")
        elif old.cell_type == "code" and old.source.strip() and old.execution_count is None:
            faults.append(f"cell {index} was not run: make notebooks")
    return faults


def compare_rebuild(root: Path, target: Target) -> list[str]:
    """Run a notebook anew and require the bytes that are stored."""
    text, seconds = rebuild(root, target, load(target.path))
    say(f"  {target.name}  {seconds:.1f} s")
    if text == target.path.read_text(encoding="utf-8"):
        return []
    return [f"{target.name}: a rebuild would change it: make notebooks, and look at the diff"]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
