"""Names what the wires and lines saw: one small record for each packet and each hop.

Nothing is made up here: a packet is told when one was recorded, in the words that the stage's page
knows. Whether all is well with it is the checker's business.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from chatlab.lab.recorder import Entry

__all__ = ["PROBE", "Packets"]

PROBE: Final = "probe: "
"""How the texts of the one begin whose latency is measured: it is no part of the picture."""

_ASKED: Final = 2_000  # acks that are waited for
_STORED: Final = 200
_EVENTS: Final = {"send-message": "sent", "join-room": "joined", "new-message": "delivered"}
_NAMES: Final = {"connect": "connect", "connect_error": "refused", "disconnect": "closed"}

Packet = dict[str, Any]


class Packets:
    """`seat_of` says who a connection belongs to, by the name that the wires have for it:
    a window's id, `"crowd"`, or None for somebody from outside."""

    def __init__(self, since: float, seat_of: Callable[[str | None], str | None]) -> None:
        self._since = since
        self._seat_of = seat_of
        self._asked: OrderedDict[tuple[str, str | None, int], tuple[str, str]] = OrderedDict()
        self._stored: deque[tuple[Any, Any]] = deque(maxlen=_STORED)

    def of(self, place: str, entry: Entry) -> Iterator[Packet]:
        """What an entry says. `place` is where it was seen."""
        kind, _, which = place.partition("-")
        if kind == "wire" and entry.kind in ("pass", "drop"):
            window = f"window-{which}"
            yield from self._hop(place, entry, window, "balancer", via=place)
        elif kind == "server" and entry.kind == "pass":
            who = self._seat_of(entry.conn) or "guest"
            for packet in self._hop(place, entry, "balancer", place, who=who):
                if not str(packet.get("text", "")).startswith(PROBE):
                    yield packet
        elif kind == "line" and entry.packet == "event":
            yield from self._told(which, entry)

    # -- between clients and servers ---------------------------------------------------------------

    def _hop(self, place: str, entry: Entry, near: str, far: str, **more: Any) -> Iterator[Packet]:
        out = bool(entry.to_server)
        start, end = (near, far) if out else (far, near)
        packet: Packet = {
            "at": round(entry.at - self._since, 4),
            "what": "event",
            "from": start,
            "to": end,
            **more,
        }
        if entry.kind == "drop":
            packet["lost"] = True
        if entry.packet == "ack":
            self._ack(packet, place, entry)
        elif entry.packet == "event":
            self._event(packet, place, entry)
        else:
            what = _NAMES.get(str(entry.packet), "event")
            packet["what"] = "connected" if what == "connect" and not out else what
            packet["label"] = packet["what"]
            if what == "refused":
                self._refusal(packet, entry.data)
        yield packet

    def _event(self, packet: Packet, place: str, entry: Entry) -> None:
        name = entry.name or "event"
        data = entry.data if isinstance(entry.data, Mapping) else {}
        packet["what"] = _EVENTS.get(name, "event")
        packet |= _known(data)
        room = entry.data if isinstance(entry.data, str) else data.get("room")
        if isinstance(room, str):
            packet["room"] = room[:64]
        text = packet.get("text")
        packet["label"] = f"{name} {_short(text)}" if text is not None else name
        if "seq" in packet:
            packet["label"] += f" #{packet['seq']}"
        if entry.to_server and entry.id is not None:
            self._asked[place, entry.conn, entry.id] = (name, str(text or ""))
            if len(self._asked) > _ASKED:
                self._asked.popitem(last=False)

    def _ack(self, packet: Packet, place: str, entry: Entry) -> None:
        name, text = "", ""
        if entry.id is not None:
            name, text = self._asked.pop((place, entry.conn, entry.id), ("", ""))
        data = entry.data if isinstance(entry.data, Mapping) else {}
        packet["what"] = "acked" if name in ("send-message", "") else "answered"
        packet["code"] = "ok" if data.get("ok") is not False else str(data.get("code", "no"))
        packet["event"] = name
        packet |= _known(data)
        if text:
            packet["text"] = text
        place_in_room = f" #{packet['seq']}" if "seq" in packet else ""
        packet["label"] = f"ack {packet['code']}{place_in_room}"

    def _refusal(self, packet: Packet, data: Any) -> None:
        told = data if isinstance(data, Mapping) else {}
        more = told.get("data")
        code = more.get("code") if isinstance(more, Mapping) else None
        packet["code"] = str(code or "refused")
        packet["label"] = f"refused: {packet['code']}"

    # -- between servers and the Valkey ------------------------------------------------------------

    def _told(self, which: str, entry: Entry) -> Iterator[Packet]:
        server = f"server-{which}"
        data = entry.data if isinstance(entry.data, Mapping) else {}
        packet: Packet = {"at": round(entry.at - self._since, 4), **_known(data)}
        text = packet.get("text")
        if isinstance(text, str) and text.startswith(PROBE):
            return
        if entry.kind == "send":
            what = "append" if entry.name == "append" else "publish"
            ends = {"from": server, "to": "valkey"}
        elif entry.kind == "receive":
            what, ends = "published", {"from": "valkey", "to": server}
            yield from self._proof(packet)
        else:
            return
        if text is None:
            what = "event"  # a hint of python-socketio's manager: who is typing, who came
        yield {**packet, **ends, "what": what, "label": f"{what} {_short(text)}".strip()}

    def _proof(self, packet: Packet) -> Iterator[Packet]:
        """What Valkey publishes with a number is in its log: one script does both."""
        if "seq" not in packet:
            return
        name = (packet["seq"], packet.get("text"))
        if name not in self._stored:
            self._stored.append(name)
            label = f"stored #{packet['seq']}"
            yield {**packet, "what": "stored", "from": "valkey", "to": "valkey", "label": label}


def _known(data: Mapping[str, Any]) -> Packet:
    found: Packet = {}
    for name in ("user", "text"):
        if isinstance(data.get(name), str):
            found[name] = data[name][:200]
    seq = data.get("seq")
    if isinstance(seq, int) and not isinstance(seq, bool):
        found["seq"] = seq
    return found


def _short(text: Any) -> str:
    if not isinstance(text, str):
        return ""
    return f"“{text}”" if len(text) <= 24 else f"“{text[:23]}…”"
