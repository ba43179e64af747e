"""What holds for every test: it leaves nothing behind. Fixtures of one subject stand beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.residue import Watch

ROOT = Path(__file__).resolve().parents[1]


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
