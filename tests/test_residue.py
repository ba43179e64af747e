"""The watch that fails a run notices each kind of thing that a run can leave behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import residue
from tests.residue import Watch


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(residue, "GRACE_S", 0.0)
    outer = Watch(tmp_path)
    yield outer
    outer.close()


def test_a_clean_run_leaves_nothing(watch: Watch) -> None:
    assert watch.leftovers() == []


def test_a_database_and_a_socket_in_the_working_copy_are_noticed(
    watch: Watch, tmp_path: Path
) -> None:
    (tmp_path / "chat.db").touch()
    with socket.socket(socket.AF_UNIX) as listener, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        listener.bind("left.sock")
    assert watch.leftovers() == ["file chat.db", "file left.sock"]


def test_a_database_that_was_there_before_is_not_held_against_the_run(tmp_path: Path) -> None:
    (tmp_path / "chat.db").touch()
    watch = Watch(tmp_path)
    found = watch.leftovers()
    watch.close()
    assert found == []


def test_a_temporary_file_is_noticed(watch: Watch) -> None:
    descriptor, name = tempfile.mkstemp(prefix="left-")
    open(descriptor, "w").close()
    assert watch.leftovers() == [f"temporary {Path(name).name}"]


def test_a_thread_that_goes_on_is_noticed(watch: Watch) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="stray")
    thread.start()
    found = watch.leftovers()
    stop.set()
    thread.join()
    assert found == ["thread 'stray'"]


def test_a_process_is_noticed_even_after_it_has_left_its_parent(watch: Watch) -> None:
    grandchild = "import sys; sys.stdin.read()"
    starter = (
        "import subprocess, sys; child = subprocess.Popen("
        f"[sys.executable, '-c', {grandchild!r}], start_new_session=True, stdin=sys.stdin); "
        "print(child.pid)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        pid = int(parent.stdout.readline())
        parent.wait()
        found = watch.leftovers()
        parent.stdin.close()
    assert [line.split(":")[0] for line in found] == [f"process {pid}"]
