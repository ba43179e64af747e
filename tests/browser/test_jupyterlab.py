"""What a learner does first, in JupyterLab itself: open a lesson, Run All, look, follow a link."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nbformat
import pytest
import pytest_asyncio

from tests.browser import workshop
from tests.browser.workshop import Notebook, Workshop

pytestmark = pytest.mark.timeout(120)

DARK = "document.body.dataset.jpThemeLight === 'false'"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(browser: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    """One JupyterLab for the tests of this file, started only where there is a browser."""
    async with workshop.opened(tmp_path_factory.mktemp("workshop")) as running:
        yield running


@pytest.mark.parametrize("lesson", ["00_start_here", "05_scaling_out"])
async def test_run_all_from_the_menu_finishes_every_cell_and_shows_no_error(
    lab, open_page, screenshot, lesson
) -> None:
    page = await open_page(lab.address(f"notebooks/{lesson}.ipynb"), width=1440, height=900)
    notebook = Notebook(page)
    await notebook.ready()
    await screenshot(page, "before")
    await notebook.run_all()
    await screenshot(page, "after")
    numbers = await notebook.numbers()
    assert numbers == list(range(1, len(numbers) + 1))
    assert await notebook.complaints() == []
    assert await notebook.broken_pictures() == []
    assert await notebook.too_wide() == []


async def test_the_stored_pictures_are_shown_before_anything_is_run_in_the_systems_colours(
    lab, open_page, screenshot
) -> None:
    page = await open_page(
        lab.address("notebooks/01_acknowledgements.ipynb"), width=1440, height=900, scheme="dark"
    )
    notebook = Notebook(page)
    await notebook.ready()
    await page.wait_for_function(DARK)
    await screenshot(page, "first")
    picture = notebook.panel.locator(".jp-OutputArea-output img").first
    await picture.scroll_into_view_if_needed()
    assert (await picture.bounding_box() or {"height": 0})["height"] > 100
    await screenshot(page, "picture")
    assert await notebook.broken_pictures() == []


async def test_the_links_of_a_lesson_open_beside_it(lab, open_page, screenshot) -> None:
    page = await open_page(
        lab.address("notebooks/00_start_here.ipynb"),
        width=1440,
        height=900,
        # Of JupyterLab itself, when a notebook is closed before its kernel is there.
        allow=("Canceled future", "debugger state"),
    )
    notebook = Notebook(page)
    await notebook.ready()
    await notebook.follow("steps/step0.py", to="work/notebooks/steps/step0.py")
    await notebook.close_tab()
    await notebook.follow("room", to="work/notebooks/09_quick_reference.ipynb")
    # JupyterLab 4.6 opens a notebook at its top, whatever the link's fragment (the texts are not
    # drawn yet); one that is open it scrolls. The index on top leads on.
    await notebook.click_link("Room")
    await notebook.scrolled_to("Room")
    await screenshot(page, "word")
    await notebook.close_tab()
    await notebook.follow("01 Acknowledgements", to="work/notebooks/01_acknowledgements.ipynb")
    await notebook.follow("chatlab/sending.py", to="work/chatlab/sending.py")
    await notebook.close_tab()
    await notebook.follow("the exercise", to="work/exercises/01_acknowledgements.ipynb")


CHAT = [
    "from chatlab import ChatClient\nfrom chatlab.lab import process\n\n"
    'server = process("--page", name="chat")\nserver.page(user="alice", room="kitchen")',
    'bob = await ChatClient(server, server.token("bob")).connect()\n'
    'await bob.join("kitchen")\nsent = await bob.send("tea?", room="kitchen")',
    "async for message in bob.messages():\n"
    '    if message.user == "alice":\n'
    "        break\n"
    "print(message.user, message.text)",
    "await bob.close()\nserver.stop()",
]


async def test_the_chat_page_in_a_notebook_talks_with_a_python_client(
    lab, open_page, screenshot, axe
) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CHAT])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, lab.root / "work" / "notebooks" / "page.ipynb")
    page = await open_page(
        lab.address("notebooks/page.ipynb"),
        width=1440,
        height=1100,
        allow=("ERR_CONNECTION_REFUSED", "WebSocket connection to"),  # once it is stopped
    )
    notebook = Notebook(page)
    await notebook.ready()
    await notebook.start_all()
    shown = notebook.panel.locator("iframe")
    assert await shown.get_attribute("title") == "chat · its chat page, as alice in kitchen"
    chat = shown.content_frame
    await chat.locator("#messages .message-text", has_text="tea?").wait_for()
    await axe(page, include=(".chatlab-page",))
    await chat.locator("#message-text").fill("yes, with milk")
    await chat.locator("#message-text").press("Enter")
    await notebook.done()
    await screenshot(page, "page")
    assert await notebook.complaints() == []
    printed = notebook.panel.locator(".jp-OutputArea-output", has_text="yes, with milk")
    assert await printed.text_content() == "alice yes, with milk\n"
    # The notebook that is saved now holds an address whose server is gone.
    await notebook.save()
    again = Notebook(
        await open_page(lab.address("notebooks/page.ipynb"), allow=("ERR_CONNECTION_REFUSED",))
    )
    await again.ready()
    await again.panel.get_by_text("does not run any more: run the cell again").wait_for()
    assert await again.panel.locator("iframe").count() == 0
