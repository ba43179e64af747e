"""The chat itself: one short handler per event.

They can be short because of the layers around them: the payload has been validated, the sender is
known, the limits are kept, and whatever is returned or raised here becomes the one ack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatlab.errors import NotInRoom
from chatlab.protocol import (
    History,
    HistoryPage,
    Joined,
    JoinRoom,
    LeaveRoom,
    Left,
    MarkDelivered,
    MarkRead,
    Ok,
    Presence,
    Refreshed,
    RefreshToken,
    SendMessage,
    Sent,
    Typing,
    Who,
)
from chatlab.server.acks import Event, when, within
from chatlab.server.admission import Admission
from chatlab.server.rooms import CATCH_UP_BYTES, Rooms
from chatlab.storage.base import Appended, RoomLog
from chatlab.transport import StrictServer

__all__ = ["Chat"]


class Chat:
    """The handlers. Each takes the event and its validated request.

    Most are coroutines and run in a task. The busiest one is a plain function, which needs none.
    """

    def __init__(
        self, *, rooms: Rooms, log: RoomLog, admission: Admission, transport: StrictServer
    ) -> None:
        self._rooms = rooms
        self._log = log
        self._admission = admission
        self._transport = transport
        self.handlers: dict[str, Callable[[Event, Any], Any]] = {
            "join-room": self.join_room,
            "leave-room": self.leave_room,
            "send-message": self.send_message,
            "history": self.history,
            "mark-delivered": self.mark_delivered,
            "mark-read": self.mark_read,
            "typing": self.typing,
            "who": self.who,
            "refresh-token": self.refresh_token,
        }

    async def join_room(self, event: Event, request: JoinRoom) -> Joined:
        return await self._rooms.join(event, request.room, after=request.after, epoch=request.epoch)

    async def leave_room(self, event: Event, request: LeaveRoom) -> Left:
        await self._rooms.leave(event.session, request.room)
        return Left(room=request.room)

    def send_message(self, event: Event, request: SendMessage) -> Any:
        room = request.room or event.session.last_room
        if room is None:
            raise NotInRoom(field="room")
        self._rooms.require(event.session, room)
        stored = self._rooms.serving.append(event, room, request.text, request.key)
        return when(stored, _sent)

    async def history(self, event: Event, request: History) -> HistoryPage:
        self._rooms.require(event.session, request.room)
        reading = self._log.page(
            request.room,
            after=request.after,
            before=request.before,
            limit=request.limit,
            max_bytes=CATCH_UP_BYTES,
        )
        page = await within(event.deadline, reading)
        return HistoryPage(messages=page.messages, more=page.more, epoch=page.epoch)

    async def mark_delivered(self, event: Event, request: MarkDelivered) -> Ok:
        return await self._mark(event, request.room, delivered=request.seq, read=0)

    async def mark_read(self, event: Event, request: MarkRead) -> Ok:
        return await self._mark(event, request.room, delivered=request.seq, read=request.seq)

    async def _mark(self, event: Event, room: str, *, delivered: int, read: int) -> Ok:
        self._rooms.require(event.session, room)
        user = event.session.user
        marking = self._log.mark(room, user, delivered=delivered, read=read)
        before, now = await within(event.deadline, marking)
        if before != now:
            since = min(before.delivered, before.read)
            self._rooms.report(room, user, since=since, delivered=now.delivered, read=now.read)
        return Ok()

    async def typing(self, event: Event, request: Typing) -> Ok:
        self._rooms.require(event.session, request.room)
        payload = {"room": request.room, "user": event.session.user, "typing": request.typing}
        await self._transport.emit(
            "typing", payload, room=f"room:{request.room}", skip_sid=event.session.sid
        )
        return Ok()

    async def who(self, event: Event, request: Who) -> Presence:
        self._rooms.require(event.session, request.room)
        return await self._rooms.who(event, request.room)

    async def refresh_token(self, event: Event, request: RefreshToken) -> Refreshed:
        expires_at = await self._admission.refresh(event, request.token)
        return Refreshed(expires_at=expires_at)


def _sent(appended: Appended) -> Sent:
    message = appended.message
    return Sent(
        id=message.id,
        seq=message.seq,
        timestamp=message.timestamp,
        duplicate=appended.duplicate,
    )
