"""Who may speak to the stage's control: this machine, with the key, from the stage's own page.

The key alone would do; the other two keep a page that an instructor has open in another tab from
trying, also one whose name was pointed at this machine (DNS rebinding).
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

__all__ = ["Guard"]

_SCHEME: Final = "Bearer "


class Guard:
    """`key` is made here. It stands in a fragment only, which no browser sends to anybody."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(24)

    def knows(self, key: object) -> bool:
        """Whether it is the key; takes the same time for every wrong one."""
        given = key if isinstance(key, str) else ""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.key.encode())

    def require_key(self, request: web.Request) -> None:
        """Raises `HTTPUnauthorized` without `Authorization: Bearer KEY`."""
        given = request.headers.get("Authorization", "")
        key = given.removeprefix(_SCHEME) if given.startswith(_SCHEME) else ""
        if not self.knows(key):
            raise web.HTTPUnauthorized(
                text="the stage wants its key\n", headers={"WWW-Authenticate": "Bearer"}
            )

    @staticmethod
    def require_local(request: web.Request) -> None:
        """Raises `HTTPForbidden` for another name than this machine's own for itself."""
        if not _is_local(f"//{request.host}"):
            raise web.HTTPForbidden(text="the stage answers to 127.0.0.1 and localhost only\n")

    def require_home(self, request: web.Request) -> None:
        """Raises `HTTPForbidden` for another host's name, or a page of another origin."""
        self.require_local(request)
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="only the stage's own page may ask\n")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="only the stage's own page may ask\n")


def _is_local(address: str) -> bool:
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return False
    return host in ("127.0.0.1", "localhost", "::1")
