"""Who waits for an event at a server finds what its handler did, every time."""

from __future__ import annotations

import asyncio
import time

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


async def test_a_server_that_the_machine_did_not_let_run_is_waited_for() -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp")
    done: list[int] = []

    @sio.on("tick")
    async def tick(sid: str) -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done.append(1)

    async with background(sio) as server, raw_client(server) as client:
        await client.emit("tick")
        await server.wait_for("tick")
        assert done == [1]
