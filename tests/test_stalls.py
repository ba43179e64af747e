"""The plugin that looks for races lets loops stand still."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COUNTED = """
import asyncio, time

def test_it(monkeypatch):
    stalls = []
    monkeypatch.setattr(time, "sleep", stalls.append)
    asyncio.run(asyncio.sleep(0))
    assert stalls
    assert 0.05 <= min(stalls) <= max(stalls) <= 0.06
"""


def test_every_pass_of_a_loop_is_late_where_that_is_asked_for(tmp_path: Path) -> None:
    test = tmp_path / "test_counted.py"
    test.write_text(COUNTED)
    asked = ["-p", "tests.stalls", "--stall-chance=1", "--stall-longest=0.06"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", *asked, str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
