"""A machine without a browser leaves these tests out and says so; a CI machine fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE = ["tests/browser/test_watching.py", "-k", "two_pages"]


@pytest.mark.parametrize(
    ("ci", "code", "said"),
    [
        ("", 0, "1 skipped"),
        ("true", 1, "google-chrome-stable is on the PATH, which CI=true does not allow"),
    ],
)
def test_without_a_browser_on_the_path(tmp_path: Path, ci: str, code: int, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *ONE, f"--basetemp={tmp_path / 'theirs'}"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == code, ran.stdout
    assert said in ran.stdout
    assert "no browser here: none of chromium, " in ran.stdout
