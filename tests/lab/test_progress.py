"""Ticks are kept in a working copy and nowhere else."""

import json

import pytest

from chatlab.lab.checks import check
from chatlab.lab.progress import Progress, progress, remember, work_folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("CHATLAB_WORK", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copy(elsewhere, monkeypatch):
    (elsewhere / "authoring").mkdir()
    (elsewhere / "authoring" / "work.py").touch()
    folder = elsewhere / "work" / "exercises"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return elsewhere / "work"


def test_outside_a_working_copy_nothing_is_written_or_shown(elsewhere):
    remember("01", 1)
    assert list(elsewhere.iterdir()) == []
    assert progress() is None


def test_a_folder_that_happens_to_be_called_work_is_not_a_copy(elsewhere, monkeypatch):
    (elsewhere / "work").mkdir()
    monkeypatch.chdir(elsewhere / "work")
    assert work_folder() is None


def test_a_tracked_folder_is_not_a_copy(copy, monkeypatch):
    tracked = copy.parent / "exercises"
    tracked.mkdir()
    monkeypatch.chdir(tracked)
    assert work_folder() is None


def test_a_solved_task_is_kept_at_the_top_of_the_copy(copy):
    remember("01", 2)
    remember("01", 1)
    remember("01", 1)
    content = json.loads((copy / ".progress.json").read_text())
    assert content == {"version": 1, "solved": {"01": [1, 2]}}
    assert sorted(p.name for p in copy.iterdir()) == [".progress.json", "exercises"]


def test_a_check_that_passes_is_ticked_off_and_one_that_fails_is_not(copy):
    @check("it is true", task=3, lesson="02")
    def truth(value):
        assert value

    truth(False)
    assert not (copy / ".progress.json").exists()
    truth(True)
    assert progress().solved == {("02", 3)}


def test_the_environment_names_the_copy_or_says_that_there_is_none(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("CHATLAB_WORK", str(tmp_path))
    assert work_folder() == tmp_path
    monkeypatch.setenv("CHATLAB_WORK", "")
    assert work_folder() is None


def test_a_damaged_file_is_begun_again(copy):
    (copy / ".progress.json").write_text('{"solved": [')
    remember("01", 1)
    assert progress().solved == {("01", 1)}


def test_a_folder_that_cannot_be_written_costs_only_the_tick(copy, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    remember("01", 1)
    assert progress().solved == set()


def test_the_bar_counts_lesson_by_lesson():
    bar = Progress(
        (("01", 1, "a"), ("01", 2, "b"), ("02", 1, "c")), frozenset({("01", 1), ("02", 1)})
    )
    assert repr(bar) == "2 of 3 tasks solved\n  01  ✓○\n  02  ✓"
    assert 'aria-valuenow="2"' in bar._repr_html_()
