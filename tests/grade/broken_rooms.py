"""Broken on purpose: who is in a room, what a member gets of it, and what is caught up with."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from chatlab.server import app, chat, rooms, serving, sessions
from chatlab.server.app import ChatServer
from chatlab.storage import memory
from tests.grade.broken import breaks

snapshot, page = memory.MemoryLog.snapshot, memory.MemoryLog.page
Rooms = rooms.Rooms


@breaks("room-keeps")
def every_room_hears_every_message() -> None:
    serve = serving.Serving._serve

    def leaking(self: Any, room: Any, message: Any, sender: Any) -> None:
        serve(self, room, message, sender)
        for other in self._rooms.values():
            for member in other.members.values() if other is not room else ():
                # Of one trial only: its rooms' names differ in the last part.
                if other.name.rpartition("-")[0] == room.name.rpartition("-")[0]:
                    member.push(serving.encode_event("new-message", message))

    serving.Serving._serve = leaking


def unannounced(name: str) -> None:
    async def emit(self: Any, room: str, user: str, *, here: bool) -> None:
        if (name == "user-joined") is not here:
            await announce(self, room, user, here=here)

    announce = Rooms._emit_change
    Rooms._emit_change = emit


@breaks("join-announced")
def who_comes_is_not_announced() -> None:
    unannounced("user-joined")


@breaks("leave-announced")
def who_leaves_is_not_announced() -> None:
    unannounced("user-left")


@breaks("send-to-last-room")
def messages_go_to_the_first_room() -> None:
    entered = sessions.Session.entered

    def first(self: Any, room: str) -> None:
        before = self.last_room
        entered(self, room)
        self.last_room = before or room

    sessions.Session.entered = first


@breaks("join-after-ack")
def the_feed_comes_before_the_ack() -> None:
    join = Rooms.join

    async def hasty(self: Any, event: Any, name: str, **more: Any) -> Any:
        joined = await join(self, event, name, **more)
        for message in joined.messages[-1:]:
            self._transport.push_event(
                event.session.sid, "new-message", msgspec.to_builtins(message)
            )
        return joined

    Rooms.join = hasty


def changed_snapshot(change: Any) -> None:
    async def taken(self: Any, room: str, user: str, **asked: Any) -> Any:
        return change(await snapshot(self, room, user, **asked), asked)

    memory.MemoryLog.snapshot = taken


@breaks("join-catches-up")
def the_first_missed_message_is_skipped() -> None:
    def short(taken: Any, asked: Any) -> Any:
        skipped = 1 if asked["after"] is not None and not taken.lost else 0
        return dataclasses.replace(taken, messages=taken.messages[skipped:])

    changed_snapshot(short)


@breaks("join-newest")
def a_join_gives_ten_messages() -> None:
    rooms.NEWEST = 10


@breaks("catch-up-bounded")
def a_join_gives_whatever_was_missed() -> None:
    rooms.CATCH_UP = 1000


@breaks("lost-told")
def nothing_is_ever_called_lost() -> None:
    changed_snapshot(lambda taken, _asked: dataclasses.replace(taken, lost=False))


@breaks("history-pages")
def there_is_never_more() -> None:
    async def read(self: Any, room: str, **asked: Any) -> Any:
        return dataclasses.replace(await page(self, room, **asked), more=False)

    memory.MemoryLog.page = read


@breaks("rejoin-silent")
def every_join_is_announced() -> None:
    join = Rooms.join

    async def loud(self: Any, event: Any, name: str, **more: Any) -> Any:
        again = name in event.session.rooms
        joined = await join(self, event, name, **more)
        if again:
            self._announce(name, event.session.user, here=True)
        return joined

    Rooms.join = loud


@breaks("presence-named")
def presence_does_not_name_the_room() -> None:
    emit = app.StrictServer.emit

    async def nameless(self: Any, event: str, data: Any = None, **more: Any) -> None:
        if event in ("user-joined", "user-left"):
            data = {"user": data["user"]}
        await emit(self, event, data, **more)

    app.StrictServer.emit = nameless


@breaks("who-is-the-truth")
def who_counts_one_more() -> None:
    who = chat.Chat.who

    async def counted(self: Any, event: Any, request: Any) -> Any:
        found = await who(self, event, request)
        return msgspec.structs.replace(found, count=found.count + 1)

    chat.Chat.who = counted


@breaks("nobody-lingers")
def who_breaks_off_stays_in_the_room(server: ChatServer) -> None:
    closed = server._closed

    def lingering(sid: str, reason: str) -> Any:
        return None if reason == "transport close" else closed(sid, reason)

    server.transport._closed = lingering


@breaks("well-afterwards")
def the_server_tires(server: ChatServer) -> None:
    # Whoever polls finds it ill; a trial that comes last is told by /healthz.
    server.health.leaving = True
