"""Who is in which room, and what they are served: the room's feed, in `seq` order, to everyone.

A socket becomes a member in one step with the history that it is given: what the feed brings
meanwhile waits until the join has been acked. What is stored, and in which order, is the log's.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chatlab.errors import Forbidden, NotInRoom
from chatlab.protocol import Joined, Presence
from chatlab.server.acks import Event, within
from chatlab.server.receipts import Receipts
from chatlab.server.sessions import Session
from chatlab.storage.base import Delivery, RoomLog, Snapshot
from chatlab.transport.server import StrictServer, encode_event

__all__ = ["Member", "Room", "Rooms"]

SHOWN_USERS: Final = 200
NEWEST: Final = 50
CATCH_UP: Final = 200
CATCH_UP_BYTES: Final = 256 * 1024


@dataclass(slots=True, eq=False)
class Member:
    """A socket in a room. `cursor` is the last `seq` it was served; None while it is joining."""

    session: Session
    cursor: int | None = None
    waiting: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Room:
    """A room of which this server has members."""

    name: str
    receipts: Receipts
    members: dict[str, Member] = field(default_factory=dict)
    users: Counter[str] = field(default_factory=Counter)
    # Whose messages a receipt is about, as far back as anybody is likely to be behind.
    authors: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=1000))

    def presence(self) -> tuple[list[str], int]:
        shown = [user for user, _ in zip(self.users, range(SHOWN_USERS), strict=False)]
        return shown, len(self.users)


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A message that a socket is sending: whether the feed should skip that socket."""

    sid: str
    room: str
    skipped: tuple[int, str] | None = None


class Rooms:
    """The rooms of this server. `max_rooms` is per socket, `may_join` the application's policy."""

    def __init__(
        self,
        *,
        transport: StrictServer,
        log: RoomLog,
        may_join: Callable[[Session, str], bool],
        max_rooms: int,
    ) -> None:
        self._transport = transport
        self._log = log
        self._may_join = may_join
        self._max_rooms = max_rooms
        self._rooms: dict[str, Room] = {}
        self.sending: dict[str, _Outgoing] = {}
        self._sends = 0

    def __len__(self) -> int:
        return len(self._rooms)

    # --- entering and leaving ----------------------------------------------------------------

    async def join(
        self, event: Event, name: str, *, after: int | None = None, epoch: str | None = None
    ) -> Joined:
        """Make the event's socket a member, and catch it up from `after` of `epoch`.

        Raises `Forbidden`, `Unavailable`. The feed reaches the socket once the ack is written.
        """
        session = event.session
        self._check_entry(session, name)
        room = self._host(name)
        member = room.members.get(session.sid)
        returning = member is not None and member.cursor is not None
        if member is None:
            member = room.members[session.sid] = Member(session)
        served, member.cursor = member.cursor, None
        try:
            snapshot = await self._snapshot(event, name, after, epoch)
        except BaseException:
            self._open(member, served) if returning else self._remove(room, session)
            raise
        session.rooms.add(name)
        session.last_room = name
        if not session.connected:
            # It left meanwhile: it is no member, but what it sent behind this join is stored.
            self._remove(room, session)
            return _joined(room, snapshot)
        if not returning:
            await self._enter(room, session)
        event.after(lambda _succeeded: self._open(member, snapshot.seq))
        return _joined(room, snapshot)

    def _check_entry(self, session: Session, name: str) -> None:
        if not self._may_join(session, name):
            raise Forbidden("You may not join this room", field="room")
        if name not in session.rooms and len(session.rooms) >= self._max_rooms:
            raise Forbidden(f"At most {self._max_rooms} rooms per connection", field="room")

    async def _snapshot(
        self, event: Event, name: str, after: int | None, epoch: str | None
    ) -> Snapshot:
        await within(event.deadline, self._log.follow(name))
        reading = self._log.snapshot(
            name,
            event.session.user,
            after=after,
            epoch=epoch,
            newest=NEWEST,
            limit=CATCH_UP,
            max_bytes=CATCH_UP_BYTES,
        )
        snapshot: Snapshot = await within(event.deadline, reading)
        return snapshot

    async def _enter(self, room: Room, session: Session) -> None:
        await self._transport.enter_room(session.sid, f"room:{room.name}")
        room.users[session.user] += 1
        if room.users[session.user] == 1:
            await self._announce("user-joined", room, session.user)

    async def leave(self, session: Session, name: str) -> None:
        """End a membership; leaving a room that one is not in is nothing."""
        room = self._rooms.get(name)
        if room is not None and session.sid in room.members:
            await self._exit(room, session)

    async def leave_all(self, session: Session) -> None:
        """End every membership of a socket that is gone. What it is still sending stays valid."""
        for room in [self._rooms[name] for name in session.rooms if name in self._rooms]:
            if session.sid in room.members:
                await self._exit(room, session, gone=True)

    async def _exit(self, room: Room, session: Session, *, gone: bool = False) -> None:
        if not gone:
            session.rooms.discard(room.name)
        # First, even for a socket that is gone: after a DISCONNECT its transport is still open.
        await self._transport.leave_room(session.sid, f"room:{room.name}")
        room.users[session.user] -= 1
        if last := room.users[session.user] <= 0:
            del room.users[session.user]
        self._remove(room, session)
        if last:
            await self._announce("user-left", room, session.user)

    async def _announce(self, what: str, room: Room, user: str) -> None:
        own = [sid for sid, member in room.members.items() if member.session.user == user]
        await self._transport.emit(
            what, {"user": user, "room": room.name}, room=f"room:{room.name}", skip_sid=own
        )

    def _host(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            receipts = Receipts(functools.partial(self._tell_receipts, name))
            room = self._rooms[name] = Room(name, receipts)
        return room

    def _remove(self, room: Room, session: Session) -> None:
        room.members.pop(session.sid, None)
        if not room.members and room.name in self._rooms:
            del self._rooms[room.name]
            room.receipts.close()
            self._transport.eio.spawn(self._log.unfollow(room.name))

    # --- the feed ----------------------------------------------------------------------------

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

    def _serve(self, room: Room, seq: int, encoded: str, skip: str | None) -> None:
        for sid, member in room.members.items():
            if member.cursor is None:
                if sid != skip:
                    member.waiting.append((seq, encoded))
            elif seq > member.cursor:
                member.cursor = seq
                if sid != skip:
                    self._transport.push(sid, encoded)

    def _open(self, member: Member, seq: int | None) -> None:
        member.cursor = seq
        waiting, member.waiting = member.waiting, []
        for later, encoded in waiting:
            if seq is None or later > seq:
                member.cursor = later
                self._transport.push(member.session.sid, encoded)

    # --- sending -----------------------------------------------------------------------------

    def append(self, event: Event, name: str, text: str, key: str | None) -> Awaitable[Any]:
        """Store a message of the event's socket; the feed skips that socket if the ack is `ok`."""
        self._sends += 1
        origin = f"{event.session.sid}/{self._sends}"
        if not event.done:  # else it was answered already, with `closing`
            outgoing = self.sending[origin] = _Outgoing(event.session.sid, name)
            event.after(lambda succeeded: self._sent(origin, outgoing, succeeded))
        return self._log.append(name, event.session.user, text, key, origin)

    def _sent(self, origin: str, outgoing: _Outgoing, succeeded: bool) -> None:
        self.sending.pop(origin, None)
        if succeeded or outgoing.skipped is None:
            return
        # Stored, yet not acked `ok`: then the sender is served like everybody else.
        room = self._rooms.get(outgoing.room)
        if room is not None and outgoing.sid in room.members:
            self._transport.push(outgoing.sid, outgoing.skipped[1])

    # --- asking and reporting ----------------------------------------------------------------

    def require(self, session: Session, name: str) -> None:
        """Raise `NotInRoom` unless the socket has joined the room."""
        if name not in session.rooms:
            raise NotInRoom(field="room")

    def who(self, name: str) -> Presence:
        users, count = self._rooms[name].presence() if name in self._rooms else ([], 0)
        return Presence(users=users, count=count)

    def report(self, name: str, user: str, *, since: int, delivered: int, read: int) -> None:
        """Tell the room, at most once a second, how far a user has got."""
        room = self._rooms.get(name)
        if room is not None:
            room.receipts.add(user, since=since, delivered=delivered, read=read)

    async def _tell_receipts(self, name: str, users: dict[str, dict[str, int]], since: int) -> None:
        room = self._rooms.get(name)
        if room is None:
            return
        payload = {"room": name, "users": users}
        if len(room.users) <= Receipts.SMALL_ROOM:
            await self._transport.emit("receipts", payload, room=f"room:{name}")
            return
        authors = {user for seq, user in room.authors if seq > since}
        encoded = encode_event("receipts", payload)
        for sid, member in room.members.items():
            if member.session.user in authors:
                self._transport.push(sid, encoded)

    async def forbid(self, session: Session) -> None:
        """Leave the rooms that the socket's new token does not admit it to any more."""
        for name in [name for name in session.rooms if not self._may_join(session, name)]:
            await self.leave(session, name)


def _joined(room: Room, snapshot: Snapshot) -> Joined:
    known = {seq for seq, _ in room.authors}
    for message in snapshot.messages:
        if message.seq not in known:
            room.authors.append((message.seq, message.user))
    users, count = room.presence()
    return Joined(
        room=room.name,
        seq=snapshot.seq,
        epoch=snapshot.epoch,
        users=users,
        count=count,
        messages=snapshot.messages,
        more=snapshot.more,
        lost=snapshot.lost,
        read=snapshot.cursor.read,
    )
