"""Working copies: the tracked files stay as they are, and a learner's answers are never lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import work


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in (
        "notebooks/00_start_here.ipynb",
        "notebooks/03_error_handling.ipynb",
        "notebooks/steps/step1.py",
        "exercises/03_error_handling.ipynb",
        "solutions/03_error_handling.ipynb",
        "chatlab/client.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"tracked {name}")
    return tmp_path


def relative(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_the_first_copy_brings_every_notebook_and_the_steps(clone: Path) -> None:
    assert relative(clone, work.copy(clone)) == [
        "work/notebooks/00_start_here.ipynb",
        "work/notebooks/03_error_handling.ipynb",
        "work/notebooks/steps/step1.py",
        "work/exercises/03_error_handling.ipynb",
        "work/solutions/03_error_handling.ipynb",
    ]


def test_a_second_copy_adds_only_what_is_new_and_leaves_an_answer_alone(clone: Path) -> None:
    work.copy(clone)
    mine = clone / "work" / "exercises" / "03_error_handling.ipynb"
    mine.write_text("my answer")
    (clone / "notebooks" / "04_rate_limiting.ipynb").write_text("a new lesson")
    assert relative(clone, work.copy(clone)) == ["work/notebooks/04_rate_limiting.ipynb"]
    assert mine.read_text() == "my answer"


def test_checkpoints_and_databases_are_not_copied(clone: Path) -> None:
    (clone / "notebooks" / ".ipynb_checkpoints").mkdir()
    (clone / "notebooks" / ".ipynb_checkpoints" / "00.ipynb").touch()
    (clone / "notebooks" / "chat.db").touch()
    assert not [path for path in work.copy(clone) if path.name in {"00.ipynb", "chat.db"}]


def test_a_link_to_the_package_leads_to_it_from_the_copy_too(clone: Path) -> None:
    work.copy(clone)
    linked = clone / "work" / "notebooks" / ".." / "chatlab" / "client.py"
    assert linked.read_text() == "tracked chatlab/client.py"


def test_without_symbolic_links_the_package_is_copied(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("a privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    work.copy(clone)
    assert (clone / "work" / "chatlab" / "client.py").read_text() == "tracked chatlab/client.py"


def test_fresh_keeps_the_old_notebook_and_never_overwrites_an_earlier_one(clone: Path) -> None:
    work.copy(clone)
    mine = clone / "work" / "notebooks" / "03_error_handling.ipynb"
    for answer in ("first", "second"):
        mine.write_text(answer)
        work.fresh(clone, "03")
    assert mine.read_text() == "tracked notebooks/03_error_handling.ipynb"
    assert mine.with_name("03_error_handling.mine.ipynb").read_text() == "first"
    assert mine.with_name("03_error_handling.mine2.ipynb").read_text() == "second"


@pytest.mark.parametrize("name", ["exercises/03", "solutions/03", "steps/step1"])
def test_fresh_takes_a_folder_with_the_number(clone: Path, name: str) -> None:
    work.copy(clone)
    kept, replaced = work.fresh(clone, name)
    assert kept.exists()
    assert replaced.read_text().startswith("tracked ")
    assert name in replaced.as_posix()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("", "say which one"), ("07", "no notebook begins"), ("0", "means several")],
)
def test_fresh_says_what_to_write_when_it_cannot_tell(
    clone: Path, name: str, sentence: str
) -> None:
    work.copy(clone)
    with pytest.raises(work.WorkError, match=sentence):
        work.fresh(clone, name)


def test_fresh_before_the_first_copy_names_make_lab(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work.main(["--root", str(clone), "fresh", "03"]) == 1
    assert "make lab" in capsys.readouterr().out


def test_an_unknown_option_is_refused_where_it_would_be_ignored(clone: Path) -> None:
    with pytest.raises(SystemExit):
        work.main(["--root", str(clone), "copy", "--port=1"])


def test_jupyterlab_opens_the_learners_copy_of_the_first_lesson(clone: Path) -> None:
    command = work.lab_command(clone, environment={"DISPLAY": ":0"}, platform="linux", user=1000)
    assert command[:4] == [
        sys.executable,
        "-m",
        "jupyterlab",
        "work/notebooks/00_start_here.ipynb",
    ]
    assert "--no-browser" not in command
    assert "--allow-root" not in command


def test_in_a_container_no_browser_is_looked_for_and_root_may_run_it(clone: Path) -> None:
    command = work.lab_command(clone, ["--port=9999"], environment={}, platform="linux", user=0)
    assert command[-3:] == ["--no-browser", "--allow-root", "--port=9999"]
