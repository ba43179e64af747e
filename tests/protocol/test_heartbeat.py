"""Pings and pongs. The order of events is looked at, and never how long they took."""

from __future__ import annotations

import asyncio

import pytest

from tests.protocol.peers import (
    Gone,
    Polling,
    Way,
    both_endpoints,
    connected,
    every_way,
    session,
)
from tests.protocol.world import World, strict
from tests.waiting import PATIENCE_S, until


@both_endpoints
@every_way
async def test_each_pong_is_followed_by_the_next_ping(path: str, way: Way) -> None:
    async with strict(ping_interval=0.05, ping_timeout=5.0) as world:
        peer = await session(world, way, path)
        for _ in range(3):
            assert await peer.bare() == "2"
            await peer.send("3")


@both_endpoints
@every_way
async def test_a_ping_without_a_pong_is_followed_by_the_end(path: str, way: Way) -> None:
    async with strict(ping_interval=1.0, ping_timeout=0.2) as world:
        peer = await session(world, way, path)
        assert await peer.bare() == "2"
        with pytest.raises(Gone):
            while (packet := await peer.bare()) == "6":
                pass
            raise Gone(str(packet))
        await until(lambda: not world.sessions())


@both_endpoints
async def test_a_polling_client_that_does_not_come_back_is_forgotten(path: str) -> None:
    async with strict(ping_interval=0.05, ping_timeout=0.05) as world:
        peer = await Polling.open(world, path)
        await until(lambda: not world.sessions())
        assert (await peer.get()).status == 400


@every_way
async def test_the_application_hears_of_a_ping_timeout_once(way: Way) -> None:
    async with strict(ping_interval=1.0, ping_timeout=0.2) as world:
        await connected(world, way)
        await until(lambda: world.suite.closed)
        assert world.suite.closed == [(world.suite.opened[0], "ping timeout")]


@every_way
async def test_messages_are_no_pong(way: Way) -> None:
    async with strict(ping_interval=1.0, ping_timeout=0.2) as world:
        peer = await session(world, way, "/engine.io/")

        async def talk() -> None:
            while True:
                await peer.send("4still here")
                await asyncio.sleep(0.01)

        with pytest.raises((Gone, ConnectionError)):
            await asyncio.wait_for(talk(), PATIENCE_S)


async def test_pongs_that_nobody_asked_for_change_nothing(calm: World) -> None:
    for way in ("polling", "websocket"):
        peer = await session(calm, way, "/engine.io/")
        await peer.send("3", "3", "3probe", "4hello")
        assert await peer.packet() == "4hello"


@pytest.mark.parametrize("way", ["polling", "websocket"])
async def test_a_client_does_not_ping_in_this_version_of_the_protocol(
    calm: World, way: Way
) -> None:
    peer = await session(calm, way, "/engine.io/")
    with pytest.raises(Gone):
        await peer.send("2")
        await peer.packet()
    await until(lambda: not calm.sessions())


@pytest.mark.parametrize(("interval", "timeout"), [(0.3, 0.2), (25.0, 20.0), (0.0015, 1.0)])
async def test_what_is_announced_is_what_is_set_in_milliseconds(
    interval: float, timeout: float
) -> None:
    async with strict(ping_interval=interval, ping_timeout=timeout) as world:
        peer = await Polling.open(world)
        assert peer.handshake["pingInterval"] == round(interval * 1000)
        assert peer.handshake["pingTimeout"] == round(timeout * 1000)
