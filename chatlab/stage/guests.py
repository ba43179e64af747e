"""Who has come in through the door: a user of the chat each, and nothing more.

A guest is what a token says; the chat itself knows no guests.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["Guest", "Guests", "Mint"]

LONGEST: Final = 24  # characters of a name
_MOST: Final = 300  # guests in all
_LIFE: Final = 4 * 3_600.0  # seconds of a token


class Mint(Protocol):
    """Makes a token for a user."""

    def __call__(self, user: str, *, ttl: float, **claims: Any) -> str: ...


@dataclass(slots=True)
class Guest:
    """`id` is the token's `sub`; nobody else has it."""

    id: str
    name: str
    at: float
    banned: bool = False


class Guests:
    """`changed` is called when somebody came."""

    def __init__(self, mint: Mint, clock: Callable[[], float]) -> None:
        self.all: dict[str, Guest] = {}
        self.changed: Callable[[Guest], None] = lambda guest: None
        self._mint = mint
        self._clock = clock

    @property
    def full(self) -> bool:
        """Whether nobody more is let in."""
        return len(self.all) >= _MOST

    def admit(self, name: str) -> str:
        """A token for a new guest. Raises `ValueError`, with a sentence, for an unfit name."""
        name = " ".join("".join(c for c in name if c.isprintable()).split())
        if not 1 <= len(name) <= LONGEST:
            raise ValueError(f"A name has 1 to {LONGEST} characters.")
        if self.full:
            raise ValueError("The room is full.")
        guest = Guest(f"guest-{_plain(name)}-{secrets.token_hex(2)}", name, self._clock())
        while guest.id in self.all:
            guest.id = f"guest-{_plain(name)}-{secrets.token_hex(4)}"
        token = self._mint(guest.id, ttl=_LIFE, name=guest.name)
        self.all[guest.id] = guest
        self.changed(guest)
        return token


def _plain(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")[:16] or "somebody"
