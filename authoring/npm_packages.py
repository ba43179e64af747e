"""Reads an npm lock file, and unpacks the packages that it names from tarballs in a folder.

npm itself is not needed for that, and neither is a network; where both are there, `npm ci` does it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LOCK = "package-lock.json"
INSTALLED = Path("node_modules") / ".package-lock.json"


class BadPackage(Exception):
    """A tarball is not what the lock names; the text says which."""


@dataclass(frozen=True)
class Package:
    """One package of a lock: where it goes, what it is, and the sum that its tarball has."""

    place: str
    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        """The file's name, as `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def address(self) -> str:
        """Where a registry has it, after the registry's own address."""
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"

    def check(self, data: bytes) -> None:
        """Raise `BadPackage` unless `data` has the sum in the lock."""
        algorithm, _, wanted = self.integrity.partition("-")
        if base64.b64encode(hashlib.new(algorithm, data).digest()).decode() != wanted:
            raise BadPackage(f"{self.tarball} is not the file that the lock names")


def packages(folder: Path) -> Iterator[Package]:
    """What the lock in `folder` names."""
    lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    for place, entry in lock["packages"].items():
        if place:
            name = entry.get("name") or place.rpartition("node_modules/")[2]
            yield Package(place, name, entry["version"], entry["integrity"])


def unpack(folder: Path, tarballs: Path) -> None:
    """Make `node_modules` in `folder` what its lock asks for, unless it is so already.

    Raises `BadPackage` for a tarball that is missing or another one; nothing is changed then.
    """
    done = folder / INSTALLED
    if done.exists() and done.stat().st_mtime >= (folder / LOCK).stat().st_mtime:
        return
    found = []
    for package in packages(folder):
        try:
            data = (tarballs / package.tarball).read_bytes()
        except FileNotFoundError:
            raise BadPackage(f"there is no {package.tarball} in {tarballs}") from None
        package.check(data)
        found.append((package, data))
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    for package, data in found:
        _extract(data, folder / package.place)
    # By this file npm, and what looks whether npm is to be called, know that all is there.
    shutil.copyfile(folder / LOCK, done)


def _extract(data: bytes, target: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or inside.is_absolute() or ".." in inside.parts:
                continue
            path = target / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            path.write_bytes(source.read())
