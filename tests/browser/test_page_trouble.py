"""The chat page in a real browser, when something goes wrong: lines, tokens, limits, bans."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from chatlab.errors import Unavailable
from chatlab.lab.proxy import Proxy
from chatlab.storage.base import User
from tests.browser.chatting import CUT, Talk, address, enter, events, require_client, watch_frames
from tests.server.peer import Running, running
from tests.waiting import until

OpenPage = Callable[..., Any]
Serve = Callable[..., Awaitable[Running]]


# A server ends after the pages that are open on it: ask for it before `open_page`.
@pytest_asyncio.fixture(loop_scope="session")
async def serve() -> AsyncIterator[Serve]:
    require_client()
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Running:
            return await stack.enter_async_context(running(page=True, **settings))

        yield start


@pytest.fixture
def wire() -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def lay(target: object, **options: Any) -> Proxy:
        made.append(Proxy(target, name=f"page's wire {len(made)}", **options))
        return made[-1]

    yield lay
    for proxy in made:
        proxy.stop()


def store_away(server: Running) -> asyncio.Event:
    """Refuse what is sent while the event that comes back is set."""
    away = asyncio.Event()
    away.set()

    @server.server.use_event
    async def outage(event: Any, proceed: Any) -> Any:
        if event.name == "send-message" and away.is_set():
            raise Unavailable
        return await proceed()

    return away


async def lose_first_ack(line: Proxy, alice: Talk) -> None:
    """Have the ack of the first message lost that Alice will say, when Bob is there."""
    await expect(alice.page.locator("#people-list .person")).to_have_count(2)
    # Before it come the acks of two `typing`: she writes, and has stopped.
    await asyncio.to_thread(line.drop, "ack", at=3)


# --- the line -------------------------------------------------------------------------------------


async def test_who_was_offline_catches_up_without_a_gap_or_a_double(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve()
    line = wire(server.url)
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    bob = await server.connect("bob")
    await bob.join()
    await bob.say("before")
    await alice.reads("before")
    await asyncio.to_thread(line.cut)
    await alice.state("waiting")
    await expect(alice.notice("connection")).to_contain_text(re.compile("Trying again in"))
    for number in range(6):
        await bob.say(f"meanwhile {number}")
    await alice.say("written offline")
    await alice.ticked("written offline", "sending")
    await asyncio.to_thread(line.heal)
    await alice.state("online")
    meanwhile = [f"meanwhile {number}" for number in range(6)]
    await alice.reads("before", *meanwhile, "written offline")
    await alice.ticked("written offline", "sent")
    await expect(alice.notice("connection")).to_have_count(0)
    assert [message["text"] for message in bob.of("new-message")] == ["written offline"]
    assert await alice.page.locator(".divider-lost").count() == 0


async def test_more_than_one_page_of_history_is_caught_up_with(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve()
    line = wire(server.url)
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    await server.server.log.append("general", "bob", "number 0", None, "test")
    await alice.reads("number 0")
    await asyncio.to_thread(line.cut)
    await alice.state("waiting")
    for number in range(1, 700):
        await server.server.log.append("general", "bob", f"number {number}", None, "test")
    await asyncio.to_thread(line.heal)
    await alice.state("online")
    await expect(alice.texts.last).to_have_text("number 699")
    for _ in range(5):
        await alice.page.locator("#show-earlier").click()
    numbers = [int(text.split()[1]) for text in await alice.texts.all_inner_texts()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert await alice.page.locator(".divider-lost").count() == 0


async def test_a_line_that_went_silent_is_noticed_and_the_message_is_sent_once(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve()
    line = wire(server.url)
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    bob = await server.connect("bob")
    await bob.join()
    await asyncio.to_thread(line.mute)
    await alice.say("into the silence")
    await expect(alice.page.locator("#connection")).not_to_have_attribute(
        "data-state", "online", timeout=10_000
    )
    await asyncio.to_thread(line.heal)
    await expect(alice.tick("into the silence")).to_have_attribute(
        "data-state", "sent", timeout=15_000
    )
    await alice.reads("into the silence")
    assert [message["text"] for message in bob.of("new-message")] == ["into the silence"]


async def test_a_message_whose_ack_was_lost_is_sent_again_with_its_key_and_stored_once(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve()
    line = wire(server.url)
    bob = await server.connect("bob")
    await bob.join()
    page = await open_page(allow=CUT)
    frames = await watch_frames(page)
    await page.goto(address(line.url, user="alice"))
    alice = Talk(page)
    await lose_first_ack(line, alice)
    await alice.say("stored, but who knows")
    await line.wait_for("drop")
    await expect(alice.tick("stored, but who knows")).to_have_attribute(
        "data-state", "sent", timeout=15_000
    )
    await alice.say("the next one")
    await alice.ticked("the next one", "sent")
    await alice.reads("stored, but who knows", "the next one")
    sent = events(frames["sent"], "send-message")
    assert len(sent) == 3
    assert sent[0] == sent[1]
    assert sent[0]["key"] != sent[2]["key"]
    texts = [message["text"] for message in await bob.got("new-message", 2)]
    assert texts == ["stored, but who knows", "the next one"]


async def test_what_was_on_its_way_survives_a_reload_and_is_stored_once_and_in_order(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve()
    line = wire(server.url)
    bob = await server.connect("bob")
    await bob.join()
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    await lose_first_ack(line, alice)
    texts = ["stored, but who knows", "waits its turn", "waits its turn", "the last"]
    for text in texts:
        await alice.say(text)
    await line.wait_for("drop")
    await expect(alice.page.locator("#outbox .message")).to_have_count(4)
    await alice.page.reload()
    await alice.reads(*texts)
    await expect(alice.page.locator("#outbox .message")).to_have_count(0)
    assert [message["text"] for message in await bob.got("new-message", 4)] == texts
    assert await alice.page.evaluate("sessionStorage.getItem('chatlab/unsent')") is None


async def test_what_is_unsent_is_its_authors_and_after_a_day_a_person_decides(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    away = store_away(server)
    # What a tab keeps is changed while the chat is not open in it: it would write it again.
    aside = server.url + "/page/icon.svg"
    alice = await enter(open_page, server.url, "alice", allow=("favicon",))
    await alice.say("perhaps stored")
    await alice.ticked("perhaps stored", "sending")
    await alice.page.goto(aside)
    await alice.page.evaluate(
        """() => {
            const kept = JSON.parse(sessionStorage.getItem("chatlab/unsent"));
            for (const item of kept.items) item.at -= 24 * 3_600_000;
            sessionStorage.setItem("chatlab/unsent", JSON.stringify(kept));
        }"""
    )
    away.clear()
    await alice.page.goto(server.url)
    failed = alice.page.locator("#outbox .message")
    await expect(failed).to_contain_text(
        "Not sent: It was written more than a day ago. Whether it was stored is not known."
    )
    await failed.get_by_role("button", name="Try again").click()
    await alice.reads("perhaps stored")

    away.set()
    await alice.say("not for others")
    await alice.ticked("not for others", "sending")
    await alice.page.goto(aside)
    await alice.page.evaluate("sessionStorage.removeItem('chatlab')")
    await alice.page.goto(server.url)
    await alice.page.locator("#login-user").fill("eve")
    away.clear()
    await alice.page.keyboard.press("Enter")
    await alice.state("online")
    await alice.say("I am Eve")
    await alice.reads("perhaps stored", "I am Eve")
    assert await alice.page.evaluate("sessionStorage.getItem('chatlab/unsent')") is None


async def test_history_that_is_gone_is_said_to_be_lost(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    first, second = await serve(), await serve()

    class Target:
        url = first.url

    line = wire(Target)
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    await alice.say("on the first server")
    await alice.ticked("on the first server", "sent")
    for number in range(3):
        await second.server.log.append("general", "bob", f"other {number}", None, "test")
    Target.url = second.url
    await asyncio.to_thread(line.cut, seconds=0)
    await expect(alice.page.locator(".divider-lost")).to_contain_text("History lost")
    await alice.reads("on the first server", *[f"other {number}" for number in range(3)])
    await expect(alice.notice("lost/general")).to_contain_text("History of general was lost")
    await alice.say("and it goes on")
    await alice.ticked("and it goes on", "sent")
    order = await alice.page.locator("#messages > li").all_inner_texts()
    assert ["History lost" in text for text in order] == [False, True, False, False, False, False]


async def test_what_history_dropped_while_one_was_away_is_counted(
    serve: Serve, wire: Callable[..., Proxy], open_page: OpenPage
) -> None:
    server = await serve(history=10)
    line = wire(server.url)
    alice = await enter(open_page, line.url, "alice", allow=CUT)
    await server.server.log.append("general", "bob", "number 1", None, "test")
    await alice.reads("number 1")
    await asyncio.to_thread(line.cut)
    await alice.state("waiting")
    for number in range(2, 41):
        await server.server.log.append("general", "bob", f"number {number}", None, "test")
    await asyncio.to_thread(line.heal)
    await expect(alice.texts.last).to_have_text("number 40")
    shown = await alice.texts.all_inner_texts()
    missing = 40 - len(shown)
    assert shown == ["number 1", *[f"number {n}" for n in range(42 - len(shown), 41)]]
    await expect(alice.page.locator(".divider-lost")).to_have_text(
        f"History lost – {missing} messages are missing here"
    )


# --- refusals -------------------------------------------------------------------------------------


async def test_what_cannot_be_sent_says_why_and_can_be_tried_again_or_discarded(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve(max_message=20)
    alice = await enter(open_page, server.url, "alice")
    long = "much longer than the server takes"
    await alice.say(long)
    await alice.say("short")
    await alice.ticked("short", "sent")
    failed = alice.page.locator("#outbox .message")
    await expect(failed).to_contain_text("Not sent: Message is too long: 33 characters, at most 20")
    await failed.get_by_role("button", name="Try again").click()
    await expect(failed.locator(".tick")).to_have_text("✗Not sent")
    await failed.get_by_role("button", name="Discard").click()
    await expect(failed).to_have_count(0)
    await alice.reads("short")


async def test_storage_that_is_away_is_waited_for(serve: Serve, open_page: OpenPage) -> None:
    server = await serve()
    away = store_away(server)
    alice = await enter(open_page, server.url, "alice")
    await alice.say("first")
    await alice.say("second")
    await alice.ticked("first", "sending")
    away.clear()
    await alice.reads("first", "second")
    await alice.ticked("second", "sent")


async def test_who_sends_too_fast_is_told_how_long_to_wait_and_everything_is_sent_in_order(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve(rate=1.0, rate_burst=4)
    alice = await enter(open_page, server.url, "alice")
    bob = await server.connect("bob")
    await bob.join()
    texts = [f"flood {number}" for number in range(6)]
    for text in texts:
        await alice.say(text)
    await expect(alice.notice("held")).to_contain_text(
        re.compile(r"You are sending faster than the server allows\..* [1-9] s$")
    )
    await expect(alice.texts).to_have_text(texts, timeout=15_000)
    await expect(alice.notice("held")).to_have_count(0)
    assert [message["text"] for message in bob.of("new-message")] == texts


async def test_a_ban_is_final_and_said(serve: Serve, open_page: OpenPage) -> None:
    server = await serve()
    alice = await enter(open_page, server.url, "alice")
    await alice.say("bad words")
    await alice.ticked("bad words", "sent")
    before = len(server.server.sessions)
    await server.server.directory.put(User("alice", "alice", banned=True))
    await alice.state("banned")
    await expect(alice.notice("connection")).to_contain_text("You are banned from this server.")
    await expect(alice.page.locator("#composer")).to_have_attribute("inert", "")
    assert len(server.server.sessions) == before - 1
    await alice.page.goto(address(server.url, user="alice"))
    await alice.state("banned")  # refused at the door this time
    await alice.page.get_by_role("button", name="Log in as somebody else").click()
    await alice.page.locator("#login-user").fill("alicia")
    await alice.page.locator("#login-user").press("Enter")
    await alice.state("online")
    await expect(alice.notice("connection")).to_have_count(0)


async def test_whom_the_server_puts_out_does_not_come_back_by_himself(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    alice = await enter(open_page, server.url, "alice")
    (session,) = server.server.sessions
    await server.server.transport.kick(session.sid, "test")
    await alice.state("ended")
    await expect(alice.notice("connection")).to_contain_text("The server has ended this session.")
    await alice.notice("connection").get_by_role("button", name="Connect again").click()
    await alice.state("online")
    await alice.say("back")
    await alice.ticked("back", "sent")


async def test_a_server_that_cannot_decide_is_asked_again(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    refusals = [RuntimeError("a bug"), Unavailable()]

    @server.server.use
    async def failing(_handshake: Any, proceed: Any) -> None:
        if refusals:
            raise refusals.pop(0)
        await proceed()

    alice = await enter(open_page, server.url, "alice")
    await alice.say("at the third try")
    await alice.ticked("at the third try", "sent")


async def test_too_many_connections_are_waited_for(serve: Serve, open_page: OpenPage) -> None:
    server = await serve(max_connections_per_user=1)
    first = await enter(open_page, server.url, "alice")
    second = Talk(await open_page(address(server.url, user="alice")))
    await second.state("waiting")
    await expect(second.notice("connection")).to_contain_text("too many connections of yours")
    await first.page.close()
    await expect(second.page.locator("#connection")).to_have_attribute(
        "data-state", "online", timeout=15_000
    )


async def test_a_token_that_is_none_is_answered_by_the_login(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    page = await open_page(address(server.url, token="not.a.token"))
    await expect(page.locator("#login-reason")).to_have_text("Invalid token.")
    await expect(page.locator("#chat")).to_be_hidden()
    assert await page.evaluate("sessionStorage.length") == 0


# --- tokens that end ------------------------------------------------------------------------------


async def test_in_development_the_session_is_prolonged_without_a_word(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    page = await open_page()
    frames = await watch_frames(page)

    async def short_first(route: Any) -> None:
        if not asked:
            body = {"token": server.token("alice", ttl=3), "expiresAt": ""}
            asked.append(route.request.post_data_json)
            await route.fulfill(json=body)
        else:
            asked.append(route.request.post_data_json)
            await route.continue_()

    asked: list[Any] = []
    await page.route("**/dev/token*", short_first)
    await page.goto(address(server.url, user="alice"))
    alice = Talk(page)
    await alice.state("online")
    await until(lambda: events(frames["sent"], "refresh-token"), timeout=10)
    await until(lambda: len(asked) == 2, timeout=10)
    assert asked == [{"user": "alice"}] * 2
    (session,) = server.server.sessions
    await until(lambda: session.claims.exp > 60 + session.claims.iat, timeout=10)
    await alice.say("still the same connection")
    await alice.ticked("still the same connection", "sent")
    assert len(server.server.sessions) == 1


async def test_a_pasted_token_is_replaced_before_it_ends(serve: Serve, open_page: OpenPage) -> None:
    server = await serve()
    token = server.token("alice", ttl=6)
    alice = await enter(open_page, server.url, "", token=token)
    await expect(alice.notice("expiring")).to_contain_text("Your token expires.")
    await alice.notice("expiring").get_by_role("button", name="Paste a token").click()
    field = alice.page.get_by_label("A newer token")
    await expect(field).to_be_focused()
    await field.fill(server.token("mallory"))
    await field.press("Enter")
    await expect(alice.notice("error")).to_contain_text("The token was not taken")
    newer = server.token("alice")
    await field.fill(newer)
    await field.press("Enter")
    await expect(alice.notice("expiring")).to_have_count(0)
    kept = json.loads(await alice.page.evaluate("sessionStorage.getItem('chatlab')"))
    assert kept["token"] == newer


async def test_who_logs_in_again_after_the_end_of_a_token_finds_everything_as_it_was(
    serve: Serve, open_page: OpenPage
) -> None:
    server = await serve()
    token = server.token("alice", ttl=2)
    alice = await enter(open_page, server.url, "", token=token)
    await alice.say("in time")
    await alice.ticked("in time", "sent")
    reason = alice.page.locator("#login-reason")
    await expect(reason).to_have_text("Your token has expired. Log in again.")
    bob = await server.connect("bob")
    await bob.join()
    await bob.say("meanwhile")
    await alice.page.locator("#login-other").get_by_text("I have a token").click()
    await alice.page.locator("#login-token").fill(server.token("alice"))
    await alice.page.get_by_role("button", name="Enter with this token").click()
    await alice.state("online")
    await alice.reads("in time", "meanwhile")


# --- the client -----------------------------------------------------------------------------------


async def test_a_page_that_takes_the_cdns_client_says_so(
    serve: Serve, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from chatlab.page.client_file import CDN, read_kept

    client = read_kept()
    if client is None:
        pytest.skip("no client here: run `python -m chatlab.page.fetch`")
    monkeypatch.setenv("CHATLAB_CACHE", str(tmp_path))
    server = await serve()
    page = await open_page()
    answer = {"body": client, "headers": {"Access-Control-Allow-Origin": "*"}}
    await page.route(CDN, lambda route: route.fulfill(content_type="text/javascript", **answer))
    await page.goto(server.url)
    await expect(page.get_by_text("comes from its public CDN")).to_be_visible()
    await page.goto(address(server.url, user="alice"))
    alice = Talk(page)
    await alice.state("online")
    await expect(alice.notice("cdn")).to_contain_text("checked by its hash")

    # Another file under that address is not run.
    page = await open_page(allow=("integrity", "digest"))
    answer["body"] = client + b"\nalert(1)"
    await page.route(CDN, lambda route: route.fulfill(content_type="text/javascript", **answer))
    await page.goto(address(server.url, user="alice"))
    await expect(page.locator("#login-reason")).to_contain_text("could not be loaded")
