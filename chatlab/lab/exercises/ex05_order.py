"""The check of exercise 05's stretch: two servers, one order, whatever is slow or lost.

A slow line makes two orders of what is not numbered in one place; a notification that was missed
makes a gap of what is not read from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from chatlab.lab.checks import advice, check, expect
from chatlab.lab.clients import RawClient
from chatlab.lab.exercises.ex05_bus import PATIENCE, Site, sites

__all__ = ["everybody_reads_one_order"]

ROOM = "kitchen"
LATE = 0.3  # seconds, in each direction, on one server's line


class _Log:
    """The learner's log as a site's part: one room, which the server has always subscribed to."""

    def __init__(self, room_log: Callable[..., Any], bus: Any, deliver: Callable[..., Any]) -> None:
        async def hand_out(message: dict[str, Any]) -> None:
            await deliver(ROOM, message)

        self._bus = bus
        self._log = room_log(bus.redis, hand_out)

    async def joined(self, room: str) -> None:
        await self._bus.subscribe(room)

    async def left(self, room: str) -> None: ...

    async def send(self, room: str, message: dict[str, Any]) -> None:
        await self._log.send(message)

    async def heard(self, channel: str, data: Any) -> None:
        await self._log.heard(data)


@check("everybody reads everything, once, in one order", task=3, lesson="05", stretch=True)
async def everybody_reads_one_order(room_log: Callable[..., Any]) -> None:
    """`room_log(redis, deliver)` makes one server's part in the log of the room `kitchen`."""

    def make(bus: Any, deliver: Callable[..., Any]) -> _Log:
        return _Log(room_log, bus, deliver)

    async with sites(make, "server A", "server B") as (a, b):
        alice, carol = await a.client("alice", ROOM), await a.client("carol", ROOM)
        bob, dave = await b.client("bob", ROOM), await b.client("dave", ROOM)
        await _say(a, alice, "hello")
        await _all_read([a, b], [carol, dave], ["hello"], sent="a message")
        await _one_order(a, b, alice, bob, carol, dave)
        await _no_gap(a, b, alice, carol, dave)


async def _say(site: Site, client: RawClient, text: str) -> None:
    await site.ask(client, "send-message", {"room": ROOM, "text": text})


async def _all_read(
    parts: Sequence[Site], readers: Sequence[RawClient], texts: Sequence[str], *, sent: str
) -> None:
    where = {"carol": "server A", "dave": "server B"}
    for reader in readers:
        try:
            await reader.wait_for(
                lambda items: {item.data["text"] for item in items} >= set(texts), timeout=PATIENCE
            )
        except TimeoutError:
            for site in parts:
                site.complain()
            advice(
                f"{sent} did not reach {reader.name}, on {where[reader.name]} — store it first, "
                "publish then, and when something is heard read what is new in the store"
            )


async def _one_order(
    a: Site, b: Site, alice: RawClient, bob: RawClient, carol: RawClient, dave: RawClient
) -> None:
    a.line.delay(LATE)
    sending = asyncio.ensure_future(_say(a, alice, "at 8?"))
    try:
        await a.server.wait_for(
            lambda items: any(i.event == "send-message" and "8" in str(i.data) for i in items)
        )
        await _say(b, bob, "at 9?")
        await sending
    finally:
        sending.cancel()
    both = ["at 8?", "at 9?"]
    await _all_read([a, b], [carol, dave], both, sent="one of two messages, over a slow line,")
    a.line.delay(0)
    await _say(b, bob, "over")
    await _all_read([a, b], [carol], ["over"], sent="a message")
    await _all_read([a, b], [dave], ["over"], sent="a message")
    orders = [[t for t in reader.received_texts if t in both] for reader in (carol, dave)]
    for reader, order in zip((carol, dave), orders, strict=True):
        expect(
            len(order) == 2,
            f"{reader.name} read {order} — deliver each message once, in one place: when it is "
            "heard, also on the sender's own server",
        )
    expect(
        orders[0] == orders[1],
        f"with a slow line carol read {orders[0]} and dave {orders[1]} — "
        "deliver nothing before the store has given it its place",
    )


async def _no_gap(a: Site, b: Site, alice: RawClient, carol: RawClient, dave: RawClient) -> None:
    # For a moment server B hears nothing, as when its line is down.
    await b.server.call(b.bus.unsubscribe, ROOM)
    await _say(a, alice, "missed")
    await _all_read([a], [carol], ["missed"], sent="a message")
    await b.server.call(b.bus.subscribe, ROOM)
    for text in ("heard", "the end"):
        await _say(a, alice, text)
        await _all_read([a, b], [carol, dave], [text], sent="a message")
    a.complain()
    b.complain()
    texts = dave.received_texts
    expect(
        "missed" in texts,
        "server B heard nothing for a moment, and its members never read what was said then — "
        "deliver what is in the store since the last one, not only what was published",
    )
    expect(
        texts.index("missed") < texts.index("heard"),
        "what was missed came after what is newer — fill the gap first",
    )
    for reader in (carol, dave):
        more = {t: n for t in reader.received_texts if (n := reader.received_texts.count(t)) > 1}
        expect(not more, f"{reader.name} read {', '.join(more)} more than once — remember the last")
