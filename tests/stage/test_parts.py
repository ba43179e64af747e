"""What the stage needs of the lab's parts: seats, lines of their own, and who is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession

from chatlab.lab.balancer import Balancer
from chatlab.lab.clients import raw_client
from chatlab.lab.cluster import Cluster
from chatlab.lab.proxy import Proxy
from chatlab.lab.redis_line import RedisLine
from chatlab.lab.valkey import Valkey
from tests.stage.conftest import needs_parts
from tests.waiting import PATIENCE_S

pytestmark = needs_parts


@pytest.fixture
def parts() -> Iterator[tuple[Cluster, list[RedisLine], Balancer]]:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Valkey(name="valkey of parts"))
        lines = [stack.enter_context(RedisLine(store, server=f"parts {n}")) for n in (0, 1)]
        cluster = stack.enter_context(Cluster(2, valkey=store, lines=lines, name="parts"))
        balancer = Balancer(
            cluster.servers, seats=True, pages=cluster.servers[1], name="balancer of parts"
        )
        yield cluster, lines, stack.enter_context(balancer)


async def test_a_seat_is_always_at_the_same_server_while_that_answers(
    parts: tuple[Cluster, list[RedisLine], Balancer], http: ClientSession
) -> None:
    cluster, lines, balancer = parts

    async def at(seat: str) -> str:
        async with http.get(f"{balancer.url}/healthz?seat={seat}") as answer:
            return str(answer.headers.get("X-Lab-Server"))

    places = {seat: await at(seat) for seat in map(str, range(20))}
    assert set(places.values()) == {s.url.removeprefix("http://") for s in cluster.servers}
    assert {seat: await at(seat) for seat in places} == places
    await asyncio.to_thread(cluster.kill, 0)
    alive = cluster.servers[1].url.removeprefix("http://")
    async with asyncio.timeout(10):
        while {await at(seat) for seat in places} != {alive}:
            await asyncio.sleep(0.05)
    assert "header_up X-Lab-Name {query.seat}" in balancer.config
    assert "the server that its ?seat= stands for" in repr(balancer)
    assert all(line.heard == 0 for line in lines)


async def test_each_server_speaks_to_valkey_by_its_own_line(
    parts: tuple[Cluster, list[RedisLine], Balancer],
) -> None:
    cluster, lines, _ = parts
    wire = Proxy(cluster.servers[0], name="wire of parts")
    try:
        async with raw_client(wire, name="alice", auth={"token": cluster.token("alice")}) as alice:
            assert wire.clients == {"alice": True}
            await alice.call("join-room", {"room": "x"})
            await alice.call("send-message", {"room": "x", "text": "hello"})
        async with asyncio.timeout(PATIENCE_S):
            while wire.clients:
                await asyncio.sleep(0.02)
    finally:
        await wire.aclose()
    said = [entry.data for entry in lines[0].recorder.entries if entry.name == "append"]
    assert {"text": "hello"} in said
    assert not any(entry.name == "append" for entry in lines[1].recorder.entries)


def test_what_makes_no_sense_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="need a line each"):
        Cluster(2, lines=["redis://127.0.0.1:1/0"])
    with pytest.raises(ValueError, match="caddy"):
        Balancer([], kind="haproxy", seats=True)
