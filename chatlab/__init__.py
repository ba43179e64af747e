"""A chat server good enough to run, and a workshop that proves it.

The names that a notebook imports are here, loaded when first used, so that `import chatlab` costs
nothing. `chatlab/README.md` gives the reading order of the modules.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chatlab.catchup import HistoryLost
    from chatlab.client import ChatClient
    from chatlab.errors import (
        AckTimeout,
        ChatError,
        ConnectionRefused,
        NotConnected,
        RequestError,
        SendFailed,
    )
    from chatlab.protocol import Message

# Without a handler of the application's own, Python would write warnings into a notebook's cells.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AckTimeout",
    "ChatClient",
    "ChatError",
    "ConnectionRefused",
    "HistoryLost",
    "Message",
    "NotConnected",
    "RequestError",
    "SendFailed",
]

_HOMES: Final = {
    "ChatClient": "client",
    "HistoryLost": "catchup",
    "Message": "protocol",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
