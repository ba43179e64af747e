"""What installs the workshop: uv, told what pip is told; and pip wherever that is not enough."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import installer
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ["--compile-bytecode", "--index-strategy", "unsafe-best-match"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Makefile is for POSIX systems")


@pytest.fixture(autouse=True)
def _nothing_is_told_by_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.parametrize(
    ("settings", "options", "environment"),
    [
        ({}, [], {}),
        ({"index-url": "https://a/simple"}, [], {"UV_DEFAULT_INDEX": "https://a/simple"}),
        ({"extra-index-url": "\nhttps://b\nhttps://c"}, [], {"UV_INDEX": "https://b https://c"}),
        ({"find-links": "/a /b"}, ["--find-links=/a", "--find-links=/b"], {}),
        ({"trusted-host": "a b"}, ["--allow-insecure-host=a", "--allow-insecure-host=b"], {}),
        ({"no-index": "true"}, ["--no-index"], {}),
        ({"no-index": "0"}, [], {}),
        ({"cert": "/ca.pem"}, [], {"SSL_CERT_FILE": "/ca.pem"}),
        ({"proxy": "http://p"}, [], {"HTTP_PROXY": "http://p", "HTTPS_PROXY": "http://p"}),
        ({"timeout": "60", "config-file": "/etc/pip.conf"}, [], {}),
    ],
)
def test_what_pip_is_told_uv_is_told(
    settings: dict[str, str], options: list[str], environment: dict[str, str]
) -> None:
    assert installer.words_for_uv(settings) == (PLAIN + options, environment)


def test_a_setting_that_uv_is_not_told_is_named() -> None:
    with pytest.raises(ValueError, match="pip's setting no-binary is not one"):
        installer.words_for_uv({"no-binary": ":all:"})


def test_pip_is_asked_for_its_settings_the_strongest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://global\ncert = /global\nproxy = http://it's\n"
        "[install]\ncert = /install\nfind-links = /install\n"
        "[download]\nno-binary = :all:\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_FIND_LINKS", "/environment")
    settings = installer.Pip(sys.executable, tmp_path, None).settings()
    expected = {
        "index-url": "https://global",
        "cert": "/install",
        "find-links": "/environment",
        "proxy": "http://it's",
    }
    assert settings.items() >= expected.items()
    assert "no-binary" not in settings


def test_the_lock_has_the_uv_that_installs_the_lock() -> None:
    assert str(installer.locked_uv(ROOT)).startswith("uv==")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def empty(environment: Path) -> Iterator[Path]:
    """The Python of an environment that has pip and nothing else."""
    yield environment
    subprocess.run([environment, "-m", "pip", "uninstall", "-qqy", "one"], check=True)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one.py", "")
        wheel.writestr("one-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: one\nVersion: 1")
        wheel.writestr(
            "one-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("one-1.0.dist-info/RECORD", "")
    return folder


def installed(python: Path) -> bool:
    return not subprocess.run([python, "-c", "import one"], check=False).returncode


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("one==1.0\n", ""),
        ("one==1.0\nuv==0.0.0\n", ""),  # a system for which there is no uv
        (None, "○ uv cannot install this (pip's setting no-deps is not one that it takes). pip"),
    ],
)
def test_what_uv_cannot_do_pip_does(
    lock: str | None,
    said: str,
    tmp_path: Path,
    empty: Path,
    wheels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if lock is None:
        lock = f"one==1.0\n{installer.locked_uv(ROOT)}\n"
        monkeypatch.setenv("PIP_NO_DEPS", "1")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    (tmp_path / installer.LOCK).write_text(lock)
    given = None if said else wheels
    assert installer.install(["one"], root=tmp_path, wheels=given, python=str(empty)) == 0
    assert installed(empty)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(said) if said else err == ""


def test_what_neither_can_do_pip_says(
    tmp_path: Path, empty: Path, wheels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / installer.LOCK).write_text("two==1.0\n")
    assert installer.install(["two"], root=tmp_path, wheels=wheels, python=str(empty)) != 0
    assert "No matching distribution found for two" in capfd.readouterr().err
