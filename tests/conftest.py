"""What holds for every test: it leaves nothing behind. Fixtures of one subject stand beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.residue import Watch
from tests.seconds import NOTEBOOK_SECONDS

ROOT = Path(__file__).resolve().parents[1]

# A machine may pause during an example, for longer than the usual deadline.
settings.register_profile("chatlab", deadline=None)
settings.load_profile("chatlab")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOTEBOOK_SECONDS] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how long each notebook took, so that one that grows slow is seen before it fails."""
    for line in config.stash[NOTEBOOK_SECONDS]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when it leaves processes, threads, databases, sockets or temporary files."""
    # pytest's own folder is made before the watch, which would count it.
    tmp_path_factory.getbasetemp()
    watch = Watch(ROOT)
    try:
        yield
        left = watch.leftovers()
    finally:
        watch.close()
    if left:
        pytest.fail("the tests left behind:\n  " + "\n  ".join(left), pytrace=False)
