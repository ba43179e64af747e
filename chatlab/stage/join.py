"""What the audience gets through the door: the chat page, and before it a page to join by code.

It listens on a port of its own and knows nothing of the stage's control: whoever gets past the
door finds nothing here but this.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from chatlab.stage.codes import Codes
from chatlab.stage.guests import Guests
from chatlab.stage.pages import add_chat_page

__all__ = ["make_outside"]

_JOIN: Final = Path(__file__).with_name("outside")
_LARGEST: Final = 2_048  # bytes of the form
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_FILES: Final = {"join.js": "text/javascript", "join.css": "text/css"}


def make_outside(
    codes: Codes, guests: Guests, room: str, *, plain: Callable[[], bool]
) -> web.Application:
    """The application behind the door. `plain`: see `add_chat_page`."""

    async def form(_request: web.Request) -> web.Response:
        return _form(200, "")

    async def file(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _FILES:
            raise web.HTTPNotFound
        body = (_JOIN / name).read_bytes()
        return web.Response(body=body, content_type=_FILES[name], charset="utf-8")

    async def join(request: web.Request) -> web.Response:
        address = _address(request)
        wait = codes.wait(address)
        if wait:
            answer = _form(429, f"Too many tries. Wait {math.ceil(wait)} seconds.")
            answer.headers["Retry-After"] = str(math.ceil(wait))
            return answer
        given = await request.post()
        code, name = given.get("code"), given.get("name")
        if not isinstance(code, str) or not isinstance(name, str):
            return _form(400, "Enter the code and a name.")
        if not codes.right(code, address):
            return _form(403, "That is not the code. It is shown on the stage.")
        try:
            token = guests.admit(name)
        except ValueError as error:
            return _form(400, str(error), code=codes.code)
        # The fragment is for the page alone: no server, and no log of one, sees the token.
        return web.Response(status=303, headers={"Location": f"/#token={token}&room={room}"})

    app = web.Application(client_max_size=_LARGEST)
    app.router.add_get("/join", form)
    app.router.add_post("/join", join)
    app.router.add_get("/join/{name}", file)
    add_chat_page(app, plain=plain, health=False)
    return app


def _form(status: int, said: str, code: str = "") -> web.Response:
    text = (_JOIN / "join.html").read_text("utf-8")
    text = text.replace("{{SAID}}", html.escape(said)).replace("{{CODE}}", html.escape(code))
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _address(request: web.Request) -> str:
    # The door is the only one who comes here, and has written the address that it saw.
    forwarded = request.headers.get("X-Forwarded-For", "")
    return forwarded.split(",")[-1].strip() or request.remote or ""
