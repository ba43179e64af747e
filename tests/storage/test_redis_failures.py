"""Redis goes away, and comes back with everything, with less, or with nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from chatlab.errors import Unavailable
from chatlab.lab import valkey
from chatlab.lab.valkey import Valkey
from tests.storage.rooms import Rooms, seqs
from tests.waiting import until

pytestmark = pytest.mark.timeout(60)


class Server(Rooms):
    """A server's log, and the rooms that it was told have got another history."""

    def __init__(self, address: str) -> None:
        self.renewed: list[str] = []
        super().__init__("redis", address, stalled_after=2.0, clock=None)
        self.log.renewed = self.renewed.append

    async def back(self) -> None:
        await until(lambda: self.log.healthy)


@asynccontextmanager
async def two_servers(store: Valkey) -> AsyncIterator[tuple[Server, Server]]:
    async with Server(store.url) as one, Server(store.url) as two:
        await one.log.follow("general")
        await two.log.follow("general")
        yield one, two


async def in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def keep_sending(server: Server, acked: list[str], stop: asyncio.Event) -> None:
    """One after the other, each until it is stored, with the same key."""
    number = 0
    while not stop.is_set():
        text = f"{id(server)}.{number}"
        try:
            await server.send(text, key=text)
        except Unavailable:
            await asyncio.sleep(0.01)
            continue
        acked.append(text)
        number += 1


@pytest.mark.parametrize("fault", ["killed", "restarted", "frozen"])
async def test_nothing_acked_is_lost_doubled_or_reordered_while_redis_is_away(fault):
    with valkey(name="storage failures") as store:
        async with two_servers(store) as (one, two):
            acked: list[str] = []
            stop = asyncio.Event()
            senders = [asyncio.create_task(keep_sending(s, acked, stop)) for s in (one, two)]
            for _ in range(3):
                before = len(acked)
                await until(lambda before=before: len(acked) > before + 50)
                if fault == "frozen":
                    store.freeze()
                    await until(lambda: not one.log.healthy and not two.log.healthy)
                    store.thaw()
                else:
                    if fault == "killed":
                        store.kill()
                    await in_thread(store.restart)
                await one.back()
                await two.back()
            stop.set()
            await asyncio.gather(*senders)
            newest = (await one.join()).seq
            for server in (one, two):
                await until(lambda server=server: len(server.fed["general"]) >= newest)
                assert [d.message.seq for d in server.fed["general"]] == list(range(1, newest + 1))
            texts = [delivery.message.text for delivery in one.fed["general"]]
            assert sorted(texts) == sorted(set(texts))
            assert set(acked) <= set(texts)
            assert not one.renewed
            assert not two.renewed


async def test_a_frozen_redis_answers_unavailable_in_time_and_then_at_once():
    with valkey(name="storage failures") as store:
        async with two_servers(store) as (one, two):
            store.freeze()
            with pytest.raises(Unavailable):
                await one.send("unknown", key="k")
            assert not one.log.healthy
            known = one.log.append("general", "alice", "at once", None, "")
            assert known.done()
            assert isinstance(known.exception(), Unavailable)
            with pytest.raises(Unavailable):
                await one.page()
            store.thaw()
            await one.back()
            # It may have reached Redis, and run there when it thawed, before the retry or after.
            assert (await one.send("unknown", key="k")).message.seq == 1
            assert (await one.send("next")).message.seq == 2
            await until(lambda: len(two.fed["general"]) == 2)


@pytest.mark.parametrize("how", ["restarted empty", "flushed"])
async def test_redis_emptied_means_a_new_epoch_in_which_numbers_start_again(how):
    with valkey(name="storage failures") as store:
        async with two_servers(store) as (one, two):
            for text in "abc":
                await one.send(text)
            old = await two.join()
            if how == "flushed":
                await one.log.nodes.command("any", "FLUSHALL")
            else:
                await in_thread(lambda: store.restart(empty=True))
                await until(lambda: one.renewed == ["general"] and two.renewed == ["general"])
                await one.back()
            sent = await one.send("d")
            assert sent.message.seq == 1
            await until(lambda: one.renewed == ["general"] and two.renewed == ["general"])
            await one.send("e")
            await until(lambda: two.fed["general"][-1].message.text == "e")
            told = await two.join(after=old.seq, epoch=old.epoch)
            assert told.lost
            assert told.epoch != old.epoch
            assert [message.text for message in told.messages] == ["d", "e"]
            # The new history is now longer than the old one was, and still is not taken for it.
            await one.fill(10)
            assert (await two.join(after=old.seq, epoch=old.epoch)).lost


@pytest.mark.parametrize("who", ["a server that follows the room", "a server that sends at once"])
async def test_an_older_snapshot_means_a_new_epoch(who, tmp_path):
    options = ("--appendonly", "no", "--dbfilename", "dump.rdb")
    with valkey(persist=False, arguments=options, name="storage failures") as store:
        async with two_servers(store) as (one, two):
            for text in "abc":
                await one.send(text)
            await one.log.nodes.command("any", "SAVE")
            shutil.copy(store.folder / "dump.rdb", tmp_path)
            for text in "def":
                await one.send(text)
            await until(lambda: len(two.fed["general"]) == 6)
            old = await two.join()
            store.kill()
            shutil.copy(tmp_path / "dump.rdb", store.folder)
            await in_thread(store.restart)
            if who == "a server that sends at once":
                sent = None
                while sent is None:
                    try:
                        sent = await one.send("x")
                    except Unavailable:
                        await asyncio.sleep(0.001)
                assert sent.message.seq == 4
            await until(lambda: one.renewed[:1] == two.renewed[:1] == ["general"])
            await one.back()
            now = await two.join(after=old.seq, epoch=old.epoch)
            assert now.lost
            assert now.epoch != old.epoch
            assert [message.text for message in now.messages][:3] == ["a", "b", "c"]
            # What a server had not noticed by itself it would have heard of: one epoch for all.
            await one.fill(5)
            assert (await one.join()).epoch == (await two.join()).epoch == now.epoch
            assert (await two.join(after=old.seq, epoch=old.epoch)).lost
            assert one.renewed == two.renewed == ["general"]


async def test_a_redis_that_comes_back_with_everything_keeps_its_epoch():
    with valkey(name="storage failures") as store:
        async with two_servers(store) as (one, two):
            await one.fill(300)
            old = await one.join()
            store.kill()
            await in_thread(store.restart)
            await one.back()
            await two.back()
            await two.send("after")
            now = await one.join(after=old.seq, epoch=old.epoch)
            assert (now.epoch, now.lost, seqs(now.messages)) == (old.epoch, False, [301])
            await until(lambda: len(one.fed["general"]) == 301)
            assert not one.renewed
            assert not two.renewed


async def test_what_was_stored_while_a_server_was_cut_off_is_read_in_order_when_it_is_back():
    with valkey(name="storage failures") as store:
        async with two_servers(store) as (one, two):
            (node,) = one.log.nodes.all()
            connect = node.ears._connect
            allowed = asyncio.Event()

            async def connect_later():
                await allowed.wait()
                return await connect()

            node.ears._connect = connect_later
            await one.log.nodes.command("any", "CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: not one.log.healthy)
            await two.back()
            await two.fill(1_000)
            allowed.set()
            await one.back()
            await until(lambda: len(one.fed["general"]) == 1_000)
            assert [d.message.seq for d in one.fed["general"]] == list(range(1, 1_001))


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), []),
        (("--appendonly", "yes", "--appendfsync", "everysec"), ["appendfsync"]),
        (("--appendonly", "no"), ["appendonly"]),
        (("--maxmemory-policy", "allkeys-lru"), ["maxmemory-policy is allkeys-lru"]),
    ],
)
async def test_a_redis_that_may_lose_messages_is_warned_of_at_the_start(options, warned, caplog):
    with valkey(arguments=options, name="storage failures") as store:
        async with Server(store.url):
            said = [r.message for r in caplog.records if r.levelname == "WARNING"]
            assert len(said) == len(warned)
            for what, word in zip(said, warned, strict=True):
                assert word in what
