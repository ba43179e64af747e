"""The join code, and how often somebody may guess at it.

It keeps the neighbours of a room out of its chat for an hour; it is no password.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

__all__ = ["Codes", "network_of", "new_code"]

# No two that look or sound alike, and no vowels that could make a word.
_LETTERS: Final = "BCDFGHJKMPQRTVWXY346789"
_LENGTH: Final = 6  # 23 ** 6 is 148 million

_MINUTE: Final = 60.0
_WRONG_PER_ADDRESS: Final = 8  # a minute
_WRONG_IN_ALL: Final = 120  # a minute
_JOINS_PER_ADDRESS: Final = 12  # a minute: one who joins and joins is not many
_ADDRESSES: Final = 10_000  # that are remembered


def new_code() -> str:
    """Six letters and digits, with a hyphen in the middle: `KFT-X8R`."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    return f"{letters[:3]}-{letters[3:]}"


def network_of(address: str) -> str:
    """What counts as one guesser: an IPv4 address, of IPv6 its network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "?"
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return str(parsed if parsed.version == 4 else ipaddress.ip_network((parsed, 64), strict=False))


class Codes:
    """The code of the moment. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.code = new_code()
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._joined: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=_WRONG_IN_ALL)

    def renew(self) -> None:
        """Another code from now on; the old one is worth nothing."""
        self.code = new_code()

    def wait(self, address: str) -> float:
        """Seconds until somebody at `address` may try a code; 0 for now."""
        now = self._clock()
        times = (
            _until(self._wrong.get(network_of(address)), _WRONG_PER_ADDRESS, now),
            _until(self._joined.get(network_of(address)), _JOINS_PER_ADDRESS, now),
            _until(self._all, _WRONG_IN_ALL, now),
        )
        return max(times)

    def right(self, given: str, address: str) -> bool:
        """Whether it is the code, in any case and with or without hyphen; counts those that try.

        Ask `wait` first: this counts, and holds nobody up.
        """
        now = self._clock()
        plain = "".join(given.upper().split()).replace("-", "")
        same = hmac.compare_digest(
            plain.encode("utf-8", "replace"), self.code.replace("-", "").encode()
        )
        book, most = (
            (self._joined, _JOINS_PER_ADDRESS) if same else (self._wrong, _WRONG_PER_ADDRESS)
        )
        name = network_of(address)
        book.setdefault(name, deque(maxlen=most)).append(now)
        book.move_to_end(name)
        if len(book) > _ADDRESSES:
            book.popitem(last=False)
        if not same:
            self._all.append(now)
        return same


def _until(times: deque[float] | None, most: int, now: float) -> float:
    if times is None or len(times) < most:
        return 0.0
    return max(0.0, times[0] + _MINUTE - now)
