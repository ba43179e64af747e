"""Gives a learner copies of the notebooks in work/, and opens them in JupyterLab.

The tracked files stay clean and nothing here ever overwrites or removes what a learner wrote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("notebooks", "exercises", "solutions")
# What lessons link to beside one another; reached from work/ by the same relative path.
LINKED = ("chatlab", "bench", "docs", "README.md")
FIRST = Path("work/notebooks/00_start_here.ipynb")
LEFT_OUT = {".ipynb_checkpoints", "__pycache__", "node_modules"}


class WorkError(Exception):
    """The request cannot be met; the text says what to write instead."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("copy", help="copy what is not in work/ yet")
    commands.add_parser("lab", help="copy, then open JupyterLab; further options go to it")
    fresh_parser = commands.add_parser("fresh", help="start one notebook over, keeping the old one")
    fresh_parser.add_argument("name", nargs="?", default="", help="03, exercises/03, steps/step1")
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "lab":
        parser.error(f"unknown: {' '.join(rest)}")
    root = options.root.resolve()
    try:
        if options.command == "fresh":
            kept, replaced = fresh(root, options.name)
            say(f"{replaced.relative_to(root)} is new; yours is {kept.relative_to(root)}")
            return 0
        copied = copy(root)
        say(f"work/: {len(copied)} files added" if copied else "work/: nothing to add")
        if options.command == "lab":
            trust(copied)
            command = lab_command(root, rest)
            os.chdir(root)
            os.execv(command[0], command)
    except WorkError as error:
        say(f"✗ {error}")
        return 1
    return 0


def copy(root: Path) -> list[Path]:
    """Copy into work/ each file that is not there yet; returns the copies made."""
    made = []
    for folder in FOLDERS:
        for source in files(root / folder):
            target = root / "work" / source.relative_to(root)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                made.append(target)
    link(root)
    return made


def files(folder: Path) -> Iterator[Path]:
    """The files of a folder that a learner works with, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in {".ipynb", ".py", ".md", ".svg", ".png", ".json"}:
            if not LEFT_OUT.intersection(path.parts):
                yield path


def link(root: Path) -> None:
    """Make `../chatlab/…` in a notebook mean the same in work/ as beside the tracked one.

    Where the system has no symbolic links the files are copied.
    """
    work = root / "work"
    for name in LINKED:
        source, target = root / name, work / name
        if not source.exists() or target.exists() or target.is_symlink():
            continue
        work.mkdir(exist_ok=True)
        try:
            target.symlink_to(Path("..") / name, target_is_directory=source.is_dir())
        except OSError:
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
            else:
                shutil.copyfile(source, target)


def fresh(root: Path, name: str) -> tuple[Path, Path]:
    """Replace one file of work/ by the tracked one; returns where the old one is, and the new.

    `name` is the beginning of a notebook's name, with its folder unless that is notebooks/: "03",
    "exercises/03", "steps/step1". Raises WorkError when it names no file, or several.
    """
    tracked = find(root, name)
    mine = root / "work" / tracked.relative_to(root)
    if not mine.exists():
        raise WorkError(f"{mine.relative_to(root)} is not there; `make lab` puts it there")
    kept = free_name(mine)
    mine.rename(kept)
    shutil.copyfile(tracked, mine)
    return kept, mine


def find(root: Path, name: str) -> Path:
    """The tracked file that `name` means."""
    if not name:
        raise WorkError("say which one: make fresh NB=03, or NB=exercises/03")
    wanted = name if name.split("/")[0] in FOLDERS else f"notebooks/{name}"
    tracked = [path for folder in FOLDERS for path in files(root / folder)]
    found = [path for path in tracked if path.relative_to(root).as_posix().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise WorkError(f"no notebook begins with {wanted!r}")
    several = ", ".join(path.relative_to(root).as_posix() for path in found)
    raise WorkError(f"{name!r} means several: {several}")


def free_name(path: Path) -> Path:
    """`03.mine.ipynb`, or with the first free number where there is one already."""
    number = 1
    while True:
        mark = "mine" if number == 1 else f"mine{number}"
        candidate = path.with_name(f"{path.stem}.{mark}{path.suffix}")
        if not candidate.exists():
            return candidate
        number += 1


def trust(copied: Sequence[Path]) -> None:
    """Sign new copies, so that JupyterLab shows their stored pictures before they are run."""
    notebooks = [path for path in copied if path.suffix == ".ipynb"]
    if not notebooks:
        return
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    for path in notebooks:
        notary.sign(nbformat.read(path, as_version=4))


def lab_command(
    root: Path,
    extra: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    user: int | None = None,
) -> list[str]:
    """The command that opens JupyterLab on the first lesson.

    It opens no browser on a Linux machine without a display (the address is in its log), and
    accepts root, as which containers run. `extra` comes last, so that it wins.
    """
    variables = os.environ if environment is None else environment
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        FIRST.as_posix(),
        f"--ServerApp.root_dir={root}",
        # The address in its log then leads to the lesson, too.
        f"--LabApp.default_url=/lab/tree/{FIRST.as_posix()}",
        f"--LabApp.app_settings_dir={root / 'authoring' / 'jupyterlab'}",
    ]
    if platform.startswith("linux") and not any(
        variables.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER")
    ):
        command.append("--no-browser")
    if (os.getuid() if user is None and hasattr(os, "getuid") else user) == 0:
        command.append("--allow-root")
    return [*command, *extra]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
