"""Codespaces and Binder: what their files name is there, and can be run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chatlab.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    found = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert isinstance(found, dict)
    return found


def test_a_codespace_sets_up_with_a_target_of_the_makefile(container: dict[str, Any]) -> None:
    make, target = container["onCreateCommand"].split()
    assert make == "make"
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert container["postAttachCommand"].split() == [".venv/bin/chatlab", "doctor"]
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter.endswith("/.venv/bin/python")


def test_a_codespace_has_a_python_that_the_project_is_tested_with(
    container: dict[str, Any],
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = container["image"].rpartition(":")[2]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_a_codespace_names_the_ports_of_jupyterlab_and_of_a_server(
    container: dict[str, Any],
) -> None:
    assert set(container["portsAttributes"]) == {"8888", str(Settings(dev=True).port)}


def test_binders_script_can_be_run_and_calls_what_there_is() -> None:
    script = ROOT / "postBuild"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)
    modules = re.findall(r"^python -m ([\w.]+)$", script.read_text(), re.MULTILINE)
    assert modules == ["bench.node", "chatlab.page.fetch"]
    assert all(importlib.util.find_spec(module) for module in modules)


def test_binder_finds_its_files_in_the_root() -> None:
    # In either of these folders Binder would look instead, and nowhere else.
    assert not {"binder", ".binder"}.intersection(os.listdir(ROOT))
