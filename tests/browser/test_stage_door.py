"""The audience's door as the instructor shows it: how a room comes in, and how it is shut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.on_stage import BROKEN, OnStage
from tests.stage.running import Demo, demo

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stage() -> Iterator[Demo]:
    with demo("--host", "127.0.0.1") as running:
        yield running


async def test_the_door_shows_an_address_a_code_and_a_picture_and_a_guest_comes_in(
    stage: Demo, open_page: Callable[..., Any], axe: Callable[..., Any]
) -> None:
    page = await open_page(stage.url, width=1280, height=720, allow=BROKEN)
    on = await OnStage(page).begun()
    await on.switch("Show the door").click()
    door = page.get_by_role("dialog")
    await expect(door.locator("img")).to_have_js_property("complete", True)
    assert await door.locator("img").evaluate("image => image.naturalWidth") > 0
    await axe(page, exclude=("iframe",))
    code = door.locator(".door-code")
    old = await code.inner_text()
    await on.press("New code")
    await expect(code).not_to_have_text(old)
    address = await door.locator(".door-address").inner_text()

    guest = await open_page(address, width=390, height=844)
    await guest.get_by_label(re.compile("code", re.I)).fill(await code.inner_text())
    await guest.get_by_label(re.compile("name", re.I)).fill("Anna")
    await guest.get_by_role("button").first.click()
    await expect(guest.locator("#connection")).to_have_attribute("data-state", "online")
    await expect(door.locator(".door-guests")).to_contain_text("Anna")
    await on.press("Ban Anna")
    await on.pressed("Ban Anna")
    await expect(guest.locator("#connection")).to_have_attribute("data-state", "banned")
    await on.press("Open the door")
    await on.pressed("Open the door", False)
