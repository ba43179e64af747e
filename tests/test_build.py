"""Notebooks are made from their sources alone; a rebuild changes only what did change."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest

import build
import source
from chatlab import doctor
from source import SourceError, Target

ROOT = Path(__file__).resolve().parents[1]

LESSON = """\
# %% [markdown]
# # A lesson
#
# With `code`.

# %%
import random


def double(number):
    return 2 * number


# %%
print("first")
print(object(), "at http://127.0.0.1:34567/")
await asyncio.sleep(0)
double(21)

# %% tags=["raises-exception"]
{}["nothing"]

# %% tags=["nbval-ignore-output"]
random.random()
"""

EXERCISE = """\
# %%
def answer(ready):
    if ready:
        ### BEGIN SOLUTION
        first = 40
        return first + 2
        ### END SOLUTION
    return None


answer(True)

# %% [markdown] tags=["solution"]
# Forty-two.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "authoring" / "exercises").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "nbval.cfg", tmp_path / "tests")
    (tmp_path / "authoring" / "01_lesson.py").write_text(
        LESSON.replace("import random\n", "import asyncio\nimport random\n")
    )
    (tmp_path / "authoring" / "exercises" / "01_lesson.py").write_text(EXERCISE)
    return tmp_path


def write(project: Path, text: str) -> Target:
    path = project / "authoring" / "exercises" / "02_other.py"
    path.write_text(text)
    return next(each for each in source.targets(project) if each.path.stem == "02_other")


def run(project: Path, *arguments: str) -> int:
    return build.main(["--root", str(project), *arguments])


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


@pytest.mark.timeout(120)
def test_a_rebuild_on_unchanged_sources_changes_no_byte(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project) == 0
    built = {path: path.read_bytes() for path in project.rglob("*.ipynb")}
    assert {path.relative_to(project).as_posix() for path in built} == {
        "notebooks/01_lesson.ipynb",
        "exercises/01_lesson.ipynb",
        "solutions/01_lesson.ipynb",
    }
    assert run(project, "01") == 0
    assert built == {path: path.read_bytes() for path in project.rglob("*.ipynb")}
    assert run(project, "--check") == 0
    assert "3 notebooks are in step" in capsys.readouterr().out

    lesson = project / "notebooks" / "01_lesson.ipynb"
    stored = lesson.read_text()
    assert "0xADDR" in stored
    assert "127.0.0.1:PORT" in stored
    assert str(project) not in stored
    assert [cell.execution_count for cell in cells(lesson) if cell.cell_type == "code"] == [
        1,
        2,
        3,
        4,
    ]

    lesson.write_text(stored.replace('"42"', '"43"'))
    assert run(project, "--check", "--execute", "notebooks/01") == 1
    assert "a rebuild would change it" in capsys.readouterr().out


@pytest.mark.timeout(120)
def test_a_cell_that_raises_by_mistake_stops_the_build_and_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "# %%\n1 / 0\n")
    assert run(project, "exercises/02") == 1
    said = capsys.readouterr().out
    assert "exercises/02_other.ipynb, cell 0" in said
    assert "ZeroDivisionError" in said
    assert not (project / "exercises" / "02_other.ipynb").exists()


@pytest.mark.timeout(120)
def test_without_its_part_a_cell_keeps_its_stored_result(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, '# %%\n1\n\n# %% tags=["needs-balancer"]\n"balanced"\n')
    monkeypatch.setitem(doctor.PARTS, "balancer", lambda: None)
    assert run(project, "exercises/02") == 1
    assert "need balancer" in capsys.readouterr().out

    monkeypatch.setitem(doctor.PARTS, "balancer", lambda: "here")
    assert run(project, "exercises/02") == 0
    path = project / "exercises" / "02_other.ipynb"
    with_it = path.read_bytes()

    monkeypatch.setitem(doctor.PARTS, "balancer", lambda: None)
    assert run(project, "exercises/02") == 0
    assert path.read_bytes() == with_it


def test_an_exercise_has_the_stub_and_the_solution_has_the_answer(project: Path) -> None:
    exercise, solution = source.targets(project, "exercises/01") + source.targets(
        project, "solutions/01"
    )
    stub = source.notebook(exercise).cells
    answer = source.notebook(solution).cells
    assert stub[0].source.splitlines()[:4] == [
        "def answer(ready):",
        "    if ready:",
        "        ...  # your turn",
        "    return None",
    ]
    assert "        first = 40\n        return first + 2\n    return None" in answer[0].source
    assert not [cell for cell in (*stub, *answer) if "SOLUTION" in cell.source]
    assert [cell.cell_type for cell in stub] == ["code"]
    assert [cell.cell_type for cell in answer] == ["code", "markdown"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# %%\n### BEGIN SOLUTION\n1\n", "never closed"),
        ("# %%\n### BEGIN SOLUTION\n1\n# %%\n2\n### END SOLUTION\n", "before the next cell"),
        ("# %%\n### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n", "inside that of"),
        ("# %%\n1\n### END SOLUTION\n", "no beginning"),
        ("# %%\n### BEGIN SOLUTIONS\n### END SOLUTION\n", "not '### BEGIN SOLUTIONS'"),
    ],
)
def test_a_marker_that_does_not_fit_is_an_error(project: Path, text: str, sentence: str) -> None:
    target = write(project, text)
    with pytest.raises(SourceError, match=sentence):
        source.notebook(target)


def test_ids_are_the_same_in_every_build_and_differ_in_a_notebook(project: Path) -> None:
    (lesson,) = source.targets(project, "notebooks")
    first, second = ([cell.id for cell in source.notebook(lesson).cells] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)


def test_a_source_with_another_kind_of_name_is_refused(project: Path) -> None:
    (project / "authoring" / "02_Other-Lesson.py").touch()
    with pytest.raises(SourceError, match="NN_words"):
        source.targets(project)


def test_a_build_of_something_that_does_not_exist_says_so(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, "08") == 1
    assert "no source for '08'" in capsys.readouterr().out


def executed(project: Path) -> Path:
    """A stored notebook that is in step with its source, without the time of a kernel."""
    (target,) = source.targets(project, "notebooks")
    built = source.notebook(target)
    for number, cell in enumerate(built.cells):
        if cell.cell_type == "code":
            cell["execution_count"] = number
    target.path.parent.mkdir()
    target.path.write_text(nbformat.writes(built) + "\n")
    return target.path


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("double(21)", "double(22)", "cell 2 is not what its source says"),
        ("raises-exception", "nbval-skip", "cell 3 is not what its source says"),
        ('"execution_count": 2', '"execution_count": null', "cell 2 was not run"),
        ('"name": "python3"', '"name": "python4"', "metadata"),
        ('\n "cells"', '\n  "cells"', "saved by something else"),
    ],
)
def test_a_notebook_out_of_step_is_found_without_running_it(
    project: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, sentence: str
) -> None:
    path = executed(project)
    assert run(project, "--check", "notebooks/01") == 0
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert run(project, "--check", "notebooks/01") == 1
    assert sentence in capsys.readouterr().out


def test_a_notebook_without_a_source_is_found(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = executed(project).with_name("07_stray.ipynb")
    stray.touch()
    assert run(project, "--check") == 1
    assert "notebooks/07_stray.ipynb has no source" in capsys.readouterr().out


PROGRAM = """\
import sys


def main():
    ### BEGIN SOLUTION
    answer = 42
    sys.exit(answer)
    ### END SOLUTION


main()
"""


def test_a_program_that_a_learner_writes_is_built_beside_its_exercise(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "authoring" / "exercises" / "01"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    assert run(project, "--check") == 1
    assert "exercises/program.py is not what its source says" in capsys.readouterr().out
    assert run(project, "exercises/01", "solutions/01") == 0
    cut = (project / "exercises" / "program.py").read_text()
    assert "    ...  # your turn\n" in cut
    assert "42" not in cut
    solved = (project / "solutions" / "program.py").read_text()
    assert "###" not in solved
    assert "answer = 42" in solved
    assert run(project, "--check", "exercises/01", "solutions/01") == 0
    (project / "solutions" / "program.py").write_text(solved + "# changed\n")
    assert run(project, "--check", "solutions/01") == 1
