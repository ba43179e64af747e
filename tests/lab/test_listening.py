"""Whoever connects just when a part of the lab stops is hung up on, and no socket stays open."""

import asyncio
import contextlib
import gc
import socket
import threading
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from chatlab.lab import Proxy, background
from chatlab.lab.redis_line import RedisLine


def parts():
    """What listens, each made as a lesson makes it; nothing is behind the wires."""
    yield "background", lambda: background(web.Application)
    yield "wire", lambda: Proxy("http://127.0.0.1:9")
    yield "line", lambda: RedisLine("redis://127.0.0.1:9", server="nobody")


@pytest.fixture
def connections():
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


def assert_hung_up(connection):
    connection.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(100) == b""


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in parts()])
def test_who_comes_just_when_it_stops_is_hung_up_on(make, connections):
    for _ in range(5):
        part = make()
        blocked, release = threading.Event(), threading.Event()

        async def block(blocked=blocked, release=release):
            blocked.set()
            release.wait(10)

        future = asyncio.run_coroutine_threadsafe(block(), part._portal.loop)
        assert blocked.wait(5)
        for _ in range(20):  # they are accepted in the pass of the loop in which it begins to stop
            connections.append(socket.create_connection(("127.0.0.1", urlsplit(part.url).port), 5))
        threading.Timer(0.05, release.set).start()
        part.stop()
        future.result(5)
        for connection in connections:
            assert_hung_up(connection)
        gc.collect()  # a socket that was left open would be a warning here


def test_an_application_that_takes_too_long_to_end_hangs_up_all_the_same(connections):
    async def for_ever(_app):
        await asyncio.Event().wait()

    def make():
        app = web.Application()
        app.on_shutdown.append(for_ever)
        return app

    server = background(make)
    connections.append(socket.create_connection(("127.0.0.1", server.port), 5))
    server.stop()
    assert_hung_up(connections[0])
    assert any("could not be ended as it should be" in line for line in server.logs())
