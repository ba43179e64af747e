"""The chat page of `chatlab serve --page`: its files, its headers, and the login of development.

What a browser runs is in `web/`; this side only serves it. Nothing of the chat itself is here: the
page is a client of the wire contract like any other.
"""

from __future__ import annotations

from chatlab.page.routes import add_page

__all__ = ["add_page"]
