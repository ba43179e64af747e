"""Looks at what the wires and lines saw, many times a second, and tells who wants to know.

It starts and breaks nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from chatlab.lab.recorder import Entry
from chatlab.stage.crowd import SEAT
from chatlab.stage.helpers import Helper
from chatlab.stage.meter import Meter
from chatlab.stage.packets import PROBE, Packets
from chatlab.stage.record import Record, WindowRecord
from chatlab.stage.relay import Intake
from chatlab.stage.state import Window
from chatlab.stage.world import World

__all__ = ["Watch"]

_TICK: Final = 0.04  # seconds
_MOST: Final = 50  # packets of one tick that are told; more than that nobody can see
_LOOK: Final = 5  # ticks between two looks at connections


class Watch:
    """`tell` gets messages for the stage's pages; `moved` is called when a window is elsewhere."""

    def __init__(
        self,
        world: World,
        intake: Intake,
        record: Record,
        windows: Sequence[Window],
        *,
        since: float,
        tell: Callable[[dict[str, Any]], None],
        moved: Callable[[], None],
    ) -> None:
        self.meter = Meter(PROBE)
        self.flooded = {"sent": 0, "ok": 0, "refused": 0}
        self._world = world
        self._intake = intake
        self._windows = {window.id: window for window in windows}
        self._tell = tell
        self._moved = moved
        self._packets = Packets(since, self._seat_of)
        self._books = {w.id: WindowRecord(record, w.user, w.user) for w in windows}
        self._heard: dict[str, bool] = dict.fromkeys(self._books, False)

    def _seat_of(self, seat: str | None) -> str | None:
        if seat is not None and seat.startswith(SEAT):
            return "crowd"
        for window in self._windows.values():
            if seat is not None and seat == window.seat:
                return f"window-{window.id}"
        return None

    async def run(self, helpers: Sequence[Helper]) -> None:
        """Look until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(_TICK)
            ticks += 1
            self._drain()
            if ticks % _LOOK == 0:
                self._look()
                for helper in helpers:
                    helper.read(self._said)
                self._forget()

    def _drain(self) -> None:
        packets: list[dict[str, Any]] = []
        skipped = 0
        for entry, place in self._intake.take():
            self._take(entry, place)
            if len(packets) < _MOST:
                packets += self._packets.of(place, entry)
            else:
                skipped += 1
        if packets or skipped:
            self._tell({"type": "packets", "packets": packets, "skipped": skipped})

    def _take(self, entry: Entry, place: str) -> None:
        kind, _, which = place.partition("-")
        if kind == "wire":
            self._books[which].take(entry)
            if entry.packet == "connect" and not entry.to_server and entry.kind == "pass":
                self._heard[which] = True
            return
        self.meter.take(place, entry)
        if kind == "server" and entry.packet in ("connect", "disconnect"):
            # A CONNECT towards the client says yes; a DISCONNECT, of either, that it is over.
            for window in self._windows.values():
                if entry.conn != window.seat:
                    continue
                if entry.packet == "disconnect":
                    self._place(window, None)
                elif not entry.to_server:
                    self._place(window, place)

    def _place(self, window: Window, server: str | None) -> None:
        if window.server != server:
            window.server = server
            self._moved()

    def _look(self) -> None:
        """Which connections are there still."""
        carried = {f"server-{n}": wire.clients for n, wire in enumerate(self._world.inner, 1)}
        for window in self._windows.values():
            book = self._books[window.id]
            wire = self._world.wires.get(window.id)
            outside = {} if wire is None else wire.clients
            if self._heard[window.id] and book.connection not in outside:
                self._heard[window.id] = False
                book.away()
            if window.server is not None:
                inside = carried.get(window.server, {})
                # The balancer keeps a connection by which somebody polled, also when they are gone.
                polls = not inside.get(window.seat, True)
                if window.seat not in inside or (polls and book.connection not in outside):
                    self._place(window, None)

    def healed(self, window: str) -> None:
        """The wire is a plain cable again: whoever is connected still hears everything."""
        book, wire = self._books[window], self._world.wires.get(window)
        if wire is not None and self._heard[window] and book.connection in wire.clients:
            book.back()

    def _said(self, said: dict[str, Any]) -> None:
        if "ms" in said:
            self.meter.victim(said["ms"])
            return
        for code, count in said.get("refused", {}).items():
            self.meter.rejected(str(code), int(count))
            self.flooded["refused"] += int(count)
        self.flooded["sent"] += int(said.get("sent", 0))
        self.flooded["ok"] += int(said.get("ok", 0))

    def _forget(self) -> None:
        # A wire counts what happened for those who wait for it, which nobody does here.
        for wire in (*self._world.wires.values(), *self._world.inner):
            wire.clear()

    def point(self, since: float) -> dict[str, Any]:
        """The last second, for the charts."""
        return self.meter.point(time.monotonic() - since)
