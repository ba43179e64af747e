"""What the members of a room are served: the room's feed, in `seq` order, to everyone.

A message reaches its own sender too, unless the sender is told of it by its ack. The feed and the
ack of a message may come in either order.
"""

from __future__ import annotations

from asyncio import Future
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chatlab.server.acks import Event
from chatlab.server.receipts import Receipts
from chatlab.server.sessions import Session
from chatlab.storage.base import Appended, Delivery, RoomLog
from chatlab.transport.server import StrictServer, encode_event

__all__ = ["Member", "Room", "Serving"]


@dataclass(slots=True, eq=False)
class Member:
    """A socket in a room. `cursor` is the last `seq` it was served; None while it is joining.

    `acked` are the messages above `cursor` that its acks have told it of.
    """

    session: Session
    entered: bool = False
    cursor: int | None = None
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    acked: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Room:
    """A room of which this server has members.

    `users` counts their sockets here; `count` is how many users there were, on all servers, when
    somebody last joined here.
    """

    name: str
    receipts: Receipts
    members: dict[str, Member] = field(default_factory=dict)
    users: Counter[str] = field(default_factory=Counter)
    count: int = 0
    # Whose messages a receipt is about, as far back as anybody is likely to be behind.
    authors: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=1000))


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A message that a socket is sending; `skipped` is what the feed did not serve it of that."""

    sid: str
    room: str
    stored: Future[Appended] | None = None
    skipped: tuple[int, bytes] | None = None


class Serving:
    """Serves the members of `rooms`, which joins and leaves keep up to date."""

    def __init__(self, *, transport: StrictServer, log: RoomLog, rooms: Mapping[str, Room]) -> None:
        self._transport = transport
        self._log = log
        self._rooms = rooms
        self._sends = 0
        self.sending: dict[str, _Outgoing] = {}

    def feed(self, name: str, deliveries: Sequence[Delivery]) -> None:
        """Serve stored messages to the members; called by the log in `seq` order."""
        room = self._rooms.get(name)
        for delivery in deliveries:
            outgoing = self.sending.get(delivery.origin)
            if room is None and outgoing is None:
                continue
            seq = delivery.message.seq
            encoded = encode_event("new-message", delivery.message)
            if outgoing is not None:
                outgoing.skipped = (seq, encoded)
            if room is not None:
                room.authors.append((seq, delivery.message.user))
                self._serve(room, seq, encoded, outgoing.sid if outgoing else None)

    def _serve(self, room: Room, seq: int, encoded: bytes, skip: str | None) -> None:
        for sid, member in room.members.items():
            if member.cursor is None:
                if sid != skip:
                    member.waiting.append((seq, encoded))
            elif seq > member.cursor:
                member.cursor = seq
                if seq in member.acked:
                    member.acked.discard(seq)
                elif sid != skip:
                    self._transport.push(sid, encoded)

    def open(self, member: Member, seq: int | None) -> None:
        """Serve a member from `seq` on, beginning with what came while it was joining."""
        waiting, member.waiting = member.waiting, []
        member.cursor = seq
        for later, encoded in waiting:
            if seq is None or later > seq:
                member.cursor = later
                if later not in member.acked:
                    self._transport.push(member.session.sid, encoded)
        if member.cursor is not None:
            member.acked = {acked for acked in member.acked if acked > member.cursor}

    # --- sending -----------------------------------------------------------------------------

    def append(self, event: Event, name: str, text: str, key: str | None) -> Future[Appended]:
        """Store a message of the event's socket, which is served it unless its ack is `ok`."""
        self._sends += 1
        origin = f"{event.session.sid}/{self._sends}"
        outgoing = _Outgoing(event.session.sid, name)
        if not event.done:  # else it was answered already, with `closing`
            self.sending[origin] = outgoing
            event.after(lambda succeeded: self._sent(origin, outgoing, succeeded))
        outgoing.stored = self._log.append(name, event.session.user, text, key, origin)
        return outgoing.stored

    def _sent(self, origin: str, outgoing: _Outgoing, succeeded: bool) -> None:
        self.sending.pop(origin, None)
        room = self._rooms.get(outgoing.room)
        member = room.members.get(outgoing.sid) if room is not None else None
        if member is None:
            return
        if outgoing.skipped is not None:
            if not succeeded:
                # Stored, yet not acked `ok`: then the sender is served like everybody else.
                self._transport.push(outgoing.sid, outgoing.skipped[1])
        elif succeeded:
            seq = _newly_stored(outgoing.stored)
            if seq and (member.cursor is None or seq > member.cursor):
                member.acked.add(seq)


def _newly_stored(stored: Future[Appended] | None) -> int | None:
    """The `seq` of a message that was stored by this very append."""
    if stored is None or not stored.done() or stored.cancelled() or stored.exception():
        return None
    appended = stored.result()
    return None if appended.duplicate else appended.message.seq
