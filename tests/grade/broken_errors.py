"""Broken on purpose: what is validated, what a refusal says, and what it costs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from chatlab import protocol
from chatlab.errors import (
    EmptyMessage,
    InternalError,
    InvalidPayload,
    Unavailable,
    UnknownEvent,
)
from chatlab.server import app, dispatch, health, rooms
from chatlab.server.admission import Admission
from chatlab.server.app import ChatServer
from tests.grade.broken import Child, breaks

reply, decode = dispatch.Dispatch._reply, dispatch.decode
ODD = "it sends payloads that are refused"
LEFT = "who has left asks as a stranger does"


@breaks("empty-refused")
def empty_messages_are_taken() -> None:
    EmptyMessage.sentence = "Say something"


@breaks("trimmed")
def texts_are_not_trimmed() -> None:
    check = protocol.SendMessage.check

    def untrimmed(self: Any, *, message_limit: int) -> Any:
        check(self, message_limit=message_limit)
        return self

    protocol.SendMessage.check = untrimmed


def refused(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.get("code") == "invalid_payload"


@breaks(
    "failure-acked",
    besides=dict.fromkeys(
        ("every-event-acked", "no-receipt-ahead", "key-with-other-text", "user-of-token"), ODD
    ),
)
def what_is_invalid_is_not_answered() -> None:
    dispatch.Dispatch._reply = lambda self, event, answer: (
        False if refused(answer) else reply(self, event, answer)
    )


@breaks("validated")
def what_is_invalid_is_an_internal_error() -> None:
    def crashing(event: str, args: Any, **options: Any) -> Any:
        try:
            return decode(event, args, **options)
        except InvalidPayload as error:
            if type(error) is InvalidPayload:
                raise InternalError from None
            raise

    dispatch.decode = crashing


@breaks("cause-not-sent")
def the_exceptions_text_is_sent() -> None:
    def telling(event: str, args: Any, **options: Any) -> Any:
        try:
            return decode(event, args, **options)
        except InvalidPayload as error:
            error.message = f"TypeError: {error.message}"
            raise

    dispatch.decode = telling


@breaks(
    "goes-on",
    besides=dict.fromkeys(("every-event-acked", "no-receipt-ahead", "key-with-other-text"), ODD),
)
def what_is_invalid_ends_the_socket(server: ChatServer) -> None:
    def ending(self: Any, event: Any, answer: Any) -> bool:
        succeeded = reply(self, event, answer)
        if refused(answer):
            server.transport.eio.spawn(
                server.transport.close_transport(event.session.sid, "failed")
            )
        return succeeded

    server.dispatch._desk.reply = lambda event, answer: ending(server.dispatch, event, answer)


@breaks("stranger-unheard")
def who_is_nowhere_is_heard_everywhere(server: ChatServer) -> None:
    send = server.handlers["send-message"]

    def everywhere(event: Any, request: Any) -> Any:
        if request.room or event.session.last_room:
            return send(event, request)
        for session in server.sessions:
            message = {"text": request.text, "user": event.session.user}
            server.transport.push_event(session.sid, "new-message", message)
        return protocol.Ok()

    server.handlers["send-message"] = everywhere


@breaks("storage-failure-acked", handler_timeout=1000.0, storage_timeout=1000.0)
def storage_that_is_away_is_waited_for() -> None:
    lose = Child._lose_storage

    def silent(self: Any) -> None:
        lose(self)
        self.server.log.append = lambda *_args: asyncio.Future()

    Child._lose_storage = silent


@breaks("stays-up")
def joining_nothing_ends_the_server() -> None:
    arrived = dispatch.Dispatch.arrived

    def fatal(self: Any, sid: str, name: str, args: Any, ack_id: Any) -> Any:
        if name == "join-room" and not args and ack_id is None:
            os._exit(1)
        return arrived(self, sid, name, args, ack_id)

    dispatch.Dispatch.arrived = fatal


@breaks("field-named")
def the_field_is_not_named() -> None:
    def nameless(event: str, args: Any, **options: Any) -> Any:
        try:
            return decode(event, args, **options)
        except InvalidPayload as error:
            error.field = None
            raise

    dispatch.decode = nameless


@breaks("unknown-field")
def unknown_fields_are_passed_over() -> None:
    def dropping(event: str, args: Any, **options: Any) -> Any:
        shape = protocol.CLIENT_EVENTS.get(event)
        if shape is not None and len(args) == 1 and isinstance(args[0], dict):
            known = shape.__struct_fields__
            args = [{name: value for name, value in args[0].items() if name in known}]
        return decode(event, args, **options)

    dispatch.decode = dropping


@breaks("no-half-characters")
def half_characters_are_mended() -> None:
    def mending(event: str, args: Any, **options: Any) -> Any:
        if event == "send-message" and args and isinstance(args[0], dict):
            text = args[0].get("text")
            if isinstance(text, str):
                whole = text.encode("utf-8", "replace").decode()
                args = [{**args[0], "text": whole}]
        return decode(event, args, **options)

    dispatch.decode = mending


@breaks("no-overflow")
def numbers_that_overflow_are_the_greatest() -> None:
    def clamped(event: str, args: Any, **options: Any) -> Any:
        if event == "mark-read" and args and isinstance(args[0], dict):
            seq = args[0].get("seq")
            if isinstance(seq, (int, float)) and not isinstance(seq, bool) and seq > 2**53:
                args = [{**args[0], "seq": 0}]
        return decode(event, args, **options)

    dispatch.decode = clamped


@breaks("empty-message-code")
def empty_has_no_code_of_its_own() -> None:
    EmptyMessage.code = "invalid_payload"


@breaks("message-too-long", max_message=50_000)
def messages_may_be_long() -> None:
    """Settings alone."""


@breaks("room-names")
def rooms_may_bear_any_name() -> None:
    protocol._is_room = lambda room: bool(room)


@breaks("not-in-room", besides=dict.fromkeys(("leave-acked", "refresh-narrows"), LEFT))
def strangers_may_ask_who_is_in() -> None:
    require = rooms.Rooms.require

    def lenient(self: Any, session: Any, name: str) -> None:
        if not session.rooms:
            return
        require(self, session, name)

    rooms.Rooms.require = lenient


@breaks("unknown-event")
def unknown_events_are_invalid() -> None:
    UnknownEvent.code = "invalid_payload"


@breaks("error-event")
def without_an_ack_nothing_is_told() -> None:
    tell = dispatch.Dispatch._tell_error

    def told(self: Any, event: Any, failed: Any) -> None:
        if failed["code"] == "rate_limited":
            tell(self, event, failed)

    dispatch.Dispatch._tell_error = told


@breaks("failures-store-nothing")
def what_is_refused_is_stored_all_the_same(server: ChatServer) -> None:
    check = server.dispatch._check

    def storing(event: Any, args: Any) -> None:
        try:
            check(event, args)
        except InvalidPayload:
            room = event.session.last_room
            if event.name == "send-message" and room and isinstance(args[0], dict):
                server.log.append(room, event.session.user, str(args[0].get("text")), None, "")
            raise

    server.dispatch._check = storing


@breaks("unavailable-in-time")
def unavailable_says_do_not_retry() -> None:
    Unavailable.retry = False


@breaks("refusal-while-away")
def a_directory_that_is_away_is_a_server_error() -> None:
    check = Admission._check_user

    async def crashing(self: Any, claims: Any, deadline: float) -> None:
        try:
            await check(self, claims, deadline)
        except Unavailable:
            raise RuntimeError("the directory is away") from None

    Admission._check_user = crashing


@breaks("outage-loses-nothing")
def an_outage_empties_the_rooms() -> None:
    lose = Child._lose_storage

    def emptied(self: Any) -> None:
        self.server.log._rooms.clear()
        lose(self)

    Child._lose_storage = emptied


@breaks("health-without-storage")
def health_does_not_look_at_storage() -> None:
    async def healthz(self: Any, _request: Any) -> Any:
        body = {"ok": not self.leaving, "storage": self.log.name, "server": self.server}
        return health.web.json_response(body, status=503 if self.leaving else 200)

    health.Health.healthz = healthz


@breaks("stop-says-closing")
def it_stops_without_a_word() -> None:
    push = app.StrictServer.push_event

    def silent(self: Any, sid: str, name: str, *args: Any) -> None:
        if name != "closing":
            push(self, sid, name, *args)

    app.StrictServer.push_event = silent


@breaks("acked-survives-restart", storage="sqlite")
def acks_come_before_anything_is_stored(server: ChatServer) -> None:
    server.settings.__dict__.get("storage")
    from chatlab.storage.memory import MemoryLog

    kept = MemoryLog()
    for name in ("append", "snapshot", "page", "mark"):
        setattr(server.log, name, getattr(kept, name))
    kept.feed = server.rooms.serving.feed


@breaks("health")
def healthz_is_plain_text() -> None:
    async def healthz(self: Any, _request: Any) -> Any:
        return health.web.Response(text="ok")

    health.Health.healthz = healthz


@breaks("metrics")
def metrics_bear_other_names() -> None:
    text = health.Metrics.text

    def renamed(self: Any) -> bytes:
        return text(self).replace(b"chatlab_", b"app_")

    health.Metrics.text = renamed
