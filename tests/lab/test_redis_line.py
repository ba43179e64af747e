"""A line between a server and its Redis carries everything, late if told to, and tells of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio
import socketio

from chatlab import doctor
from chatlab.lab import background, raw_client, settled, timeline, valkey, verdict
from chatlab.lab.redis_line import RedisLine

pytestmark = pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")


@pytest.fixture
def store() -> Iterator[Any]:
    with valkey(persist=False) as store:
        yield store


@pytest.fixture
async def line(store: Any) -> AsyncIterator[RedisLine]:
    async with RedisLine(store, server="server A") as line:
        yield line


def said(recorder: Any) -> list[tuple[str, str | None, Any]]:
    return [(e.kind, e.name, e.data) for e in recorder.entries]


async def test_what_is_published_is_recorded_at_both_ends_and_the_rest_passes(
    line: RedisLine, store: Any
) -> None:
    store.recorder.clear()
    async with redis.asyncio.from_url(line.url) as client:
        await client.set("picture", b"\x00\xff" * 200_000)
        assert await client.get("picture") == b"\x00\xff" * 200_000
        async with client.pubsub(ignore_subscribe_messages=True) as listener:
            await listener.subscribe("room")
            await client.publish("room", json.dumps({"text": "hello", "user": "alice"}))
            while await listener.get_message(timeout=1) is None:
                pass
    hello = {"text": "hello"}
    assert said(line.recorder) == [("send", "publish", hello), ("receive", "message", hello)]
    assert said(store.recorder) == [("receive", "publish", hello), ("send", "message", hello)]


async def test_a_script_that_is_given_a_message_is_an_append(line: RedisLine) -> None:
    async with redis.asyncio.from_url(line.url) as client:
        assert await client.eval("return ARGV[1]", 0, '{"text": "hello"}') == b'{"text": "hello"}'
        await client.eval("return 1", 0)
    assert said(line.recorder) == [("send", "append", {"text": "hello"})]


async def test_a_slow_line_delays_each_direction_and_keeps_the_order(line: RedisLine) -> None:
    async with redis.asyncio.from_url(line.url) as client:
        await client.ping()
        line.delay(0.1)
        began = asyncio.get_running_loop().time()
        async with client.pipeline(transaction=False) as pipe:
            for n in range(5):
                pipe.rpush("numbers", n)
            await pipe.execute()
        assert asyncio.get_running_loop().time() - began >= 0.2
        line.delay(0)
        assert await client.lrange("numbers", 0, -1) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_line_that_was_stopped_closes_what_it_carried(line: RedisLine) -> None:
    async with redis.asyncio.from_url(line.url) as client:
        await client.ping()
        await line.aclose()
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.ping()
    assert "stopped" in repr(line)


async def test_a_store_that_is_away_is_a_refused_connection(line: RedisLine, store: Any) -> None:
    store.kill()
    async with redis.asyncio.from_url(line.url) as client:
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.ping()


def test_a_line_leads_to_redis_only() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisLine("http://127.0.0.1:3001", server="server A")


def chat(url: str) -> socketio.AsyncServer:
    manager = socketio.AsyncRedisManager(url)
    sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager)

    @sio.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await sio.enter_room(sid, "room")

    @sio.on("send-message")
    async def send_message(sid: str, data: Any) -> Any:
        await sio.emit("new-message", data, to="room")
        return {"ok": True}

    return sio


async def test_two_orders_are_drawn_as_the_clients_saw_them(store: Any) -> None:
    """The delay is longer than what a timeline takes for a race."""
    one, two = (RedisLine(store, server=f"server {name}") for name in "AB")
    async with (
        one,
        two,
        background(lambda: chat(one.url), name="server A") as a,
        background(lambda: chat(two.url), name="server B") as b,
        raw_client(a, name="alice") as alice,
        raw_client(b, name="bob") as bob,
        redis.asyncio.from_url(store.url) as client,
    ):
        while (await client.pubsub_numsub("socketio"))[0][1] < 2:
            await asyncio.sleep(0.01)
        for each in (alice, bob):
            await each.call("send-message", {"text": "hello"}, timeout=2)
        await settled(alice, bob, a, b, one, two)
        for part in (alice, bob, a, b, one, two):
            part.clear()
        one.delay(0.3)
        sends = [(alice, "at 8?"), (bob, "at 9?")]
        await asyncio.gather(*(c.call("send-message", {"text": t}, timeout=5) for c, t in sends))
        await alice.wait_for("new-message", 2)
        await bob.wait_for("new-message", 2)
        await settled(alice, bob, a, b, one, two)
        drawn = repr(timeline(alice, a, one, store, b, two, bob, hide="ack")).splitlines()
        judged = verdict(alice, bob)
    assert [re.sub(r" {2,}", "  ", row) for row in drawn] == [
        "alice │ server A │ valkey │ server B │ bob",
        'alice → server A  send-message "at 8?"',
        'bob → server B  send-message "at 9?"',
        'server A → alice  new-message "at 8?"',
        'server A → valkey  publish "at 8?" [1: on its way]',
        'server B → bob  new-message "at 9?"',
        'server B → valkey  publish "at 9?"',
        'valkey → server A  message "at 9?" [2: on its way]',
        'server A → valkey  publish "at 8?" [1: arrives]',
        'valkey → server B  message "at 8?"',
        'server B → bob  new-message "at 8?"',
        'valkey → server A  message "at 9?" [2: arrives]',
        'server A → alice  new-message "at 9?"',
    ]
    assert judged.out_of_order == 1
    assert judged.lost == 0
