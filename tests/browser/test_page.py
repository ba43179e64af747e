"""The chat page in a real browser, when nothing goes wrong: people who talk."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from chatlab.lab.balancer import find_balancer
from chatlab.lab.cluster import Cluster
from tests.browser.chatting import Talk, address, enter, events, require_client, watch_frames
from tests.server.peer import Running, running

OpenPage = Callable[..., Any]


# A server ends after the pages that are open on it: ask for it before `open_page`.
@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Running]:
    require_client()
    async with running(page=True) as run:
        yield run


@pytest_asyncio.fixture(loop_scope="session")
async def strict_server() -> AsyncIterator[Running]:
    require_client()
    async with running(page=True, dev=False, storage="memory://") as run:
        yield run


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    try:
        find_balancer("caddy")
    except RuntimeError as error:
        pytest.skip(str(error))
    with Cluster(2, balancer="caddy", arguments=("--page",), name="page") as running_cluster:
        yield running_cluster


async def test_two_people_talk_over_two_servers_and_see_how_far_each_message_got(
    cluster: Cluster, open_page: OpenPage, allow: Callable[..., None]
) -> None:
    assert cluster.balancer is not None
    url = cluster.balancer.url
    alice = await enter(open_page, url, "alice", width=900)
    bob = await enter(open_page, url, "bob", width=900, rooms=("elsewhere", "general"))
    await alice.say("Hello Bob")
    await alice.ticked("Hello Bob", "delivered")  # his page has it, though it shows another room
    await bob.page.locator(".room-button", has_text="general").click()
    await bob.reads("Hello Bob")
    await alice.ticked("Hello Bob", "read")
    await bob.say("Hello Alice")
    await alice.reads("Hello Bob", "Hello Alice")
    text = alice.page.locator("#connection-text")
    await expect(text).to_have_text(re.compile(r"^Connected to server [0-9a-f]{8}$"))

    # One server dies; whoever was on it comes back on the other one, and nothing is missing.
    for talk in (alice, bob):
        allow(talk.page, r"WebSocket connection to", r"ERR_", r"50[234]")
    await asyncio.to_thread(cluster.kill, 0)
    await bob.say("Still there?")
    await alice.reads("Hello Bob", "Hello Alice", "Still there?")
    await alice.say("I am")
    await bob.reads("Hello Bob", "Hello Alice", "Still there?", "I am")


async def test_a_name_is_asked_for_and_kept_over_a_reload_until_one_logs_out(
    server: Running, open_page: OpenPage
) -> None:
    page = await open_page(server.url)
    await expect(page.locator("#login-user")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#login-user")).to_have_attribute("aria-invalid", "true")
    await page.keyboard.type("alice")
    await page.keyboard.press("Enter")
    talk = Talk(page)
    await talk.state("online")
    await expect(page.locator("#me")).to_have_text("alice")
    await talk.say("kept")
    await talk.ticked("kept", "sent")
    await page.reload()
    await talk.state("online")
    await expect(page.locator("#me")).to_have_text("alice")
    await talk.reads("kept")
    await page.locator("#log-out").click()
    await expect(page.locator("#login-user")).to_be_focused()
    await page.reload()
    await expect(page.locator("#login-user")).to_be_visible()
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_a_token_in_the_address_leaves_the_address_bar_and_is_kept_in_the_tab_only(
    server: Running, open_page: OpenPage
) -> None:
    token = server.token("alice")
    talk = await enter(open_page, server.url, "", token=token)
    assert talk.page.url == server.url + "/"
    assert token in str(await talk.page.evaluate("sessionStorage.getItem('chatlab')"))
    assert await talk.page.evaluate("localStorage.length") == 0
    assert await talk.page.evaluate("history.length") <= 2
    second = await talk.page.context.new_page()
    await second.goto(server.url)
    await expect(second.locator("#login")).to_be_visible()


async def test_whoever_has_the_page_in_a_frame_logs_somebody_else_in_by_the_fragment(
    server: Running, open_page: OpenPage
) -> None:
    alice = await enter(open_page, server.url, "alice")
    await alice.page.evaluate("location.hash = '#user=bob&room=music'")
    await expect(alice.page.locator("#me")).to_have_text("bob")
    await expect(alice.page.locator(".room-button")).to_have_text(["music"])
    assert alice.page.url == server.url + "/"
    await alice.page.evaluate("location.hash = ''")
    await alice.say("as bob")
    await alice.ticked("as bob", "sent")
    (session,) = server.server.sessions
    assert session.user == "bob"


async def test_without_dev_a_token_is_pasted(strict_server: Running, open_page: OpenPage) -> None:
    page = await open_page(strict_server.url)
    await expect(page.locator("#login-user")).to_be_hidden()
    await expect(page.locator("#login-token")).to_be_focused()
    await page.locator("#login-token").fill(strict_server.token("alice"))
    await page.get_by_role("button", name="Enter with this token").click()
    # The directory does not know her, and no retry helps.
    await expect(page.locator("#login-reason")).to_have_text("User not found.")
    assert "eyJ" not in await page.locator("body").inner_text()
    await page.goto(address(strict_server.url, user="alice"))  # there is no login by name
    await expect(page.locator("#login-token")).to_be_focused()


async def test_a_frame_keeps_nothing_so_that_two_of_one_tab_are_two_people(
    server: Running, open_page: OpenPage
) -> None:
    # Any page of this machine, which has no icon.
    page = await open_page(server.url + "/healthz", allow=("favicon",))
    await page.evaluate(
        """(urls) => document.body.replaceChildren(...urls.map((src) =>
             Object.assign(document.createElement("iframe"), {src, width: 500, height: 600})))""",
        [address(server.url, user="alice"), address(server.url, user="bob")],
    )
    for number, user in enumerate(("alice", "bob")):
        frame = page.frame_locator("iframe").nth(number)
        await expect(frame.locator("#me")).to_have_text(user)
        await expect(frame.locator("#connection")).to_have_attribute("data-state", "online")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_rooms_are_joined_chosen_and_left(server: Running, open_page: OpenPage) -> None:
    alice = await enter(open_page, server.url, "alice", rooms=("general", "music"))
    bob = await enter(open_page, server.url, "bob", rooms=("music",))
    await bob.say("la la")
    music = alice.page.locator(".room-button", has_text="music")
    await expect(music).to_have_text(re.compile(r"^music1, 1 unread$"))
    await expect(alice.page).to_have_title("(1) chatlab")
    await music.click()
    await expect(music).to_have_attribute("aria-current", "true")
    await alice.reads("la la")
    await expect(alice.page).to_have_title("chatlab")
    await bob.ticked("la la", "read")
    await alice.page.locator("#room-name").fill("books")
    await alice.page.locator("#room-name").press("Enter")
    await expect(alice.page.locator("#room-title")).to_have_text("books")
    await alice.page.locator("#room-leave").click()
    await expect(alice.page.locator(".room-button")).to_have_text(["general", "music"])


async def test_a_room_that_one_may_not_enter_says_so(server: Running, open_page: OpenPage) -> None:
    token = server.token("alice", rooms=["private-tea"])
    alice = await enter(open_page, server.url, "", token=token)
    for room in ("private-tea", "private-board"):
        await alice.page.locator("#room-name").fill(room)
        await alice.page.locator("#room-name").press("Enter")
    await expect(alice.notice("refused/private-board")).to_contain_text(
        "You cannot enter private-board: You may not join this room"
    )
    await expect(alice.page.locator(".room-button")).to_have_text(["general", "private-tea"])


async def test_who_is_here_and_who_is_typing(server: Running, open_page: OpenPage) -> None:
    alice = await enter(open_page, server.url, "alice")
    people = alice.page.locator("#people-list .person-name")
    await expect(people).to_have_text(["alice"])
    bob = await enter(open_page, server.url, "bob")
    await expect(people).to_have_text(["alice", "bob"])
    frames = await watch_frames(alice.page)
    await bob.page.locator("#message-text").press_sequentially("hello", delay=5)
    await expect(alice.page.locator("#typing")).to_have_text("bob is typing")
    await bob.page.locator("#message-text").press("Enter")
    await expect(alice.page.locator("#typing")).to_be_empty()
    await alice.reads("hello")
    assert len(events(frames["received"], "typing")) <= 2
    await bob.page.close()
    await expect(people).to_have_text(["alice"])


async def test_everything_can_be_done_by_keyboard(server: Running, open_page: OpenPage) -> None:
    page = await open_page(server.url, width=1280)
    await page.keyboard.type("alice")
    await page.keyboard.press("Enter")
    talk = Talk(page)
    await talk.state("online")
    await expect(page.locator("#message-text")).to_be_focused()
    await page.keyboard.type("first line")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second line")
    await page.keyboard.press("Enter")
    await talk.reads("first line\nsecond line")
    await expect(page.locator("#message-text")).to_be_focused()

    async def tab_to(selector: str, key: str = "Tab") -> None:
        for _ in range(20):
            await page.keyboard.press(key)
            if await page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} is not reached by {key}")

    await tab_to("#message-scroll", "Shift+Tab")
    await tab_to("#room-name", "Shift+Tab")
    await page.keyboard.type("books")
    await page.keyboard.press("Enter")
    await expect(page.locator("#room-title")).to_have_text("books")
    await tab_to(".room-button", "Shift+Tab")
    await tab_to(".room-button:not([aria-current])", "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#room-title")).to_have_text("general")
    (session,) = server.server.sessions
    await tab_to(".skip-link", "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#message-text")).to_be_focused()
    await page.keyboard.type("skipped")
    await page.keyboard.press("Enter")
    await talk.reads("first line\nsecond line", "skipped")
    assert list(server.server.sessions) == [session]  # nothing but the focus has moved
    await tab_to("#log-out", "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#login")).to_be_visible()


async def test_a_screen_reader_hears_what_arrives_and_not_what_was_there(
    server: Running, open_page: OpenPage
) -> None:
    for number in range(30):
        await server.server.log.append("general", "carol", f"old {number}", None, "test")
    alice = await enter(open_page, server.url, "alice")
    await expect(alice.texts).to_have_count(30)
    announcer = alice.page.locator("#announcer")
    assert await announcer.inner_text() == ""
    bob = await enter(open_page, server.url, "bob")
    await bob.say("news")
    await expect(announcer).to_have_text("bob: news")
    assert await announcer.get_attribute("aria-live") == "polite"
    await alice.say("my own is not read to me")
    tick = alice.tick("my own is not read to me")
    await expect(tick).to_have_text("✓✓Read by 1 other")
    await expect(announcer).to_have_text("bob: news")


async def test_what_people_call_themselves_and_write_stays_text(
    server: Running, open_page: OpenPage, allow: Callable[..., None]
) -> None:
    attacks = (
        "<img src=x onerror=alert(1)>",
        "<script>alert(2)</script>",
        "<svg/onload=alert(3)>",
        "<iframe srcdoc='<script>parent.alert(4)</script>'></iframe>",
        "javascript:alert(5)",
        "{{constructor.constructor('alert(6)')()}}",
        "</p></li><style>*{display:none}</style>",
        '"><input autofocus onfocus=alert(7)>',
        "https://example.org/<b>bold</b>",
    )
    dialogs: list[str] = []
    alice = await enter(open_page, server.url, "alice", rooms=("general", "<b>room</b>"))
    alice.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    before = await alice.page.evaluate("document.querySelectorAll('img, script, iframe').length")
    users = ("<img src=x onerror=alert(8)>", "\u202eevil\n\u0000", "   x   ", "ab" * 64)
    for user in users:
        peer = await server.connect(user)
        await peer.join()
        for attack in attacks if user is users[0] else attacks[:1]:
            assert (await peer.say(attack))["ok"]
        await peer.emit("typing", {"room": "general", "typing": True})
    await expect(alice.texts).to_have_count(len(attacks) + 3)
    await expect(alice.page.locator("#people-list .person")).to_have_count(5)
    await expect(alice.page.locator("#typing")).to_contain_text("people are typing")
    await alice.reads(*attacks, *[attacks[0]] * 3)
    after = await alice.page.evaluate("document.querySelectorAll('img, script, iframe').length")
    assert after == before
    assert (
        await alice.page.locator(".message-text *, .message-author b, .person-name *").count() == 0
    )
    assert dialogs == []
    # And if a script of the page itself tried, the policy would stop it (Trusted Types).
    allow(alice.page, "requires 'TrustedHTML' assignment")
    tried = "try { document.body.innerHTML = '<b>x</b>'; 'done' } catch (error) { error.name }"
    assert await alice.page.evaluate(tried) == "TypeError"


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_nothing_that_people_write_breaks_the_layout(
    server: Running, open_page: OpenPage, screenshot: Callable[..., Any], width: int
) -> None:
    texts = (
        "word" * 400,
        "\N{FAMILY}" * 200,
        "Z" + "\u0344\u0346\u034a" * 200,
        "\u202eright to left override",
        "مرحبا بالعالم hello عالم",
        "line\n" * 30,
        "\u2066" * 50 + "isolates",
        "a" + "\u00a0" * 300 + "b",
        "https://example.org/" + "x" * 500,
    )
    peer = await server.connect("\u202e" + "W" * 100)
    await peer.join()
    for text in texts:
        assert (await peer.say(text))["ok"]
    alice = await enter(open_page, server.url, "alice" * 20, width=width, height=700)
    await alice.say("word" * 100)
    await expect(alice.texts).to_have_count(len(texts) + 1)
    await screenshot(alice.page, f"strange-{width}")
    sizes = await alice.page.evaluate(
        """() => [document.documentElement, document.getElementById("message-scroll")]
             .map((element) => element.scrollWidth - element.clientWidth)"""
    )
    assert sizes == [0, 0]
    box = await alice.page.locator("#composer").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 701


async def test_ten_thousand_messages_do_not_fill_the_document(
    server: Running, open_page: OpenPage
) -> None:
    for number in range(1, 9_001):
        await server.server.log.append("general", "carol", f"number {number}", None, "test")
    alice = await enter(open_page, server.url, "alice")
    await expect(alice.texts).to_have_count(50)
    await expect(alice.texts.last).to_have_text("number 9000")
    for number in range(9_001, 10_001):  # while she looks on
        await server.server.log.append("general", "carol", f"number {number}", None, "test")
    await expect(alice.texts.last).to_have_text("number 10000")
    assert await alice.texts.count() <= 150
    await alice.say("and mine")
    await alice.ticked("and mine", "sent")

    # Back through the pages, and the document stays small; what was in view stays in view.
    earlier = alice.page.locator("#show-earlier")
    for _ in range(30):
        first = await alice.texts.first.inner_text()
        await earlier.click()
        await expect(alice.texts.first).not_to_have_text(first)
        await expect(earlier).to_be_enabled()
    assert await alice.texts.count() <= 400
    shown = [int(text.split()[1]) for text in await alice.texts.all_inner_texts()
             if text.startswith("number")]  # fmt: skip
    assert shown == list(range(shown[0], shown[0] + len(shown)))
    assert shown[-1] < 9_900
    await expect(alice.page.locator("#show-later")).to_be_visible()
    await alice.page.locator("#show-later").click()
    await alice.page.locator("#jump-newest").click()
    await expect(alice.texts.last).to_have_text("and mine")
    await expect(alice.page.locator("#jump-newest")).to_be_hidden()
