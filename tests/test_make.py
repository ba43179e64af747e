"""The commands that a newcomer types first: each has its line of help, and none does work twice."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import run

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the Makefile is for POSIX systems"),
    pytest.mark.skipif(not shutil.which("make"), reason="there is no make here"),
]


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What a make above this one handed down is not for this one.
    handed_down = ("MAKE", "MFLAGS", "GNUMAKE", "VENV", "PYTHON", "NB", "LAB_ARGS", "LOCK_ARGS")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(handed_down)
    }
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def python(folder: Path, version: str, *, code: int) -> Path:
    """A Python of some version that notes what it is asked, and can make no environment."""
    path = folder / "python-of-a-test"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}" && exit\n'
        f'[ "$1" = -c ] && exit {code}\necho "$@" >> asked\nexit 1\n'
    )
    path.chmod(0o755)
    return path


def test_make_alone_lists_every_command_with_a_line_of_help() -> None:
    shown = make(ROOT).stdout
    listed = [line.split()[1] for line in shown.splitlines()]
    (phony,) = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY")
    ]
    assert sorted(listed) == sorted(phony.split()[1:])
    assert {"lab", "fresh", "test", "check", "notebooks", "lock", ".venv", "clean"} <= set(listed)


def test_an_old_python_is_refused_with_a_sentence_that_names_it(project: Path) -> None:
    answer = make(project, f"PYTHON={python(project, '3.9.1', code=1)}", ".venv")
    assert answer.returncode != 0
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "Python 3.9.1" in answer.stderr
    assert not (project / ".venv").exists()


def test_where_no_environment_can_be_made_the_missing_package_is_named(project: Path) -> None:
    answer = make(project, f"PYTHON={python(project, '3.12.1', code=0)}", ".venv")
    assert answer.returncode != 0
    assert "apt install python3-venv" in answer.stderr
    assert (project / "asked").read_text() == "-m venv --clear .venv\n"


def test_a_second_call_does_nothing_until_what_is_to_be_installed_changes(project: Path) -> None:
    broken = f"PYTHON={python(project, '3.12.1', code=0)}"
    planned = make(project, broken, "-n", ".venv").stdout
    stamp = project / planned.rpartition("touch ")[2].strip()
    stamp.parent.mkdir()
    stamp.touch()
    assert make(project, broken, ".venv").returncode == 0

    lock = project / "requirements.lock"
    lock.write_text(lock.read_text() + "one-more==1.0\n")
    assert make(project, broken, ".venv").returncode != 0


def test_the_script_of_ci_can_be_run_and_read() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize(("ci", "passed"), [(False, True), (True, False)])
def test_without_npm_the_javascript_tests_are_left_out_except_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: bool, passed: bool
) -> None:
    (tmp_path / "package-lock.json").touch()
    monkeypatch.setattr(run, "JS", tmp_path)
    monkeypatch.setattr(run, "CI", ci)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    part = run.javascript()
    assert part.passed is passed
    assert "no npm here" in part.note


def test_what_npm_installed_is_not_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package-lock.json").touch()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / ".package-lock.json").touch()
    monkeypatch.setattr(run, "JS", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(run, "run", lambda *_, **__: pytest.fail("npm was called"))
    assert run.javascript().note == "installed already"
