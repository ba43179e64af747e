"""The page's files: read once, known by name, and sent with the headers of a strict page.

Only what is listed here is ever served, from memory: there is no path to walk out of. What the
files say to the server is routes.py's.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aiohttp import web

from chatlab.page.client_file import CDN, FILE_INTEGRITY, FILE_NAME, read_kept

__all__ = ["Asset", "Page", "content_security_policy"]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX: Final = "index.html"
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LOCAL_FRAMES: Final = ("http://localhost:*", "http://127.0.0.1:*")


def content_security_policy(
    *, dev: bool = False, frame_ancestors: Sequence[str] = (), cdn: bool = False
) -> str:
    """What a browser lets the page do.

    Scripts, styles and connections of its own server only, nothing inline, no HTML made of text
    (Trusted Types: Chromium). Other pages may show it in a frame where `frame_ancestors` says so,
    and with `dev` any page of this machine, as notebooks do. `cdn` adds the one file of the CDN.

    `connect-src 'self'` covers ws: and wss: of the same host (CSP level 3) in Chromium, Firefox
    and Safari from 15.6 on; in an older Safari the client goes on with polling.
    """
    frames = " ".join(["'self'", *(_LOCAL_FRAMES if dev else ()), *frame_ancestors])
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {CDN}" if cdn else "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {frames}",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, whole, with the headers that it is sent with."""

    body: bytes
    headers: Mapping[str, str]
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes, **headers: str) -> Asset:
        etag = hashlib.sha256(body).hexdigest()[:32]
        kind = _TYPES[name[name.rindex(".") :]]
        given = {
            **_ALWAYS,
            "Content-Type": kind,
            "Cache-Control": "no-cache",  # kept, but asked about each time
            "ETag": f'"{etag}"',
            **headers,
        }
        return cls(body, given, etag)

    def response(self, request: web.Request) -> web.Response:
        """200 with the file, or 304 where the browser has it."""
        known = request.if_none_match or ()
        if any(tag.value in (self.etag, "*") for tag in known):
            headers = {name: text for name, text in self.headers.items() if name != "Content-Type"}
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=self.headers)


class Page:
    """The files as one server sends them. `local_client` says whether the client is among them.

    `health` is False where `/healthz` is not to be had beside them: the page then asks nobody
    which server it talks to.
    """

    def __init__(
        self, *, dev: bool = False, frame_ancestors: Sequence[str] = (), health: bool = True
    ) -> None:
        client = read_kept()
        self.local_client = client is not None
        self.assets: dict[str, Asset] = {}
        for file in files("chatlab.page").joinpath("web").iterdir():
            if file.name != _INDEX and file.name[file.name.rfind(".") :] in _TYPES:
                self.assets[file.name] = Asset.of(
                    file.name, file.read_bytes(), **{"Cross-Origin-Resource-Policy": "same-origin"}
                )
        if client is not None:
            self.assets[FILE_NAME] = Asset.of(
                FILE_NAME,
                client,
                **{
                    "Cross-Origin-Resource-Policy": "same-origin",
                    # Its name holds its version: it never changes.
                    "Cache-Control": "public, max-age=31536000, immutable",
                },
            )
        policy = content_security_policy(
            dev=dev, frame_ancestors=frame_ancestors, cdn=not self.local_client
        )
        self.index = Asset.of(
            _INDEX, self._index(dev, health).encode(), **{"Content-Security-Policy": policy}
        )

    def _index(self, dev: bool, health: bool) -> str:
        text = files("chatlab.page").joinpath("web", _INDEX).read_text("utf-8")
        filled = {
            "DEV": "yes" if dev else "no",
            "HEALTH": "yes" if health else "no",
            "CLIENT": "local" if self.local_client else "cdn",
            "CLIENT_URL": f"page/{FILE_NAME}" if self.local_client else CDN,
            "CLIENT_INTEGRITY": FILE_INTEGRITY,
        }
        for name, value in filled.items():
            text = text.replace("{{" + name + "}}", html.escape(value))
        return text
