"""The load generator's scenarios of messages: one coroutine each, from a job to its rows.

They run in the generator's own process; the words for callers are `load.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final

from chatlab.lab.load_connections import connects, park
from chatlab.lab.load_counts import Counts, LoadError
from chatlab.lab.load_job import Job, drained, enter, leave, measured, settled, times
from chatlab.lab.load_row import Row
from chatlab.lab.load_wire import Wire

__all__ = ["SCENES"]

_TICK: Final = 0.001


# -- clients ---------------------------------------------------------------------------------------


class Sender(Wire):
    """Keeps `in_flight` messages unanswered: every ack is followed by the next message."""

    sending = False

    def acked(self, number: int) -> None:
        self.arrived_after(number)
        if self.sending:
            self.send(number)


class Listener(Wire):
    """Counts what it is sent, for its room."""

    room: Room

    def delivered(self, number: int) -> None:
        self.room.more()


class Speaker(Wire):
    """Sends as its room allows."""

    room: Room
    answered = 0
    asked = 0

    def acked(self, number: int) -> None:
        self.arrived_after(number)
        self.answered += number
        self.room.look()

    def delivered(self, number: int) -> None:
        self.room.more()


class Room:
    """A message is in flight until it is acked and has been delivered to everybody else."""

    def __init__(self, counts: Counts, members: int, speakers: Sequence[Speaker], window: int):
        self.counts = counts
        self.others = members - 1
        self.speakers = speakers
        self.window = window
        self.open = False
        self.done = 0
        self.due = self.others

    def more(self) -> None:
        """Deliveries came."""
        if self.counts.deliveries >= self.due:
            self.done = self.counts.deliveries // self.others
            self.due = (self.done + 1) * self.others
            self.look()

    def look(self) -> None:
        """Send as many as there is room for."""
        if not self.open:
            return
        for speaker in self.speakers:
            free = min(
                self.window - (speaker.asked - speaker.answered),
                self.window * len(self.speakers) - (self.counts.sent - self.done),
            )
            if free > 0:
                speaker.asked += free
                speaker.send(free)


# -- scenarios -------------------------------------------------------------------------------------


async def acks(job: Job) -> list[Row]:
    """Clients, each alone in a room, keep so many messages in flight."""
    clients, in_flight = job.settings["clients"], job.settings["in_flight"]
    counts = Counts()
    wires = await enter(job, [Sender] * clients, counts, lambda n: f"alone-{n}")
    await settled(job)
    for wire in wires:
        wire.count_only(job.settings["text"], in_flight=in_flight)
        wire.sending = True
        wire.send(in_flight)
    span, came, latencies = await measured(job, counts)
    for wire in wires:
        wire.sending = False
    missing = await drained(lambda: counts.sent - counts.acks)
    row = job.row(
        clients,
        span,
        unit="messages",
        count=came.acks,
        sent=counts.sent,
        missing=missing,
        **times(latencies),
    )
    await leave(wires)
    return [row]


async def fanout(job: Job) -> list[Row]:
    """One room; few speak, all others listen."""
    members, speakers = job.settings["room"], job.settings["senders"]
    in_flight = job.settings["in_flight"]
    counts = Counts()
    makers: list[Any] = [Speaker] * speakers + [Listener] * (members - speakers)
    wires = await enter(job, makers, counts, lambda n: "fan-out")
    await settled(job)
    room = Room(counts, members, wires[:speakers], in_flight)
    for wire in wires:
        wire.room = room
        wire.count_only(job.settings["text"], in_flight=in_flight)
    room.open = True
    room.look()
    span, came, latencies = await measured(job, counts)
    room.open = False
    missing = await drained(lambda: counts.sent * (members - 1) - counts.deliveries)
    row = job.row(
        members,
        span,
        unit="deliveries",
        count=came.deliveries,
        sent=counts.sent,
        missing=missing,
        **times(latencies),
    )
    await leave(wires)
    return [row]


async def rooms(job: Job) -> list[Row]:
    """Several rooms; every member sends."""
    number, size, in_flight = (job.settings[each] for each in ("rooms", "size", "in_flight"))
    counts = Counts()
    clients = number * size
    wires = await enter(job, [Sender] * clients, counts, lambda n: f"room-{n // size}")
    await settled(job)
    for wire in wires:
        wire.count_only(job.settings["text"], in_flight=in_flight)
        wire.sending = True
        wire.send(in_flight)
    span, came, latencies = await measured(job, counts)
    for wire in wires:
        wire.sending = False
    missing = await drained(
        lambda: counts.sent - counts.acks + counts.sent * (size - 1) - counts.deliveries
    )
    row = job.row(
        clients,
        span,
        unit="deliveries",
        count=came.deliveries,
        sent=counts.sent,
        missing=missing,
        **times(latencies),
    )
    await leave(wires)
    return [row]


async def steady(job: Job) -> list[Row]:
    """A given rate, whatever the server does, spread evenly over rooms whose members all send."""
    number, size, rate = (job.settings[each] for each in ("rooms", "size", "rate"))
    counts = Counts()
    clients = number * size
    wires = await enter(job, [Wire] * clients, counts, lambda n: f"room-{n // size}")
    await settled(job)
    for wire in wires:
        wire.count_only(job.settings["text"])
    # One client after another, of another room each time.
    turn = [room * size + member for member in range(size) for room in range(number)]
    ticking = asyncio.create_task(tick([wires[each] for each in turn], rate))
    try:
        span, came, latencies = await measured(job, counts)
    finally:
        ticking.cancel()
    missing = await drained(
        lambda: counts.sent - counts.acks + counts.sent * (size - 1) - counts.deliveries
    )
    row = job.row(
        clients,
        span,
        unit="messages",
        count=came.acks,
        sent=counts.sent,
        missing=missing,
        **times(latencies),
    )
    await leave(wires)
    return [row]


async def tick(wires: Sequence[Wire], rate: float) -> None:
    """Send `rate` messages a second, one from each wire in turn."""
    begun, sent = perf_counter(), 0
    while True:
        due = int((perf_counter() - begun) * rate)
        for number in range(sent, due):
            wires[number % len(wires)].send(1)
        sent = due
        await asyncio.sleep(max(_TICK, begun + (sent + 1) / rate - perf_counter()))


async def across(job: Job) -> list[Row]:
    """One sends at the first server, one listens at the second: how long, or how many."""
    rate, in_flight = job.settings["rate"], job.settings["in_flight"]
    counts = Counts()
    pair = await enter(
        job,
        [Source, Across],
        counts,
        lambda n: "across",
        url_of=lambda n: job.urls[n % len(job.urls)],
    )
    sender, listener = pair[0], pair[1]
    listener.sender = sender
    for wire in pair:
        wire.count_only(job.settings["text"], in_flight=in_flight)
    await _until_heard(sender, counts)
    await settled(job)
    sender.forget()
    counts.deliveries = counts.sent = counts.acks = 0
    ticking = None
    listener.timed = True
    if rate:
        ticking = asyncio.create_task(tick([sender], rate))
    else:
        listener.sending = True
        sender.send(in_flight)
    try:
        span, came, latencies = await measured(job, counts)
    finally:
        if ticking is not None:
            ticking.cancel()
    listener.sending = False
    missing = await drained(lambda: counts.sent - counts.deliveries)
    row = job.row(
        2,
        span,
        unit="messages",
        count=came.deliveries,
        sent=counts.sent,
        missing=missing,
        **times(latencies),
    )
    await leave(pair)
    return [row]


class Source(Wire):
    """Sends; what is timed is not the ack but the delivery elsewhere."""

    def acked(self, number: int) -> None:
        pass


class Across(Wire):
    """Hears, at another server, what `sender` said; lets it say the next."""

    sender: Wire
    sending = False
    timed = False

    def delivered(self, number: int) -> None:
        if self.timed:
            self.sender.arrived_after(number)
        if self.sending:
            self.sender.send(number)


async def _until_heard(sender: Wire, counts: Counts) -> None:
    """Two servers may need a moment until they hear each other."""
    deadline = perf_counter() + 10
    while not counts.deliveries:
        if perf_counter() > deadline:
            raise LoadError("what is said at the first server is not heard at the second")
        sender.send(1)
        await asyncio.sleep(0.05)


SCENES: Final[dict[str, Callable[[Job], Awaitable[list[Row]]]]] = {
    "acks": acks,
    "fanout": fanout,
    "rooms": rooms,
    "steady": steady,
    "connects": connects,
    "park": park,
    "across": across,
}
