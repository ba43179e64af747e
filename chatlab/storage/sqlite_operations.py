"""What the loop asks of the writer's thread, and what comes back.

Each operation carries the future that it completes; only the loop touches those.
"""

from __future__ import annotations

from asyncio import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatlab.storage.base import Appended, Cursor, Delivery, User

__all__ = ["Append", "Mark", "Operation", "Outcome", "Put"]


class Append(msgspec.Struct, eq=False):
    """See `RoomLog.append`."""

    room: str
    user: str
    text: str
    key: str | None
    origin: str
    future: Future[Appended]


@dataclass(slots=True)
class Mark:
    """See `RoomLog.mark`."""

    room: str
    user: str
    delivered: int
    read: int
    future: Future[tuple[Cursor, Cursor]]


@dataclass(slots=True)
class Put:
    """See `UserDirectory.put`."""

    user: User
    future: Future[None]


Operation = Append | Mark | Put


@dataclass(slots=True)
class Outcome:
    """What a batch led to: a result or an error for each future, and what the feeds carry."""

    results: list[tuple[Future[Any], Any]] = field(default_factory=list)
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
