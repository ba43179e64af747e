"""The pages that one test opens, what they complained about, and their pictures.

A page has a context of its own: no cookie and no storage is shared between two of them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, Error, Page

from tests.browser.trouble import Trouble

PATIENCE_MS = 15_000


class Opened:
    """Made by the fixture of the same name, which also ends it."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[tuple[BrowserContext, Trouble]] = []
        self._pictures: dict[str, bytes] = {}

    async def page(
        self,
        url: str | None = None,
        *,
        width: int = 1280,
        height: int = 800,
        scheme: Literal["light", "dark"] = "light",
        allow: tuple[str, ...] = (),
        wait: Literal["commit", "domcontentloaded", "load", "networkidle"] = "load",
        **context: Any,
    ) -> Page:
        """Open `url` (None: an empty page, to be prepared first) and return it once `wait` is so.

        `width` and `height` are in CSS pixels. `allow` are regular expressions of complaints
        which this test causes on purpose; any other one fails it. What else a Playwright context
        takes (`locale`, `has_touch`, `permissions`, …) is passed on.
        """
        made = await self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion=context.pop("reduced_motion", "reduce"),
            locale=context.pop("locale", "en-GB"),
            timezone_id=context.pop("timezone_id", "UTC"),
            **context,
        )
        self._contexts.append((made, Trouble(made, allow)))
        made.set_default_timeout(PATIENCE_MS)
        page = await made.new_page()
        if url is not None:
            await page.goto(url, wait_until=wait)
        return page

    def trouble(self, page: Page) -> Trouble:
        """What the pages of this page's context have complained about so far."""
        return next(trouble for context, trouble in self._contexts if context is page.context)

    def allow(self, page: Page, *patterns: str) -> None:
        """Expect complaints of `page` that match one of these, whenever they come."""
        self.trouble(page).allow(*patterns)

    async def screenshot(self, page: Page, name: str, *, full_page: bool = False) -> bytes:
        """Take a picture. It is written only when asked for, or when the test fails."""
        picture = await page.screenshot(full_page=full_page)
        self._pictures[name] = picture
        return picture

    async def end(self) -> list[str]:
        """Look at every open page for the last time; returns what was not expected of them."""
        found = []
        for number, (context, trouble) in enumerate(self._contexts):
            for page in context.pages:
                with contextlib.suppress(Error):
                    # What the page has already said reaches us before this answer does.
                    await page.evaluate("0")
                    self._pictures[f"at_the_end_{number}"] = await page.screenshot()
            trouble.stop()
            found += trouble.unexpected
        return found

    def save(self, folder: Path, test: str) -> None:
        """Write the pictures as `test-name.png` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in self._pictures.items():
            (folder / f"{test}-{name}.png").write_bytes(picture)

    async def close(self) -> None:
        """Close every page and forget its storage."""
        for context, _ in self._contexts:
            with contextlib.suppress(Error):
                await context.close()
        self._contexts.clear()
