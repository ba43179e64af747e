"""Broken on purpose: what an ack says, how often it comes, in what order; keys; receipts."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from typing import Any

import msgspec

from chatlab.protocol import Message, Ok
from chatlab.server import chat, dispatch, receipts, rooms, serving
from chatlab.server.app import ChatServer
from chatlab.storage import memory
from chatlab.storage.base import Appended, Cursor, Delivery
from tests.grade.broken import breaks

reply = dispatch.Dispatch._reply
append = memory.MemoryLog.append
NUMBERS = "it expects the numbers of an undisturbed room"
LEAVES = "it leaves a room"


def unanswered(*names: str) -> None:
    """Events of these names are handled and never answered."""

    def silent(self: Any, event: Any, answer: Any) -> bool:
        return True if event.name in names else reply(self, event, answer)

    dispatch.Dispatch._reply = silent


@breaks("join-acked")
def joins_are_not_answered() -> None:
    unanswered("join-room")


@breaks("send-acked")
def sends_are_not_answered() -> None:
    unanswered("send-message")


@breaks("every-event-acked")
def unknown_fields_are_not_answered() -> None:
    def silent(self: Any, event: Any, answer: Any) -> bool:
        field = answer.get("field") if isinstance(answer, dict) else None
        if field == "text" and event.name != "send-message":
            return False
        return reply(self, event, answer)

    dispatch.Dispatch._reply = silent


@breaks("acked-once")
def acks_come_twice(server: ChatServer) -> None:
    once = server.transport.push_encoded_ack

    def twice(sid: str, ack_id: int, answer: bytes) -> None:
        once(sid, ack_id, answer)
        once(sid, ack_id, answer)

    server.dispatch._push_ack = twice


@breaks("ids-differ")
def ids_are_the_time() -> None:
    def made(_id: str, *rest: Any) -> Message:
        return Message(f"{datetime.datetime.now():%H%M%S}", *rest)

    memory.Message = made


@breaks("delivered")
def nobody_is_served() -> None:
    serving.Serving._serve = lambda self, room, message, sender: None


@breaks("ack-names-message", besides={"trimmed": "it finds its message by the id of the ack"})
def the_ack_has_another_id() -> None:
    sent = chat._sent

    def other(appended: Appended) -> Any:
        return msgspec.structs.replace(sent(appended), id="m-" + appended.message.id)

    chat._sent = other


@breaks("timestamps")
def times_are_local() -> None:
    def local(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(seconds).isoformat()

    memory.timestamp = local


@breaks("sender-skipped")
def the_sender_is_served_too() -> None:
    serve = serving.Serving._serve
    serving.Serving._serve = lambda self, room, message, _: serve(self, room, message, None)


@breaks("own-sockets-told")
def none_of_the_senders_sockets_is_served() -> None:
    serve = serving.Serving._serve

    def skipping(self: Any, room: Any, message: Any, sender: Any) -> None:
        theirs = {
            sid: room.members.pop(sid)
            for sid, member in list(room.members.items())
            if member.session.user == message.user
        }
        try:
            serve(self, room, message, None)
        finally:
            room.members.update(theirs)

    serving.Serving._serve = skipping


@breaks("join-tells")
def the_join_counts_nobody() -> None:
    joined = rooms._joined

    def uncounted(*args: Any) -> Any:
        return msgspec.structs.replace(joined(*args), count=0)

    rooms._joined = uncounted


@breaks("send-tells")
def every_send_is_called_a_duplicate() -> None:
    sent = chat._sent
    chat._sent = lambda appended: msgspec.structs.replace(sent(appended), duplicate=True)


@breaks("leave-acked", besides={"refresh-narrows": LEAVES, "presence-named": LEAVES})
def who_leaves_is_served_on() -> None:
    async def leave(self: Any, session: Any, name: str) -> None:
        session.left(name)

    rooms.Rooms.leave = leave


@breaks("message-fields")
def messages_have_a_field_more() -> None:
    encode = serving.encode_event

    def padded(name: str, data: Any) -> bytes:
        return encode(name, {**msgspec.to_builtins(data), "server": "one"})

    serving.encode_event = padded


@breaks("seq-counts", besides={"join-newest": NUMBERS, "history-pages": NUMBERS})
def a_number_is_lost_where_speakers_change() -> None:
    store = memory.MemoryLog._store

    def skipping(self: Any, room: str, user: str, *rest: Any) -> Message:
        kept = self._rooms.get(room)
        if kept is not None and kept.messages and kept.messages[kept.seq].user != user:
            kept.seq += 1
            kept.messages[kept.seq] = kept.messages[kept.seq - 1]
        return store(self, room, user, *rest)

    memory.MemoryLog._store = skipping


@breaks("acks-in-order")
def who_is_answered_later() -> None:
    def late(self: Any, event: Any, answer: Any) -> bool:
        if event.name != "who":
            return reply(self, event, answer)
        asyncio.get_running_loop().call_later(0.05, reply, self, event, answer)
        return True

    dispatch.Dispatch._reply = late


@breaks("sends-in-order")
def every_other_send_waits() -> None:
    send, numbers = chat.Chat.send_message, itertools.count()

    async def waiting(self: Any, event: Any, request: Any) -> Any:
        if next(numbers) % 2:
            await asyncio.sleep(0.03)
        return send(self, event, request)

    chat.Chat.send_message = waiting


# --- keys -----------------------------------------------------------------------------------------


@breaks("key-answers-again")
def keys_are_ignored() -> None:
    def keyless(self: Any, room: str, user: str, text: str, key: Any, origin: str) -> Any:
        return append(self, room, user, text, None, origin)

    memory.MemoryLog.append = keyless


@breaks("key-stores-once")
def a_retry_is_delivered_again() -> None:
    def again(self: Any, room: str, user: str, text: str, key: Any, origin: str) -> Any:
        future = append(self, room, user, text, key, origin)
        if future.exception() is None and future.result().duplicate:
            self.feed(room, (Delivery(self._store(room, user, text, None, self._clock()), origin),))
        return future

    memory.MemoryLog.append = again


@breaks("key-outlives-socket")
def a_key_is_the_sockets() -> None:
    def narrow(self: Any, room: str, user: str, text: str, key: Any, origin: str) -> Any:
        key = key and f"{origin.split('/')[0]}-{key}"
        return append(self, room, user, text, key, origin)

    memory.MemoryLog.append = narrow


@breaks("key-is-the-users")
def a_key_is_everybodys() -> None:
    known: dict[tuple[str, str], Message] = {}

    def wide(self: Any, room: str, user: str, text: str, key: Any, origin: str) -> Any:
        # The text too, or trials that run side by side would meet each other's keys.
        if (key, text) in known:
            future: asyncio.Future[Appended] = asyncio.Future()
            future.set_result(Appended(known[key, text], True))
            return future
        future = append(self, room, user, text, key, origin)
        if key and future.exception() is None:
            known[key, text] = future.result().message
        return future

    memory.MemoryLog.append = wide


@breaks("key-with-other-text")
def a_known_key_takes_any_text() -> None:
    def careless(self: Any, room: str, user: str, text: str, key: Any, origin: str) -> Any:
        earlier = key and self._remembered(room, user, key, self._clock())
        return append(self, room, user, earlier.text if earlier else text, key, origin)

    memory.MemoryLog.append = careless


# --- receipts and typing --------------------------------------------------------------------------


@breaks("delivered-receipts")
def delivered_is_not_told() -> None:
    async def mark_delivered(self: Any, event: Any, request: Any) -> Ok:
        self._rooms.require(event.session, request.room)
        return Ok()

    chat.Chat.mark_delivered = mark_delivered


@breaks("read-receipts")
def read_does_not_imply_delivered() -> None:
    report = rooms.Rooms.report

    def undelivered(self: Any, name: str, user: str, *, delivered: int, read: int, **more: Any):
        report(self, name, user, delivered=0 if read else delivered, read=read, **more)

    rooms.Rooms.report = undelivered


@breaks("cursor-kept")
def cursors_go_back() -> None:
    async def mark(self: Any, room: str, user: str, *, delivered: int, read: int) -> Any:
        kept = self._rooms[room]
        before = kept.cursors.get(user, Cursor())
        kept.cursors[user] = Cursor(delivered, read)
        return before, kept.cursors[user]

    memory.MemoryLog.mark = mark


@breaks("no-receipt-ahead")
def what_is_not_there_can_be_read() -> None:
    mark = memory.MemoryLog.mark

    async def ahead(self: Any, room: str, user: str, *, delivered: int, read: int) -> Any:
        newest = self._rooms[room].seq
        return await mark(
            self, room, user, delivered=min(delivered, newest), read=min(read, newest)
        )

    memory.MemoryLog.mark = ahead


@breaks("receipts-gathered")
def receipts_come_one_by_one() -> None:
    receipts.Receipts.EVERY = 0.0


@breaks("typing-told")
def typing_comes_back() -> None:
    async def typing(self: Any, event: Any, request: Any) -> Ok:
        self._rooms.require(event.session, request.room)
        payload = {"room": request.room, "user": event.session.user, "typing": request.typing}
        await self._transport.emit("typing", payload, room=f"room:{request.room}")
        return Ok()

    chat.Chat.typing = typing
