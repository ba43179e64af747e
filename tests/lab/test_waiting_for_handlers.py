"""Who waits for an event at a server finds what its handler did, every time."""

from __future__ import annotations

import socketio

from chatlab.lab import background, raw_client


async def test_waiting_for_an_event_waits_for_what_its_handler_does() -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp")
    done: list[int] = []

    @sio.on("tick")
    async def tick(sid: str, number: int) -> None:
        done.append(number)

    async with background(sio) as server, raw_client(server) as client:
        for number in range(1, 301):
            await client.emit("tick", number)
            await server.wait_for("tick", number)
            assert len(done) == number
