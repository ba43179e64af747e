"""Fills a folder, on a USB stick say, with all that set-up downloads, for a room without network.

`make bundle` runs it, in the finished environment; set_up.py uses what it makes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import npm_packages
import set_up
from npm_packages import Package
from packaging.requirements import Requirement
from set_up import FORMAT, HERE, LOCK, MANIFEST, NPM, ROOT, WHEELS, NoFit

from chatlab.page import client_file, fetch

SOURCE = "chatlab.gitbundle"
README = "README.txt"
OURS = {MANIFEST, README, SOURCE, WHEELS, NPM}

ROOM_PYTHONS = ("3.11", "3.12", "3.13")
ROOM_PLATFORMS = ("linux-x86_64", "linux-aarch64", "macos-arm64")
# The oldest systems for which everything in the lock has a wheel: glibc 2.28 (2018), macOS 14.
GLIBC, MACOS = 28, "14_0"
# What hatchling asks for besides when it installs a folder as it is (`-e .`).
EDITABLE = "editables~=0.3"


class BundleError(Exception):
    """No bundle can be made; the text says why."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help="only look whether all is whole")
    parser.add_argument("--python", help="versions, comma between (default: this one)")
    parser.add_argument("--platform", help=f"systems, comma between: {', '.join(ROOM_PLATFORMS)}")
    parser.add_argument(
        "--room",
        action="store_true",
        help=f"for {', '.join(ROOM_PYTHONS)} on {', '.join(ROOM_PLATFORMS)}: under a gigabyte",
    )
    options = parser.parse_args(argv)
    root = options.root.resolve()
    folder = Path(os.environ.get("BUNDLE", "").strip() or root / HERE).expanduser().absolute()
    try:
        if not options.check:
            make(root, folder, targets(options))
        manifest = set_up.read(folder)
        set_up.verify(folder, manifest, list(manifest["files"]))
    except (BundleError, NoFit, fetch.FetchError, npm_packages.BadPackage) as why:
        say(f"✗ {why}")
        return 1
    size = sum(each["bytes"] for each in manifest["files"].values()) / 1e6
    said = ", ".join(set_up.shown(target) for target in manifest["targets"])
    say(f"✓ {folder}: {len(manifest['files'])} files, {size:.0f} MB, for {said}")
    return 0


def targets(options: argparse.Namespace) -> list[str]:
    here = set_up.this_target().split("-", 2)
    pythons = list(ROOM_PYTHONS) if options.room else [here[1]]
    platforms = list(ROOM_PLATFORMS) if options.room else [here[2]]
    if options.python:
        pythons = options.python.split(",")
    if options.platform:
        platforms = options.platform.split(",")
    unknown = set(platforms) - {*ROOM_PLATFORMS, here[2]}
    if unknown:
        raise SystemExit(
            f"make bundle: {', '.join(sorted(unknown))} cannot be filled from here, only "
            f"{', '.join(ROOM_PLATFORMS)}. On such a machine itself `make bundle` can."
        )
    wanted = [f"cpython-{python}-{where}" for where in platforms for python in pythons]
    if options.room:
        wanted.append(set_up.this_target())
    elif not options.python and not options.platform:
        wanted = [set_up.this_target()]
    return list(dict.fromkeys(wanted))


def make(root: Path, folder: Path, wanted: Sequence[str]) -> None:
    """Fill `folder`; what it had of an earlier bundle goes. Raises `BundleError`."""
    begin(folder)
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="chatlab-bundle-") as scratch:
        for number, target in enumerate(wanted):
            say(f"Fetching the wheels for {set_up.shown(target)} ...")
            fetched = Path(scratch, str(number))
            fetch_wheels(root, target, fetched)
            found[target] = sorted(f"{WHEELS}/{path.name}" for path in fetched.iterdir())
            for path in fetched.iterdir():
                shutil.move(path, folder / WHEELS / path.name)
    say("Fetching the npm packages ...")
    fetch_npm(root, folder / NPM)
    save_source(root, folder / SOURCE)
    (folder / README).write_text(readme(found, (folder / SOURCE).exists()), encoding="utf-8")
    files = {}
    for path in sorted([*(folder / WHEELS).iterdir(), *(folder / NPM).iterdir(), folder / README]):
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": set_up.file_sum(path), "bytes": path.stat().st_size}
    if (folder / SOURCE).exists():
        path = folder / SOURCE
        files[SOURCE] = {"sha256": set_up.file_sum(path), "bytes": path.stat().st_size}
    manifest = {
        "format": FORMAT,
        "finished": True,
        "lock": set_up.lock_sum(root),
        "targets": found,
        "npm": [name for name in files if name.startswith(f"{NPM}/")],
        "files": files,
    }
    write_manifest(folder, manifest)


def begin(folder: Path) -> None:
    """An empty folder, or one that holds nothing but an earlier bundle, which is taken away."""
    if folder.exists():
        if not folder.is_dir():
            raise BundleError(f"{folder} is a file, and a bundle is a folder.")
        there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if there and MANIFEST not in there:
            raise BundleError(
                f"{folder} holds something else. Name an empty folder, or one that is not there "
                f"yet: make bundle BUNDLE={folder / HERE}"
            )
        for name in there & OURS - {MANIFEST}:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in (WHEELS, NPM):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Whoever finds this one knows that the rest is not all there, and whose it is.
    write_manifest(folder, {"format": FORMAT, "finished": False})


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def fetch_wheels(root: Path, target: str, into: Path) -> None:
    """Every wheel of the lock that applies to a target, and what builds this package."""
    lines = (root / LOCK).read_text(encoding="utf-8").splitlines()
    lock = [Requirement(line) for line in lines if line and not line.startswith("#")]
    _, version, where = target.split("-", 2)
    done: set[str] = set()
    # Two releases of one Python may need different things; a stick is for all of them.
    for release in (f"{version}.0", f"{version}.99"):
        environment = marker_environment(release, where)
        applies = {
            f"{each.name}{each.specifier}"
            for each in lock
            if each.marker is None or each.marker.evaluate(environment)
        }
        if applies - done:
            pip(target, release, sorted(applies - done), into, "--no-deps")
        done |= applies
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    build = [*project["build-system"]["requires"], EDITABLE]
    pip(target, f"{version}.99", build, into)


def pip(target: str, release: str, wanted: Sequence[str], into: Path, *more: str) -> None:
    into.mkdir(exist_ok=True)
    _, _, where = target.split("-", 2)
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if where in ROOM_PLATFORMS:
        command += ["download", "--only-binary=:all:", "--dest", str(into)]
        command += ["--implementation=cp", f"--python-version={release}"]
        command += [f"--platform={tag}" for tag in tags(where)]
    else:
        command += ["wheel", "--wheel-dir", str(into)]
    done = subprocess.run(
        [*command, *more, *wanted], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise BundleError(f"Not all can be had for {set_up.shown(target)}:\n{done.stderr.strip()}")


def tags(where: str) -> Iterator[str]:
    """The platforms of wheels that run there, the newest first."""
    system, machine = where.split("-")
    if system == "macos":
        yield f"macosx_{MACOS}_{machine}"
        return
    newest = GLIBC
    if where == set_up.this_platform():
        newest = min(GLIBC, int(platform.libc_ver()[1].split(".")[1]))
    for minor in range(newest, 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
    for old in ("manylinux2014", "manylinux2010", "manylinux1"):
        yield f"{old}_{machine}"


def marker_environment(release: str, where: str) -> dict[str, str]:
    """What the markers of a requirement are asked about: of a target, not of this machine."""
    if where not in ROOM_PLATFORMS:
        return {"python_full_version": release}
    system, machine = where.split("-")
    mac = system == "macos"
    return {
        "implementation_name": "cpython",
        "implementation_version": release,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Darwin" if mac else "Linux",
        "platform_version": "",
        "python_full_version": release,
        "python_version": release.rpartition(".")[0],
        "sys_platform": "darwin" if mac else "linux",
    }


def fetch_npm(root: Path, into: Path) -> None:
    """The chat page's client, and what the Node server of lesson 08 is made of."""
    client = Package("", client_file.PACKAGE, client_file.VERSION, client_file.TARBALL_INTEGRITY)
    registry = fetch.registry()
    for package in (client, *npm_packages.packages(root / set_up.PEER)):
        data = download(package, registry)
        package.check(data)
        (into / package.tarball).write_bytes(data)


def download(package: Package, registry: str) -> bytes:
    """A tarball as the registry has it, or as npm gets it, which knows credentials."""
    try:
        with urllib.request.urlopen(registry + package.address, timeout=30) as answer:
            return bytes(answer.read())
    except OSError as error:
        why = str(getattr(error, "reason", error))
    name = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    with tempfile.TemporaryDirectory(prefix="chatlab-npm-") as folder:
        command = [npm or "", "pack", name, "--pack-destination", folder]
        if npm and not subprocess.run(command, capture_output=True, check=False).returncode:
            return (Path(folder) / package.tarball).read_bytes()
    raise BundleError(f"The npm registry does not give {name}: {why}")


def save_source(root: Path, path: Path) -> None:
    """The repository itself, to clone from; left out where git has another lock, or not all."""
    wanted = [LOCK, "pyproject.toml", str(set_up.PEER / npm_packages.LOCK)]
    # Of a shallow clone nobody else can make a whole one.
    if git(root, "rev-parse", "--is-shallow-repository") == "false":
        if git(root, "diff", "--quiet", "HEAD", "--", *wanted) is not None:
            branch = git(root, "symbolic-ref", "--quiet", "--short", "HEAD")
            git(root, "bundle", "create", "--quiet", str(path), "HEAD", *filter(None, [branch]))


def git(root: Path, *words: str) -> str | None:
    """What git says; None where it does not, or fails."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def readme(found: dict[str, list[str]], source: bool) -> str:
    lines = ["chatlab, for a room without network", ""]
    lines += ["This folder holds what setting up chatlab would download, for", ""]
    lines += [f"    {set_up.shown(target)}" for target in found]
    lines += ["", "You need that Python, make, and a copy of chatlab."]
    if source:
        lines += ["If you have git and no copy, take the one in here:", ""]
        lines += [f"    git clone {SOURCE} ~/chatlab"]
        lines += ["", "(type this in the folder in which this file is)."]
    lines += [
        "",
        "Then, in the folder of chatlab, with this folder's own address in place of the one here:",
        "",
        '    make lab BUNDLE="/media/you/STICK/bundle"',
        "",
        "or copy this folder into it, under the name `bundle`, and type",
        "",
        "    make lab",
        "",
        "`make demo` takes it in the same way. Once is enough: afterwards the stick can go on.",
        "",
        "If a sentence says that a file is not what it was, copy the folder again.",
        f"{MANIFEST} has the SHA-256 of every file. `make test` and `make bench` need more than",
        "is in here: Node's packages for the tests come from the network.",
        "",
    ]
    return "\n".join(lines)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
