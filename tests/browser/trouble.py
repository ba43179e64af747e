"""What goes wrong in a page while a test looks elsewhere: errors, refused scripts, lost requests.

It collects, and knows what a test has said that it expects. It judges no behaviour of the page.
"""

from __future__ import annotations

import re

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

# A page that leaves, or a client that gives up its own poll, does this to a request.
GIVEN_UP = "net::ERR_ABORTED"


class Trouble:
    """Everything that the pages of one context complained about, in order, as sentences.

    Chromium reports what a Content-Security-Policy refuses as an error on the console, and so it
    does with a failed websocket. Frames inside a page count as the page.
    """

    def __init__(self, context: BrowserContext, allowed: tuple[str, ...] = ()) -> None:
        self.seen: list[str] = []
        self._allowed = [re.compile(pattern) for pattern in allowed]
        self._context = context
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("page", self._page)

    def allow(self, *patterns: str) -> None:
        """Expect what matches one of these (`re.search`), whenever it was or will be seen."""
        self._allowed += [re.compile(pattern) for pattern in patterns]

    @property
    def unexpected(self) -> list[str]:
        """What was seen and not expected."""
        return [line for line in self.seen if not any(each.search(line) for each in self._allowed)]

    def stop(self) -> None:
        """Notice no more: what happens while a page is closed is nobody's fault."""
        self._context.remove_listener("console", self._console)
        self._context.remove_listener("weberror", self._error)
        self._context.remove_listener("requestfailed", self._failed)
        self._context.remove_listener("response", self._answered)
        self._context.remove_listener("page", self._page)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "assert"}:
            where = message.location.get("url", "")
            self.seen.append(f"console error: {message.text} ({where})")

    def _error(self, error: WebError) -> None:
        self.seen.append(f"page error: {error.error.message}")

    def _failed(self, request: Request) -> None:
        if request.failure != GIVEN_UP:
            self.seen.append(f"request failed: {request.failure} {request.method} {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.seen.append(
                f"request refused: {response.status} {response.request.method} {response.url}"
            )

    def _page(self, page: Page) -> None:
        page.on("crash", lambda _: self.seen.append("page crashed"))
