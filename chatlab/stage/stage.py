"""The stage itself: its parts, what is broken in them now, and what its page is told.

What a switch does is in `actions.py`, what is seen in `watch.py`; here they come together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from chatlab.stage import told
from chatlab.stage.actions import Actions, set_banned
from chatlab.stage.arguments import fitting
from chatlab.stage.codes import Codes
from chatlab.stage.control import Answer
from chatlab.stage.crowd import PEOPLE, SEAT, Crowd
from chatlab.stage.entrance import Entrance
from chatlab.stage.guests import Guest, Guests
from chatlab.stage.helpers import Helper
from chatlab.stage.pulse import Pulse
from chatlab.stage.record import Record
from chatlab.stage.relay import Intake
from chatlab.stage.script import SCRIPT
from chatlab.stage.seats import seat_at, wait_for
from chatlab.stage.state import Window, Wire
from chatlab.stage.turns import Refused, Turn, Turns
from chatlab.stage.verdict import Checker
from chatlab.stage.watch import Watch
from chatlab.stage.world import ROOM, WINDOWS, Adapter, World

__all__ = ["Stage"]

log = logging.getLogger(__name__)

_TOKEN: Final = 12 * 3_600.0  # seconds


class Stage:
    """`tell` gets what every page is told; `pages` serves the chat page to the windows."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], *, pages: str) -> None:
        self.began = time.monotonic()
        self.ready = False
        intake = Intake()
        self.world = World(intake, pages=pages)
        self.windows = {name: Window(name, user) for name, user in WINDOWS.items()}
        self.faults = {name: Wire() for name in WINDOWS}
        self.frozen: set[str] = set()
        self.banned: set[str] = set()
        self.in_hand: set[str] = set()  # parts that an action is about to stop or start
        self.ended: dict[str, str] = {}
        self.codes = Codes()
        self.guests = Guests(self.world.token, self.clock)
        self.guests.changed = self._came
        self.entrance: Entrance | None = None
        self.flood = Helper("flood", self.world.called("flood"))
        self.probe = Helper("probe", self.world.called("probe"))
        self.flood_ends: float | None = None
        self.tell = tell
        record = Record()
        self.checker = Checker(record, since=self.began, lateness=self._lateness, tell=tell)
        self.watch = Watch(
            self.world,
            intake,
            record,
            list(self.windows.values()),
            since=self.began,
            tell=tell,
            moved=self.changed,
        )
        self.crowd = Crowd(record, url="", token=self._crowd_token, room=ROOM)
        self.actions = Actions(self)
        self._turns = Turns(self._turn)
        self.busy: dict[str, Any] | None = None
        self.pulse = Pulse(self)
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- beginning and end -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything. Raises `RuntimeError` with a sentence; call `stop` then."""
        await asyncio.to_thread(self.world.start)
        await self._settle()
        for work in (
            self.watch.run([self.flood, self.probe]),
            self.checker.run(),
            self.pulse.states(),
            self.pulse.seconds(),
        ):
            self.spawn(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run until the stage ends."""
        task = asyncio.create_task(self._lasting(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lasting(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the rest of the stage goes on, and the log says what is missing
            log.exception("a part of the stage has failed")
            self.notice("bad", "A part of the stage itself has failed: see its log.")

    async def stop(self) -> None:
        """End everything, from whatever state. May be repeated."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2)
        with contextlib.suppress(Exception):
            await self.crowd.stop()
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        for stop in (self.flood.stop, self.probe.stop, self.world.stop):
            with contextlib.suppress(Exception):
                stop()
        if self.entrance is not None:
            self.entrance.close()

    async def _settle(self) -> None:
        """After servers have started: everybody is where they belong, and is measured."""
        balancer = self.world.balancer
        if balancer is None:
            raise RuntimeError("the stage has no balancer")
        self.crowd.url = balancer.url
        if not self.crowd.seats:
            self.crowd.seats = await asyncio.to_thread(self._seat_the_crowd)
        for number, window in enumerate(self.windows.values(), 1):
            if not window.seat:
                window.seat = await asyncio.to_thread(seat_at, self.world, number, window.id)
            await asyncio.to_thread(wait_for, self.world, number, window.seat)
            self.load(window, "good")
        await self.measure()
        self.ready = True
        self.changed()

    async def measure(self) -> None:
        """Let the quiet user talk to server 1 as it is now."""
        servers = self.world.servers
        if servers:
            token = self.world.token("victor", ttl=_TOKEN)
            await asyncio.to_thread(self.probe.start, servers[0].url, token)

    # -- actions -----------------------------------------------------------------------------------

    async def act(self, asked: dict[str, Any]) -> Answer:
        """Do what a page asks. Returns an HTTP status and what to answer."""
        number, name = self._turns.number(), str(asked.get("do"))
        began = time.monotonic()
        given = {key: value for key, value in asked.items() if key not in ("do", "label")}
        try:
            if name == "reset":
                words = await self._turns.reset(number, self._reset)
            else:
                action = self.actions.named(name)
                words = await self._turns.take(number, name, lambda: fitting(action, given))
        except Refused as error:
            return self._failed(number, name, str(error))
        except Exception as error:
            log.exception("the action %s has failed", name)
            what = str(error).strip().splitlines() or [type(error).__name__]
            return self._failed(number, name, f"That did not work: {what[0]}")
        # Whoever hears that it is done has heard what that changed.
        self.pulse.flush()
        took = round(time.monotonic() - began, 2)
        self.tell({"type": "done", "id": number, "do": name, "words": words, "took": took})
        return 200, {"ok": True, "id": number, "words": words}

    def _failed(self, number: int, name: str, error: str) -> Answer:
        self.pulse.flush()
        self.tell({"type": "failed", "id": number, "do": name, "error": error})
        return 409, {"ok": False, "id": number, "error": error}

    def _turn(self, turn: Turn | None) -> None:
        self.busy = None
        if turn is not None:
            words = "The stage is being reset" if turn.name == "reset" else turn.name
            self.busy = {
                "id": turn.id,
                "do": turn.name,
                "words": words,
                "since": round(self.clock(), 1),
            }
        self.changed()

    async def _reset(self) -> str:
        self.ready = False
        await self.end_flood()
        await self.crowd.stop()
        try:
            await asyncio.to_thread(self.world.reset)
        except RuntimeError:
            # Whatever it was, it does not survive this.
            log.exception("resetting has failed, everything is started anew")
            await asyncio.to_thread(self.world.start_over)
        self._as_new()
        if self.entrance is not None:
            self.codes.renew()
            await asyncio.to_thread(self.entrance.open)
            await self._ban_guests_again()
        self.checker.begin_anew(forget=True)
        await self._settle()
        return "Everything is as it was at the start."

    def _as_new(self) -> None:
        self.frozen.clear()
        self.ended.clear()
        self.in_hand.clear()
        self.banned.clear()
        for wire in self.faults.values():
            wire.cut, wire.muted, wire.delay = False, None, 0.0

    async def _ban_guests_again(self) -> None:
        # The Valkey was emptied. Whoever was thrown out by the instructor stays out.
        for guest in self.guests.all.values():
            if guest.banned:
                self.banned.add(guest.id)
                await asyncio.to_thread(set_banned, self.world.store_url, guest.id, True)

    async def rebuild(self, adapter: Adapter, *, limits: bool) -> None:
        """Other servers, with all that hangs on them."""
        was_on = self.crowd.on
        await self.end_flood()
        await self.crowd.stop()
        self.in_hand |= {"server-1", "server-2"}
        try:
            await asyncio.to_thread(self.world.build, adapter, limits)
        except RuntimeError as error:
            raise Refused(f"The servers did not start. Reset the stage. ({error})") from error
        finally:
            self.in_hand -= {"server-1", "server-2"}
        for number in (1, 2):
            self.frozen.discard(f"server-{number}")
            self.ended.pop(f"server-{number}", None)
        self.checker.begin_anew(forget=True)
        await self._settle()
        if was_on:
            self.crowd.start(stock=adapter == "stock")

    async def end_flood(self) -> None:
        """Stop the flooding user, if there is one."""
        self.flood_ends = None
        await asyncio.to_thread(self.flood.stop)

    def load(self, window: Window, kind: str, ttl: float = _TOKEN) -> None:
        """Give a window a new address, with another token in it."""
        if kind == "forged":
            token = self.world.forged(window.user, ttl=_TOKEN)
        elif kind == "expired":
            token = self.world.token(window.user, ttl=-60.0)
        else:
            token = self.world.token(window.user, ttl=ttl if kind == "expiring" else _TOKEN)
        window.loads += 1
        window.kind = kind
        window.expires = round(self.clock() + ttl, 1) if kind == "expiring" else None
        wire = self.world.wires[window.id]
        window.url = f"{wire.url}/?seat={window.seat}&v={window.loads}#token={token}&room={ROOM}"
        self.changed()

    def _seat_the_crowd(self) -> dict[str, str]:
        """Seats at both servers by turns: between two servers stock loses most."""
        return {
            name: seat_at(self.world, 1 + number % 2, f"{SEAT}{name}-")
            for number, name in enumerate(PEOPLE)
        }

    def _crowd_token(self, user: str) -> str:
        return self.world.token(user, ttl=_TOKEN)

    # -- what pages are told -----------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.began

    def changed(self) -> None:
        """Tell every page the state, soon."""
        self.pulse.dirty.set()

    def notice(self, kind: str, text: str) -> None:
        """Something happened that nobody clicked."""
        self.tell({"type": "notice", "at": round(self.clock(), 1), "kind": kind, "text": text})
        self.changed()

    def _came(self, guest: Guest) -> None:
        self.notice("info", f"{guest.name} has joined.")

    def _lateness(self) -> float:
        return max(wire.delay for wire in self.faults.values())

    def greeting(self) -> list[dict[str, Any]]:
        """What a page is told first."""
        return [
            {
                "type": "welcome",
                "script": SCRIPT,
                "room": ROOM,
                "time": round(self.clock(), 2),
            },
            self.state(),
            self.checker.latest,
            {"type": "chart", "points": list(self.pulse.points)},
        ]

    def state(self) -> dict[str, Any]:
        """Everything, now."""
        self._number += 1
        return {"type": "state", "n": self._number, **told.whole(self)}
