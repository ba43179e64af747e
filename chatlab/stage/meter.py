"""Once a second: how many messages, how long acks take, what is refused, and how the victim fares.

It counts what wires and lines saw and what the measuring process says; it asks no server.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from chatlab.lab.load_row import quantile
from chatlab.lab.recorder import Entry

__all__ = ["Meter"]

_ASKED: Final = 5_000


class Meter:
    """`take` what was seen; `point` is the second that has passed."""

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._asked: OrderedDict[tuple[str, str | None, int], tuple[float, bool]] = OrderedDict()
        self._acks: list[float] = []
        self._victim: list[float] = []
        self._rejects: Counter[str] = Counter()
        self._messages = 0
        self._silent = False

    def take(self, place: str, entry: Entry) -> None:
        """One entry of a wire behind the balancer, or of a line."""
        if place.startswith("line"):
            if entry.kind == "send" and isinstance(entry.data, Mapping):
                text = entry.data.get("text")
                self._messages += isinstance(text, str) and not text.startswith(self._probe)
        elif place.startswith("server") and entry.kind == "pass":
            self._server(place, entry)

    def _server(self, place: str, entry: Entry) -> None:
        if entry.packet == "event" and entry.to_server and entry.id is not None:
            self._asked[place, entry.conn, entry.id] = (entry.at, entry.name == "send-message")
            if len(self._asked) > _ASKED:
                self._asked.popitem(last=False)
        elif entry.packet == "ack" and entry.id is not None:
            began, timed = self._asked.pop((place, entry.conn, entry.id), (entry.at, False))
            if timed:
                self._acks.append(entry.at - began)
            if isinstance(entry.data, Mapping) and entry.data.get("ok") is False:
                self.rejected(str(entry.data.get("code")))
        elif entry.packet == "connect_error":
            told = entry.data if isinstance(entry.data, Mapping) else {}
            more = told.get("data")
            code = more.get("code") if isinstance(more, Mapping) else None
            self.rejected(str(code or "refused"))

    def rejected(self, code: str, count: int = 1) -> None:
        """Somebody was refused, with this code."""
        if count > 0:
            self._rejects[code[:40]] += count

    def victim(self, milliseconds: float | None) -> None:
        """One of the victim's messages was acked after so long; None: not at all."""
        if milliseconds is None:
            self._silent = True
        else:
            self._victim.append(milliseconds)

    def point(self, at: float) -> dict[str, Any]:
        """The second that has passed, and begin the next."""
        acks = [1_000 * seconds for seconds in self._acks]
        point = {
            "at": round(at, 1),
            "messages": self._messages,
            "ack_p50": _rounded(quantile(acks, 0.5)),
            "ack_p99": _rounded(quantile(acks, 0.99)),
            "victim_p50": _rounded(quantile(self._victim, 0.5)),
            "victim_p99": _rounded(quantile(self._victim, 0.99)),
            "victim_silent": self._silent and not self._victim,
            "rejects": dict(self._rejects),
        }
        self._acks.clear()
        self._victim.clear()
        self._rejects.clear()
        self._messages, self._silent = 0, False
        return point


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
