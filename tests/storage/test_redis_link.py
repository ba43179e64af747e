"""The connections to a real Valkey: what is sent goes out in order and once; what is heard, again
as soon as it can be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from chatlab.errors import Unavailable
from chatlab.lab import Proxy, Valkey
from chatlab.storage.redis_connect import Connect, connect_to
from chatlab.storage.redis_link import Link, retry_pauses
from chatlab.storage.redis_subscriber import Subscriber
from chatlab.storage.redis_url import locate
from tests.storage.nodes import some_prefix
from tests.storage.redis_servers import run
from tests.storage.rooms import Rooms
from tests.waiting import until

pytestmark = pytest.mark.timeout(30)

STALLED_AFTER = 0.5


@pytest.fixture(scope="module")
def shared() -> Iterator[Valkey]:
    """For tests that break nothing."""
    store = Valkey(persist=False, name="links")
    yield store
    store.stop()


@pytest.fixture
def store(shared: Valkey) -> Iterator[Valkey]:
    """For tests that break it; it is whole, and empty, for the next."""
    shared.restart()
    yield shared
    if not shared.running:
        shared.restart()
    shared.thaw()


def connect(port: int) -> Connect:
    options = locate(f"redis://127.0.0.1:{port}").options
    return lambda: connect_to(options)


@asynccontextmanager
async def linked(port: int) -> AsyncIterator[Link]:
    link = Link(connect(port), stalled_after=STALLED_AFTER)
    link.start()
    await until(lambda: link.up)
    yield link
    await link.close()


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[Subscriber]:
    ears = Subscriber(connect(port), stalled_after=STALLED_AFTER)
    ears.start()
    await until(lambda: ears.up)
    yield ears
    await ears.close()


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def now() -> float:
    return asyncio.get_running_loop().time()


# --- what is sent ------------------------------------------------------------------------------


async def test_commands_run_in_the_order_in_which_they_were_given(shared):
    key = some_prefix()
    async with linked(shared.port) as link:
        lengths = []
        for _ in range(20):
            lengths += [link.call("RPUSH", key, str(len(lengths) + n)) for n in range(100)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*lengths) == list(range(1, 2001))
        kept = await link.call("LRANGE", key, 0, -1)
        assert kept == [str(number % 100 + number // 100 * 100).encode() for number in range(2000)]


async def test_a_command_that_redis_refuses_fails_alone(shared):
    key = some_prefix()
    async with linked(shared.port) as link:
        calls = [link.call("SET", key, "text"), link.call("INCR", key), link.call("GET", key)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert done[::2] == [b"OK", b"text"]
        assert isinstance(done[1], ResponseError)
        assert link.connects == 1


async def test_after_a_script_flush_a_batch_is_sent_again_once_and_in_order(shared):
    async with Rooms("redis", f"{shared.url}?prefix={some_prefix()}", clock=None) as rooms:
        await rooms.send("first")
        run(shared, "SCRIPT", "FLUSH")
        run(shared, "CONFIG", "RESETSTAT")
        await rooms.fill(100)
        texts = [message.text for message in (await rooms.everything())]
        assert texts == ["first", *(str(number + 1) for number in range(100))]
        appends = run(shared, "INFO", "commandstats")["cmdstat_xadd"]["calls"]
        assert appends == 100


async def test_a_redis_that_stalls_fails_in_time_and_then_at_once(store):
    async with linked(store.port) as link:
        store.freeze()
        began = now()
        with pytest.raises(Unavailable):
            await link.call("SET", "a", "1")
        assert now() - began > STALLED_AFTER - 0.05
        assert link.reason == "silent for 0.5 s"
        assert link.call("SET", "a", "2").done()
        store.thaw()
        await until(lambda: link.up)
        assert link.reason is None


async def test_an_idle_link_notices_that_redis_is_gone_or_silent(store):
    async with linked(store.port) as link:
        store.freeze()
        await until(lambda: not link.up)
        store.thaw()
        await until(lambda: link.up)
        store.kill()
        await until(lambda: not link.up)
        await until(lambda: "Connect call failed" in str(link.reason))


async def test_what_was_sent_and_not_answered_is_not_sent_again(store):
    async with linked(store.port) as link:
        store.freeze()
        sent = [link.call("INCR", "count") for _ in range(10)]
        results = await asyncio.gather(*sent, return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in results)
        store.thaw()
        await until(lambda: link.up)
        # The frozen Redis had them already in its socket, and has run them when it thawed.
        assert await link.call("GET", "count") == b"10"
        await asyncio.gather(*(link.call("PING") for _ in range(10)))
        assert await link.call("GET", "count") == b"10"


async def test_what_was_not_sent_yet_is_never_sent(store):
    async with linked(store.port) as link:
        store.freeze()
        first = link.call("INCR", "sent")
        await asyncio.sleep(0.05)
        queued = [link.call("INCR", "queued") for _ in range(10)]
        await asyncio.gather(first, *queued, return_exceptions=True)
        store.thaw()
        await until(lambda: link.up)
        assert await link.call("MGET", "sent", "queued") == [b"1", None]


async def test_a_master_that_has_become_a_replica_is_left(store):
    async with linked(store.port) as link:
        run(store, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable):
            await link.call("SET", "a", "1")
        assert "read only replica" in str(link.reason)
        run(store, "REPLICAOF", "NO", "ONE")
        await until(lambda: link.up)
        assert await link.call("SET", "a", "1") == b"OK"


async def test_a_link_can_be_told_to_connect_anew(shared):
    async with linked(shared.port) as link:
        changes: list[tuple[bool, str | None]] = []
        link.changed = lambda: changes.append((link.up, link.reason))
        link.reconnect("because")
        link.reconnect("twice is once")
        await until(lambda: link.connects == 2)
        assert changes == [(False, "twice is once"), (True, None)]
        assert await link.call("PING") == b"PONG"


# --- what is heard -----------------------------------------------------------------------------


class Heard(list[bytes]):
    """What was published on a channel."""

    def __init__(self, ears: Subscriber, channel: str) -> None:
        self.confirmed = ears.subscribe(channel, self.append)


def test_a_redis_that_is_back_is_found_within_a_fifth_of_a_second():
    pause = retry_pauses()
    pauses = [pause() for _ in range(100)]
    assert pauses[0] == 0
    assert max(pauses) <= 0.2


async def test_ears_hear_again_after_the_return_of_redis(store):
    async with listening(store.port) as ears:
        heard = [Heard(ears, f"channel {number}") for number in range(1_500)]
        await asyncio.gather(*(one.confirmed for one in heard))
        store.kill()
        await until(lambda: not ears.up)
        assert ears.reason
        await in_thread(store.restart)
        await until(lambda: ears.up)
        for number, one in enumerate(heard):
            if number % 100 == 0:
                assert run(store, "PUBLISH", f"channel {number}", "back") == 1
                await until(lambda one=one: one == [b"back"])


async def test_a_connection_that_went_mute_is_noticed_and_made_anew(shared):
    wire = await in_thread(lambda: Proxy(f"http://127.0.0.1:{shared.port}", name="mute redis"))
    try:
        async with listening(wire.port) as ears:
            heard = Heard(ears, channel := some_prefix())
            await heard.confirmed
            await in_thread(wire.mute)
            await until(lambda: not ears.up)
            assert ears.reason == "silent for 2 s"
            run(shared, "PUBLISH", channel, "missed")
            await in_thread(wire.heal)
            await until(lambda: ears.up)
            run(shared, "PUBLISH", channel, "heard")
            await until(lambda: heard == [b"heard"])
    finally:
        await in_thread(wire.stop)


async def test_subscribing_and_unsubscribing_quickly_never_leaves_ears_deaf(shared):
    chance = random.Random(7)
    async with listening(shared.port) as ears:
        channels = [f"{some_prefix()} {number}" for number in range(5)]
        for _ in range(15):
            for channel in channels:
                for _ in range(chance.randrange(1, 6)):
                    chance.choice([Heard, lambda ears, name: ears.unsubscribe(name)])(ears, channel)
                    if chance.random() < 0.3:
                        await asyncio.sleep(0)
            last = [Heard(ears, channel) for channel in channels]
            await asyncio.gather(*(one.confirmed for one in last))
            for channel in channels:
                assert run(shared, "PUBLISH", channel, "loud") == 1
            await until(lambda last=last: all(one == [b"loud"] for one in last))


async def test_a_channel_that_was_given_up_is_not_heard_and_its_waiter_is_told(shared):
    async with listening(shared.port) as ears:
        heard = Heard(ears, channel := some_prefix())
        ears.unsubscribe(channel)
        with pytest.raises(Unavailable):
            await heard.confirmed
        other = Heard(ears, some_prefix())
        await other.confirmed
        assert run(shared, "PUBLISH", channel, "to nobody") == 0
        assert not heard


async def test_a_message_that_cannot_be_handled_does_not_stop_the_others(shared, caplog):
    async with listening(shared.port) as ears:
        heard: list[bytes] = []

        def choosy(message: bytes) -> None:
            if message == b"bad":
                raise ValueError("bad")
            heard.append(message)

        await ears.subscribe(channel := some_prefix(), choosy)
        for message in ("bad", "good"):
            run(shared, "PUBLISH", channel, message)
        await until(lambda: heard == [b"good"])
        assert "could not be handled" in caplog.text


async def test_ears_told_to_connect_anew_hear_everything_there_again(shared):
    async with listening(shared.port) as ears:
        heard = Heard(ears, channel := some_prefix())
        await heard.confirmed
        ears.reconnect("because")
        await until(lambda: ears.connects == 2 and ears.up)
        assert run(shared, "PUBLISH", channel, "again") == 1
        await until(lambda: heard == [b"again"])
