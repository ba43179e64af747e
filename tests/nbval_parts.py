"""A pytest plugin for the nbval run: leaves out cells whose part is missing, and watches residue.

The cells are named in the output; with CI=true a missing part is an error instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatlab import doctor
from tests.residue import Watch

ROOT = Path(__file__).resolve().parents[1]
left_out = pytest.StashKey[list[str]]()
left_behind = pytest.StashKey[list[str]]()
watching = pytest.StashKey[Watch]()


def pytest_configure(config: pytest.Config) -> None:
    # nbval 0.11 opens the null device for each kernel's stderr and never closes it (kernel.py).
    null = ".*name='/dev/null'"
    config.addinivalue_line("filterwarnings", f"ignore:unclosed file {null}:ResourceWarning")
    config.addinivalue_line(
        "filterwarnings",
        f"ignore:Exception ignored in{null}:pytest.PytestUnraisableExceptionWarning",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lacking = {item: part for item in items if (part := missing_part(item))}
    if not lacking:
        return
    names = [f"{item.nodeid} needs {part}" for item, part in lacking.items()]
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        raise pytest.UsageError("CI=true, and this machine lacks a part: " + "; ".join(names))
    config.stash[left_out] = names
    config.hook.pytest_deselected(items=list(lacking))
    items[:] = [item for item in items if item not in lacking]


def missing_part(item: pytest.Item) -> str | None:
    """The part that the cell behind `item` is tagged for and that is not here."""
    cell = getattr(item, "cell", None)
    tags = cell.metadata.get("tags", []) if cell is not None else []
    return next((part for part in doctor.needed(tags) if not doctor.has(part)), None)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[watching] = Watch(ROOT)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    watch = session.config.stash[watching]
    try:
        left = watch.leftovers()
    finally:
        watch.close()
    if left:
        session.config.stash[left_behind] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for key, title in ((left_out, "not run here"), (left_behind, "LEFT BEHIND (the run fails)")):
        for line in config.stash.get(key, []):
            terminalreporter.write_line(f"{title}: {line}")
