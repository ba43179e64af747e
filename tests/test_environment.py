"""pip, conda and Binder install the same, and everything that was asked for."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11.7", "3.12.1", "3.13.0")
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}
ASKED_FOR = (
    "jupyterlab",
    "python-socketio",
    "aiohttp",
    "PyJWT",
    "redis",
    "nest-asyncio",
    "pytest",
    "nbval",
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wanted(project: dict[str, Any]) -> list[Requirement]:
    """What pyproject.toml names: the core and every extra."""
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


@pytest.fixture(scope="module")
def lock() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def setting(python: str, platform: str) -> dict[str, str]:
    return {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
        "extra": "",
        **PLATFORMS[platform],
    }


def applies(marker: Marker | None, where: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(where)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_has_one_fitting_version_of_everything_that_is_asked_for(
    wanted: list[Requirement], lock: list[Requirement], python: str, platform: str
) -> None:
    where = setting(python, platform)
    for requirement in wanted:
        if not applies(requirement.marker, where):
            continue
        name = canonicalize_name(requirement.name)
        locked = [
            each
            for each in lock
            if canonicalize_name(each.name) == name and applies(each.marker, where)
        ]
        assert len(locked) == 1, f"{name} on {platform} and Python {python}: {locked}"
        (version,) = locked[0].specifier
        assert version.operator == "=="
        assert requirement.specifier.contains(version.version), f"{requirement} is not {version}"


def test_each_package_that_the_workshop_was_asked_to_use_is_named(
    wanted: list[Requirement],
) -> None:
    named = {canonicalize_name(each.name) for each in wanted}
    assert {canonicalize_name(name) for name in ASKED_FOR} <= named


def test_the_server_alone_installs_nothing_of_the_workshop(project: dict[str, Any]) -> None:
    names = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert names == {
        "python-socketio",
        "python-engineio",
        "aiohttp",
        "pyjwt",
        "redis",
        "msgspec",
        "prometheus-client",
    }


@pytest.mark.parametrize("name", ["python-socketio", "python-engineio", "aiohttp"])
def test_what_the_transport_overrides_is_pinned_exactly(project: dict[str, Any], name: str) -> None:
    (found,) = [
        each for line in project["dependencies"] if (each := Requirement(line)).name == name
    ]
    assert [each.operator for each in found.specifier] == ["=="]


def test_conda_and_binder_install_the_lock_and_this_folder(project: dict[str, Any]) -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.lock", "-e ."]}
    name, _, version = python.partition("=")
    assert name == "python"
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_the_lock_names_no_index_and_no_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"--|https?:|file:|@", text)


def tracked_texts() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in listed.stdout.split("\0") if name]
    if not names:
        pytest.skip("not a git working copy")
    return [path for name in names if (path := ROOT / name).is_file()]


def test_no_file_names_a_folder_of_some_machine_or_a_private_index() -> None:
    # Put together here, so that this file is none of those that it looks for.
    folder = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+)/(?=[\w.])")
    index = re.compile("file:" + "//|--(?:extra-)?" + r"index-url\s+\S+:" + "//")
    found = []
    for path in tracked_texts():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}: {match.group()}"
            for pattern in (folder, index)
            for match in pattern.finditer(text)
        ]
    assert found == []


def test_npm_installs_from_the_public_registry_alone() -> None:
    found = [path for path in tracked_texts() if path.name == "package-lock.json"]
    for path in found:
        addresses = re.findall(r'"resolved": "([^"]+)"', path.read_text())
        assert all(each.startswith("https://registry.npmjs.org/") for each in addresses)


def test_the_installed_package_is_this_one_and_has_its_command(project: dict[str, Any]) -> None:
    try:
        installed = metadata.distribution(project["name"])
    except metadata.PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("chatlab is on the path without being installed")
    assert installed.version == project["version"]
    (command,) = installed.entry_points.select(group="console_scripts", name="chatlab")
    assert command.value == project["scripts"]["chatlab"] == "chatlab.cli:main"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "chatlab" / "py.typed").exists()


def test_a_released_version_is_in_the_changelog(project: dict[str, Any]) -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{project['version']}]" in text
