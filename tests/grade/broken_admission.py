"""Broken on purpose: bans, tokens that end while somebody is connected, who speaks as whom."""

from __future__ import annotations

from typing import Any

from chatlab.errors import ChatError
from chatlab.server import admission, dispatch, rooms, serving
from chatlab.server.acks import within
from chatlab.server.app import ChatServer
from chatlab.transport import StrictServer
from tests.grade.broken import breaks

Admission = admission.Admission


@breaks("user-of-token")
def the_payload_says_who_speaks() -> None:
    decode, append = dispatch.decode, serving.Serving.append
    said: list[str] = []

    def believing(event: str, args: Any, **options: Any) -> Any:
        if event == "send-message" and args and isinstance(args[0], dict):
            args = [dict(args[0])]
            said[:] = [str(args[0].pop("user"))] if "user" in args[0] else []
            args[0].pop("userId", None)
        return decode(event, args, **options)

    def spoken(self: Any, event: Any, *rest: Any) -> Any:
        session = event.session
        own, session.user = session.user, said[0] if said else session.user
        try:
            return append(self, event, *rest)
        finally:
            session.user = own

    dispatch.decode, serving.Serving.append = believing, spoken


@breaks("stranger-deaf", "deaf-before-connect")
def everybody_at_the_door_hears_the_rooms(server: ChatServer) -> None:
    serve = serving.Serving._serve

    packet = StrictServer._dispatch

    strangers: set[Any] = set()

    def passed_over(self: Any, session: Any, pkt: Any) -> Any:
        if pkt.kind == 0 or pkt.namespace in session.peer.sids:
            return packet(self, session, pkt)
        strangers.add(session)
        return None

    def shouted(self: Any, room: Any, message: Any, sender: Any) -> None:
        serve(self, room, message, sender)
        for session in list(server.transport.eio.sockets.values()):
            # Not to those who are about to connect, in trials that run side by side.
            if not session.peer.sids and (session in strangers or session.peer.refusals):
                session.write(serving.encode_event("new-message", message))

    serving.Serving._serve, StrictServer._dispatch = shouted, passed_over


@breaks("connections-per-user", max_connections_per_user=1000)
def a_user_may_connect_for_ever() -> None:
    """Settings alone."""


@breaks("ban-refuses")
def the_banned_are_let_in() -> None:
    async def check(self: Any, claims: Any, deadline: float) -> None:
        await within(deadline, self._directory.get(claims.sub))

    Admission._check_user = check


@breaks("ban-closes")
def a_ban_waits_for_the_next_handshake(server: ChatServer) -> None:
    server.directory.changed = lambda: None


@breaks("expiring-told")
def nobody_is_warned() -> None:
    def warn(self: Any, session: Any) -> None:
        self._set_timer(session, session.claims.exp - admission.time.time(), self._expire)

    Admission._warn = warn


@breaks("expiry-closes")
def a_token_that_ends_is_a_goodbye() -> None:
    def expire(self: Any, session: Any) -> None:
        self._transport.push_event(session.sid, "token-expired")
        self._transport.eio.spawn(self._transport.kick(session.sid, "token expired"))

    Admission._expire = expire


@breaks("refresh-prolongs")
def a_refresh_moves_no_end() -> None:
    async def refresh(self: Any, event: Any, token: str) -> str:
        claims = self.tokens.verify(token)
        if claims.sub != event.session.user:
            raise admission.Forbidden(field="token")
        return admission.timestamp(claims.exp)

    Admission.refresh = refresh


@breaks("refresh-same-user")
def a_refresh_may_bring_another_user() -> None:
    async def refresh(self: Any, event: Any, token: str) -> str:
        event.session.claims = claims = self.tokens.verify(token)
        event.session.user = claims.sub
        self._watch_expiry(event.session)
        return admission.timestamp(claims.exp)

    Admission.refresh = refresh


@breaks("refresh-checked")
def a_failed_refresh_ends_the_session() -> None:
    refresh = Admission.refresh

    async def strict(self: Any, event: Any, token: str) -> str:
        try:
            return await refresh(self, event, token)
        except ChatError:
            await self._transport.close_transport(event.session.sid, "failed refresh")
            raise

    Admission.refresh = strict


@breaks("refresh-narrows")
def rooms_that_were_lost_are_kept() -> None:
    async def forbid(self: Any, session: Any) -> None:
        return None

    rooms.Rooms.forbid = forbid


@breaks("left-is-left", besides={"nobody-lingers": "one of the ways to end is DISCONNECT"})
def who_has_left_is_served_on() -> None:
    dispatch_packet = StrictServer._dispatch

    def deaf(self: Any, session: Any, pkt: Any) -> Any:
        return None if pkt.kind == 1 else dispatch_packet(self, session, pkt)

    StrictServer._dispatch = deaf


@breaks("one-identity")
def a_second_connect_is_another_user() -> None:
    connect = StrictServer._connect

    def again(self: Any, session: Any, namespace: str, auth: Any) -> Any:
        sid = session.peer.sids.get(namespace)
        if sid is None:
            return connect(self, session, namespace, auth)

        async def switch() -> None:
            user = self._accept.__self__.tokens.verify(auth["token"]).sub
            self._accept.__self__._sessions.get(sid).user = user
            self._push(sid, 0, {"sid": sid})

        return switch()

    StrictServer._connect = again


@breaks("nobodys-mouth")
def any_event_is_passed_on() -> None:
    arrived = dispatch.Dispatch.arrived

    def passed(self: Any, sid: str, name: str, args: Any, ack_id: Any) -> Any:
        inbox = self.inboxes.get(sid)
        if name == "new-message" and inbox is not None:
            rooms_of = self.handlers["who"].__self__._rooms
            for room in inbox.session.rooms:
                for member in rooms_of._rooms[room].members.values():
                    if member.session is not inbox.session:
                        member.push(serving.encode_event(name, *args))
            return None
        return arrived(self, sid, name, args, ack_id)

    dispatch.Dispatch.arrived = passed


@breaks("private-rooms")
def private_rooms_are_open(server: ChatServer) -> None:
    server.rooms._may_join = lambda session, room: True
