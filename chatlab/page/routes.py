"""The page's addresses: `/`, `/page/…`, and with --dev `POST /dev/token`.

The last one makes a token for whoever is named. It exists for trying things out, so it is only
there with --dev, and even then only the page itself may use it.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from chatlab.page.assets import Page
from chatlab.page.client_file import VERSION
from chatlab.protocol import timestamp

if TYPE_CHECKING:  # the server imports this package
    from chatlab.server.auth import Tokens
    from chatlab.server.proxies import Proxies
    from chatlab.settings import Settings

__all__ = ["DEV_TOKEN_SECONDS", "add_page"]

log = logging.getLogger(__name__)

DEV_TOKEN_SECONDS: Final = 900.0
_LARGEST_BODY: Final = 4_096  # bytes
_LONGEST_USER: Final = 128


def add_page(app: web.Application, settings: Settings, *, tokens: Tokens, proxies: Proxies) -> None:
    """Serve the page from `app`; with `settings.dev` also the endpoint that makes tokens."""
    page = Page(dev=settings.dev, frame_ancestors=settings.frame_ancestors)
    if not page.local_client:
        log.warning(
            "socket.io-client %s is not on this machine: the page loads it from its public CDN. "
            "`python -m chatlab.page.fetch` fetches it",
            VERSION,
        )

    async def index(request: web.Request) -> web.Response:
        return page.index.response(request)

    async def asset(request: web.Request) -> web.Response:
        found = page.assets.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return found.response(request)

    app.router.add_get("/", index)
    app.router.add_get("/page/{name}", asset)
    if settings.dev:
        login = DevLogin(tokens, proxies, settings.origins)
        app.router.add_post("/dev/token", login.token)


class DevLogin:
    """`POST /dev/token {"user": "alice"}` -> `{"token", "expiresAt"}`."""

    def __init__(self, tokens: Tokens, proxies: Proxies, origins: tuple[str, ...]) -> None:
        self._tokens, self._proxies = tokens, proxies
        self._listed = {origin.rstrip("/").lower() for origin in origins if origin != "*"}
        self._hosts = {urlsplit(origin).hostname for origin in self._listed}

    async def token(self, request: web.Request) -> web.Response:
        """A token for the named user, for the page of this very server."""
        self._require_own_page(request)
        user = await _named_user(request)
        expires_at = timestamp(time.time() + DEV_TOKEN_SECONDS)
        token = self._tokens.issue(user, ttl=DEV_TOKEN_SECONDS)
        return web.json_response(
            {"token": token, "expiresAt": expires_at},
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )

    def _require_own_page(self, request: web.Request) -> None:
        # Another site's page cannot set Origin or Sec-Fetch-Site, and cannot send JSON without
        # asking first, which nobody answers.
        origin = request.headers.get("Origin", "").lower()
        # Behind a proxy of which this server knows nothing (Jupyter's), its own origin is a listed
        # one. `*` lists none.
        if not self._proxies.is_own_origin(request, origin) and origin not in self._listed:
            raise web.HTTPForbidden(text="only the chat page of this server may ask for a token\n")
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise web.HTTPForbidden(text="only the chat page of this server may ask for a token\n")
        # A name that somebody else owns can be pointed at this machine (DNS rebinding): its page
        # would be of the same origin. An address cannot, nor can localhost.
        host = urlsplit(origin).hostname or ""
        if not (_is_local_name(host) or _is_address(host) or host in self._hosts):
            raise web.HTTPForbidden(
                text="with --dev the page is for localhost and plain addresses; list the origin "
                "of any other name in --origins\n"
            )


async def _named_user(request: web.Request) -> str:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON\n")
    if (request.content_length or 0) > _LARGEST_BODY:
        raise web.HTTPRequestEntityTooLarge(_LARGEST_BODY, request.content_length or 0)
    body = await request.read()
    try:
        asked = msgspec.json.decode(body)
        user = asked["user"] if isinstance(asked, dict) else None
        if not isinstance(user, str):
            raise ValueError
        user.encode()  # half a surrogate pair is no name
    except (ValueError, KeyError):
        raise web.HTTPBadRequest(text='send {"user": "…"}\n') from None
    user = user.strip()
    if not 1 <= len(user) <= _LONGEST_USER:
        raise web.HTTPBadRequest(text=f"a user's id has 1 to {_LONGEST_USER} characters\n")
    return user


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
