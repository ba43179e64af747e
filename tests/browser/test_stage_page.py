"""The stage's page itself: its key, its script, its line to the stage, and everybody's access."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.browser.on_stage import BROKEN, SLOW_MS, OnStage
from tests.stage.running import Demo, demo

OpenPage = Callable[..., Any]
Axe = Callable[..., Any]
pytestmark = pytest.mark.timeout(180)

SIZES = ((1280, 720), (1920, 1080), (1024, 768), (390, 844))
SEED = 5
CLICKS = 60

# Two packets whose words meet half way, with a clock of the test's own: what each frame shows.
CROSSING = """async (larger) => {
    const { Flights } = await import("/web/flights.js");
    const layer = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    document.body.replaceChildren(layer);
    document.documentElement.style.setProperty("--size-factor", larger);
    let clock = 0;
    performance.now = () => clock;
    window.requestAnimationFrame = () => 0;
    const flights = new Flights(layer);
    for (const [number, begin, end] of [[1, 150, 150], [2, 150 - 30 * larger, 150 + 30 * larger]]) {
        const hops = [{ a: { x: 100, y: begin }, b: { x: 500, y: end } }];
        flights.fly({ kind: "sent", word: `sent #${number}`, hops, way: `way ${number}`, rank: 2 });
    }
    const frames = [];
    for (; clock < 760; clock += 16) {
        flights.step(clock);
        const words = [...layer.querySelectorAll(".packet-word")];
        const [one, two] = words.map((word) => word.getBoundingClientRect());
        frames.push({
            covered: words.map((word) => word.classList.contains("covered")),
            met: one.top + 6 < two.bottom && two.top + 6 < one.bottom,
        });
    }
    return frames;
}"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Demo]:
    with demo() as running:
        yield running


async def test_without_a_key_the_page_says_how_to_get_one(stage: Demo, open_page: OpenPage) -> None:
    page = await open_page(stage.home)
    await expect(page.get_by_role("heading", level=2)).to_have_text(
        "This page needs the stage's key"
    )
    await expect(page.locator("#no-key")).to_contain_text("make demo")
    await expect(page.locator("#stage")).to_be_hidden()


async def test_a_wrong_key_is_said_to_be_wrong_and_forgotten(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(f"{stage.home}/#key=wrong", allow=BROKEN)
    await expect(page.locator("#no-key-why")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_the_key_leaves_the_address_bar_and_a_reload_still_knows_it(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(stage.url, allow=BROKEN)
    await OnStage(page).begun()
    assert stage.key not in page.url
    await page.reload()
    await OnStage(page).begun()


async def test_a_lost_line_is_said_plainly_and_comes_back_by_itself(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(allow=BROKEN)
    lines: list[WebSocketRoute] = []
    broken = False

    def line(route: WebSocketRoute) -> None:
        lines.append(route)
        if not broken:
            route.connect_to_server()

    await page.route_web_socket(re.compile("/stage/events$"), line)
    await page.goto(stage.url)
    on = await OnStage(page).begun()
    broken = True
    await lines[0].close()
    await expect(page.locator("#trouble")).to_contain_text("The stage does not answer")
    await expect(on.switch("Kill server 1")).to_have_attribute("aria-disabled", "true")
    broken = False
    for route in lines[1:]:
        await route.close()
    await expect(page.locator("#trouble")).to_be_hidden(timeout=SLOW_MS)
    await on.ready()
    await on.is_said("server-1", "running", "good")


async def test_the_script_is_turned_by_button_by_key_and_by_concern_and_points_at_its_switches(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(stage.url, width=1280, height=720, allow=BROKEN)
    on = await OnStage(page).begun()
    title, count = page.locator(".talk-title"), page.locator(".talk-count")
    await expect(count).to_have_text(re.compile(r"^1/\d+$"))
    first = await title.inner_text()
    await on.switch("Next ›").click()
    await expect(count).to_have_text(re.compile(r"^2/"))
    pointed = page.locator("#pane-a [data-pointed]")
    await expect(pointed).to_have_text(re.compile("No answers"))
    await page.locator("body").press("PageDown")
    await expect(count).to_have_text(re.compile(r"^3/"))
    await page.locator("body").press("PageUp")
    await on.switch("‹ Back").click()
    await expect(title).to_have_text(first)
    await page.locator(".talk-tab").nth(3).click()
    await expect(page.locator(".talk-tab").nth(3)).to_have_attribute("aria-current", "step")
    await page.reload()
    await on.ready()
    await expect(page.locator(".talk-tab").nth(3)).to_have_attribute("aria-current", "step")


async def test_what_a_note_says_to_click_is_done_by_its_own_button(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(stage.url, width=1280, height=720, allow=BROKEN)
    on = await OnStage(page).begun()
    await on.switch("Next ›").click()
    await on.click(page.locator(".talk-clicks button").first)
    await on.pressed("No answers the wire of Window A")
    await on.press("Heal the wire of Window A")
    await on.ready()


async def test_the_door_says_how_to_let_the_room_in(stage: Demo, open_page: OpenPage) -> None:
    page = await open_page(stage.url, allow=BROKEN)
    on = await OnStage(page).begun()
    await on.switch("Door").click()
    await expect(page.get_by_role("dialog")).to_contain_text("--host")
    await on.switch("Close").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_what_cannot_be_done_now_says_why(stage: Demo, open_page: OpenPage) -> None:
    page = await open_page(stage.url, allow=BROKEN)
    on = await OnStage(page).begun()
    heal = on.switch("Heal the wire of Window A")
    await expect(heal).to_have_attribute("aria-disabled", "true")
    await heal.click(force=True)
    await on.told("Nothing is wrong with this wire.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it_at_every_width(
    stage: Demo,
    open_page: OpenPage,
    axe: Axe,
    screenshot: Callable[..., Any],
    scheme: Literal["light", "dark"],
) -> None:
    page = await open_page(stage.url, width=1280, height=720, scheme=scheme, allow=BROKEN)
    on = await OnStage(page).begun()
    await on.press("No answers the wire of Window A")
    await on.press("Kill server 2")
    await on.say("a", "Who is there?")
    await on.has_passed("lost")
    for width, height in SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        await axe(page)
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} px wide in a window of {width}"
        await screenshot(page, f"{scheme}-{width}", full_page=width < 1200)
    await on.switch("Evidence").click()
    await axe(page, exclude=("iframe",))
    await on.switch("Close").click()
    await on.reset()


async def test_motion_shows_packets_and_a_wish_for_less_lists_them(
    stage: Demo, open_page: OpenPage
) -> None:
    page = await open_page(stage.url, reduced_motion="no-preference", allow=BROKEN)
    on = await OnStage(page).begun()
    await on.say("a", "watch me fly")
    await expect(page.locator(".packet .shape-delivered").first).to_be_attached()
    await page.emulate_media(reduced_motion="reduce")
    await expect(page.locator(".packet")).to_have_count(0)
    await on.say("a", "read me")
    await on.has_passed("delivered", text="read me")
    await expect(page.locator(".packet")).to_have_count(0)
    await expect(page.locator(".not-drawn")).to_contain_text("listed, not drawn")


async def test_at_the_largest_type_no_part_of_the_picture_is_cut_off(
    stage: Demo, open_page: OpenPage
) -> None:
    on = await OnStage(await open_page(stage.url, allow=BROKEN)).begun()
    larger = on.page.get_by_role("button", name="Larger: A+")
    for _ in range(6):
        await larger.click()
    picture = on.page.locator(".topology")
    for name in ("Server 1", "Valkey", "Server 2"):
        part = picture.get_by_role("button", name=re.compile(f"Kill {name}", re.I))
        inner, outer = await part.bounding_box(), await picture.bounding_box()
        assert inner["y"] + inner["height"] <= outer["y"] + outer["height"], name


@pytest.mark.parametrize("larger", [1, 1.5])
async def test_words_of_packets_that_cross_do_not_cover_each_other(
    stage: Demo, open_page: OpenPage, larger: float
) -> None:
    page = await open_page(stage.home, reduced_motion="no-preference")
    frames = await page.evaluate(CROSSING, larger)
    met = [frame for frame in frames if frame["met"]]
    assert met, "the two never met"
    assert all(frame["covered"] == [False, True] for frame in met)
    assert frames[0]["covered"] == frames[-1]["covered"] == [False, False]


async def test_clicking_everything_at_random_breaks_nothing(
    stage: Demo, open_page: OpenPage
) -> None:
    # What waits its turn when Reset is clicked is thrown away, and told so.
    thrown = r"409 (POST \S+/stage/do|\(Conflict\))"
    page = await open_page(stage.url, width=1280, height=720, allow=(*BROKEN, thrown))
    on = await OnStage(page).begun()
    dice = random.Random(SEED)
    for _ in range(CLICKS):
        buttons = page.locator("button:visible")
        # Forced: what is disabled is clicked as well, as a person would.
        await buttons.nth(dice.randrange(await buttons.count())).click(force=True, timeout=5_000)
        if dice.random() < 0.1:
            await page.keyboard.press(dice.choice(["PageDown", "PageUp", "Escape", "Enter"]))
    close = on.switch("Close")
    if await close.is_visible():
        await close.click()
    await on.reset()
    await expect(page.locator("main .pane [aria-pressed=true]")).to_have_count(0)
    for part in ("server-1", "server-2", "valkey", "balancer"):
        await on.is_said(part, "running", "good")
    await on.say("a", "nothing broke")
    await on.reads("b", "nothing broke")
