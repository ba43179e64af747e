"""The watch over a page itself: what it must notice, and what it must let pass."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

POLICY = "default-src 'self'; script-src 'self'"
FAULTS = {
    "/console.js": "console.error('spilled');",
    "/throws.js": "setTimeout(() => { throw new Error('tripped'); });",
    "/rejects.js": "Promise.reject(new Error('let down'));",
    "/inline.js": "const s = document.createElement('script'); s.textContent = '1';"
    "document.body.append(s);",
    "/lost.js": "fetch('/nowhere');",
    "/away.js": "fetch('http://example.org/').catch(() => 0);",
    "/socket.js": "new WebSocket(location.origin.replace('http', 'ws') + '/no-socket');",
    "/fine.js": "const c = new AbortController(); fetch('/slow', {signal: c.signal})"
    ".catch(() => 0); c.abort(); console.warn('only a warning');",
}


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[str]:
    """Pages at /page/NAME that load the script /NAME.js; / frames another page of the same."""

    async def page(request: web.Request) -> web.Response:
        script = request.match_info["name"]
        text = (
            "<!doctype html><html lang=en><title>A page</title><link rel=icon href='data:,'>"
            f"<main><h1>Hello</h1></main><script src='/{script}.js'></script></html>"
        )
        policy = f"{POLICY}; img-src data:"
        if script == "away":
            policy += "; connect-src *"
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def script(request: web.Request) -> web.Response:
        return web.Response(text=FAULTS[request.path], content_type="text/javascript")

    async def framing(_: web.Request) -> web.Response:
        text = (
            "<!doctype html><html lang=en><title>A frame</title><link rel=icon href='data:,'>"
            "<main><h1>Around</h1><iframe title=inner src='/inner'></iframe></main></html>"
        )
        return web.Response(text=text, content_type="text/html")

    async def inner(_: web.Request) -> web.Response:
        text = (
            "<!doctype html><html lang=en><title>Inner</title>"
            "<main><h1>Inner</h1><input type=text></main></html>"
        )
        headers = {"Content-Security-Policy": POLICY}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/slow", nothing)
    app.router.add_get("/page/{name}", page)
    app.router.add_get("/", framing)
    app.router.add_get("/inner", inner)
    for path in FAULTS:
        app.router.add_get(path, script)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("console", "console error: spilled"),
        ("throws", "page error: tripped"),
        ("rejects", "page error: let down"),
        ("inline", "Content Security Policy"),
        ("lost", "request refused: 404 GET"),
        ("away", "request failed: net::ERR_NAME_NOT_RESOLVED"),
        ("socket", "WebSocket connection to"),
    ],
)
async def test_what_a_page_complains_about_is_noticed(
    site, open_page, opened, allow, fault, said
) -> None:
    page = await open_page(f"{site}/page/{fault}", wait="networkidle")
    unexpected = opened.trouble(page).unexpected
    assert any(said in line for line in unexpected), unexpected
    allow(page, ".")


async def test_a_warning_and_a_request_that_the_page_gave_up_are_nobodys_fault(
    site, open_page, opened
) -> None:
    page = await open_page(f"{site}/page/fine", wait="networkidle")
    assert opened.trouble(page).seen == []


async def test_axe_looks_into_frames_and_says_what_is_wrong_and_where(site, open_page, axe) -> None:
    page = await open_page(site)
    with pytest.raises(AssertionError, match=r"(?s)must have labels.*iframe > input"):
        await axe(page)
    await axe(page, exclude=("iframe",))


async def test_two_pages_share_no_storage_and_have_the_scheme_they_ask_for(site, open_page) -> None:
    one = await open_page(f"{site}/page/fine", scheme="dark", width=390)
    two = await open_page(f"{site}/page/fine")
    await one.evaluate("localStorage.setItem('a', '1')")
    assert await two.evaluate("localStorage.getItem('a')") is None
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    assert (await one.evaluate(dark), await two.evaluate(dark)) == (True, False)
    assert await one.evaluate("innerWidth") == 390
