"""A chat page as a person uses it, for the tests of this folder: say, read, wait to see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from playwright.async_api import Locator, Page, expect

from chatlab.page.client_file import read_kept
from tests.browser.conftest import absent

PATIENCE = 15_000  # ms; a slow machine, and a page that backs off before it comes back

# What a browser complains of when a test cuts its line or stops its server.
CUT = (r"WebSocket connection to", r"ERR_", r"Failed to load resource")


def require_client() -> None:
    """Leave the test out where the official client was not fetched: no CDN can be reached."""
    if read_kept() is None:
        absent("no socket.io-client here: run `python -m chatlab.page.fetch`")


class Talk:
    """One open chat page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def say(self, text: str) -> None:
        """Write a message and send it by Enter."""
        await self.page.locator("#message-text").fill(text)
        await self.page.locator("#message-text").press("Enter")

    async def state(self, name: str) -> None:
        """Wait until the connection is in this state."""
        connection = self.page.locator("#connection")
        await expect(connection).to_have_attribute("data-state", name, timeout=PATIENCE)

    @property
    def texts(self) -> Locator:
        """The texts of the stored messages that are shown, oldest first."""
        return self.page.locator("#messages .message-text")

    async def reads(self, *texts: str) -> None:
        """Wait until exactly these messages are shown, in this order."""
        await expect(self.texts).to_have_text(list(texts), timeout=PATIENCE)

    def tick(self, text: str) -> Locator:
        """The tick of one's own message with this text, stored or on its way."""
        message = self.page.locator(".message.own").filter(
            has=self.page.get_by_text(text, exact=True)
        )
        return message.locator(".tick")

    async def ticked(self, text: str, state: str) -> None:
        """Wait until one's own message has this tick."""
        await expect(self.tick(text)).to_have_attribute("data-state", state, timeout=PATIENCE)

    def notice(self, key: str) -> Locator:
        """The notice with this key, shown or not."""
        return self.page.locator(f'#notices .notice[data-key="{key}"]')

    async def look(self) -> None:
        """Come to the front, as a person who looks at this window does."""
        await self.page.bring_to_front()


def address(url: str, *, user: str = "", token: str = "", rooms: tuple[str, ...] = ()) -> str:
    """The page's address with a fragment that logs in."""
    given = [("user", user), ("token", token), *(("room", room) for room in rooms)]
    return f"{url}/#" + "&".join(f"{name}={quote(value)}" for name, value in given if value)


async def enter(open_page: Callable[..., Any], url: str, user: str, **more: Any) -> Talk:
    """Open the page as `user` and wait until it is connected and has joined its room."""
    require_client()
    rooms = more.pop("rooms", ())
    token = more.pop("token", "")
    talk = Talk(await open_page(address(url, user=user, token=token, rooms=rooms), **more))
    await talk.state("online")
    await expect(talk.page.locator(".room-button.joining")).to_have_count(0)
    return talk


async def watch_frames(page: Page) -> dict[str, list[str]]:
    """Every websocket frame of the page from now on, as `{"sent": […], "received": […]}`."""
    frames: dict[str, list[str]] = {"sent": [], "received": []}

    def opened(socket: Any) -> None:
        socket.on("framesent", lambda frame: frames["sent"].append(str(frame)))
        socket.on("framereceived", lambda frame: frames["received"].append(str(frame)))

    page.on("websocket", opened)
    return frames


def events(frames: list[str], name: str) -> list[Any]:
    """The payloads of the events of this name among `frames`."""
    found = []
    for frame in frames:
        match = re.match(r"42\d*(\[.*)$", frame, re.DOTALL)
        if match:
            event, *payload = json.loads(match[1])
            if event == name:
                found.append(payload[0] if payload else None)
    return found
