"""The chat pages that the stage shows: chatlab's own, and a plain one for the stock servers.

The stock servers count no messages and keep none, so chatlab's page has nothing to hold on to
there. Both are served by the stage itself: a page must load even when every server is down.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

from aiohttp import web

from chatlab.page.assets import Asset, Page
from chatlab.page.client_file import CDN, FILE_INTEGRITY, FILE_NAME

__all__ = ["add_chat_page"]

_POLICY: Final = "Content-Security-Policy"


def add_chat_page(
    app: web.Application,
    *,
    frames: Sequence[str] = (),
    plain: Callable[[], bool],
    health: bool = True,
) -> None:
    """Serve the chat page from `app`, and nothing else of a chat server.

    `frames` are the origins that may show it in a frame; `plain` says which page it is now;
    `health` whether `/healthz` of the server that the page talks to is at the same address.
    """
    page = Page(frame_ancestors=frames, health=health)
    folder = files("chatlab.stage").joinpath("plain")
    assets = dict(page.assets)
    for name in ("plain.js", "plain.css"):
        assets[name] = Asset.of(name, folder.joinpath(name).read_bytes())
    local = page.local_client
    text = folder.joinpath("index.html").read_text("utf-8")
    text = text.replace("{{CLIENT_URL}}", html.escape(f"page/{FILE_NAME}" if local else CDN))
    text = text.replace("{{CLIENT_INTEGRITY}}", html.escape(FILE_INTEGRITY))
    plain_index = Asset.of("index.html", text.encode(), **{_POLICY: page.index.headers[_POLICY]})

    async def index(request: web.Request) -> web.Response:
        return (plain_index if plain() else page.index).response(request)

    async def asset(request: web.Request) -> web.Response:
        found = assets.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return found.response(request)

    app.router.add_get("/", index)
    app.router.add_get("/page/{name}", asset)
