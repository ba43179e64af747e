"""The checks of exercise 05 take right answers however they are written, and name what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
import socketio

from chatlab import doctor
from chatlab.lab.exercises import ex05

needs_valkey = pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")
needs_balancer = pytest.mark.skipif(not doctor.has("balancer"), reason="there is no balancer")


# -- task 1 ----------------------------------------------------------------------------------------


class Solution:
    def __init__(self, bus: Any, deliver: Any) -> None:
        self.bus, self.deliver = bus, deliver
        self.members: Counter[str] = Counter()

    async def joined(self, room: str) -> None:
        self.members[room] += 1
        if self.members[room] == 1:
            await self.bus.subscribe(room)

    async def left(self, room: str) -> None:
        self.members[room] -= 1
        if self.members[room] == 0:
            await self.bus.unsubscribe(room)

    async def send(self, room: str, message: Any) -> None:
        await self.bus.publish(room, message)

    async def heard(self, channel: str, message: Any) -> None:
        await self.deliver(channel, message)


class OwnClientsFirst(Solution):
    """Another right answer: own clients at once, the others by the bus; names of its own."""

    origins = iter(range(1_000_000))

    def __init__(self, bus: Any, deliver: Any) -> None:
        super().__init__(bus, deliver)
        self.me = next(self.origins)
        self.rooms: dict[str, int] = {}

    async def joined(self, room: str) -> None:
        self.rooms[room] = self.rooms.get(room, 0) + 1
        await self.bus.subscribe(f"chat:{room}")

    async def left(self, room: str) -> None:
        self.rooms[room] -= 1
        if not self.rooms[room]:
            del self.rooms[room]
            await self.bus.unsubscribe(f"chat:{room}")

    async def send(self, room: str, message: Any) -> None:
        await self.deliver(room, message)
        await self.bus.publish(f"chat:{room}", json.dumps({"from": self.me, "message": message}))

    async def heard(self, channel: str, message: Any) -> None:
        if message["from"] != self.me:
            await self.deliver(channel.partition(":")[2], message["message"])


@needs_valkey
@pytest.mark.parametrize("answer", [Solution, OwnClientsFirst])
async def test_rooms_may_be_shared_in_any_way(answer: Any) -> None:
    result = await ex05.two_servers_share_rooms(answer)
    assert result.done, result.advice


class Unwritten(Solution):
    async def joined(self, room: str) -> None: ...
    async def left(self, room: str) -> None: ...
    async def send(self, room: str, message: Any) -> None: ...
    async def heard(self, channel: str, message: Any) -> None: ...


class OnlyHere(Solution):
    async def send(self, room: str, message: Any) -> None:
        await self.deliver(room, message)


class TwiceToItsOwn(Solution):
    async def send(self, room: str, message: Any) -> None:
        await self.deliver(room, message)
        await self.bus.publish(room, message)


class OneChannelForAll(Solution):
    async def joined(self, room: str) -> None:
        await self.bus.subscribe("everything")

    async def left(self, room: str) -> None: ...

    async def send(self, room: str, message: Any) -> None:
        await self.bus.publish("everything", message)

    async def heard(self, channel: str, message: Any) -> None:
        await self.deliver(message["room"], message)


class NeverUnsubscribes(Solution):
    async def left(self, room: str) -> None: ...


class UnsubscribesWithTheFirst(Solution):
    async def left(self, room: str) -> None:
        await self.bus.unsubscribe(room)


class SubscribesOnceOnly(Solution):
    """It remembers the rooms that it has ever had, and takes them for those that it has."""

    async def joined(self, room: str) -> None:
        known = room in self.members
        self.members[room] += 1
        if not known:
            await self.bus.subscribe(room)


class DeliversToTheFirstRoom(Solution):
    async def joined(self, room: str) -> None:
        await super().joined(room)
        self.first = getattr(self, "first", room)

    async def heard(self, channel: str, message: Any) -> None:
        for room in self.members:
            await self.deliver(room, message)


class ForgetsWhoSent(Solution):
    async def send(self, room: str, message: Any) -> None:
        await self.bus.publish(room, {"text": message["text"]})


class Raises(Solution):
    async def heard(self, channel: str, message: Any) -> None:
        await self.deliver(message["channel"], message)


@needs_valkey
@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Unwritten, "did not reach the members on the sender's own server"),
        (OnlyHere, "did not reach the members on the other server"),
        (TwiceToItsOwn, "got one message 2 times"),
        (OneChannelForAll, "was told of a message to a room in which it has nobody"),
        (NeverUnsubscribes, "the last member left, and the server is still told"),
        (UnsubscribesWithTheFirst, "one of two members left, and the other gets nothing"),
        (SubscribesOnceOnly, "a member left and came back, and gets nothing"),
        (DeliversToTheFirstRoom, "is in another room and got"),
        (ForgetsWhoSent, "the sender got her own message"),
        (Raises, "your code raised `KeyError: 'channel'`"),
    ],
)
async def test_what_is_shared_wrong_is_named(answer: Any, advice: str) -> None:
    result = await ex05.two_servers_share_rooms(answer)
    assert not result.done
    assert advice in result.advice


# -- task 2 ----------------------------------------------------------------------------------------


def new_server(**options: Any) -> Any:
    return socketio.AsyncServer(**{"async_mode": "aiohttp", "transports": ["websocket"], **options})


async def connect(client: Any, url: str) -> None:
    await client.connect(url, transports=["websocket"])


async def connect_as_text(client: Any, url: str) -> None:
    await client.connect(url, transports="websocket", wait_timeout=3)


@needs_balancer
@pytest.mark.parametrize("way_in", [connect, connect_as_text])
async def test_the_websocket_may_be_asked_for_in_any_way(way_in: Any) -> None:
    result = await ex05.nobody_polls(new_server, way_in)
    assert result.done, result.advice


async def polls_first(client: Any, url: str) -> None:
    await client.connect(url, wait_timeout=0.3)


async def polls_until_it_is_let_in(client: Any, url: str) -> None:
    for _ in range(3):
        try:
            await client.connect(url, wait_timeout=0.3)
        except socketio.exceptions.ConnectionError:
            await asyncio.sleep(0.05)


async def connects_nowhere(client: Any, url: str) -> None: ...


async def connects_wrongly(client: Any, url: str) -> None:
    await client.connect(url, transport="websocket")


@needs_balancer
@pytest.mark.parametrize(
    ("server", "way_in", "advice"),
    [
        (lambda: None, connect, "`new_server` gives nothing back yet"),
        (lambda: "server", connect, "no server of python-socketio"),
        (lambda: new_server(transports=None), polls_first, "a client began with polling"),
        (lambda: new_server(transports=None), polls_until_it_is_let_in, "began with polling"),
        (new_server, polls_first, "a client began with polling"),
        (lambda: new_server(transports=None), connect, "the server still opens a session"),
        (lambda: new_server(transports=["polling"]), connect, "your code raised `ConnectionError"),
        (new_server, connects_nowhere, "after `connect` the client is not connected"),
        (new_server, connects_wrongly, "unexpected keyword argument 'transport'"),
    ],
)
async def test_whoever_polls_is_named(server: Any, way_in: Any, advice: str) -> None:
    result = await ex05.nobody_polls(server, way_in)
    assert not result.done
    assert advice in result.advice


# -- task 3 ----------------------------------------------------------------------------------------


class Log:
    def __init__(self, redis: Any, deliver: Any) -> None:
        self.redis, self.deliver = redis, deliver
        self.last = "0-0"

    async def send(self, message: Any) -> None:
        await self.redis.xadd("kitchen", {"message": json.dumps(message)})
        await self.redis.publish("kitchen", "new")

    async def heard(self, data: Any) -> None:
        for entry, fields in await self.redis.xrange("kitchen", min=f"({self.last}"):
            await self.deliver(json.loads(fields["message"]))
            self.last = entry


SCRIPT = """
local message = cjson.decode(ARGV[1])
message.seq = redis.call('INCR', 'kitchen:seq')
local entry = cjson.encode(message)
redis.call('RPUSH', 'kitchen:list', entry)
redis.call('PUBLISH', 'kitchen', entry)
"""


class Numbered:
    """Another right answer: the lesson's script, and what is published where it is the next."""

    def __init__(self, redis: Any, deliver: Any) -> None:
        self.redis, self.deliver = redis, deliver
        self.served = 0

    async def send(self, message: Any) -> None:
        await self.redis.eval(SCRIPT, 0, json.dumps(message))

    async def heard(self, data: Any) -> None:
        entries = [data]
        if data["seq"] != self.served + 1:
            stored = await self.redis.lrange("kitchen:list", self.served, -1)
            entries = [json.loads(entry) for entry in stored]
        for entry in entries:
            self.served = entry["seq"]
            await self.deliver(entry)


@needs_valkey
@pytest.mark.parametrize("answer", [Log, Numbered])
async def test_one_order_may_be_made_in_any_way(answer: Any) -> None:
    result = await ex05.everybody_reads_one_order(answer)
    assert result.done, result.advice


class UnwrittenLog(Log):
    async def send(self, message: Any) -> None: ...
    async def heard(self, data: Any) -> None: ...


class PublishesBeforeStoring(Log):
    async def send(self, message: Any) -> None:
        await self.redis.publish("kitchen", "new")
        await self.redis.xadd("kitchen", {"message": json.dumps(message)})


class OwnFirst(Log):
    async def send(self, message: Any) -> None:
        await self.deliver(message)
        await self.redis.publish("kitchen", json.dumps(message | {"by": id(self)}))

    async def heard(self, data: Any) -> None:
        if data["by"] != id(self):
            await self.deliver(data)


class TwiceToOwn(Log):
    async def send(self, message: Any) -> None:
        await self.deliver(message)
        await super().send(message)


class OnlyWhatIsPublished(Log):
    async def send(self, message: Any) -> None:
        await self.redis.xadd("kitchen", {"message": json.dumps(message)})
        await self.redis.publish("kitchen", json.dumps(message))

    async def heard(self, data: Any) -> None:
        await self.deliver(data)


class EverythingEachTime(Log):
    async def heard(self, data: Any) -> None:
        self.last = "0-0"
        await super().heard(data)


class OnlyTheNewest(Log):
    async def heard(self, data: Any) -> None:
        for _, fields in await self.redis.xrevrange("kitchen", count=1):
            await self.deliver(json.loads(fields["message"]))


class FillsAfterwards(OnlyWhatIsPublished):
    """It delivers what it hears, and what it missed when it finds the time."""

    def __init__(self, redis: Any, deliver: Any) -> None:
        super().__init__(redis, deliver)
        self.shown: set[str] = set()

    async def heard(self, data: Any) -> None:
        if data["text"] in self.shown:
            return
        self.shown.add(data["text"])
        await self.deliver(data)
        for _, fields in await self.redis.xrange("kitchen"):
            message = json.loads(fields["message"])
            if message["text"] not in self.shown:
                self.shown.add(message["text"])
                await self.deliver(message)


@needs_valkey
@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (UnwrittenLog, "a message did not reach carol"),
        (PublishesBeforeStoring, "store it first, publish then"),
        (OwnFirst, "deliver nothing before the store has given it its place"),
        (TwiceToOwn, "deliver each message once, in one place"),
        (OnlyWhatIsPublished, "heard nothing for a moment, and its members never read"),
        (OnlyTheNewest, "read what is new in the store"),
        (EverythingEachTime, "deliver each message once"),
        (FillsAfterwards, "what was missed came after what is newer"),
    ],
)
async def test_what_is_out_of_order_is_named(answer: Any, advice: str) -> None:
    result = await ex05.everybody_reads_one_order(answer)
    assert not result.done
    assert advice in result.advice
