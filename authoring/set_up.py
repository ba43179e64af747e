"""Fills a new virtual environment, from the package index or from a bundle's folder without network.

It runs in that environment, where only the standard library and pip are there yet. make_bundle.py
makes the bundle; what one is, and whether it fits, is written down here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import installer
import npm_packages
from installer import LOCK, say

ROOT = Path(__file__).resolve().parents[1]
HERE = "bundle"  # used without being named, where a checkout has such a folder
MANIFEST = "bundle.json"
WHEELS = "wheels"
NPM = "npm"
FORMAT = 1
PEER = Path("bench") / "peer"


class NoFit(Exception):
    """This bundle cannot be used here; the text says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that fits this Python, this machine and this checkout."""

    folder: Path

    @property
    def wheels(self) -> Path:
        return self.folder / WHEELS

    @property
    def npm(self) -> Path:
        return self.folder / NPM


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--index", action="store_true", help="from the package index, in any case")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    try:
        named = os.environ.get("BUNDLE", "").strip()
        bundle, unused = (None, "") if options.index else choose(root, named)
    except NoFit as why:
        say(f"✗ {why}")
        return 1
    if bundle:
        say(f"Installing from {bundle.folder}, without network ...")
    elif unused:
        say(f"○ {HERE}/ is not used. {unused} Asking the package index instead ...")
    wanted = ["-r", LOCK, "-e", "."]
    code = installer.install(wanted, root=root, wheels=bundle.wheels if bundle else None)
    if code:
        if bundle:
            say(f"✗ {bundle.folder} did not serve: pip says why above. {AGAIN}")
        elif unused:
            say(f"✗ The package index did not serve either, and {HERE}/ was not used. {unused}")
        else:
            say(
                "✗ Is there no network? `make bundle` fills a folder, where there is one: README.md"
            )
        return code
    extras(root, bundle)
    return 0


AGAIN = "Make it again where there is a network: `make bundle`."


def choose(root: Path, named: str) -> tuple[Bundle | None, str]:
    """The bundle to install from, or None; and why the one in the checkout is not used.

    One that was asked for by name has to fit: else `NoFit` is raised.
    """
    if named:
        return fitting(root, Path(named).expanduser()), ""
    if not (root / HERE / MANIFEST).exists():
        return None, ""
    try:
        return fitting(root, root / HERE), ""
    except NoFit as why:
        return None, str(why)


def fitting(root: Path, folder: Path) -> Bundle:
    """The bundle in `folder`. Raises `NoFit` unless it is whole and for this very set-up."""
    folder = folder if folder.is_absolute() else root / folder
    manifest = read(folder)
    if manifest["lock"] != lock_sum(root):
        raise NoFit(
            f"The bundle in {folder} was made for another {LOCK} than this checkout's: take the "
            f"checkout that it was made from, or make it again (`make bundle`)."
        )
    wanted = this_target()
    targets = manifest["targets"]
    if wanted not in targets:
        raise NoFit(
            f"The bundle in {folder} is for {', '.join(map(shown, targets))}, and this is "
            f"{shown(wanted)}: {another_python(targets)}make one for it where there is a network "
            f"(`make bundle BUNDLE_ARGS=--room` takes several)."
        )
    verify(folder, manifest, [*targets[wanted], *manifest["npm"]])
    return Bundle(folder)


def read(folder: Path) -> dict[str, Any]:
    """A bundle's manifest. Raises `NoFit` where there is none, or not a whole one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoFit(
            f"There is no bundle in {folder}: it has no {MANIFEST}. `make bundle BUNDLE=folder` "
            f"makes one, where there is a network."
        ) from None
    except (OSError, ValueError):
        raise NoFit(f"{folder / MANIFEST} cannot be read. {AGAIN}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise NoFit(f"The bundle in {folder} was made by another version of chatlab. {AGAIN}")
    if not manifest.get("finished"):
        raise NoFit(f"The bundle in {folder} was not finished. {AGAIN}")
    return manifest


def verify(folder: Path, manifest: dict[str, Any], names: Sequence[str]) -> None:
    """Raise `NoFit` unless each file is there as it was made, and no other wheel is beside them."""
    for name in names:
        path, known = folder / name, manifest["files"][name]
        if not path.is_file():
            raise NoFit(f"The bundle in {folder} lacks {name}. Copy it again, or make it again.")
        if path.stat().st_size != known["bytes"] or file_sum(path) != known["sha256"]:
            raise NoFit(
                f"In the bundle in {folder}, {name} is not what it was: a bad stick or a broken "
                f"copy. Copy it again, or make it again."
            )
    for path in (folder / WHEELS).iterdir():
        # macOS puts files that begin with a dot beside others on such sticks.
        if not path.name.startswith(".") and f"{WHEELS}/{path.name}" not in manifest["files"]:
            raise NoFit(
                f"{path} is none of the bundle's own files. Remove it: pip might take it instead."
            )


def extras(root: Path, bundle: Bundle | None) -> None:
    """What set-up can do without: the JavaScript client of the chat page, Node's packages.

    Each says in a sentence what is missing; nothing here makes set-up fail.
    """
    if bundle:
        try:
            npm_packages.unpack(root / PEER, bundle.npm)
        except (npm_packages.BadPackage, OSError) as why:
            say(f"○ The Node server of lesson 08 was not set up: {why}")
    client = ["chatlab.page.fetch", *(["--from", str(bundle.npm)] if bundle else [])]
    for module in (client, ["bench.node"]):
        subprocess.run([sys.executable, "-m", *module], cwd=root, check=False)


def lock_sum(root: Path) -> str:
    """What a bundle is made for: the exact versions, and what builds this package."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    build = "\n".join(sorted(project["build-system"]["requires"]))
    peer = (root / PEER / npm_packages.LOCK).read_text(encoding="utf-8")
    parts = ((root / LOCK).read_text(encoding="utf-8"), build, peer)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def file_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def this_target() -> str:
    """What wheels have to fit: `cpython-3.13-linux-x86_64`."""
    implementation = sys.implementation.name
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        implementation += "t"
    return f"{implementation}-{sys.version_info.major}.{sys.version_info.minor}-{this_platform()}"


def this_platform() -> str:
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        return f"macos-{machine}"
    if sys.platform == "linux":
        libc = "" if platform.libc_ver()[0] == "glibc" else "musl-"
        return f"linux-{libc}{machine}"
    return f"{sys.platform}-{machine}"


def shown(target: str) -> str:
    implementation, version, where = target.split("-", 2)
    name = "Python" if implementation == "cpython" else implementation
    return f"{name} {version} on {where}"


def another_python(targets: Sequence[str]) -> str:
    """Advice where the bundle is for this machine, but for other versions of Python."""
    here = this_platform()
    versions = [target.split("-", 2)[1] for target in targets if target.endswith(f"-{here}")]
    if not versions:
        return ""
    return f"name that Python (`make PYTHON=python{versions[-1]} lab`), or "


if __name__ == "__main__":
    sys.exit(main())
