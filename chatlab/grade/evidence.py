"""Evidence: every packet of a trial, with its time and direction, short enough to be read.

What is secret (tokens, the secret itself) is taken out here, before anything is shown or written.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Packet", "Redactor", "Trace", "shortened"]

Way = Literal["→", "←", "·"]

_LONGEST: Final = 240  # characters of a packet that are shown
_SEARCHED: Final = 20_000  # characters of a packet that are searched for secrets
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*")
_SHORTEST_SECRET: Final = 6  # a shorter one would blot out ordinary words
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet, or one remark (`·`). `at` is in seconds since the trial began."""

    at: float
    who: str
    way: Way
    text: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.who} {self.way} {self.text}"


class Redactor:
    """Knows what is secret, and takes it out of a text."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def hide(self, secret: str, shown: str) -> None:
        """From now on `secret` is shown as `shown`."""
        if len(secret) >= _SHORTEST_SECRET:
            self._secrets[secret] = shown
            self._secrets[json.dumps(secret)[1:-1]] = shown

    def __call__(self, text: str) -> str:
        """`text` without tokens and secrets."""
        text = _JWT.sub("<token>", text)
        # A copy: tokens are made in threads.
        for secret, shown in list(self._secrets.items()):
            if secret in text:
                text = text.replace(secret, shown)
        return text


class Trace:
    """The packets of one trial, in the order in which they were seen."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._began = time.monotonic()
        self._packets: list[Packet] = []
        self._ended = False

    def add(self, who: str, way: Way, text: str) -> None:
        """Note a packet."""
        # Long packets are cut first so that a megabyte is not searched for secrets; cut well
        # beyond what is shown, so that no secret is cut in half and then missed.
        if self._ended:
            return
        shown = shortened(self._redact(text[:_SEARCHED]), len(text) - len(text[:_SEARCHED]))
        self._packets.append(Packet(time.monotonic() - self._began, who, way, shown))

    @property
    def count(self) -> int:
        """How many packets and remarks there are."""
        return len(self._packets)

    def remark(self, text: str) -> None:
        """Note what is no packet: a command that was run, a wait."""
        self.add("grade", "·", text)

    def end(self) -> None:
        """The trial is over: what is noted now (clients being closed) is no evidence."""
        self._ended = True

    def packets(self, most: int) -> tuple[Packet, ...]:
        """The last `most` packets, with a remark where earlier ones were left out."""
        left_out = len(self._packets) - most
        if left_out <= 0:
            return tuple(self._packets)
        first = self._packets[left_out]
        return (
            Packet(first.at, "grade", "·", f"… {left_out} earlier packets"),
            *self._packets[left_out:],
        )


def shortened(text: str, more: int = 0) -> str:
    """`text` cut to what is shown, control characters spelt out; `more` characters follow it."""
    length = len(text) + more
    cut = text[:_LONGEST]
    cut = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", cut)
    return cut if length <= _LONGEST else f"{cut}… ({length} characters)"
