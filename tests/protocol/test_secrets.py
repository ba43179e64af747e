"""What must not be written down: whoever knows an Engine.IO session id can read and write it."""

from __future__ import annotations

import contextlib
import logging

import pytest

from tests.protocol.peers import (
    SOCKET,
    Gone,
    Polling,
    Socket,
    Way,
    ask,
    connected,
    every_way,
    session,
    target,
)
from tests.protocol.world import strict
from tests.waiting import until


@every_way
async def test_no_line_of_the_log_names_a_session(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "aiohttp.access")  # which logs requests, when it is on
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []

    def crash(_name: str, args: list[object]) -> None:
        if args == ["crash"]:
            raise RuntimeError("a bug of the application")

    async with strict(max_unread=50_000, ping_interval=1.0, ping_timeout=0.5) as world:
        world.suite.handling = crash
        for packets in (
            ["zzz"],
            ["42{}"],
            ['42["message","crash"]'],
            ["1"],
            ["40"],
            [b"x"],
        ):
            peer = await connected(world, way)
            secrets.append(peer.sid)
            with contextlib.suppress(Gone, ConnectionError):
                await peer.send(*packets)
                await peer.packet()
        peer = await session(world, way)  # and one that answers no ping
        secrets.append(peer.sid)
        await ask(world, "GET", target(SOCKET, "polling", peer.sid) + "&again")
        await until(lambda: not world.sessions())
    text = "\n".join(record.getMessage() + str(record.exc_text or "") for record in caplog.records)
    assert "broke the protocol" in text
    assert not [secret for secret in secrets if secret in text]


async def test_the_session_id_of_socketio_is_not_that_of_engineio_and_opens_nothing() -> None:
    async with strict() as world:
        peer = await connected(world, "polling")
        assert isinstance(peer, Polling)
        (sid,) = world.suite.opened
        assert sid != peer.sid
        assert (await ask(world, "GET", target(SOCKET, "polling", sid))).status == 400
        assert not any(sid == other for other in world.sessions())


async def test_session_ids_are_long_and_share_no_prefix() -> None:
    async with strict() as world:
        sids = [(await Socket.open(world)).sid for _ in range(20)]
        assert all(len(sid) >= 20 for sid in sids)
        assert len({sid[:8] for sid in sids}) == 20
