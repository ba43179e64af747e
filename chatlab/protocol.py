"""The wire contract as code: the only place where a payload's shape is written down.

What clients send is decoded here into structs, or refused with the field's name; what the server
answers and emits is built from the structs below. How packets are framed is the transport's
business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from chatlab.errors import EmptyMessage, InvalidPayload, InvalidRoom, MessageTooLong, UnknownEvent

__all__ = [
    "CLIENT_EVENTS",
    "Answer",
    "History",
    "HistoryPage",
    "JoinRoom",
    "Joined",
    "LeaveRoom",
    "Left",
    "MarkDelivered",
    "MarkRead",
    "Message",
    "Ok",
    "Presence",
    "RefreshToken",
    "Refreshed",
    "Request",
    "SendMessage",
    "Sent",
    "Typing",
    "Who",
    "decode",
    "timestamp",
    "trim",
]

# The characters with Unicode's White_Space property, and U+FEFF, which JavaScript's trim() takes
# away too. Python's str.strip() differs: it adds U+001C..U+001F and leaves U+FEFF.
_WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_SAFE_INTEGER: Final = 2**53 - 1  # what a JavaScript client can count to

Seq = Annotated[int, msgspec.Meta(ge=0, le=_SAFE_INTEGER)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=200)]


def timestamp(seconds: float) -> str:
    """POSIX seconds as ISO 8601 UTC with milliseconds and `Z`, as `Date.toISOString()` prints."""
    return _printed(int(seconds * 1000))


@lru_cache(maxsize=16)  # a busy server stores dozens of messages in a millisecond
def _printed(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def trim(text: str) -> str:
    """`text` without surrounding Unicode white space and U+FEFF."""
    return text.strip(_WHITE_SPACE)


# --- from the client -------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a client may send; `check` does what types cannot say."""

    def check(self, *, message_limit: int) -> Request:
        """The request, normalised. Raises `InvalidPayload` or one of its kinds."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str):
                _check_encodable(name, value)
                if name == "room":
                    _check_room(value)
        return self


class JoinRoom(Request, frozen=True):
    room: str
    after: Seq | None = None
    epoch: str | None = None


class LeaveRoom(Request, frozen=True):
    room: str


class SendMessage(Request, frozen=True):
    text: str
    room: str | None = None
    key: Key | None = None

    def check(self, *, message_limit: int) -> SendMessage:
        text, room, key = self.text, self.room, self.key
        # What Request.check does, without a call where there is nothing to find.
        if not text.isascii():
            _check_encodable("text", text)
        if room is not None and not (len(room) <= 64 and room.isascii() and _is_room(room)):
            _check_encodable("room", room)
            _check_room(room)
        if key is not None:
            _check_encodable("key", key)
        text = text.strip(_WHITE_SPACE)
        if not text:
            raise EmptyMessage(field="text")
        if len(text) > message_limit:
            raise MessageTooLong(
                f"Message is too long: {len(text)} characters, at most {message_limit}",
                field="text",
            )
        return self if text == self.text else SendMessage(text, room, key)


class History(Request, frozen=True):
    room: str
    after: Seq | None = None
    before: Seq | None = None
    limit: Limit = 50

    def check(self, *, message_limit: int) -> History:
        super().check(message_limit=message_limit)
        if self.after is not None and self.before is not None:
            raise InvalidPayload("Give `after` or `before`, not both", field="before")
        return self


class MarkDelivered(Request, frozen=True):
    room: str
    seq: Seq


class MarkRead(Request, frozen=True):
    room: str
    seq: Seq


class Typing(Request, frozen=True):
    room: str
    typing: bool


class Who(Request, frozen=True):
    room: str


class RefreshToken(Request, frozen=True):
    token: str


CLIENT_EVENTS: Final[Mapping[str, type[Request]]] = {
    "join-room": JoinRoom,
    "leave-room": LeaveRoom,
    "send-message": SendMessage,
    "history": History,
    "mark-delivered": MarkDelivered,
    "mark-read": MarkRead,
    "typing": Typing,
    "who": Who,
    "refresh-token": RefreshToken,
}
"""Every event that a client may send, with its payload."""

# The lesson's client joins and leaves with the bare name of the room.
_BARE_ROOM: Final = ("join-room", "leave-room")


def decode(event: str, args: Sequence[Any], *, message_limit: int = 4000) -> Request:
    """The request that `event` carried as `args`.

    `message_limit` is in code points, counted after trimming. Raises `UnknownEvent`, or
    `InvalidPayload` (or one of its kinds) with `field` naming what was wrong.
    """
    shape = CLIENT_EVENTS.get(event)
    if shape is None:
        raise UnknownEvent
    if len(args) != 1:
        raise InvalidPayload(f"{event} takes one payload, got {len(args)}", field="payload")
    payload = args[0]
    if not isinstance(payload, dict):
        payload = _unbared(event, payload)
    try:
        request = msgspec.convert(payload, shape)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        for name, value in payload.items():
            _check_encodable(name, name)
            if isinstance(value, str):
                _check_encodable(name, value)
        raise _as_invalid(str(error)) from None
    return request.check(message_limit=message_limit)


def _unbared(event: str, payload: Any) -> dict[str, Any]:
    if event in _BARE_ROOM:
        if isinstance(payload, str):
            return {"room": payload}
        raise InvalidPayload("The payload must be an object", field="room")
    raise InvalidPayload("The payload must be an object", field="payload")


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")  # the characters of Unicode's category Cc


def _check_room(room: str) -> None:
    if len(room) > 64 or not _is_room(room):
        raise InvalidRoom(field="room")


@lru_cache(maxsize=4096)  # the same rooms are named again and again
def _is_room(room: str) -> bool:
    return bool(room) and trim(room) == room and _CONTROL.search(room) is None


def _check_encodable(name: str, value: str) -> None:
    # JSON can spell half a surrogate pair ("\ud800"). No UTF-8 holds it, so it could neither be
    # stored nor sent on.
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        shown = _shown(name)
        raise InvalidPayload(f"`{shown}` is not valid Unicode", field=shown) from None


def _shown(name: Any) -> str:
    # A field's name comes from the client: it must fit into an answer and be encodable.
    return str(name)[:64].encode("utf-8", "replace").decode()


_PATH: Final = re.compile(r" - at `\$\.([^`]*)`$")
_NAMED: Final = re.compile(r"field `(.*)`", re.DOTALL)


def _as_invalid(text: str) -> InvalidPayload:
    path, named = _PATH.search(text), _NAMED.search(text)
    field = path[1] if path else named[1] if named else "payload"
    shown = _shown(field)
    sentence = text.replace(path[0], f" in `{field}`") if path else text
    return InvalidPayload(sentence[:200], field=shown)


# --- from the server -------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, gc=False):
    """A stored message. `seq` starts at 1 and grows by 1 in each room; `id` is opaque."""

    id: str
    seq: int
    room: str
    user: str
    text: str
    timestamp: str

    def __repr__(self) -> str:
        return f"<Message {self.room} #{self.seq} {self.user}: {self.text!r}>"


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The ack of an event that succeeded. Unknown fields of a newer server are ignored."""

    ok: bool = True

    def __repr__(self) -> str:
        fields = (
            f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "ok"
        )
        return f"{type(self).__name__}({', '.join(fields)})"


class Ok(Answer, frozen=True, kw_only=True):
    """Done; there is nothing to add."""


class Joined(Answer, frozen=True, kw_only=True):
    """`seq` is the room's newest; `messages` are what the client missed, `more` when not all.

    `lost` says that history no longer connects to what the client had. `users` holds at most 200
    ids, `count` everybody. `read` is this user's cursor.
    """

    room: str
    seq: int
    epoch: str
    users: list[str]
    count: int
    messages: list[Message]
    more: bool
    lost: bool
    read: int

    def __repr__(self) -> str:
        return (
            f"Joined(room={self.room!r}, seq={self.seq}, users={self.users}, "
            f"messages={len(self.messages)}, more={self.more}, lost={self.lost}, read={self.read})"
        )


class Left(Answer, frozen=True, kw_only=True):
    room: str


class Sent(Answer, frozen=True, kw_only=True, gc=False):
    """Stored as `seq`; `duplicate` when an earlier send with the same key was."""

    id: str
    seq: int
    timestamp: str
    duplicate: bool

    def __repr__(self) -> str:
        return f"Sent(seq={self.seq}, duplicate={self.duplicate})"


class HistoryPage(Answer, frozen=True, kw_only=True):
    messages: list[Message]
    more: bool
    epoch: str

    def __repr__(self) -> str:
        return f"HistoryPage(messages={self.messages!r}, more={self.more})"


class Presence(Answer, frozen=True, kw_only=True):
    """Who is in a room: at most 200 ids, and how many in all."""

    users: list[str]
    count: int


class Refreshed(Answer, frozen=True, kw_only=True):
    """The session now lasts until `expires_at`."""

    expires_at: str
