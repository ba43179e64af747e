"""The chat page for everybody: axe-core at WCAG A and AA, in light and dark, at three widths."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.chatting import enter, require_client
from tests.server.peer import Running, running

OpenPage = Callable[..., Any]


# A server ends after the pages that are open on it: ask for it before `open_page`.
@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Running]:
    require_client()
    async with running(page=True, max_message=120) as run:
        yield run


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
async def test_axe_finds_nothing_against_the_page(
    server: Running,
    open_page: OpenPage,
    axe: Callable[..., Any],
    screenshot: Callable[..., Any],
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    page = await open_page(server.url, width=width, height=760, scheme=scheme)
    await expect(page.locator("#login-user")).to_be_focused()
    await page.locator("#login-other").get_by_text("I have a token").click()
    await axe(page)
    await screenshot(page, f"login-{width}-{scheme}")

    bob = await server.connect("bob")
    await bob.join()
    carol = await server.connect("carol")
    await carol.join()
    for text in ("Morning! Is the log back?", "I still see yesterday's."):
        await bob.say(text)
    await carol.say("Yes, since nine. Every message kept its place.")
    alice = await enter(
        open_page, server.url, "alice", width=width, height=760, scheme=scheme,
        rooms=("general", "music", "private-board"),
    )  # fmt: skip
    await alice.say("Then the rerun can start: who takes the numbers down?")
    await alice.ticked("Then the rerun can start: who takes the numbers down?", "sent")
    await bob.call("mark-read", {"room": "general", "seq": 4})
    await alice.ticked("Then the rerun can start: who takes the numbers down?", "read")
    await bob.say("I do.")
    await alice.say("Good. " * 30)
    await expect(alice.page.get_by_text("Not sent: Message is too long")).to_be_visible()
    peer = await server.connect("dave")
    await peer.join("music")
    await peer.say("anybody here?")
    await bob.emit("typing", {"room": "general", "typing": True})
    await expect(alice.page.locator("#typing")).to_have_text("bob is typing")
    await expect(alice.notice("refused/private-board")).to_be_visible()
    await expect(alice.page.locator(".room-unread")).to_have_text("1")
    await axe(alice.page)
    await screenshot(alice.page, f"chat-{width}-{scheme}")
    if width < 1040:
        await alice.page.locator("#people-toggle").click()
        await expect(alice.page.locator("#people")).to_be_visible()
        await axe(alice.page)
        await screenshot(alice.page, f"people-{width}-{scheme}")
        await alice.page.keyboard.press("Escape")
        await expect(alice.page.locator("#people")).to_be_hidden()
        await expect(alice.page.locator("#people-toggle")).to_be_focused()
