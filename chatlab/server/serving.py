"""What the members of a room are served: the room's feed, in `seq` order, to everyone.

A message reaches its own sender too, unless the sender is told of it by its ack. The feed and the
ack of a message may come in either order.
"""

from __future__ import annotations

from asyncio import Future
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from chatlab.protocol import Message
from chatlab.server.acks import Event
from chatlab.server.receipts import Receipts
from chatlab.server.sessions import Session
from chatlab.storage.base import Appended, Delivery, RoomLog
from chatlab.transport.server import StrictServer, encode_event

__all__ = ["Member", "Room", "Serving"]


@dataclass(slots=True, eq=False)
class Member:
    """A socket in a room. `push` writes to it what has been encoded.

    `cursor` is the last `seq` it was served; None while it is joining: then `waiting` keeps what
    the feed brings. `acked` are the messages above `cursor` that its acks have told it of.
    """

    session: Session
    push: Callable[[bytes], None]
    entered: bool = False
    cursor: int | None = None
    waiting: list[tuple[int, bytes]] | None = None
    acked: set[int] | None = None


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


class _Outgoing(msgspec.Struct, eq=False):
    """A message that a socket is sending; `skipped` is it, when the feed has brought it."""

    sid: str
    room: str
    stored: Future[Appended] | None = None
    skipped: Message | None = None


class Serving:
    """Serves the members of `rooms`, which joins and leaves keep up to date."""

    def __init__(self, *, transport: StrictServer, log: RoomLog, rooms: Mapping[str, Room]) -> None:
        self._transport = transport
        self._log = log
        self._rooms = rooms
        self._sends = 0
        self.fed = 0  # messages that the feed has brought
        self.sending: dict[str, _Outgoing] = {}

    def feed(self, name: str, deliveries: Sequence[Delivery]) -> None:
        """Serve stored messages to the members; called by the log in `seq` order."""
        self.fed += len(deliveries)
        room = self._rooms.get(name)
        for delivery in deliveries:
            message = delivery.message
            outgoing = self.sending.get(delivery.origin)
            if outgoing is not None:
                outgoing.skipped = message
            if room is not None:
                room.authors.append((message.seq, message.user))
                self._serve(room, message, room.members.get(outgoing.sid) if outgoing else None)

    def _serve(self, room: Room, message: Message, sender: Member | None) -> None:
        seq = message.seq
        if sender is not None:
            if sender.cursor is not None and seq > sender.cursor:
                sender.cursor = seq
                if sender.acked:
                    sender.acked.discard(seq)
            if len(room.members) == 1:
                return  # nobody to encode it for
        encoded = encode_event("new-message", message)
        for member in room.members.values():
            if member is sender:
                continue
            cursor = member.cursor
            if cursor is None:
                member.waiting = member.waiting or []
                member.waiting.append((seq, encoded))
            elif seq > cursor:
                member.cursor = seq
                if member.acked and seq in member.acked:
                    member.acked.discard(seq)
                else:
                    member.push(encoded)

    def open(self, member: Member, seq: int | None) -> None:
        """Serve a member from `seq` on, beginning with what came while it was joining."""
        waiting, member.waiting = member.waiting, None
        acked, member.acked = member.acked or set(), None
        member.cursor = seq
        for later, encoded in waiting or ():
            if seq is None or later > seq:
                member.cursor = later
                if later not in acked:
                    member.push(encoded)
        if member.cursor is not None:
            acked = {seq for seq in acked if seq > member.cursor}
        member.acked = acked or None

    # --- sending -----------------------------------------------------------------------------

    def append(self, event: Event, name: str, text: str, key: str | None) -> Future[Appended]:
        """Store a message of the event's socket, which is served it unless its ack is `ok`."""
        session = event.session
        self._sends += 1
        origin = f"{session.sid}/{self._sends}"
        outgoing = _Outgoing(session.sid, name)
        if not event.done:  # else it was answered already, with `closing`
            self.sending[origin] = outgoing
            event.after(partial(self._sent, origin, outgoing))
        outgoing.stored = stored = self._log.append(name, session.user, text, key, origin)
        return stored

    def _sent(self, origin: str, outgoing: _Outgoing, succeeded: bool) -> None:
        self.sending.pop(origin, None)
        skipped = outgoing.skipped
        if skipped is not None and succeeded:
            return
        room = self._rooms.get(outgoing.room)
        member = room.members.get(outgoing.sid) if room is not None else None
        if member is None:
            return
        if skipped is not None:
            # Stored, yet not acked `ok`: then the sender is served like everybody else.
            member.push(encode_event("new-message", skipped))
        elif succeeded:
            seq = _newly_stored(outgoing.stored)
            if seq and (member.cursor is None or seq > member.cursor):
                member.acked = member.acked or set()
                member.acked.add(seq)


def _newly_stored(stored: Future[Appended] | None) -> int | None:
    """The `seq` of a message that was stored by this very append."""
    if stored is None or not stored.done() or stored.cancelled() or stored.exception():
        return None
    appended = stored.result()
    return None if appended.duplicate else appended.message.seq
