"""What a CI machine runs: the system's parts are installed where they are missing, and every test
runs in exactly one part."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests import run

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("bash", "dirname", "env", "cat")


class Machine:
    """A PATH with next to nothing on it; apt-get and make only write down that they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        for tool in TOOLS:
            (folder / tool).symlink_to(str(shutil.which(tool)))
        self.has("apt-get", "make", saying=f'echo "$(basename "$0") $*" >> "{self.log}"')
        (folder / "basename").symlink_to(str(shutil.which("basename")))
        self.has("git", "node", "npm", "python3")
        self.is_root()

    def has(self, *names: str, saying: str = "true") -> None:
        for name in names:
            (self.folder / name).write_text(f"#!{shutil.which('bash')}\n{saying}\n")
            (self.folder / name).chmod(0o755)

    def is_root(self, yes: bool = True) -> None:
        self.has("id", saying=f"echo {0 if yes else 1000}")

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / ".ci" / "run"],
            env={"PATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=20,
        )

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_a_browser_gets_chromium_and_a_font_before_the_tests(machine) -> None:
    assert machine.run().returncode == 0
    assert machine.calls == [
        "apt-get update -q",
        "apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core",
        "make test",
    ]


def names_that_the_tests_look_for() -> list[str]:
    # Read, not imported: this test is for machines without Playwright, too.
    tree = ast.parse((ROOT / "tests" / "browser" / "chromium.py").read_text())
    return next(
        list(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES"
    )


@pytest.mark.parametrize("name", names_that_the_tests_look_for())
def test_any_browser_that_the_tests_find_is_good_enough(machine, name) -> None:
    machine.has(name)
    assert machine.run().returncode == 0
    assert machine.calls == ["make test"]


def test_who_may_install_nothing_is_told_what_is_missing(machine) -> None:
    machine.is_root(False)
    ran = machine.run()
    assert ran.returncode == 1
    assert "Missing here: chromium fonts-dejavu-core." in ran.stderr
    assert machine.calls == []


def test_every_folder_that_runs_beside_the_others_is_there_and_runs_once() -> None:
    folders = run.beside_the_others()
    assert len(set(folders)) == len(folders)
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_what_runs_out_of_view_is_shown_whole_and_in_order_at_the_end(capsys) -> None:
    with run.Beside({"version": ["--version"], "nothing": ["no/such/folder"]}) as beside:
        assert capsys.readouterr().out == ""
        parts = beside.results()
    assert [(part.name, part.passed) for part in parts] == [("version", True), ("nothing", False)]
    shown = capsys.readouterr().out
    assert re.search(
        r"--- version: python -m pytest --version\npytest \S+\n+"
        r"--- nothing: python -m pytest no/such/folder\n.*not found: no/such/folder",
        shown,
        flags=re.DOTALL,
    ), shown


def test_an_interrupt_begins_no_further_part(monkeypatch) -> None:
    begun: list[str] = []
    began, may_end = threading.Event(), threading.Event()

    def part(name: str, *_: object, **__: object) -> run.Part:
        begun.append(name)
        began.set()
        may_end.wait(10)
        return run.Part(name, True, "")

    monkeypatch.setattr(run, "run", part)
    with pytest.raises(KeyboardInterrupt), run.Beside({"one": [], "two": []}, at_once=1):
        assert began.wait(10)
        threading.Timer(0.2, may_end.set).start()
        raise KeyboardInterrupt
    assert begun == ["one"]


def test_the_script_says_to_every_test_that_nothing_may_be_missing(machine) -> None:
    machine.has("chromium")
    machine.has("make", saying=f'echo "CI=$CI" > "{machine.log}"')
    machine.run()
    assert machine.calls == ["CI=true"]
