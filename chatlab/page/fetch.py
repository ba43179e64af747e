"""Fetches the official JavaScript client once: `python -m chatlab.page.fetch [--from FOLDER]`.

It comes from the npm registry (or a folder that holds the tarball) and is kept only if it is
byte for byte the one that `client_file.py` names. A set-up does not fail for want of it.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from chatlab.page.client_file import (
    FILE_INTEGRITY,
    MEMBER,
    PACKAGE,
    TARBALL_INTEGRITY,
    VERSION,
    integrity,
    kept_at,
    read_kept,
)

__all__ = ["TARBALL", "FetchError", "fetch", "main", "registry"]

TARBALL: Final = f"{PACKAGE}-{VERSION}.tgz"
PUBLIC: Final = "https://registry.npmjs.org/"
SECONDS: Final = 20.0
LARGEST: Final = 4 * 1024 * 1024  # bytes; the tarball has 331,401


class FetchError(Exception):
    """The client could not be had; the text is one sentence for a person."""


def fetch(folder: str | Path | None = None) -> Path:
    """Make sure that the client is kept on this machine, and return where.

    `folder` holds the tarball and is the only place looked at; without it the registry is asked,
    unless the file is there already. Raises `FetchError` with a sentence.
    """
    if folder is None and read_kept() is not None:
        return kept_at()
    tarball = _downloaded() if folder is None else _read(Path(folder) / TARBALL)
    if integrity(tarball, TARBALL_INTEGRITY) != TARBALL_INTEGRITY:
        raise FetchError(f"{TARBALL} is not the published one: its integrity is wrong")
    return _keep(_member(tarball))


def registry() -> str:
    """The npm registry's address, with a slash at its end, found as npm finds it."""
    address = _environment("npm_config_registry") or _asked_npm() or PUBLIC
    if urlsplit(address).scheme not in ("http", "https"):
        raise FetchError("the npm registry's address is neither http nor https")
    return address.rstrip("/") + "/"


def _environment(name: str) -> str:
    # npm reads its variables in any case: NPM_CONFIG_REGISTRY and npm_config_registry are one.
    for variable, value in os.environ.items():
        if variable.lower() == name and value:
            return value
    return ""


def _asked_npm() -> str:
    npm = shutil.which("npm")
    if npm is None:
        return ""
    try:
        answer = subprocess.run(
            [npm, "config", "get", "registry"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    said = answer.stdout.strip()
    return said if said.startswith("http") else ""


def _downloaded() -> bytes:
    try:
        with urllib.request.urlopen(  # noqa: S310 - the scheme was looked at
            f"{registry()}{PACKAGE}/-/{TARBALL}", timeout=SECONDS
        ) as answer:
            return bytes(answer.read(LARGEST))
    except (OSError, ValueError) as error:
        packed = _packed()
        if packed is None:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise FetchError(f"the npm registry did not give it ({reason})") from None
        return packed


def _packed() -> bytes | None:
    """The tarball as npm itself gets it: it knows a cache, certificates and credentials."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    with tempfile.TemporaryDirectory(prefix="chatlab-npm-") as folder:
        try:
            subprocess.run(
                [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder],
                capture_output=True,
                timeout=3 * SECONDS,
                check=True,
            )
            return _read(Path(folder) / TARBALL)
        except (OSError, subprocess.SubprocessError, FetchError):
            return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FetchError(f"{path} cannot be read ({error.strerror})") from None


def _member(tarball: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        file = archive.extractfile(MEMBER)
        data = b"" if file is None else file.read()
    if integrity(data, FILE_INTEGRITY) != FILE_INTEGRITY:
        raise FetchError(f"{MEMBER} in {TARBALL} is not the published one")
    return data


def _keep(data: bytes) -> Path:
    path = kept_at()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: a server that starts meanwhile finds all of it or nothing.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)  # set up by one user, served by another
        Path(name).replace(path)
    except OSError as error:
        raise FetchError(f"it cannot be kept in {path.parent} ({error.strerror})") from None
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, and say in one sentence how it went. Always 0: a set-up goes on without it."""
    parser = argparse.ArgumentParser(prog="python -m chatlab.page.fetch", description=__doc__)
    parser.add_argument(
        "--from", dest="folder", metavar="FOLDER", help=f"a folder that holds {TARBALL}"
    )
    given = parser.parse_args(arguments)
    try:
        fetch(given.folder)
    except FetchError as error:
        sys.stderr.write(
            f"{PACKAGE} {VERSION} was not fetched: {error}. The chat page will load it from the "
            "client's public CDN instead, and say so.\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
