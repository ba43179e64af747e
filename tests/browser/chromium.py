"""The system's Chromium, started for the tests and gone with everything it wrote at their end.

It is never downloaded. What a page does wrong is noticed in trouble.py, not here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",  # as root, in a container, Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that needs another machine fails its test, with and without a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
]
STARTS_WITHIN_MS = 30_000


def find() -> str | None:
    """Where the system's Chromium is; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.asynccontextmanager
async def started(executable: str) -> AsyncIterator[Browser]:
    """A headless browser whose home, profile and temporary files end with it."""
    home = tempfile.mkdtemp(prefix="browser-")
    # Chromium keeps certificates, crash reports and caches of fonts below the home folder.
    environment = {
        **os.environ,
        "HOME": home,
        "TMPDIR": home,
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_CACHE_HOME": f"{home}/cache",
        "LANGUAGE": "en",
    }
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable,
                args=ARGUMENTS,
                env=environment,
                timeout=STARTS_WITHIN_MS,
            )
            try:
                yield browser
            finally:
                await browser.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
