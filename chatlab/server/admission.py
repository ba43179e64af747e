"""Who gets in, and who has to go: the handshake, and what ends a session that was accepted.

Everything that goes wrong while deciding is a refusal with an answer. A token is verified here;
what it looks like is auth.py's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from chatlab.errors import (
    Banned,
    ChatError,
    Forbidden,
    ServerError,
    Unavailable,
    UserNotFound,
)
from chatlab.protocol import timestamp
from chatlab.server.acks import Event, within
from chatlab.server.auth import Claims, Tokens, token_of
from chatlab.server.limits import ConnectionCaps
from chatlab.server.middleware import Chain, Proceed
from chatlab.server.rooms import Rooms
from chatlab.server.sessions import Session, Sessions
from chatlab.settings import Settings
from chatlab.storage.base import UserDirectory
from chatlab.transport import Handshake, StrictServer

__all__ = ["Admission"]

log = logging.getLogger(__name__)

LONGEST_TIMER: Final = 86_400.0
"""Seconds; a timer for longer is set again every day, since an event loop's has a limit."""

LOOK_AGAIN: Final = 0.5
"""Seconds until bans are looked up again in a directory that was away."""

WARN_BEFORE: Final = 60.0
"""`token-expiring` comes this many seconds before the end, or half of the life left."""


class Admission:
    """Decides on connections and keeps watch over what their tokens and the directory say."""

    def __init__(
        self,
        *,
        settings: Settings,
        directory: UserDirectory,
        sessions: Sessions,
        address_of: Callable[[Handshake], str],
        refused: Callable[[str], None],
    ) -> None:
        self.chain: Chain[Handshake] = Chain()
        self.tokens = Tokens(settings)
        self.closing = False
        self._settings = settings
        self._directory = directory
        self._sessions = sessions
        self._address_of = address_of
        self._refused = refused
        self.caps = ConnectionCaps.of(
            settings.max_connections_per_user, settings.max_connections_per_address
        )
        self._transport: StrictServer
        self._rooms: Rooms
        self._checking = False
        self._check_again = False
        self._changes = 0
        self.chain.use(self.require_token)

    def attach(self, transport: StrictServer, rooms: Rooms) -> None:
        self._transport, self._rooms = transport, rooms

    # --- the handshake -----------------------------------------------------------------------

    async def require_token(self, handshake: Handshake, proceed: Proceed) -> None:
        """The first middleware: a valid token of a user who exists and is not banned."""
        claims = self.tokens.verify(token_of(handshake.auth))
        deadline = asyncio.get_running_loop().time() + self._settings.storage_timeout
        handshake.state["changes"] = self._changes
        await self._check_user(claims, deadline)
        handshake.state["claims"] = claims
        await proceed()

    async def _check_user(self, claims: Claims, deadline: float) -> None:
        user = await within(deadline, self._directory.get(claims.sub))
        if user is None and not self._settings.dev:
            raise UserNotFound
        if user is not None and user.banned:
            raise Banned

    async def accept(self, handshake: Handshake) -> dict[str, Any] | None:
        """None to accept, or the CONNECT_ERROR. Fails closed: whatever is raised is a refusal."""
        try:
            if self.closing:
                raise Unavailable("Server is shutting down")
            await self.chain.run(handshake, self._count_in)
            if "counted" not in handshake.state:
                raise RuntimeError("a middleware neither proceeded nor refused")
        except ChatError as error:
            refusal = error
        except (Exception, asyncio.CancelledError, SystemExit):
            log.exception("a connection could not be decided on")
            refusal = ServerError()
        else:
            return None
        counted = handshake.state.pop("counted", None)
        if counted:
            self.caps.release(*counted)
        self._refused(refusal.code)
        address = self._address_of(handshake)
        log.info(
            "refused a connection from %s: %s", address, refusal.code, extra={"client": address}
        )
        return refusal.to_refusal()

    async def _count_in(self, handshake: Handshake) -> None:
        user, address = handshake.state["claims"].sub, self._address_of(handshake)
        self.caps.take(user, address)
        handshake.state["counted"] = (user, address)

    def open(self, sid: str, handshake: Handshake) -> Session:
        """The session of a socket that was just accepted."""
        user, address = handshake.state["counted"]
        session = Session(sid=sid, user=user, claims=handshake.state["claims"], address=address)
        self._sessions.add(session)
        if handshake.state["changes"] != self._changes:
            self.directory_changed()  # a ban may have come while this socket was decided on
        self._watch_expiry(session)
        log.info("%s connected from %s", user, address, extra={"client": user})
        return session

    def close(self, session: Session, reason: str) -> None:
        """A session has ended: stop watching it and count it out."""
        self._set_timer(session, None)
        self.caps.release(session.user, session.address)
        log.info("%s disconnected: %s", session.user, reason, extra={"client": session.user})

    # --- while connected ---------------------------------------------------------------------

    def _set_timer(
        self, session: Session, delay: float | None, call: Callable[[Session], None] | None = None
    ) -> None:
        """Have `call(session)` called in `delay` seconds, in place of what was to be called."""
        if session.timer is not None:
            session.timer.cancel()
        session.timer = None
        if delay is not None and call is not None:
            loop = asyncio.get_running_loop()
            session.timer = loop.call_later(max(0.0, delay), call, session)

    def _watch_expiry(self, session: Session) -> None:
        left = session.claims.exp - time.time()
        if left > LONGEST_TIMER:
            self._set_timer(session, LONGEST_TIMER - WARN_BEFORE, self._watch_expiry)
        else:
            self._set_timer(session, left - min(WARN_BEFORE, left / 2), self._warn)

    def _warn(self, session: Session) -> None:
        expires_at = timestamp(session.claims.exp)
        self._transport.push_event(session.sid, "token-expiring", {"expiresAt": expires_at})
        self._set_timer(session, session.claims.exp - time.time(), self._expire)

    def _expire(self, session: Session) -> None:
        if time.time() < session.claims.exp:  # timers may fire a hair early
            self._set_timer(session, 0.01, self._expire)
            return
        self._transport.push_event(session.sid, "token-expired")
        self._transport.eio.spawn(self._transport.close_transport(session.sid, "token expired"))

    async def refresh(self, event: Event, token: str) -> str:
        """Go on with another token of the same user; returns until when, ISO 8601.

        Raises `InvalidToken`, `TokenExpired`, `Forbidden`, `Banned`, `Unavailable`; then nothing
        has changed.
        """
        session = event.session
        claims = self.tokens.verify(token)
        if claims.sub != session.user:
            raise Forbidden("The token belongs to another user", field="token")
        await self._check_user(claims, event.deadline)
        session.claims = claims
        if session.connected:
            self._watch_expiry(session)
            await self._rooms.forbid(session)
        return timestamp(claims.exp)

    def directory_changed(self) -> None:
        """Somebody changed the directory: look whether anyone here is banned now."""
        self._changes += 1
        if self._checking:
            self._check_again = True
            return
        self._checking = True
        self._transport.eio.spawn(self._close_banned())

    async def _close_banned(self) -> None:
        try:
            while True:
                self._check_again = False
                for user in await self._directory.banned(self._sessions.users()):
                    for session in self._sessions.of(user):
                        self._transport.push_event(session.sid, "banned")
                        await self._transport.kick(session.sid, "banned")
                if not self._check_again:
                    return
        except Unavailable:
            log.warning("the user directory is away: bans wait until it is back")
            asyncio.get_running_loop().call_later(LOOK_AGAIN, self.directory_changed)
        finally:
            self._checking = False
