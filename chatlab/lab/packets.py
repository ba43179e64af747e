"""Socket.IO packets as the lab sees them: what kind, which event, what data, which ack.

One reading of the wire format serves server, client and wire, so that the three lanes of a drawing
speak of a packet in the same words. It is not a protocol implementation: what it cannot read, it
leaves alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["Assembler", "Seen", "decode"]

PacketKind = Literal["event", "ack", "connect", "connect_error", "disconnect"]

_KINDS: dict[str, PacketKind] = {
    "0": "connect",
    "1": "disconnect",
    "2": "event",
    "3": "ack",
    "4": "connect_error",
    "5": "event",
    "6": "ack",
}
_SHAPE = re.compile(r"([0-6])(?:(\d{1,6})-)?(?:(/[^,\[{]*),?)?(\d{1,15})?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Seen:
    """One Socket.IO packet. The fields are those of `recorder.Entry`.

    `attachments` says how many binary frames belong to it.
    """

    packet: PacketKind
    name: str | None = None
    data: Any = None
    id: int | None = None
    attachments: int = 0

    def fields(self) -> dict[str, Any]:
        """What `Recorder.add` takes."""
        return {"packet": self.packet, "name": self.name, "data": self.data, "id": self.id}


def decode(text: str) -> Seen | None:
    """Read one Socket.IO packet (without the Engine.IO `4` in front); None where it is not one."""
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    digit, attachments, _namespace, number, body = shape.groups()
    try:
        content = json.loads(body) if body else None
    except ValueError:
        # A packet cut short by a wire's buffer still has a kind and, mostly, a name.
        named = re.match(r'\["((?:[^"\\]|\\.)*)"', body)
        content = [named.group(1)] if named else None
    return of_parts(digit, content, None if number is None else int(number), int(attachments or 0))


def of_parts(digit: str, content: Any, number: int | None, attachments: int = 0) -> Seen:
    """Make a `Seen` of a packet's type digit, its decoded content and its ack number."""
    kind = _KINDS[digit]
    if kind == "event":
        items = content if isinstance(content, list) else []
        name = items[0] if items and isinstance(items[0], str) else None
        return Seen(kind, name, _one_or_many(items[1:]), number, attachments)
    if kind == "ack":
        items = content if isinstance(content, list) else []
        return Seen(kind, None, _one_or_many(items), number, attachments)
    return Seen(kind, None, _without_secrets(content) if kind == "connect" else content)


def _one_or_many(items: list[Any]) -> Any:
    if not items:
        return None
    return items[0] if len(items) == 1 else tuple(items)


def _without_secrets(auth: Any) -> Any:
    """Handshake data fit for a drawing: no session id, and of a long string (a token) the start."""
    if not isinstance(auth, dict):
        return auth
    shown = {
        key: value[:8] + "…" if isinstance(value, str) and len(value) > 32 else value
        for key, value in auth.items()
        if key != "sid"
    }
    return shown or None


class Assembler:
    """Puts the binary frames of one direction of one connection back into their packet."""

    def __init__(self) -> None:
        self._waiting: Seen | None = None
        self._frames: list[bytes] = []

    def feed(self, data: str | bytes) -> Seen | None:
        """Take the next Engine.IO message; return a packet when one is complete."""
        if isinstance(data, str):
            seen = decode(data)
            if seen is None or not seen.attachments:
                self._waiting, self._frames = None, []
                return seen
            self._waiting, self._frames = seen, []
            return None
        if self._waiting is None:
            return None
        self._frames.append(bytes(data))
        if len(self._frames) < self._waiting.attachments:
            return None
        seen, frames = self._waiting, self._frames
        self._waiting, self._frames = None, []
        return replace(seen, data=_fill(seen.data, frames))


def _fill(value: Any, frames: list[bytes]) -> Any:
    if isinstance(value, dict):
        number = value.get("num")
        if value.get("_placeholder") is True and isinstance(number, int):
            return frames[number] if 0 <= number < len(frames) else b""
        return {key: _fill(item, frames) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fill(item, frames) for item in value)
    return value
