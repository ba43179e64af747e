"""The stage's own little web server: its page, its switches and its events, for this machine only.

What a switch does is the stage's business; here it is decided who may touch one.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from chatlab.stage.guard import Guard
from chatlab.stage.hub import Hub

__all__ = ["Answer", "make_control"]

Answer = tuple[int, dict[str, Any]]

_WEB: Final = Path(__file__).with_name("web")
_THEME: Final = Path(__file__).parents[1] / "page" / "web" / "theme.css"
_LARGEST: Final = 4_096  # bytes of an action
_TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


def make_control(
    guard: Guard,
    hub: Hub,
    act: Callable[[dict[str, Any]], Awaitable[Answer]],
    frames: Callable[[], Sequence[str]],
) -> web.Application:
    """The application. `act` does an action; `frames` are the origins of what the page shows."""

    @web.middleware
    async def at_home(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/stage/"):
            guard.require_home(request)
        else:
            guard.require_local(request)
        answer: web.StreamResponse = await handler(request)
        if not answer.prepared:
            answer.headers.setdefault("Cache-Control", "no-store")
            answer.headers["X-Content-Type-Options"] = "nosniff"
            answer.headers["Referrer-Policy"] = "no-referrer"
            answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return answer

    async def index(request: web.Request) -> web.StreamResponse:
        answer = _file(_WEB / "index.html")
        answer.headers["Content-Security-Policy"] = _policy(request.host, frames())
        return answer

    async def asset(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path = _THEME if name == "theme.css" else (_WEB / name).resolve()
        if path != _THEME and not path.is_relative_to(_WEB.resolve()):
            raise web.HTTPNotFound
        return _file(path)

    async def do(request: web.Request) -> web.StreamResponse:
        guard.require_key(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send JSON\n")
        try:
            asked = json.loads(await request.text())
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("do"), str):
            error = 'send {"do": "<action>", …}'
            return web.json_response({"ok": False, "error": error}, status=400)
        status, answer = await act(asked)
        return web.json_response(answer, status=status)

    app = web.Application(middlewares=[at_home], client_max_size=_LARGEST)
    app.router.add_get("/", index)
    app.router.add_get("/web/{name:.+}", asset)
    app.router.add_post("/stage/do", do)
    app.router.add_get("/stage/events", hub.serve)
    return app


def _file(path: Path) -> web.Response:
    try:
        body = path.read_bytes()
    except OSError:
        raise web.HTTPNotFound from None
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    text = kind is not None and (kind.startswith("text/") or "xml" in kind)
    return web.Response(
        body=body,
        content_type=kind or "application/octet-stream",
        charset="utf-8" if text else None,
    )


def _policy(host: str, frames: Sequence[str]) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            # Safari before 15.6 does not take 'self' for its own WebSocket.
            f"connect-src 'self' ws://{host}",
            "frame-src " + (" ".join(frames) or "'none'"),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
