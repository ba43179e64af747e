"""Every way in which chatlab says no, as one tree of exceptions.

Each class is one code of the wire contract and knows its sentence, and whether trying again can
help. The server raises them and the client raises the same ones from what it received. What goes
wrong on the client's own side is at the end of the tree.

    ChatError
    ├── RequestError                 an event was refused; the ack carries the code
    │   ├── InvalidPayload           invalid_payload     wrong type, missing or unknown field
    │   │   ├── EmptyMessage         empty_message
    │   │   ├── MessageTooLong       message_too_long
    │   │   └── InvalidRoom          invalid_room
    │   ├── NotInRoom                not_in_room
    │   ├── Forbidden                forbidden           the policy says no
    │   ├── RateLimited              rate_limited        retry
    │   ├── Closing                  closing             retry; whether it was done is unknown
    │   ├── InternalError            internal_error
    │   └── UnknownEvent             unknown_event
    ├── ConnectionRefused            the connection was refused; connect_error carries the code
    │   ├── AuthenticationRequired   authentication_required
    │   ├── InvalidToken             invalid_token
    │   │   └── TokenExpired         token_expired
    │   ├── UserNotFound             user_not_found
    │   ├── Banned                   banned
    │   ├── TooManyConnections       too_many_connections retry
    │   └── ServerError              server_error        retry
    ├── Unavailable                  unavailable         retry; answers events and connections
    └── ClientError                  raised by ChatClient itself
        ├── NotConnected
        ├── AckTimeout               nobody answered in time
        └── SendFailed               gave up; says what is known and what is not
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AckTimeout",
    "AuthenticationRequired",
    "Banned",
    "ChatError",
    "ClientError",
    "Closing",
    "ConnectionRefused",
    "EmptyMessage",
    "Forbidden",
    "InternalError",
    "InvalidPayload",
    "InvalidRoom",
    "InvalidToken",
    "MessageTooLong",
    "NotConnected",
    "NotInRoom",
    "RateLimited",
    "RequestError",
    "SendFailed",
    "ServerError",
    "SettingsError",
    "TokenExpired",
    "TooManyConnections",
    "Unavailable",
    "UnknownEvent",
    "UserNotFound",
    "from_wire",
]


class SettingsError(ValueError):
    """A setting, or what it points at, cannot be used; the text is a sentence for the operator."""


class ChatError(Exception):
    """The root. `code` is a word for a program, `message` a sentence for a person.

    `message` overrides the class's sentence; `retry_after` is in seconds; `field` names the
    offending field of a payload.
    """

    code: ClassVar[str] = "internal_error"
    sentence: ClassVar[str] = "Internal server error"
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        field: str | None = None,
    ) -> None:
        self.message = message or self.sentence
        self.retry_after = retry_after
        self.field = field
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def to_ack(self) -> dict[str, Any]:
        """The answer of the event that failed with this error."""
        ack: dict[str, Any] = {
            "ok": False,
            "error": self.message,
            "code": self.code,
            "retry": self.retry,
        }
        if self.retry_after is not None:
            ack["retryAfter"] = self.retry_after
        if self.field is not None:
            ack["field"] = self.field
        return ack

    def to_refusal(self) -> dict[str, Any]:
        """The CONNECT_ERROR payload of the connection that was refused with this error."""
        data: dict[str, Any] = {"code": self.code, "retry": self.retry}
        if self.retry_after is not None:
            data["retryAfter"] = self.retry_after
        return {"message": self.message, "data": data}


class RequestError(ChatError):
    """An event was refused."""


class InvalidPayload(RequestError):
    code, sentence = "invalid_payload", "Invalid payload"


class EmptyMessage(InvalidPayload):
    code, sentence = "empty_message", "Message cannot be empty"


class MessageTooLong(InvalidPayload):
    code, sentence = "message_too_long", "Message is too long"


class InvalidRoom(InvalidPayload):
    code = "invalid_room"
    sentence = "A room name is 1-64 characters, without control characters and surrounding space"


class NotInRoom(RequestError):
    code, sentence = "not_in_room", "Join the room first"


class Forbidden(RequestError):
    code, sentence = "forbidden", "Not allowed"


class RateLimited(RequestError):
    code, sentence, retry = "rate_limited", "Too many requests. Slow down.", True


class Closing(RequestError):
    code, sentence, retry = "closing", "Server is shutting down", True


class InternalError(RequestError):
    code, sentence = "internal_error", "Internal server error"


class UnknownEvent(RequestError):
    code, sentence = "unknown_event", "Unknown event"


class ConnectionRefused(ChatError):
    """A connection was refused."""

    code, sentence = "server_error", "Server error"


class AuthenticationRequired(ConnectionRefused):
    code, sentence = "authentication_required", "Authentication required"


class InvalidToken(ConnectionRefused):
    code, sentence = "invalid_token", "Invalid token"


class TokenExpired(InvalidToken):
    code = "token_expired"


class UserNotFound(ConnectionRefused):
    code, sentence = "user_not_found", "User not found"


class Banned(ConnectionRefused):
    code, sentence = "banned", "User is banned"


class TooManyConnections(ConnectionRefused):
    code, sentence, retry = "too_many_connections", "Too many connections", True


class ServerError(ConnectionRefused):
    code, sentence, retry = "server_error", "Server error", True


class Unavailable(ChatError):
    """Storage or the user directory cannot be reached; what became of the request is unknown."""

    code, sentence, retry = "unavailable", "Server unavailable", True


class ClientError(ChatError):
    """Something that `ChatClient` found out by itself; it has no code on the wire."""

    code = "client_error"
    sentence = "The client could not do that"


class NotConnected(ClientError):
    code, sentence, retry = "not_connected", "Not connected", True


class AckTimeout(ClientError):
    code, sentence, retry = "ack_timeout", "No answer in time", True


class SendFailed(ClientError):
    """`ChatClient.send` gave up.

    `stored` is False when every attempt was refused before anything was stored, and None when at
    least one attempt may have been stored: then `key` finds out, by sending again with it.
    `last` is the last attempt's error, `attempts` their number.
    """

    code, sentence = "send_failed", "The message was not acknowledged"

    def __init__(
        self,
        message: str | None = None,
        *,
        key: str,
        attempts: int,
        stored: bool | None,
        last: ChatError | None = None,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.attempts = attempts
        self.stored = stored
        self.last = last


def _leaves(root: type[ChatError]) -> dict[str, type[ChatError]]:
    found = {root.code: root} if "code" in vars(root) else {}
    for child in root.__subclasses__():
        found |= _leaves(child)
    return found


_ACK_CODES = _leaves(RequestError) | {
    error.code: error for error in (Unavailable, InvalidToken, TokenExpired, Banned)
}
_REFUSAL_CODES = _leaves(ConnectionRefused) | {Unavailable.code: Unavailable}


def from_wire(data: Any, *, refusal: bool = False) -> ChatError:
    """The exception for what a server said: a failed ack, or with `refusal` a connect_error.

    A code that this version does not know becomes a plain `RequestError` or `ConnectionRefused`
    that carries the code as an attribute, so that a newer server's answer is never swallowed.
    """
    fields = data if isinstance(data, dict) else {"error": str(data), "message": str(data)}
    message = fields.get("message" if refusal else "error")
    details = fields.get("data") if refusal else fields
    if not isinstance(details, dict):
        details = {}
    code = details.get("code")
    known = (_REFUSAL_CODES if refusal else _ACK_CODES).get(code) if isinstance(code, str) else None
    kind = known or (ConnectionRefused if refusal else RequestError)
    retry_after = details.get("retryAfter")
    field = details.get("field")
    error = kind(
        message if isinstance(message, str) else None,
        retry_after=float(retry_after) if isinstance(retry_after, (int, float)) else None,
        field=field if isinstance(field, str) else None,
    )
    if known is None:
        vars(error).update(code=str(code or "unknown"), retry=bool(details.get("retry", False)))
    return error
