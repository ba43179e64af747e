"""Broken on purpose: packets that are no packets, JSON that is hardly JSON, reserved names."""

from __future__ import annotations

import math
import re
from typing import Any

from chatlab.server import dispatch
from chatlab.server.app import ChatServer
from chatlab.transport import packet, server, session
from chatlab.transport.packet import MalformedPacket
from tests.grade.broken import breaks

StrictServer, Session = server.StrictServer, session.Session
failed, received, arrived = Session._failed, StrictServer._received, dispatch.Dispatch.arrived
PRESENCE = "one of the ways to end is a packet that does not parse"


@breaks("garbage-closes", besides={"nobody-lingers": PRESENCE})
def garbage_is_passed_over() -> None:
    def tolerant(self: Any, error: Exception) -> None:
        if str(error) not in ("a client sends no such Engine.IO packet", "not a Socket.IO packet"):
            failed(self, error)

    Session._failed = tolerant


@breaks("event-name-is-text")
def an_event_may_be_called_anything() -> None:
    def check(data: Any) -> None:
        if not isinstance(data, list) or not data:
            raise MalformedPacket("an event is a list that begins with its name")
        if not isinstance(data[0], str):
            data[0] = "what"
        if data[0] in packet.RESERVED_EVENTS:
            raise MalformedPacket("the event's name is reserved")

    packet._check_event = check


@breaks("reserved-names-close")
def no_name_is_reserved() -> None:
    packet.RESERVED_EVENTS = frozenset()


@breaks("binary-closes", max_attachments=10)
def binary_is_taken() -> None:
    """Settings alone."""


@breaks("attachments-bounded", max_attachments=10**7)
def attachments_without_end() -> None:
    packet._GRAMMAR = re.compile(
        r"([0-6])(?:([0-9]{1,9})-)?(?:(/[^,]*)(?:,|$))?([0-9]{1,15})?(.*)", re.DOTALL
    )


@breaks("presence-ends-with-a-fault", besides={"nobody-lingers": PRESENCE})
def a_fault_closes_the_socket_alone() -> None:
    def half(self: Any, error: Exception) -> None:
        if self.websocket is None:
            failed(self, error)
        else:
            self.websocket.owner = None
            self.websocket.close()

    Session._failed = half


@breaks("unknown-namespace")
def namespaces_are_refused_in_other_words() -> None:
    refuse = StrictServer._refuse

    def other(self: Any, session: Any, namespace: str, refusal: Any) -> None:
        if refusal == {"message": "Invalid namespace"}:
            refusal = {"message": "Unable to connect"}
        refuse(self, session, namespace, refusal)

    StrictServer._refuse = other


@breaks("deep-json")
def what_is_deep_is_dropped() -> None:
    def dropping(self: Any, session: Any, data: Any) -> Any:
        try:
            return received(self, session, data)
        except MalformedPacket:
            if len(data) > 10_000:
                return None
            raise

    StrictServer._received = dropping


def unanswered(odd: Any) -> None:
    """Events whose payload is `odd` are dropped."""

    def silent(self: Any, sid: str, name: str, args: Any, ack_id: Any) -> Any:
        values = args[0].values() if args and isinstance(args[0], dict) else ()
        if any(odd(value) for value in values):
            return None
        return arrived(self, sid, name, args, ack_id)

    dispatch.Dispatch.arrived = silent


@breaks("odd-numbers")
def numbers_that_are_none_are_dropped() -> None:
    unanswered(lambda value: isinstance(value, float) and not math.isfinite(value))


@breaks("odd-texts")
def half_characters_are_dropped() -> None:
    def half(value: Any) -> bool:
        return isinstance(value, str) and value.encode("utf-8", "replace").decode() != value

    unanswered(half)


@breaks("odd-ack-ids")
def ack_numbers_have_32_bits(server: ChatServer) -> None:
    push = server.transport.push_encoded_ack
    server.dispatch._push_ack = lambda sid, ack_id, answer: push(sid, ack_id % 2**31, answer)


@breaks("nothing-before-connect")
def events_are_taken_before_connect() -> None:
    def early(self: Any, session: Any, data: Any) -> Any:
        if not session.peer.sids and isinstance(data, str) and data[:1] == "2":
            number = data[1:].partition("[")[0]
            session.push(f'3{number}[{{"ok":true}}]')
            return None
        return received(self, session, data)

    StrictServer._received = early


@breaks("sids-are-no-rooms")
def a_socket_is_a_room(server: ChatServer) -> None:
    tell = server.dispatch._tell_error

    def overheard(event: Any, failure: Any) -> None:
        tell(event, failure)
        room = server.rooms._rooms.get(event.session.sid)
        for sid in room.members if room is not None else ():
            told = {"message": failure["error"], "code": failure["code"]}
            server.transport.push_event(sid, "error", told)

    server.dispatch._tell_error = overheard
