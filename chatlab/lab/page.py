"""`server.page()`: the chat page of a server, live in a notebook, as the user that is named.

What is stored in the notebook is a card in text and HTML without port or token; a reader elsewhere
sees that. The page itself is the server's (chatlab/page), not made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import urlencode

from chatlab.lab.card import COLOURS, SIGNS

__all__ = ["ChatPage", "HasPage"]

# A frame that is too low hides the composer, one that is too high the rest of the notebook.
_LOWEST, _HIGHEST = 200, 2_000

_STILL: Final = "Shown here while the server runs: run this cell in JupyterLab."
_ENDED: Final = "The server of this cell does not run any more: run the cell again."
_FAR: Final = (
    "This notebook runs on another machine than your browser, and the way to its servers is "
    "missing there: install jupyter-server-proxy beside JupyterLab, and give the server "
    "--origins with the address of this notebook."
)

# Everything that JupyterLab shows is made by this script: what is stored has an address without a
# port, which is no address, and then it does nothing. It first asks whether the server is there: a
# frame around nothing would show the browser's own words, and no event says so.
_SCRIPT: Final = """(() => {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)
    || !location.protocol.startsWith("http");
  const proxied = (url) => {
    const config = document.getElementById("jupyter-config-data");
    const base = config ? JSON.parse(config.textContent).baseUrl : "/";
    return new URL(`${base}proxy/${url.port}/${url.hash}`, location.origin);
  };
  for (const box of document.querySelectorAll(".chatlab-page:not([data-seen])")) {
    box.dataset.seen = "yes";
    let url;
    try { url = new URL(box.dataset.address); } catch { continue; }
    if (!local) url = proxied(url);
    const words = box.querySelector(".chatlab-page-words");
    fetch(new URL("healthz", url), {mode: local ? "no-cors" : "same-origin"}).then((answer) => {
      if (!local && !answer.ok) throw new Error("no proxy");
      const frame = document.createElement("iframe");
      frame.title = box.dataset.title;
      frame.style = `display:block;width:100%;height:${box.dataset.height}px;border:none`;
      frame.src = url;
      box.style.display = "block";
      words.replaceWith(frame);
    }).catch(() => { words.textContent = local ? box.dataset.ended : box.dataset.far; });
  }
})();"""


class HasPage:
    """What a server, a process and a cluster have in common: `page`."""

    name: str

    def page(self, user: str, *, room: str = "general", height: int = 420) -> ChatPage:
        """The chat page, logged in as `user` and opened at `room`, as the last line of a cell.

        `height` is in CSS pixels, 200 to 2,000. The server must serve the page and run with
        `--dev`, whose login without a password this uses: no token is in the notebook. Two pages
        of one server stand side by side, each as its own user.

        JupyterLab shows the live page in a frame where the browser is on the same machine. On
        Binder and JupyterHub the browser cannot reach `127.0.0.1` of the server's machine. There
        the frame goes through `/proxy/PORT/` of the `jupyter-server-proxy` package, which chatlab
        does not install, and the server must know the notebook's own address, or it refuses the
        login: `process("--page", "--origins", "https://hub.example.org")`. Without the package the
        card says what is missing. GitHub and other readers see the card.

        Raises `RuntimeError` when this server does not run or does not serve the page so,
        `ValueError` for a user or room without a name, or a height that cannot be used.
        """
        trouble = self._why_no_page()
        if trouble:
            raise RuntimeError(f"{self.name} {trouble}")
        if not user.strip() or not room.strip():
            raise ValueError("page takes the name of a user and of a room, and one is empty")
        if not _LOWEST <= height <= _HIGHEST:
            raise ValueError(f"height is {_LOWEST} to {_HIGHEST} pixels, not {height}")
        return ChatPage(self.name, self._page_url(), user, room, height)

    def _why_no_page(self) -> str | None:
        """What keeps this server from showing the page, after its name; None when nothing does."""
        raise NotImplementedError

    def _page_url(self) -> str:
        return str(getattr(self, "url", ""))


@dataclass(frozen=True, repr=False)
class ChatPage:
    """The page of one server as one user. Made by `server.page(…)`."""

    server: str
    url: str
    user: str
    room: str
    height: int

    @property
    def address(self) -> str:
        """Where the page is, for a browser: the same as the frame shows."""
        return f"{self.url.rstrip('/')}/#{urlencode({'user': self.user, 'room': self.room})}"

    def __repr__(self) -> str:
        return f"{SIGNS['good']} {self._title()}\n  {_STILL}"

    def _repr_html_(self) -> str:
        data = {
            "address": self.address,
            "title": self._title(),
            "height": str(self.height),
            "ended": _ENDED,
            "far": _FAR,
        }
        attributes = " ".join(f'data-{name}="{escape(text)}"' for name, text in data.items())
        grey = "color:var(--jp-ui-font-color2, #808080)"
        return (
            f'<div class="chatlab-page" {attributes} style="display:inline-block;'
            "border:1px solid var(--jp-border-color1, #9e9e9e);"
            f"border-left:4px solid {COLOURS['good']};border-radius:3px;"
            'font-size:var(--jp-ui-font-size1, 13px)">'
            f'<div style="padding:6px 14px"><span style="color:{COLOURS["good"]}">'
            f"{SIGNS['good']}</span> <b>{escape(self.server)}</b> · its chat page, as "
            f"<b>{escape(self.user)}</b> in <b>{escape(self.room)}</b></div>"
            f'<div class="chatlab-page-words" style="padding:0 14px 6px;{grey}">{_STILL}</div>'
            f"</div><script>{_SCRIPT}</script>"
        )

    def _title(self) -> str:
        return f"{self.server} · its chat page, as {self.user} in {self.room}"


def not_served(how: str) -> str:
    """What to say of a server without the page; `how` is what to write to get it."""
    return f"does not serve the chat page: start it with {how}"


def serves_page(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether `chatlab serve` with these arguments and variables serves the page."""
    by_variable = environment.get("CHATLAB_PAGE", "").strip().lower()
    return "--page" in arguments or by_variable in {"1", "true", "yes", "on"}
