"""JupyterLab as `make lab` opens it, on a copy of the notebooks: no learner's file is touched.

It finds its way through JupyterLab's page for the tests; what a lesson says is not checked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Locator, Page

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("notebooks", "exercises", "solutions", "authoring/jupyterlab")
LINKED = ("chatlab", "docs", "README.md")
STARTS_WITHIN_S = 40.0
ENDS_WITHIN_S = 20.0
RUNS_WITHIN_MS = 50_000

ERRORS = "application/vnd.jupyter.error"
STDERR = "application/vnd.jupyter.stderr"

# Every code cell of the notebook in view has its number, and the kernel waits for more.
DONE = """() => {
  const book = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)");
  const cells = [...book.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
  const kernel = book.querySelector(".jp-Notebook-ExecutionIndicator");
  return cells.length > 0 && kernel.dataset.status === "idle"
    && cells.every((cell) => /^\\[\\d+\\]:$/.test(cell.textContent));
}"""


@dataclass(frozen=True)
class Workshop:
    """A running JupyterLab: its address, the token that its log shows, and the copy it works in."""

    url: str
    token: str
    root: Path

    def address(self, notebook: str) -> str:
        """Where `notebook` (a path below work/) opens, with no other tab beside it."""
        return f"{self.url}lab/tree/work/{notebook}?token={self.token}&reset"


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Workshop]:
    """Start it in `folder`, which must be empty; kernels and everything else end with the block."""
    root = folder / "clone"
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name)
    for name in LINKED:
        (root / name).symlink_to(ROOT / name)
    environment = {
        **os.environ,
        # The package itself is that of this checkout, installed or not.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [sys.executable, str(ROOT / "authoring" / "work.py"), "--root", str(root)]
    log = folder / "log"
    with log.open("w") as output:
        child = subprocess.Popen(
            [*command, "lab", "--port=0", "--no-browser"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        info = await announced(child, folder / "runtime", log)
        yield Workshop(info["url"], info["token"], root)
    finally:
        # It ends its kernels, and these what the lessons have started.
        child.terminate()
        try:
            await asyncio.to_thread(child.wait, ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def announced(child: subprocess.Popen[bytes], runtime: Path, log: Path) -> dict[str, Any]:
    """What the server writes down for other programs once it listens."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and child.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # being written
                return dict(json.loads(path.read_text()))
        await asyncio.sleep(0.05)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-4000:]}")


class Notebook:
    """The notebook in view in a page of JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    async def ready(self) -> None:
        """Wait until it is shown and its kernel waits for the first cell."""
        await self.panel.locator(".jp-Cell").first.wait_for()
        # The notebook's own sign says idle before there is a kernel, and what is run then is lost.
        await self.page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()

    async def menu(self, name: str, command: str) -> None:
        """Choose an entry of a menu as a person does; `command` is JupyterLab's name for it."""
        await self.page.get_by_role("menuitem", name=name, exact=True).click()
        await self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    async def run_all(self) -> None:
        """Clear what is stored, choose *Run All Cells*, and wait until every cell is done."""
        await self.menu("Edit", "editmenu:clear-all")
        await self.start_all()
        await self.done()

    async def start_all(self) -> None:
        """Choose *Run All Cells*, and do not wait."""
        await self.menu("Run", "runmenu:run-all")

    async def done(self) -> None:
        """Wait until every code cell has its number and the kernel is idle."""
        await self.page.wait_for_function(DONE, timeout=RUNS_WITHIN_MS)

    async def save(self) -> None:
        """Save it by the menu, and wait until the file is written."""
        await self.menu("File", "docmanager:save")
        tab = self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current")
        await tab.and_(self.page.locator(":not(.jp-mod-dirty)")).wait_for()

    async def numbers(self) -> list[int]:
        """The numbers beside the code cells, from top to bottom."""
        prompts = self.panel.locator(".jp-CodeCell .jp-InputPrompt")
        return [int(text.strip("[]: ")) for text in await prompts.all_text_contents()]

    async def complaints(self) -> list[str]:
        """Tracebacks, what went to stderr, and dialogs."""
        wrong = self.page.locator(f'[data-mime-type="{ERRORS}"], [data-mime-type="{STDERR}"]')
        dialogs = self.page.locator(".jp-Dialog")
        return [*await wrong.all_text_contents(), *await dialogs.all_text_contents()]

    async def broken_pictures(self) -> list[str]:
        """The pictures, in outputs and text, that show nothing."""
        return list(
            await self.panel.locator("img").evaluate_all(
                "all => all.filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 99))"
            )
        )

    async def too_wide(self) -> list[str]:
        """The beginnings of outputs that are wider than the page leaves room for."""
        return list(
            await self.panel.locator(".jp-OutputArea-output").evaluate_all(
                "all => all.filter(o => o.scrollWidth > o.clientWidth + 2)"
                ".map(o => `${o.scrollWidth} > ${o.clientWidth}: ${o.textContent.slice(0, 60)}`)"
            )
        )

    def cell(self, text: str) -> Locator:
        """The cell whose source holds `text`."""
        return self.panel.locator(".jp-Cell", has_text=text).first

    async def follow(self, link: str, *, to: str) -> None:
        """Click the first link of this text, and wait until the tab in front shows that path."""
        await self.click_link(link)
        await self.page.wait_for_function(IN_FRONT, arg=to)

    async def click_link(self, link: str) -> None:
        """Click the first link of this text in the notebook's own texts."""
        text = self.panel.locator(".jp-RenderedMarkdown")
        await text.get_by_role("link", name=link, exact=True).first.click()

    async def close_tab(self) -> None:
        """Close the tab in front, and keep nothing of it."""
        tabs = self.page.locator("#jp-main-dock-panel .lm-TabBar-tab")
        count = await tabs.count()
        await self.page.locator(
            "#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current .lm-TabBar-tabCloseIcon"
        ).click()
        # A notebook whose kernel has come is changed already, where the kernel's Python is of
        # another version than the one in the file; then JupyterLab asks.
        asked = self.page.locator(".jp-Dialog").get_by_role("button", name="Discard")
        await self.page.wait_for_function(CLOSED_OR_ASKED, arg=count)
        if await asked.is_visible():
            await asked.click()
        await tabs.nth(count - 1).wait_for(state="detached")

    async def scrolled_to(self, heading: str) -> None:
        """Wait until the heading of this id stands in the upper half of the notebook in view."""
        await self.page.wait_for_function(AT_THE_TOP, arg=heading)


AT_THE_TOP = """(id) => {
  const book = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)");
  const heading = book.querySelector(`[data-jupyter-id="${id}"]`);
  const { top, height } = book.getBoundingClientRect();
  const where = heading ? heading.getBoundingClientRect().top - top : -1;
  return where > 0 && where < height / 2;
}"""
CLOSED_OR_ASKED = """(count) => document.querySelector(".jp-Dialog")
  || document.querySelectorAll("#jp-main-dock-panel .lm-TabBar-tab").length < count"""
IN_FRONT = """(path) => document
  .querySelector("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current")
  .title.split("\\n").includes(`Path: ${path}`)"""
