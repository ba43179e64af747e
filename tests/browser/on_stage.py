"""The stage's page as an instructor uses it; tests/stage/running.py starts the stage.

What the stage should do stands in the tests; here is only how to click and look.
"""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import FrameLocator, Locator, Page, expect

SLOW_MS = 30_000  # for what starts servers again

# What the windows' own pages complain of while their wire or their server is gone.
BROKEN = (
    r"WebSocket connection to 'ws://[^/]+/socket\.io/",
    r"Failed to load resource: .*/(socket\.io/|healthz|dev/token|page/|\?seat=)",
    r"Failed to load resource: the server responded with a status of (40[013]|50\d)",
    r"request failed: .*/(socket\.io/|healthz|dev/token|page/|\?seat=)",
    r"request refused: (40[013]|50\d) (GET|POST) .*/(socket\.io/|healthz|dev/token|page/|\?seat=)",
)


class OnStage:
    """The page, in the hands of an instructor."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def ready(self) -> OnStage:
        """Wait until the stage is up, nothing is being done, and both windows are connected."""
        await expect(self.page.locator("body[data-ready='true']")).to_be_attached(timeout=SLOW_MS)
        for seat in "ab":
            await self.connected(seat)
        return self

    async def begun(self) -> OnStage:
        """Wait until the stage is ready for a test: what another one left broken is reset."""
        await expect(self.page.locator("body[data-ready='true']")).to_be_attached(timeout=SLOW_MS)
        broken = "#topology [data-mood=bad], main .switch:not(.talk-do)[aria-pressed=true]"
        if await self.page.locator(broken).count():
            await self.reset()
        return await self.ready()

    # -- what can be clicked -----------------------------------------------------------------------

    def switch(self, name: str) -> Locator:
        """The button of that name (its whole name, as a screen reader says it)."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def press(self, name: str) -> dict[str, Any]:
        """Press a switch and wait until the stage has done it; what it answered."""
        await expect(self.page.locator("body[data-ready='true']")).to_be_attached(timeout=SLOW_MS)
        return await self.click(self.switch(name))

    async def click(self, button: Locator) -> dict[str, Any]:
        """Click, and wait for the stage's answer."""
        async with self.page.expect_response(
            lambda response: response.url.endswith("/stage/do"), timeout=SLOW_MS
        ) as told:
            await button.click()
        response = await told.value
        answer: dict[str, Any] = await response.json()
        return answer

    async def pressed(self, name: str, state: bool = True) -> None:
        """Wait until the switch is shown as pressed, or not."""
        await expect(self.switch(name)).to_have_attribute("aria-pressed", str(state).lower())

    async def reset(self) -> None:
        """The one click, and everything as at the start."""
        answer = await self.click(self.switch("Reset"))
        assert answer["ok"], answer
        await self.ready()

    # -- what can be seen --------------------------------------------------------------------------

    def part(self, name: str) -> Locator:
        """A part's card, by its id."""
        return self.page.locator(f'[data-part="{name}"]')

    async def is_said(self, name: str, words: str | re.Pattern[str], mood: str) -> None:
        """Wait until a part's card says these words, in this mood."""
        await expect(self.part(name).locator(".part-words")).to_have_text(words, timeout=SLOW_MS)
        await expect(self.part(name)).to_have_attribute("data-mood", mood)

    def where(self, seat: str) -> Locator:
        """What stands above a window."""
        return self.page.locator(f"#pane-{seat} .pane-where")

    def window(self, seat: str) -> FrameLocator:
        """The chat page in a window."""
        return self.page.frame_locator(f"#pane-{seat} iframe")

    async def connected(self, seat: str, state: str = "online") -> None:
        """Wait until the chat page in a window is in this state."""
        chat = self.window(seat).locator("#connection")
        await expect(chat).to_have_attribute("data-state", state, timeout=SLOW_MS)

    async def say(self, seat: str, text: str) -> None:
        """Write a message in a window."""
        window = self.window(seat)
        await window.locator("#message-text").fill(text)
        await window.locator("#composer button[type=submit]").click()

    async def reads(self, seat: str, text: str, times: int = 1) -> None:
        """Wait until a window shows a message so many times, and no copy is being sent."""
        window = self.window(seat)
        shown = window.locator("#messages .message-text", has_text=text)
        await expect(shown).to_have_count(times, timeout=SLOW_MS)

    async def has_passed(self, word: str, *, text: str | None = None) -> None:
        """Wait until the list of packets has one of that name."""
        lines = self.page.locator(
            "#log .log-line", has=self.page.locator(".log-word", has_text=word)
        )
        if text is not None:
            lines = lines.filter(has_text=text)
        await expect(lines.first).to_be_attached()

    def verdict(self, rule: str) -> Locator:
        """The number of the checker's verdict that has this name."""
        number = self.page.locator("#verdict .verdict-number", has_text=rule)
        return number.locator(".verdict-value")

    async def told(self, words: str | re.Pattern[str]) -> None:
        """Wait until the page says this sentence."""
        await expect(self.page.locator("#notice")).to_contain_text(words)
