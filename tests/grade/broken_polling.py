"""Broken on purpose: long-polling, and the change from it to a websocket."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from chatlab.transport import engine, session
from chatlab.transport.frame import frame, polled
from chatlab.transport.packet import MalformedPacket
from tests.grade.broken import breaks

Session, Probe, Engine = session.Session, session.Probe, engine.StrictEngine
receive_body, wake, read = Session.receive_body, Session._wake, engine._read


def too_large(request: web.Request, limit: int) -> None:
    if (request.content_length or 0) > limit:
        raise engine._TooLarge


@breaks("many-packets-in-a-body")
def more_than_sixteen_packets_are_dropped() -> None:
    async def dropping(self: Any, packets: list[str]) -> None:
        if len(packets) <= 16:
            await receive_body(self, packets)

    Session.receive_body = dropping


@breaks("body-in-pieces")
def a_body_is_read_once() -> None:
    async def once(request: web.Request, limit: int) -> str:
        too_large(request, limit)
        return (await request.content.readany()).decode()

    engine._read = once


@breaks("half-a-body")
def half_a_body_is_a_body() -> None:
    async def whatever(request: web.Request, limit: int) -> str:
        too_large(request, limit)
        body = b""
        try:
            async for chunk in request.content.iter_any():
                body += chunk
        except (ConnectionError, web.RequestPayloadError, asyncio.CancelledError):
            return body.decode().split(engine._SEPARATOR)[0]
        return body.decode()

    engine._read = whatever


@breaks("poll-ends-with-session")
def a_poll_outlives_its_session() -> None:
    def forgetful(self: Any) -> None:
        if not self.closed:
            wake(self)

    Session._wake = forgetful


@breaks("cut-poll", "two-polls")
def polls_wait_side_by_side() -> None:
    async def poll(self: Any, request: web.Request) -> str:
        if not self._outbox and not self.closed and not self.upgrading:
            self._poll = asyncio.get_running_loop().create_future()
            await self._poll
        taken, self._outbox = self._outbox, []
        self.unread = 0
        return "\x1e".join(map(polled, taken)) or self._farewell if not self.upgrading else "6"

    Session.poll = poll


@breaks("bad-requests")
def the_transport_may_be_left_out() -> None:
    respond = Engine._respond

    async def lenient(self: Any, request: web.Request) -> web.StreamResponse:
        if "transport" not in request.query:
            return self._open(request, "polling")
        return await respond(self, request)

    Engine._respond = lenient


@breaks("bad-body")
def a_bad_body_is_passed_over() -> None:
    failed = Session._failed

    async def tolerant(self: Any, packets: list[str]) -> None:
        try:
            await receive_body(self, packets)
        except MalformedPacket:
            return

    Session.receive_body = tolerant
    Session._failed = lambda self, error: self.websocket and failed(self, error)


@breaks("body-too-long")
def a_body_may_be_long() -> None:
    async def greedy(request: web.Request, limit: int) -> str:
        return await read(request, 10**9)

    engine._read = greedy


# --- upgrades -------------------------------------------------------------------------------------


@breaks("upgrade-keeps-order")
def what_is_queued_for_the_upgrade_is_lost() -> None:
    carry_on = Session.carry_on

    def losing(self: Any, websocket: Any) -> None:
        self._outbox.clear()
        carry_on(self, websocket)

    Session.carry_on = losing


@breaks("upgrade-keeps-order-of-sends")
def bodies_are_handled_later() -> None:
    async def later(self: Any, packets: list[str]) -> None:
        if any('"send-message"' in packet for packet in packets):
            for packet in packets:
                asyncio.get_running_loop().call_later(0.3, self.received, packet)
        else:
            await receive_body(self, packets)

    Session.receive_body = later


@breaks("upgraded-is-no-polling")
def polling_goes_on_after_the_upgrade() -> None:
    go_on = Engine._continue

    async def both(self: Any, request: web.Request, session: Any) -> web.StreamResponse:
        if not session.upgraded:
            return await go_on(self, request, session)
        if request.method == "POST":
            for packet in (await request.text()).split(engine._SEPARATOR):
                session.received(packet)
        return web.Response(text="ok" if request.method == "POST" else "6")

    Engine._continue = both


@breaks("upgrade-that-fails")
def a_failed_upgrade_ends_the_session() -> None:
    def ended(self: Any, reason: str) -> None:
        if not self._session.upgraded:
            self._session.ended(reason)

    Probe.ended = ended


@breaks("one-websocket")
def the_last_websocket_wins() -> None:
    def upgrade(self: Any, request: web.Request, session: Any) -> web.StreamResponse:
        probe = Probe(session)
        probe.websocket = websocket = self._websocket(probe)
        answer = websocket.open(request, max_size=65_536, compression=False)
        websocket.start()
        return answer

    def received(self: Any, data: Any) -> None:
        if data == "2probe":
            self.websocket.send([frame(b"3probe")])
            self._step = "5"
            if not self._session.upgraded:
                self._session.probed()
        elif data == "5":
            self._timer.cancel()
            if self._session.websocket is not None:
                self._session.websocket.owner = None
                self._session.websocket.close()
            self._session.carry_on(self.websocket)

    Engine._upgrade, Probe.received = upgrade, received
