"""The master that real sentinels name, and the one that they name after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatlab.errors import SettingsError, Unavailable
from tests.storage.nodes import some_prefix
from tests.storage.redis_servers import Watched, is_master, run
from tests.storage.rooms import Rooms, seqs
from tests.waiting import until, wait_until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.stop()


class Server(Rooms):
    """A server's log, and the rooms that it was told have got another history."""

    def __init__(self, url: str, prefix: str) -> None:
        self.renewed: list[str] = []
        super().__init__("redis", f"{url}?prefix={prefix}", stalled_after=2.0, clock=None)
        self.log.renewed = self.renewed.append

    async def keep_sending(self, stop: asyncio.Event) -> list[str]:
        """One after the other, each until it is stored, with the same key; returns the acked."""
        acked: list[str] = []
        while not stop.is_set():
            text = str(len(acked))
            try:
                await self.send(text, key=text)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                acked.append(text)
                await asyncio.sleep(0.002)
        return acked


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_master_is_found_and_used_in_the_given_database(watched):
    master, _ = watched.pair()
    async with Rooms("redis", f"{watched.url}/3?prefix={some_prefix()}", clock=None) as rooms:
        await rooms.log.follow("general")
        await rooms.send("hello")
        await until(lambda: len(rooms.fed["general"]) == 1)
        assert "db3" in run(master, "INFO", "keyspace")
        assert [node.name for node in rooms.log.nodes.all()] == [f"{watched.url}/3"]


async def test_a_service_that_no_sentinel_knows_is_named(watched):
    rooms = Rooms("redis", watched.url.replace("mychat", "yours"), clock=None)
    with pytest.raises(SettingsError) as refused:
        await rooms.log.nodes.open(patience=0.3)
    assert "no Sentinel says where 'yours' is: No such master" in str(refused.value)


async def test_one_sentinel_that_is_alive_is_enough(watched):
    addresses = f"127.0.0.1:1,127.0.0.1:{watched.ports[0]},127.0.0.1:2"
    url = f"redis+sentinel://{addresses}/{watched.service}?prefix={some_prefix()}"
    async with Rooms("redis", url, clock=None) as rooms:
        await rooms.send("hello")


async def test_a_silent_sentinel_keeps_no_server_from_starting(watched):
    watched.sentinels[0].freeze()
    try:
        async with Rooms("redis", f"{watched.url}?prefix={some_prefix()}", clock=None) as rooms:
            await rooms.send("hello")
    finally:
        watched.sentinels[0].thaw()


async def test_a_master_that_was_replaced_while_it_is_alive_is_left(watched):
    master, replica = await in_thread(watched.pair)
    prefix = some_prefix()
    async with Server(watched.url, prefix) as one, Server(watched.url, prefix) as two:
        for server in (one, two):
            await server.log.follow("general")
        stop = asyncio.Event()
        sending = asyncio.create_task(one.keep_sending(stop))
        await until(lambda: len(two.fed["general"]) > 50)
        run(watched.ports[0], "SENTINEL", "FAILOVER", watched.service)
        await in_thread(lambda: wait_until(lambda: is_master(replica)))
        await until(lambda: run(replica, "XLEN", one.log.names.log("general")) > 100)
        heard = len(two.fed["general"])
        await until(lambda: len(two.fed["general"]) > heard + 50)
        stop.set()
        acked = await sending
        kept = {message.text for message in await two.everything()}
        # The old master may have acked some more until it was told that it is none any more: a
        # failover can lose what it did not replicate, but never without a word.
        assert set(acked) <= kept or one.renewed == two.renewed == ["general"]
        if is_master(master):  # Sentinel would tell it within ten seconds
            run(master, "REPLICAOF", "127.0.0.1", replica.port)


async def test_a_failover_is_followed_within_a_second_and_what_was_replicated_is_kept(watched):
    master, replica = await in_thread(watched.pair)
    prefix = some_prefix()
    async with Server(watched.url, prefix) as one, Server(watched.url, prefix) as two:
        for server in (one, two):
            await server.log.follow("general")
        await one.fill(50)
        await in_thread(watched.pair)
        master.kill()
        stop = asyncio.Event()
        sending = asyncio.create_task(one.keep_sending(stop))
        await in_thread(lambda: wait_until(lambda: is_master(replica)))
        await until(lambda: one.log.healthy and two.log.healthy)
        await until(lambda: len(two.fed["general"]) > 70)
        stop.set()
        acked = await sending
        stored = await two.everything()
        assert seqs(stored) == list(range(1, len(stored) + 1))
        texts = [message.text for message in stored]
        assert texts[50:] == acked
        assert one.renewed == two.renewed == []
        for server in (one, two):
            fed = server.fed["general"]
            await until(lambda fed=fed: len(fed) >= len(stored))
            assert [delivery.message.text for delivery in fed] == texts
