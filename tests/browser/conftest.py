"""Fixtures of the tests in a real browser: one Chromium for all of them, a new context per page.

Every async test of this folder runs on one event loop, the browser's. A fixture of its own that is
async and is to share it says so: `@pytest_asyncio.fixture(loop_scope="session")`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser import accessible, chromium
from tests.browser.opened import Opened

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CI = os.environ.get("CI", "").lower() in {"1", "true"}
# A folder to keep every screenshot in; those of a failed test are kept in any case.
KEEP = os.environ.get("CHATLAB_SCREENSHOTS", "")
FAILED = pytest.StashKey[bool]()

# pytest leaves out what is marked so: a hundred lines of Playwright's own would stand between a
# test and what it waited for in vain.
for name, module in list(sys.modules.items()):
    if name.startswith("playwright."):
        module.__dict__["__tracebackhide__"] = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def absent(what: str) -> None:
    """Leave a test out because this machine lacks something; with CI=true that is a failure."""
    if CI:
        pytest.fail(f"{what}, which CI=true does not allow", pytrace=False)
    pytest.skip(what)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The one browser of the run, from its first test that needs one to the end."""
    executable = chromium.find()
    if executable is None:
        absent(f"no browser here: none of {', '.join(chromium.NAMES)} is on the PATH")
    assert executable is not None
    async with chromium.started(executable) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """What `open_page` and `screenshot` of one test have made; it is judged and closed at the end.

    A page that complained of something unexpected fails its test here.
    """
    made = Opened(browser)
    yield made
    unexpected = await made.end()
    failed = request.node.stash.get(FAILED, False) or bool(unexpected)
    if KEEP or failed:
        folder = Path(KEEP) if KEEP else ROOT / ".cache" / "screenshots"
        made.save(folder, re.sub(r"\W+", "_", request.node.name).strip("_"))
    await made.close()
    if unexpected:
        pytest.fail("the page complained:\n  " + "\n  ".join(unexpected), pytrace=False)


@pytest.fixture
def open_page(opened: Opened) -> Callable[..., Any]:
    """`await open_page(url, …)`: a page in a context of its own. See `Opened.page`."""
    return opened.page


@pytest.fixture
def allow(opened: Opened) -> Callable[..., None]:
    """`allow(page, *patterns)`: complaints of this page that the test causes on purpose."""
    return opened.allow


@pytest.fixture
def screenshot(opened: Opened) -> Callable[..., Any]:
    """`await screenshot(page, "name")`: kept with CHATLAB_SCREENSHOTS=FOLDER, or on failure."""
    return opened.screenshot


@pytest.fixture
def axe() -> Callable[[Page], Any]:
    """`await axe(page)`: fails with what axe-core finds. See accessible.py."""
    if not accessible.AXE.exists():
        absent("no axe-core here: run `npm ci` in tests/js")
    return accessible.axe
