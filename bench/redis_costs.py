"""Measures what a message costs in Valkey and in a server, for docs/scaling.md.

    python bench/redis_costs.py

It takes a minute. Figures are microseconds of CPU a message (of Valkey, of the server's process)
and messages a second; a busy machine changes CPU time less than the clock's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from chatlab.lab import process, valkey
from chatlab.storage.redis import RedisLog
from chatlab.storage.redis_presence import RedisPresence
from chatlab.storage.redis_url import locate

TEXT = "x" * 100
MESSAGES = 20_000


async def opened(url: str, prefix: str) -> RedisLog:
    log = RedisLog(locate(f"{url}?prefix={prefix}"))
    await log.open()
    return log


async def info(log: RedisLog, section: str) -> dict[str, str]:
    text = (await log.nodes.command("any", "INFO", section)).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def cpu(log: RedisLog) -> float:
    """Seconds of CPU that Valkey has used."""
    facts = await info(log, "cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


async def append(log: RedisLog, *, rooms: int, in_flight: int, keyed: bool = True) -> None:
    """Store MESSAGES messages, so many at a time, spread over the rooms."""
    for first in range(0, MESSAGES, in_flight):
        sent = [
            log.append(f"room-{n % rooms}", "alice", TEXT, f"{n}" if keyed else None, "sid/1")
            for n in range(first, first + in_flight)
        ]
        await asyncio.gather(*sent)


async def cost_of_appends(url: str, *, rooms: int, in_flight: int) -> dict[str, float]:
    log = await opened(url, f"append-{rooms}-{in_flight}")
    before, own, began = await cpu(log), time.process_time(), time.perf_counter()
    await append(log, rooms=rooms, in_flight=in_flight)
    took = {
        "valkey": (await cpu(log) - before) / MESSAGES * 1e6,
        "server": (time.process_time() - own) / MESSAGES * 1e6,
        "rate": MESSAGES / (time.perf_counter() - began),
    }
    await log.close()
    return took


async def cost_of_hearing(url: str, *, rooms: int, in_flight: int) -> dict[str, float]:
    """What a server spends on a message of a room that it follows and another server stored."""
    prefix = f"hear-{rooms}-{in_flight}"
    log = await opened(url, prefix)
    heard = 0
    everything = asyncio.Event()

    def feed(_room: str, deliveries: Any) -> None:
        nonlocal heard
        heard += len(deliveries)
        if heard >= MESSAGES:
            everything.set()

    log.feed = feed
    for room in range(rooms):
        await log.follow(f"room-{room}")
    # Another process sends, so that its work is not counted here.
    arguments = ["--send", url, prefix, str(rooms), str(in_flight)]
    sender = process(*arguments, command=[sys.executable, __file__], ready=None, name="sender")
    own = time.process_time()
    await everything.wait()
    spent = (time.process_time() - own) / MESSAGES * 1e6
    sender.stop()
    await log.close()
    return {"server": spent}


async def cost_of_publishing(url: str, subscribers: int, size: int) -> dict[str, float]:
    """Valkey's CPU for one published message: in all, and for each further subscriber."""
    log = await opened(url, f"publish-{subscribers}")
    code = (
        "import socket,sys\n"
        f"for _ in range({subscribers}):\n"
        "    s=socket.create_connection(('127.0.0.1',int(sys.argv[1])));"
        "s.sendall(b'SUBSCRIBE c\\r\\n'); globals().setdefault('k',[]).append(s); s.recv(99)\n"
        "print('ready',flush=True)\n"
        "import selectors\n"
        "sel=selectors.DefaultSelector()\n"
        "[sel.register(s,1) for s in k]\n"
        "while True:\n"
        "    [key.fileobj.recv(1<<20) for key,_ in sel.select()]\n"
    )
    port = url.rpartition(":")[2].partition("/")[0]
    with process(port, command=[sys.executable, "-c", code], ready="ready", name="listener"):
        before = await cpu(log)
        for _ in range(MESSAGES // 64):
            calls = [log.nodes.command("any", "PUBLISH", "c", "x" * size) for _ in range(64)]
            await asyncio.gather(*calls)
        spent = (await cpu(log) - before) / (MESSAGES // 64 * 64) * 1e6
    await log.close()
    return {"valkey": spent}


async def cost_of_rooms(url: str, *, rooms: int = 2_000) -> dict[str, float]:
    """What a quiet room costs: a beat of its presence, and a look whether anything was missed."""
    log = await opened(url, "rooms")
    presence = RedisPresence(log.nodes, log.names, ttl=3_600.0)
    for n in range(rooms):
        await log.append(f"room-{n}", "alice", TEXT, None, "sid/1")
        await log.follow(f"room-{n}")
        await presence.enter(f"room-{n}", "alice")
    before = await cpu(log)
    for first in range(0, rooms, 64):
        some = range(first, min(rooms, first + 64))
        await asyncio.gather(*[presence._update(f"room-{n}", room(presence, n)) for n in some])
    beat = (await cpu(log) - before) / rooms * 1e6
    before, own = await cpu(log), time.process_time()
    (node,) = log.nodes.all()
    log._followed.catch_up(node)
    await asyncio.gather(*log._followed._tasks)
    look = (await cpu(log) - before) / rooms * 1e6
    server = (time.process_time() - own) / rooms * 1e6
    await presence.close()
    await log.close()
    return {"beat, valkey": beat, "catch up, valkey": look, "catch up, server": server}


def room(presence: RedisPresence, number: int) -> Any:
    return presence._rooms[f"room-{number}"]


async def memory(url: str) -> dict[str, float]:
    """Bytes that Valkey keeps for a message of 100 characters, and for a room with one."""
    log = await opened(url, "memory")
    before = int((await info(log, "memory"))["used_memory"])
    await append(log, rooms=2, in_flight=64, keyed=False)
    after = int((await info(log, "memory"))["used_memory"])
    for n in range(2_000):
        await log.append(f"other-{n}", "alice", TEXT, None, "sid/1")
    rooms = int((await info(log, "memory"))["used_memory"]) - after
    await append(log, rooms=2, in_flight=64)
    keyed = int((await info(log, "memory"))["used_memory"]) - after - rooms
    await log.close()
    return {
        "message": (after - before) / MESSAGES,
        "room": rooms / 2_000,
        # History is full by now: what is added are the keys, of which 10,000 a user stay.
        "key": keyed / 20_000,
    }


async def measure() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with valkey(name="costs", persist=False) as store:
        for rooms, in_flight in ((1, 1), (1, 16), (100, 100), (1, 100)):
            found[f"append, {rooms} rooms, {in_flight} in flight"] = await cost_of_appends(
                store.url, rooms=rooms, in_flight=in_flight
            )
        for rooms, in_flight in ((1, 1), (1, 100), (100, 100)):
            found[f"hear, {rooms} rooms, {in_flight} in flight"] = await cost_of_hearing(
                store.url, rooms=rooms, in_flight=in_flight
            )
        for subscribers in (1, 10, 100):
            found[f"publish 300 bytes to {subscribers}"] = await cost_of_publishing(
                store.url, subscribers, 300
            )
        found["a quiet room"] = await cost_of_rooms(store.url)
        found["memory, bytes"] = await memory(store.url)
    with valkey(name="costs", persist=True) as store:
        for rooms, in_flight in ((1, 1), (1, 16), (1, 100)):
            found[
                f"append, fsync always, {rooms} rooms, {in_flight} in flight"
            ] = await cost_of_appends(store.url, rooms=rooms, in_flight=in_flight)
    return found


async def send(url: str, prefix: str, rooms: int, in_flight: int) -> None:
    log = await opened(url, prefix)
    await append(log, rooms=rooms, in_flight=in_flight)
    await log.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        asyncio.run(send(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
    else:
        for what, costs in asyncio.run(measure()).items():
            shown = ", ".join(f"{name} {value:,.1f}" for name, value in costs.items())
            sys.stdout.write(f"{what}: {shown}\n")
