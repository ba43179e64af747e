"""Fixtures of the client's tests: clients that are closed, and a look at what they left behind."""

from __future__ import annotations

import asyncio

import engineio.base_client
import pytest

from chatlab.backoff import Backoff
from chatlab.client import ChatClient
from chatlab.lab.proxy import Proxy
from tests.client.helpers import token_for
from tests.client.running import serving
from tests.client.scripted import Scripted
from tests.waiting import PATIENCE_S


def of_a_client(task):
    # The scripted server is python-socketio's, which leaves tasks of its own sleeping.
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and (
        "async_client" in code.co_filename or "chatlab" in code.co_filename
    )


@pytest.fixture
async def nothing_left():
    """Fail a test whose clients leave a task or a connection behind."""
    yield
    left = {task for task in asyncio.all_tasks() if of_a_client(task)}
    assert not left, f"still running: {left}"
    assert engineio.base_client.connected_clients == []


@pytest.fixture
async def server(nothing_left):
    async with Scripted() as server:
        yield server


@pytest.fixture
async def client_of(nothing_left):
    """Makes clients that come back quickly, and closes them."""
    made = []

    def make(url, token=None, **options):
        options.setdefault("backoff", Backoff(base=0.01, cap=0.05))
        client = ChatClient(url, token_for("alice") if token is None else token, **options)
        made.append(client)
        return client

    yield make
    for client in made:
        async with asyncio.timeout(PATIENCE_S):
            await client.close()


@pytest.fixture
async def alice(server, client_of):
    """Connected to the scripted server and in its room."""
    client = await client_of(server.url, timeout=1.0).connect()
    await client.join("general")
    return client


@pytest.fixture
async def real(nothing_left):
    """The real server, without limits."""
    async with serving(no_limits=True) as server:
        yield server


@pytest.fixture
def wire_to():
    """Makes wires with faults in front of a server."""
    made = []

    def make(server, **faults):
        made.append(Proxy(server, name=f"wire {len(made)}", **faults))
        return made[-1]

    yield make
    for wire in made:
        wire.stop()
