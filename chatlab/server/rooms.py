"""Who may enter a room, who is in, and what the others are told of it.

A socket becomes a member in one step with the history that it is given: what the feed brings
meanwhile waits until the join has been acked. What members are served is serving.py's business.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from chatlab.errors import Forbidden, NotInRoom
from chatlab.protocol import Joined, Presence
from chatlab.server.acks import Event, within
from chatlab.server.receipts import Receipts
from chatlab.server.serving import Member, Room, Serving
from chatlab.server.sessions import Session
from chatlab.storage.base import Snapshot
from chatlab.storage.shared import Storage
from chatlab.transport.server import StrictServer, encode_event

__all__ = ["Rooms"]

SHOWN_USERS: Final = 200
NEWEST: Final = 50
CATCH_UP: Final = 200
CATCH_UP_BYTES: Final = 256 * 1024


class Rooms:
    """The rooms of this server. `max_rooms` is per socket, `may_join` the application's policy.

    `tell(room, payload)` hands receipts to the other servers.
    """

    def __init__(
        self,
        *,
        transport: StrictServer,
        storage: Storage,
        may_join: Callable[[Session, str], bool],
        max_rooms: int,
        tell: Callable[[str, dict[str, Any]], None] = lambda room, payload: None,
    ) -> None:
        self._transport = transport
        self._log = storage.log
        self._events = storage.events
        self._presence = storage.presence
        self._presence.changed = self._announce
        self._may_join = may_join
        self._max_rooms = max_rooms
        self._tell = tell
        self._rooms: dict[str, Room] = {}
        self.serving = Serving(transport=transport, log=self._log, rooms=self._rooms)

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
        if member is None:
            outlet = self._transport.outlet(session.sid)
            member = room.members[session.sid] = Member(session, outlet)
        returning, served, member.cursor = member.entered, member.cursor, None
        try:
            snapshot = await self._snapshot(event, name, after, epoch)
            if session.connected and not returning:
                await self._enter(event, room, member)
            users, count = await within(event.deadline, self._presence.who(name, SHOWN_USERS))
        except BaseException:
            if returning:
                self.serving.open(member, served)
            else:
                await self._transport.leave_room(session.sid, f"room:{name}")
                self._exit(room, session)
            raise
        session.entered(name)
        if session.connected:
            event.after(lambda _succeeded: self.serving.open(member, snapshot.seq))
        else:
            # It left meanwhile: it is no member, but what it sent behind this join is stored.
            self._exit(room, session)
        return _joined(room, snapshot, users, count)

    def _check_entry(self, session: Session, name: str) -> None:
        if not self._may_join(session, name):
            raise Forbidden("You may not join this room", field="room")
        if name not in session.rooms and len(session.rooms) >= self._max_rooms:
            raise Forbidden(f"At most {self._max_rooms} rooms per connection", field="room")

    async def _snapshot(
        self, event: Event, name: str, after: int | None, epoch: str | None
    ) -> Snapshot:
        await within(event.deadline, self._log.follow(name))
        if self._events is not None:
            await within(event.deadline, self._events.follow(name))
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

    async def _enter(self, event: Event, room: Room, member: Member) -> None:
        session, member.entered = member.session, True
        await self._transport.enter_room(session.sid, f"room:{room.name}")
        room.users[session.user] += 1
        await within(event.deadline, self._presence.enter(room.name, session.user))

    async def leave(self, session: Session, name: str) -> None:
        """End a membership; leaving a room that one is not in is nothing."""
        room = self._rooms.get(name)
        session.left(name)
        if room is not None and session.sid in room.members:
            await self._transport.leave_room(session.sid, f"room:{name}")
            self._exit(room, session)

    async def leave_all(self, session: Session) -> None:
        """End every membership of a socket that is gone. What it is still sending stays valid."""
        for name in list(session.rooms):
            # Even of a socket that is gone: after a DISCONNECT its transport is still open.
            await self._transport.leave_room(session.sid, f"room:{name}")
            if name in self._rooms:
                self._exit(self._rooms[name], session)

    def _exit(self, room: Room, session: Session) -> None:
        member = room.members.pop(session.sid, None)
        if member is None:
            return
        if member.entered:
            room.users[session.user] -= 1
            if not room.users[session.user]:
                del room.users[session.user]
                self._presence.leave(room.name, session.user)
        if not room.members and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            room.receipts.close()
            self._transport.eio.spawn(self._unfollow(room.name))

    async def _unfollow(self, name: str) -> None:
        if name in self._rooms:  # somebody has come in since
            return
        if self._events is not None:
            self._events.unfollow(name)
        await self._log.unfollow(name)

    def _announce(self, room: str, user: str, *, here: bool) -> None:
        """A user has come or gone, perhaps on another server that could not say so any more."""
        self._transport.eio.spawn(self._emit_change(room, user, here=here))

    async def _emit_change(self, name: str, user: str, *, here: bool) -> None:
        room = self._rooms.get(name)
        members = room.members.items() if room is not None else ()
        own = [sid for sid, member in members if member.session.user == user]
        await self._transport.emit(
            "user-joined" if here else "user-left",
            {"user": user, "room": name},
            room=f"room:{name}",
            skip_sid=own,
        )

    def renewed(self, name: str) -> None:
        """The room's history is not what its members were shown: they have to join again, and are
        told so then. Closing their transports makes every client do that by itself."""
        room = self._rooms.get(name)
        for sid, member in room.members.items() if room is not None else ():
            member.cursor = None
            self._transport.eio.spawn(self._transport.close_transport(sid, "history lost"))

    def _host(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            receipts = Receipts(functools.partial(self._tell_receipts, name))
            room = self._rooms[name] = Room(name, receipts)
        return room

    # --- asking and reporting ----------------------------------------------------------------

    def require(self, session: Session, name: str) -> None:
        """Raise `NotInRoom` unless the socket has joined the room."""
        if name not in session.rooms:
            raise NotInRoom(field="room")

    async def who(self, event: Event, name: str) -> Presence:
        """Who is in a room, on whichever server."""
        users, count = await within(event.deadline, self._presence.who(name, SHOWN_USERS))
        return Presence(users=users, count=count)

    def report(self, name: str, user: str, *, since: int, delivered: int, read: int) -> None:
        """Tell the room, at most once a second, how far a user has got."""
        room = self._rooms.get(name)
        if room is not None:
            room.receipts.add(user, since=since, delivered=delivered, read=read)

    def reported(self, name: str, payload: Mapping[str, Any]) -> None:
        """The same, from another server."""
        room = self._rooms.get(name)
        if room is None:
            return
        for user, cursor in payload["users"].items():
            room.receipts.add(user, since=payload["since"], mine=False, **cursor)

    def _tell_receipts(
        self, name: str, users: dict[str, Any], mine: dict[str, Any], since: int
    ) -> None:
        room = self._rooms.get(name)
        if room is None:
            return
        if mine:
            self._tell(name, {"users": mine, "since": since})
        encoded = encode_event("receipts", {"room": name, "users": users})
        everybody = max(room.count, len(room.users)) <= Receipts.SMALL_ROOM
        authors = set() if everybody else {user for seq, user in room.authors if seq > since}
        for sid, member in room.members.items():
            if everybody or member.session.user in authors:
                self._transport.push(sid, encoded)

    async def forbid(self, session: Session) -> None:
        """Leave the rooms that the socket's new token does not admit it to any more."""
        for name in [name for name in session.rooms if not self._may_join(session, name)]:
            await self.leave(session, name)


def _joined(room: Room, snapshot: Snapshot, users: list[str], count: int) -> Joined:
    room.count = count
    known = {seq for seq, _ in room.authors}
    for message in snapshot.messages:
        if message.seq not in known:
            room.authors.append((message.seq, message.user))
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
