"""Socket.IO packets, parsed strictly and encoded once.

What the protocol does not allow raises. python-socketio 5.18.1 takes `42{}`, non-ASCII digits,
999,999 attachments and a client's own `42["disconnect"]`, and runs the server's handlers on it:
tests/protocol/test_stock_faults.py would notice a repair.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from chatlab.transport.codec import JSON, decode_json, encode_json
from chatlab.transport.frame import BINARY, frame

__all__ = ["RESERVED_EVENTS", "MalformedPacket", "Packet", "encode", "encode_event", "event_of"]

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)

RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names of the libraries' own; no client may send an event under one."""

# type, attachments, namespace, ack id, JSON; an id of 15 digits is below 2**53
_GRAMMAR: Final = re.compile(
    r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,]*)(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL
)


class MalformedPacket(ValueError):
    """A client sent what the protocol does not allow; its socket is closed."""


@dataclass(slots=True)
class Packet:
    """A packet of a client; `data` of an event is its name and its arguments."""

    kind: int
    namespace: str
    id: int | None
    data: Any
    attachments: int

    @classmethod
    def parse(cls, text: str | bytes) -> Packet:
        """Raises `MalformedPacket`."""
        match = _GRAMMAR.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise MalformedPacket("not a Socket.IO packet")
        digit, attachments, namespace, ack_id, body = match.groups()
        kind = int(digit)
        if (kind in (BINARY_EVENT, BINARY_ACK)) != (attachments is not None):
            raise MalformedPacket("attachments do not fit the packet type")
        packet = cls(
            kind=kind,
            namespace=namespace.partition("?")[0] if namespace else "/",
            id=int(ack_id) if ack_id else None,
            data=_loads(body) if body else None,
            attachments=int(attachments or 0),
        )
        packet._check()
        return packet

    def _check(self) -> None:
        if self.kind in (EVENT, BINARY_EVENT):
            _check_event(self.data)
        elif self.kind in (ACK, BINARY_ACK):
            if not isinstance(self.data, list) or self.id is None:
                raise MalformedPacket("an ack is a list with an id")
        elif self.kind == DISCONNECT:
            if self.data is not None:
                raise MalformedPacket("a disconnect has no payload")
        elif self.kind == CONNECT_ERROR:
            raise MalformedPacket("only a server refuses a connection")

    def attach(self, parts: list[bytes]) -> None:
        """Put the attachments in place of their placeholders. Raises `MalformedPacket`."""
        left = dict(enumerate(parts))

        def filled(value: Any) -> Any:
            if isinstance(value, list):
                return [filled(item) for item in value]
            if not isinstance(value, dict):
                return value
            if value.get("_placeholder") is True:
                number = value.get("num")
                if isinstance(number, bool) or not isinstance(number, int) or number not in left:
                    raise MalformedPacket("placeholders do not fit the attachments")
                return left.pop(number)
            return {key: filled(item) for key, item in value.items()}

        try:
            self.data = filled(self.data)
        except RecursionError:
            raise MalformedPacket("attachments are nested too deeply") from None
        if left:
            raise MalformedPacket("placeholders do not fit the attachments")


def event_of(body: str) -> list[Any]:
    """The name and the arguments of an event's JSON. Raises `MalformedPacket`."""
    try:
        data = decode_json(body)
    except Exception:
        data = _loads(body)
    _check_event(data)
    return data  # type: ignore[no-any-return]


def _check_event(data: Any) -> None:
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise MalformedPacket("an event is a list that begins with its name")
    if data[0] in RESERVED_EVENTS:
        raise MalformedPacket("the event's name is reserved")


def _loads(body: str) -> Any:
    try:
        return JSON.loads(body)
    except ValueError as error:
        raise MalformedPacket("the payload is not JSON") from error


def encode_event(name: str, *args: Any) -> bytes:
    """An event in `/` without attachments, as the frame to be written to any number of sockets."""
    return frame(b"42" + encode_json((name, *args)))


def encode(
    kind: int, data: Any = None, *, namespace: str = "/", ack_id: int | None = None
) -> list[bytes]:
    """A packet and its attachments as frames. `bytes` in lists and dicts of `data` are attached.

    Raises `TypeError` or `UnicodeEncodeError` for what has no JSON form.
    """
    parts: list[bytes] = []
    data = _detached(data, parts)
    head = b"%d-" % len(parts) if parts else b""
    if namespace != "/":
        head += namespace.encode() + b","
    if ack_id is not None:
        head += b"%d" % ack_id
    if parts:
        kind += BINARY_EVENT - EVENT
    body = b"" if data is None else encode_json(data)
    return [frame(b"4%d%b%b" % (kind, head, body)), *(frame(part, BINARY) for part in parts)]


def _detached(value: Any, parts: list[bytes]) -> Any:
    # Structs of the protocol never hold bytes and are not searched.
    if isinstance(value, (bytes, bytearray)):
        parts.append(bytes(value))
        return {"_placeholder": True, "num": len(parts) - 1}
    if isinstance(value, (list, tuple)):
        return [_detached(item, parts) for item in value]
    if isinstance(value, dict):
        return {key: _detached(item, parts) for key, item in value.items()}
    return value
