"""The official JavaScript client: which file it is, where it is kept, and that it is the right one.

It is never part of this repository: `fetch.py` gets it once, and what is served is compared with
the hash below each time a server starts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from pathlib import Path
from typing import Final

__all__ = [
    "CDN",
    "FILE_INTEGRITY",
    "FILE_NAME",
    "MEMBER",
    "PACKAGE",
    "TARBALL_INTEGRITY",
    "VERSION",
    "cache_folder",
    "integrity",
    "kept_at",
    "read_kept",
]

PACKAGE: Final = "socket.io-client"
VERSION: Final = "4.8.4"
MEMBER: Final = "package/dist/socket.io.min.js"  # in the tarball
FILE_NAME: Final = f"socket.io-{VERSION}.min.js"

TARBALL_INTEGRITY: Final = (
    "sha512-7wjKAvVXYOJsbmUgkWbnhPD4bFpkqrUR0++XOjpGFmqDqsqV1CI93VTraeExLxpjxEqrWgFoSRZu1ihjLWfk"
    "AA=="
)
"""What the npm registry says of the tarball, and every package-lock.json that names it."""

FILE_INTEGRITY: Final = "sha384-fBrXvbDtHoeKWJ/hcA6M+YGueiDW+h45I7V6F2kD1S8bOkrF9rZYPLVkCR6BLR/1"
"""Of the one file that a browser gets. The client's CDN serves the same bytes as npm."""

CDN: Final = f"https://cdn.socket.io/{VERSION}/socket.io.min.js"
"""The client's own public CDN: the last resort, always together with `FILE_INTEGRITY`."""


def integrity(data: bytes, like: str) -> str:
    """`data`'s hash, written as `like` is (`sha384-…`, as in Subresource Integrity)."""
    algorithm = like.partition("-")[0]
    digest = hashlib.new(algorithm, data).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def cache_folder() -> Path:
    """`CHATLAB_CACHE`, else `.cache` of the checkout that this runs from, else the user's own."""
    if given := os.environ.get("CHATLAB_CACHE"):
        return Path(given).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "authoring").is_dir():
        return checkout / ".cache"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "chatlab"


def kept_at() -> Path:
    """Where the file is kept, whether it is there or not."""
    return cache_folder() / "npm" / FILE_NAME


def read_kept() -> bytes | None:
    """The file, if it is kept and is the right one; None else.

    What is returned is what was checked: whoever changes the file afterwards changes nothing.
    """
    try:
        data = kept_at().read_bytes()
    except OSError:
        return None
    return data if integrity(data, FILE_INTEGRITY) == FILE_INTEGRITY else None
