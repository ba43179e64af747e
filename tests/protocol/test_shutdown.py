"""The end of a server: every client loses its transport, gets what was meant for it, and returns.

tests/server/test_process.py holds what `chatlab serve` does on SIGTERM; here is the transport.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.protocol.peers import Gone, Polling, Socket, connected, session
from tests.protocol.test_bounds import reading_nothing
from tests.protocol.test_polling import waiting
from tests.protocol.wire import Place
from tests.protocol.world import World, strict
from tests.waiting import until

SERVER = Path(__file__).with_name("suite_server.py")
WITHIN = 1.0


async def test_everybody_is_closed_and_no_poll_is_left_waiting(calm: World) -> None:
    peers = [
        await connected(calm, way) for way in ("websocket", "upgrade", "polling") for _ in range(5)
    ]
    await session(calm, "websocket")  # and one that has not connected
    polls = [await waiting(calm, peer) for peer in peers if isinstance(peer, Polling)]
    await calm.transport.eio.close_all(within=WITHIN)
    for line in polls:
        assert (await line.answer()).text == "1"
    for peer in peers:
        if isinstance(peer, Socket):
            with pytest.raises(Gone):
                await peer.bare()
    assert not calm.sessions()
    assert {reason for _, reason in calm.suite.closed} == {"server shutting down"}
    assert len(calm.suite.closed) == len(peers)


async def test_what_was_queued_is_written_before_the_close(calm: World) -> None:
    peers = [await connected(calm, way) for way in ("websocket", "upgrade", "polling")]
    for sid in calm.suite.opened:
        for number in range(20):
            calm.transport.push_event(sid, "last words", number, "x" * 1000)
    closing = asyncio.create_task(calm.transport.eio.close_all(within=WITHIN))
    for peer in peers:
        for number in range(20):
            assert str(await peer.packet()).startswith(f'42["last words",{number},')
        with pytest.raises(Gone):
            assert await peer.packet() != "41"
    await closing


async def test_a_client_that_does_not_read_does_not_hold_up_the_end() -> None:
    async with strict() as world:
        await reading_nothing(world, "websocket")
        (sid,) = world.suite.opened
        for _ in range(800):
            world.transport.push_event(sid, "news", "x" * 10_000)
        async with asyncio.timeout(10):
            await world.transport.eio.close_all(within=0.2)
        await until(lambda: not world.sessions())


async def test_closing_twice_is_closing_once(calm: World) -> None:
    await connected(calm)
    await calm.transport.eio.close_all(within=WITHIN)
    await calm.transport.eio.close_all(within=WITHIN)
    assert len(calm.suite.closed) == 1


async def test_five_hundred_clients_are_closed(calm: World) -> None:
    peers = [await connected(calm) for _ in range(500)]
    await calm.transport.eio.close_all(within=5.0)
    for peer in peers:
        await peer.ended()
    assert len(calm.suite.closed) == 500


@pytest.mark.parametrize("transport", ["strict", "stock"])
async def test_the_suites_server_says_where_it_listens_serves_and_ends(transport: str) -> None:
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, str(SERVER), "--port=0", f"--transport={transport}", "--ping-interval=60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    try:
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        assert first.startswith("listening on http://127.0.0.1:"), first
        place = Place(int(first.rsplit(":", 1)[1]))
        peer = await connected(place, "websocket")
        await peer.send('42["message",1]')
        assert await peer.packet() == '42["message-back",1]'
        custom = await connected(place, "polling", "/custom")
        await custom.send('42/custom,1["message-with-ack",1]')
        assert await custom.packet() == "43/custom,1[1]"
        echo = await session(place, "websocket", "/engine.io/")
        await echo.send("4hello")
        assert await echo.packet() == "4hello"
        process.send_signal(signal.SIGTERM)
        if transport == "strict":
            with pytest.raises(Gone):
                await peer.packet()
        await place.hang_up()
        output, errors = await asyncio.to_thread(process.communicate, None, 10)
        assert (process.returncode, output, errors) == (0, "", "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
