"""The unit for systemd: systemd's own check, and what it must agree on with the server."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chatlab.settings import Settings

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "chatlab@.service"
SERVER = "/opt/chatlab/bin/chatlab"


def settings() -> dict[str, str]:
    lines = (line for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_finds_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    # It wants to see the program, which is not installed here.
    here.write_text(UNIT.read_text().replace(SERVER, "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", here], capture_output=True, text=True, check=False
    )
    if "Failed to" in checked.stderr and "initialize manager" in checked.stderr:
        pytest.skip("systemd-analyze cannot work here")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_secret_is_handed_over_as_a_file_that_the_server_reads() -> None:
    unit = settings()
    name, source = unit["LoadCredential"].split(":")
    assert source.startswith("/etc/")
    assert unit["Environment"] == f"CHATLAB_JWT_SECRET_FILE=%d/{name}"


def test_systemd_waits_longer_than_the_server_takes_to_stop() -> None:
    chat = Settings(dev=True)
    assert int(settings()["TimeoutStopSec"]) > 5 + chat.shutdown_grace + 2


def test_the_unit_runs_the_server_of_its_own_install_on_the_port_of_its_name() -> None:
    assert settings()["ExecStart"] == f"{SERVER} serve --port %i"
    assert re.fullmatch(r"\w+@\.service", UNIT.name)
