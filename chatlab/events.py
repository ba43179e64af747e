"""What a client hears besides messages, as typed objects.

The server's events are decoded here for `ChatClient.events()`, beside the two that a client adds
itself, `Connected` and `Disconnected`. Messages are not here: they come from
`ChatClient.messages()`, in order.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = [
    "Connected",
    "Disconnected",
    "ErrorReported",
    "Event",
    "Receipt",
    "Receipts",
    "ServerClosing",
    "SessionBanned",
    "SessionExpired",
    "TokenExpiring",
    "UserJoined",
    "UserLeft",
    "UserTyping",
    "understand",
]


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """The root of everything that `ChatClient.events()` yields."""


class UserJoined(Event, frozen=True):
    """A hint: `ChatClient.who` is the truth."""

    user: str
    room: str


class UserLeft(Event, frozen=True):
    """A hint, as `UserJoined` is."""

    user: str
    room: str


class UserTyping(Event, frozen=True):
    """`user` began to type in `room`, or stopped."""

    room: str
    user: str
    typing: bool


class Receipt(msgspec.Struct, frozen=True):
    """How far one user has got: everything up to these `seq`s."""

    delivered: int
    read: int


class Receipts(Event, frozen=True):
    """The cursors that moved since the last one, by user id."""

    room: str
    users: dict[str, Receipt]


class TokenExpiring(Event, frozen=True):
    """The session ends at `expires_at` unless the token is refreshed."""

    expires_at: str


class SessionExpired(Event, frozen=True):
    """The token has expired; the server closes the connection."""


class SessionBanned(Event, frozen=True):
    """The user was banned; the server ends every session of theirs."""


class ServerClosing(Event, frozen=True):
    """The server shuts down; the client returns by itself."""


class ErrorReported(Event, frozen=True):
    """Something sent without an ack was refused."""

    message: str
    code: str = "unknown"
    retry_after: float | None = None


class Connected(Event, frozen=True):
    """The client is connected, for the first time or again."""


class Disconnected(Event, frozen=True):
    """The connection ended, and not because the client was closed."""


_SHAPES: Final[dict[str, type[Event]]] = {
    "user-joined": UserJoined,
    "user-left": UserLeft,
    "typing": UserTyping,
    "receipts": Receipts,
    "token-expiring": TokenExpiring,
    "token-expired": SessionExpired,
    "banned": SessionBanned,
    "closing": ServerClosing,
    "error": ErrorReported,
}


def understand(name: str, data: Any) -> Event | None:
    """The event that the server sent; None for one that this version does not know.

    Raises `msgspec.ValidationError` when a known event has not the contract's shape.
    """
    shape = _SHAPES.get(name)
    if shape is None:
        return None
    return msgspec.convert({} if data is None else data, shape)
