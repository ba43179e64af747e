"""What every part of a scene has in common: a name, a card, a way to stop, context managers.

Running a cell twice makes a second part of the same kind and name; the first is stopped then.
What is still running when Python ends is stopped too.
"""

from __future__ import annotations

import atexit
import contextlib
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from chatlab.lab.card import Card
from chatlab.lab.portal import in_thread

__all__ = ["Part", "url_of"]

# The one piece of state of this package: without it a cell that is run again would leave the
# first run's server behind.
_running: dict[tuple[str, str], Part] = {}


class Part(ABC):
    """A server, a process or a wire of a scene."""

    name: str

    @abstractmethod
    def stop(self) -> Self:
        """End it and free what it held. May be repeated. Returns the part, so that a cell shows
        that it stopped."""

    @abstractmethod
    def card(self) -> Card:
        """What `repr` shows."""

    async def aclose(self) -> None:
        """As `stop`, without blocking the loop of the caller."""
        await in_thread(self.stop)

    def _take_name(self) -> None:
        """Stop an earlier part of the same kind and name, and be known by the name from now on."""
        key = (type(self).__name__, self.name)
        earlier = _running.pop(key, None)
        if earlier is not None and earlier is not self:
            earlier.stop()
        _running[key] = self

    def _give_up_name(self) -> None:
        key = (type(self).__name__, self.name)
        if _running.get(key) is self:
            del _running[key]

    def __repr__(self) -> str:
        return self.card().text()

    def _repr_html_(self) -> str:
        return self.card().html()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def url_of(target: object) -> str:
    """The address of a part of a scene, or the address itself where one is given."""
    url = getattr(target, "url", target)
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise TypeError(
            f"expected a server, a wire or an address such as 'http://127.0.0.1:3001', got {url!r}"
        )
    return url


@atexit.register
def _stop_everything() -> None:
    for part in list(_running.values()):
        with contextlib.suppress(Exception):
            part.stop()
