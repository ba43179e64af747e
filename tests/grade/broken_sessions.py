"""Broken on purpose: heartbeats, session ids, the door, and who is believed to be who."""

from __future__ import annotations

import itertools
from typing import Any

from chatlab.server import proxies
from chatlab.server.app import ChatServer
from chatlab.transport import session
from tests.grade.broken import breaks

Session, Proxies = session.Session, proxies.Proxies
SHORT = {"ping_interval": 0.5, "ping_timeout": 0.5}


@breaks("pings-come", ping_interval=0.5)
def no_ping_is_sent() -> None:
    Session._ping = lambda self: self._restart_heartbeat(self.engine.ping_interval, self._ping)


@breaks("silence-ends", **SHORT)
def silence_has_no_end() -> None:
    def ping(self: Any) -> None:
        self.write(session._PING)
        self._restart_heartbeat(self.engine.ping_interval, self._ping)

    Session._ping = ping


@breaks("connect-timeout", connect_timeout=600.0)
def nobody_has_to_connect() -> None:
    """Settings alone."""


@breaks("unauthenticated-bounded", max_unauthenticated_per_address=0)
def one_address_may_crowd_the_door() -> None:
    """Settings alone."""


@breaks("forwarded-for")
def anybody_names_an_address() -> None:
    client = Proxies.client

    def believing(self: Any, request: Any) -> str:
        return request.headers.get("X-Forwarded-For") or client(self, request)

    Proxies.client = believing


@breaks("session-ids")
def session_ids_are_counted(server: ChatServer) -> None:
    numbers = itertools.count(1)
    server.transport.eio.generate_id = lambda: f"{next(numbers):020d}"


@breaks("foreign-sids")
def a_socketio_id_opens_the_session(server: ChatServer) -> None:
    class Both(dict[str, Any]):
        def get(self, sid: str, default: Any = None) -> Any:
            return super().get(sid) or server.transport._sessions.get(sid, default)

    server.transport.eio.sockets = Both()


@breaks("foreign-pages", origins=("*",))
def every_page_is_let_in() -> None:
    """Settings alone."""


@breaks("forwarded-host")
def anybody_names_the_host() -> None:
    def believing(self: Any, request: Any) -> str:
        headers = request.headers
        host = headers.get("X-Forwarded-Host", request.host)
        return f"{headers.get('X-Forwarded-Proto', request.scheme)}://{host}".lower()

    Proxies._own_origin = believing


@breaks("metrics-are-private", metrics_public=True)
def metrics_are_for_everybody() -> None:
    """Settings alone."""
