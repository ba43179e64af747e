"""The door and what is behind it, as the stage opens and closes it.

Without `--host` there is none. Its methods block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chatlab.stage.codes import Codes
from chatlab.stage.door import Door, qr_of, reachable
from chatlab.stage.guests import Guests

__all__ = ["Entrance"]


class Entrance:
    """`servers` gives who chats, `outside` is the address of who serves the pages."""

    def __init__(
        self,
        servers: Callable[[], Sequence[object]],
        outside: str,
        *,
        host: str,
        port: int,
        codes: Codes,
        guests: Guests,
        name: str,
    ) -> None:
        self.door: Door | None = None
        self.address = f"http://{reachable(host)}:{port}"
        self._servers = servers
        self._outside = outside
        self._host, self._port = host, port
        self._codes, self._guests = codes, guests
        self._name = name
        self._drawn: tuple[str, str] = ("", "")

    @property
    def is_open(self) -> bool:
        """Whether somebody could come in."""
        return self.door is not None and self.door.running

    def open(self) -> None:
        """Let people in. Raises `RuntimeError` where the address cannot be had."""
        if self.is_open:
            return
        self.close()
        self.door = Door(
            self._servers(), self._outside, host=self._host, port=self._port, name=self._name
        )

    def close(self) -> None:
        """Nobody comes in, and whoever came in by it is outside."""
        if self.door is not None:
            self.door.stop()
            self.door = None

    def told(self) -> dict[str, Any]:
        """For the stage's page."""
        join = f"{self.address}/join"
        place = f"{join}#{self._codes.code}"
        if self._drawn[0] != place:
            self._drawn = (place, qr_of(place))
        return {
            "open": self.is_open,
            "address": self.address,
            "join": join,
            "code": self._codes.code,
            "qr": self._drawn[1],
            "guests": [
                {"id": g.id, "name": g.name, "banned": g.banned, "at": round(g.at, 1)}
                for g in self._guests.all.values()
            ],
            "full": self._guests.full,
        }
