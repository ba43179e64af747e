"""Socket.IO packets, parsed strictly: what the protocol does not allow raises.

The stock class (python-socketio 5.18.1) takes `42{}`, non-ASCII digits and a client's own
`42["disconnect"]`, and runs the server's handlers on it; tests/transport/test_malformed.py would
notice a repair.
"""

from __future__ import annotations

import re
from typing import Any, Final

from socketio import packet

from chatlab.transport.codec import JSON

__all__ = ["RESERVED_EVENTS", "MalformedPacket", "StrictPacket"]

RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names of the libraries' own; no client may send an event under one."""

# type, attachments, namespace, ack id, JSON; an id of 15 digits is below 2**53
_GRAMMAR: Final = re.compile(
    r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,]*)(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL
)
_BINARY: Final = (packet.BINARY_EVENT, packet.BINARY_ACK)


class MalformedPacket(ValueError):
    """A client sent what the protocol does not allow; its socket is closed."""


class StrictPacket(packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet whose `decode` raises `MalformedPacket` where the stock one shrugs."""

    json = JSON
    data: Any
    packet_type: int
    attachment_count: int

    @classmethod
    def data_is_binary(cls, data: Any) -> bool:
        """Whether `data` holds bytes; structs of the protocol never do and are not searched."""
        if isinstance(data, (list, tuple)):
            return any(cls.data_is_binary(item) for item in data)
        if isinstance(data, dict):
            return any(cls.data_is_binary(item) for item in data.values())
        return isinstance(data, (bytes, bytearray))

    def decode(self, encoded_packet: Any) -> int:
        """Parse a client's packet; returns how many attachments follow it."""
        match = _GRAMMAR.fullmatch(encoded_packet) if isinstance(encoded_packet, str) else None
        if match is None:
            raise MalformedPacket("not a Socket.IO packet")
        kind, attachments, namespace, ack_id, body = match.groups()
        self.packet_type = int(kind)
        self.namespace = namespace.partition("?")[0] if namespace else None
        self.id = int(ack_id) if ack_id else None
        try:
            self.data = self.json.loads(body) if body else None
        except ValueError as error:
            raise MalformedPacket("the payload is not JSON") from error
        if (self.packet_type in _BINARY) != (attachments is not None):
            raise MalformedPacket("attachments do not fit the packet type")
        self._check_payload()
        return int(attachments or 0)

    def _check_payload(self) -> None:
        if self.packet_type in (packet.EVENT, packet.BINARY_EVENT):
            if not isinstance(self.data, list) or not self.data:
                raise MalformedPacket("an event is a list that begins with its name")
            if not isinstance(self.data[0], str):
                raise MalformedPacket("an event's name is a string")
            if self.data[0] in RESERVED_EVENTS:
                raise MalformedPacket("the event's name is reserved")
        elif self.packet_type in (packet.ACK, packet.BINARY_ACK):
            if not isinstance(self.data, list) or self.id is None:
                raise MalformedPacket("an ack is a list with an id")
        elif self.packet_type == packet.DISCONNECT:
            if self.data is not None:
                raise MalformedPacket("a disconnect has no payload")
        elif self.packet_type == packet.CONNECT_ERROR:
            raise MalformedPacket("only a server refuses a connection")
