"""The stage's switches, each pressed in a real browser on the real stage: does it what it says?"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.on_stage import BROKEN, SLOW_MS, OnStage
from tests.stage.running import Demo, demo

OpenPage = Callable[..., Any]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stage() -> Iterator[Demo]:
    with demo() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def on(stage: Demo, open_page: OpenPage) -> AsyncIterator[OnStage]:
    page = await open_page(stage.url, width=1280, height=720, allow=BROKEN)
    yield await OnStage(page).begun()


async def test_a_message_goes_from_one_window_to_the_other_and_every_packet_is_named(
    on: OnStage,
) -> None:
    await expect(on.where("a")).to_contain_text("on server 1")
    await expect(on.where("b")).to_contain_text("on server 2")
    await on.press("New record")
    await on.say("a", "Hello Bob")
    await on.reads("b", "Hello Bob")
    for word in ("sent", "stored", "published", "delivered", "acked"):
        await on.has_passed(word, text="Hello Bob")
    await expect(on.page.locator("#verdict .verdict-counts")).to_contain_text("1 acked")
    for rule in ("lost", "duplicated", "out of order", "leaked"):
        await expect(on.verdict(rule)).to_have_text("0")
    await expect(on.page.locator("#verdict")).to_have_attribute("data-ok", "true")


async def test_a_cut_wire_disconnects_its_window_until_it_is_healed(on: OnStage) -> None:
    await on.press("Cut the wire of Window A")
    await on.pressed("Cut the wire of Window A")
    await on.is_said("wire-a", "cut", "bad")
    await on.connected("a", "waiting")
    await on.is_said("wire-b", "works", "good")
    await on.press("Heal the wire of Window A")
    await on.pressed("Cut the wire of Window A", False)
    await on.is_said("wire-a", "works", "good")
    await on.connected("a")


async def test_what_is_written_on_a_mute_wire_arrives_once_when_it_is_healed(on: OnStage) -> None:
    await on.press("Mute the wire of Window A")
    await on.is_said("wire-a", "silent both ways", "bad")
    await on.say("a", "from the tunnel")
    await expect(on.window("a").locator("#outbox .message")).to_have_count(1)
    await on.has_passed("lost")
    await on.reads("b", "from the tunnel", 0)
    await on.press("Mute the wire of Window A")  # a second press ends it
    await on.pressed("Mute the wire of Window A", False)
    await on.reads("b", "from the tunnel")
    await expect(on.window("a").locator("#outbox .message")).to_have_count(0, timeout=SLOW_MS)


async def test_a_message_whose_ack_is_lost_is_tried_again_and_stored_once(on: OnStage) -> None:
    await on.press("New record")
    await on.press("No answers the wire of Window A")
    await on.is_said("wire-a", "silent to the window", "bad")
    await on.say("a", "did it arrive?")
    await on.reads("b", "did it arrive?")
    await expect(on.window("a").locator("#outbox .message")).to_have_count(1)
    await on.press("Heal the wire of Window A")
    await expect(on.window("a").locator("#outbox .message")).to_have_count(0, timeout=SLOW_MS)
    await on.reads("a", "did it arrive?")
    await on.reads("b", "did it arrive?")
    await expect(on.verdict("duplicated")).to_have_text("0")


async def test_a_late_wire_says_how_late_it_is(on: OnStage) -> None:
    await on.press("Delay the wire of Window B")
    await on.pressed("Delay the wire of Window B")
    await on.is_said("wire-b", "1.5 s late", "bad")
    await on.press("Delay the wire of Window B")
    await on.is_said("wire-b", "works", "good")


async def test_a_forged_and_an_expired_token_are_refused_and_a_good_one_is_let_in(
    on: OnStage,
) -> None:
    for name, said in (("Forged", "a forged token"), ("Expired", "an expired token")):
        await on.press(f"{name} token in Window A")
        await on.pressed(f"{name} token in Window A")
        await expect(on.where("a")).to_contain_text(said)
        await expect(on.window("a").locator("#login-reason")).to_be_visible()
        await on.has_passed("invalid token" if name == "Forged" else "token expired")
    await on.press("Expired token in Window A")
    await on.connected("a")
    await expect(on.where("a")).to_contain_text("on server 1")


async def test_a_token_that_ends_soon_is_counted_down(on: OnStage) -> None:
    await on.press("Expiring token in Window B")
    await expect(on.where("b")).to_contain_text(re.compile(r"token ends in \d+ s"))
    await on.connected("b")
    await on.press("Expiring token in Window B")
    await on.pressed("Expiring token in Window B", False)
    await on.connected("b")


async def test_a_banned_user_is_out_at_once_and_may_come_back(on: OnStage) -> None:
    await on.press("Ban bob")
    await on.pressed("Ban bob")
    await expect(on.where("b")).to_contain_text("banned")
    await on.connected("b", "banned")
    await on.press("Ban bob")
    await on.pressed("Ban bob", False)
    await on.connected("b")


async def test_a_flood_shows_what_its_victim_waits_and_what_is_refused(on: OnStage) -> None:
    await on.press("Flood a server")
    await on.pressed("Flood a server")
    victim = on.part("flood").locator(".victim")
    await expect(victim).to_contain_text(re.compile(r"victim [\d.]+ m?s"))
    await expect(victim).to_contain_text(re.compile(r"[1-9][\d,k]* refused"))
    refused = on.page.locator(".chart", has_text="Refused a second")
    await expect(refused.locator("li", has_text="rate limited")).to_be_attached()
    await on.press("Flood a server")
    await on.pressed("Flood a server", False)


async def test_a_killed_server_is_seen_its_window_moves_on_and_a_restart_brings_it_back(
    on: OnStage,
) -> None:
    await on.press("Kill server 1")
    await on.is_said("server-1", "killed", "bad")
    await expect(on.where("a")).to_contain_text("on server 2", timeout=SLOW_MS)
    await on.connected("a")
    await on.say("a", "still here")
    await on.reads("b", "still here")
    await on.press("Restart server 1")
    await on.is_said("server-1", "running", "good")
    await expect(on.switch("Kill server 1")).to_be_enabled()


async def test_a_frozen_server_is_told_from_a_dead_one_and_can_be_thawed(on: OnStage) -> None:
    await on.press("Freeze server 2")
    await on.is_said("server-2", "frozen", "bad")
    await on.pressed("Freeze server 2")
    await on.press("Freeze server 2")
    await on.is_said("server-2", "running", "good")
    await on.pressed("Freeze server 2", False)


async def test_a_message_sent_while_valkey_is_stopped_is_kept_until_it_is_back(
    on: OnStage,
) -> None:
    await on.press("New record")
    await on.press("Stop valkey")
    await expect(on.part("valkey")).to_have_attribute("data-mood", "bad")
    await on.say("a", "written in the dark")
    await expect(on.window("a").locator("#outbox .message")).to_have_count(1)
    await on.press("Restart valkey")
    await on.is_said("valkey", "running", "good")
    await on.reads("b", "written in the dark")
    await expect(on.verdict("lost")).to_have_text("0")


async def test_the_stock_adapter_loses_what_chatlabs_log_keeps(on: OnStage) -> None:
    await on.reset()
    lost = on.verdict("lost")
    counts = on.page.locator("#verdict .verdict-counts")
    said = "while the store is away"
    for adapter in ("chatlab's log", "Stock adapter"):
        if adapter == "Stock adapter":
            await on.press(adapter)
            await on.pressed(adapter)
        await on.press("Crowd talks")
        await on.press("Kill valkey")
        await on.press("New record")  # all that is in it was said without the store
        if adapter == "Stock adapter":
            # It acks what it cannot pass on, so the crowd goes on talking.
            await expect(counts).not_to_contain_text(re.compile(r"^0 sent"), timeout=SLOW_MS)
            await on.press("Restart valkey")
            await expect(lost).not_to_have_text("0", timeout=SLOW_MS)
            await expect(on.page.locator("#verdict")).to_have_attribute("data-ok", "false")
        else:
            # Each of the crowd tries to get one message in, and may have begun before this record.
            await on.say("a", said)
            await expect(counts).not_to_contain_text(re.compile(r"^0 sent"), timeout=SLOW_MS)
            await on.press("Restart valkey")
            await on.press("Crowd talks")
            await on.reads("b", said)
            await expect(lost).to_have_text("0")
    await on.switch("Evidence").click()
    await expect(on.page.locator("dialog .evidence-lines").first).to_contain_text("s")
    await on.page.keyboard.press("Escape")
    await on.reset()
    await on.pressed("chatlab's log")
    await expect(lost).to_have_text("0")


async def test_reset_restores_everything_from_whatever_state(on: OnStage) -> None:
    for name in (
        "Cut the wire of Window A",
        "No answers the wire of Window B",
        "Ban bob",
        "Forged token in Window A",
        "Crowd talks",
        "Flood a server",
        "Kill server 2",
        "Freeze server 1",
        "Kill valkey",
    ):
        await on.press(name)
    await on.reset()
    for part in ("wire-a", "wire-b"):
        await on.is_said(part, "works", "good")
    for part in ("server-1", "server-2", "valkey", "balancer"):
        await on.is_said(part, "running", "good")
    for part in ("crowd", "flood"):
        await expect(on.part(part)).to_have_attribute("data-mood", "off")
    pressed = on.page.locator("main [aria-pressed=true]")
    await expect(pressed).to_have_count(0)
    await on.say("a", "as at the start")
    await on.reads("b", "as at the start")
