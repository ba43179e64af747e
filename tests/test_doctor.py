"""The doctor names what a machine has, and what a lesson does without the rest."""

from __future__ import annotations

import json
import shutil
import socket
from importlib import metadata
from pathlib import Path

import pytest

from chatlab import doctor
from chatlab.doctor import Finding, Report


def finding(report: Report, name: str) -> Finding:
    return next(each for each in report if each.name == name)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing but Python."""

    def unknown(distribution: str) -> str:
        raise metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(metadata, "version", unknown)
    monkeypatch.setattr(doctor, "_BROWSER_FILES", ())
    monkeypatch.delenv("CHATLAB_REDIS_URL", raising=False)


def test_this_machine_can_run_the_workshop() -> None:
    report = doctor.report()
    assert report.ready
    assert finding(report, "JupyterLab").state == "✓"


def test_every_missing_part_says_what_a_lesson_does_without_it(bare: None) -> None:
    report = doctor.report()
    missing = [each for each in report if each.state == "○"]
    assert {each.name for each in missing} >= {
        "JupyterLab",
        "Valkey",
        "Balancer",
        "Node.js",
        "Browser",
        "uvloop",
    }
    assert all(each.without for each in missing)
    assert report.ready, "no optional part keeps the workshop from running"


def test_a_found_part_has_no_excuse() -> None:
    assert not [each for each in doctor.report() if each.state == "✓" and each.without]


def test_a_machine_on_which_no_port_opens_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_can_listen", lambda port: False)
    assert doctor.main() == 1
    assert "Not ready" in capsys.readouterr().out


def test_a_taken_default_port_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(doctor, "DEFAULT_PORT", listener.getsockname()[1])
        ports = finding(doctor.report(), "Ports")
    assert ports.state == "✓"
    assert "is taken" in ports.detail


def test_a_redis_that_is_named_counts_as_valkey(
    bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLAB_REDIS_URL", "redis://:a-secret@example.org/0")
    valkey = finding(doctor.report(), "Valkey")
    assert valkey.state == "✓"
    assert "a-secret" not in valkey.detail
    assert doctor.has("valkey")


def test_a_program_that_does_not_run_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "node"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not doctor.has("node")


def test_a_tag_asks_for_a_part() -> None:
    assert doctor.needed(["raises-exception", "needs-node", "needs-valkey"]) == ["node", "valkey"]


@pytest.mark.parametrize("ask", [lambda: doctor.needed(["needs-luck"]), lambda: doctor.has("luck")])
def test_a_part_that_does_not_exist_is_refused(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(ValueError, match="luck"):
        ask()


def test_the_table_and_the_page_say_the_same() -> None:
    report = Report(
        [
            Finding(name="Python", state="✓", detail="3.13"),
            Finding(name="Node.js", state="○", detail="not <here>", without="no JavaScript"),
        ]
    )
    assert repr(report).splitlines() == [
        "✓ Python   3.13",
        "○ Node.js  not <here>",
        "           no JavaScript",
        "",
        "Ready. 1 part is missing: see ○.",
    ]
    page = report._repr_html_()
    for words in ("Python", "3.13", "not &lt;here&gt;", "no JavaScript", "1 part is missing"):
        assert words in page


def test_the_page_takes_every_colour_from_the_theme() -> None:
    page = doctor.report()._repr_html_()
    assert "var(--jp-" in page
    assert json.dumps(page).count("color:#") == 0


def test_a_machine_with_everything_is_told_so() -> None:
    report = Report([Finding(name="Python", state="✓", detail="3.13")])
    assert repr(report).endswith("Ready for every lesson.")
