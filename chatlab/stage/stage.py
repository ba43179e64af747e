"""The stage itself: its parts, what is broken in them now, and what its page is told.

What a switch does is in `actions.py`, what is seen in `watch.py`; here they come together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from chatlab.stage import state
from chatlab.stage.actions import Actions, set_banned
from chatlab.stage.codes import Codes
from chatlab.stage.control import Answer
from chatlab.stage.crowd import PEOPLE, Crowd
from chatlab.stage.entrance import Entrance
from chatlab.stage.guests import Guest, Guests
from chatlab.stage.helpers import Helper
from chatlab.stage.record import Record
from chatlab.stage.relay import Intake
from chatlab.stage.script import SCRIPT
from chatlab.stage.state import Window, Wire
from chatlab.stage.turns import Refused, Turn, Turns
from chatlab.stage.verdict import Checker
from chatlab.stage.watch import Watch
from chatlab.stage.world import ROOM, WINDOWS, Adapter, World

__all__ = ["Stage"]

log = logging.getLogger(__name__)

_TOKEN: Final = 12 * 3_600.0  # seconds
_TICK: Final = 0.05  # seconds between two states at least
_POINTS: Final = 120  # seconds of the charts
_SEATS: Final = 40


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
        self.expected: set[str] = set()  # parts that are down, or being started, on purpose
        self.ended: dict[str, str] = {}
        self.codes = Codes()
        self.guests = Guests(self.world.token, self.clock)
        self.guests.changed = self._came
        self.entrance: Entrance | None = None
        self.flood = Helper("flood", self.world.called("flood"))
        self.probe = Helper("probe", self.world.called("probe"))
        self.flood_ends: float | None = None
        self._tell = tell
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
        self._busy: dict[str, Any] | None = None
        self._points: deque[dict[str, Any]] = deque(maxlen=_POINTS)
        self._number = 0
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- beginning and end -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything. Raises `RuntimeError` with a sentence; call `stop` then."""
        await asyncio.to_thread(self.world.start)
        await self._settle()
        for work in (
            self.watch.run([self.flood, self.probe]),
            self.checker.run(),
            self._tick(),
            self._second(),
        ):
            self._tasks.append(asyncio.create_task(self._lasting(work)))

    async def _lasting(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the rest of the stage goes on, and the log says what is missing
            log.exception("a part of the stage has failed")
            self.notice("bad", "A part of the stage itself has failed: see its log.")

    async def stop(self) -> None:
        """End everything, from whatever state. May be repeated."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
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
        for number, window in enumerate(self.windows.values(), 1):
            if not window.seat:
                window.seat = await asyncio.to_thread(self._seat, window.id, number)
            self.load(window, "good")
        await self.measure()
        self.ready = True
        self.changed()

    def _seat(self, window: str, number: int) -> str:
        """A seat that the balancer takes for server `number`."""
        wire, inner = self.world.wires[window], self.world.inner[number - 1]
        wanted = _server_at(f"{inner.url}/healthz")
        for seat in (f"{window}{n}" for n in range(_SEATS)):
            if _server_at(f"{wire.url}/healthz?seat={seat}") == wanted:
                return seat
        raise RuntimeError(f"the balancer sends nobody to server {number}")

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
                words = await self._turns.take(number, name, lambda: _called(action, given))
        except Refused as error:
            return self._failed(number, name, str(error))
        except Exception as error:
            log.exception("the action %s has failed", name)
            what = str(error).strip().splitlines() or [type(error).__name__]
            return self._failed(number, name, f"That did not work: {what[0]}")
        took = round(time.monotonic() - began, 2)
        self._tell({"type": "done", "id": number, "do": name, "words": words, "took": took})
        return 200, {"ok": True, "id": number, "words": words}

    def _failed(self, number: int, name: str, error: str) -> Answer:
        self._tell({"type": "failed", "id": number, "do": name, "error": error})
        self.changed()
        return 409, {"ok": False, "id": number, "error": error}

    def _turn(self, turn: Turn | None) -> None:
        self._busy = None
        if turn is not None:
            words = "The stage is being reset" if turn.name == "reset" else turn.name
            self._busy = {
                "id": turn.id,
                "do": turn.name,
                "words": words,
                "since": round(self.clock(), 1),
            }
        self.changed()

    async def _reset(self) -> str:
        self.ready = False
        self.expected = {"server-1", "server-2", "valkey", "balancer"}
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
        self.expected.clear()
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
        if "valkey" in self.frozen or (self.world.store and not self.world.store.running):
            raise Refused("New servers need the Valkey. Start it first, or reset.")
        self.expected |= {"server-1", "server-2"}
        try:
            await asyncio.to_thread(self.world.build, adapter, limits)
        except RuntimeError as error:
            raise Refused(f"The servers did not start. Reset the stage. ({error})") from error
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

    def _crowd_token(self, user: str) -> str:
        return self.world.token(user, ttl=_TOKEN)

    # -- what pages are told -----------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.began

    def changed(self) -> None:
        """Tell every page the state, soon."""
        self._dirty.set()

    def notice(self, kind: str, text: str) -> None:
        """Something happened that nobody clicked."""
        self._tell({"type": "notice", "at": round(self.clock(), 1), "kind": kind, "text": text})
        self.changed()

    def _came(self, guest: Guest) -> None:
        self.notice("info", f"{guest.name} has joined.")

    def _lateness(self) -> float:
        return max(wire.delay for wire in self.faults.values())

    async def _tick(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), 0.25)
            self._look()
            if self._dirty.is_set():
                self._dirty.clear()
                self._tell(self.state())
            await asyncio.sleep(_TICK)

    def _look(self) -> None:
        """Notice what ended by itself."""
        if self.flood_ends is not None and time.monotonic() > self.flood_ends:
            self.flood_ends = None
            self._tasks.append(asyncio.create_task(self.end_flood()))
            self.notice("info", "The flood is over: its time was up.")
        if not self.ready:
            return
        for name, process in self.world.parts.items():
            if process.running:
                self.expected.discard(name)
            elif name not in self.expected and name not in self.ended:
                self.ended[name] = "ended by itself"
                title = state.part(name, process, frozen=False, ended="")["name"]
                self.notice("bad", f"{title} has ended by itself ({process.returncode}).")

    async def _second(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            point = self.watch.point(self.began)
            self._points.append(point)
            self._tell({"type": "chart", "points": [point]})
            if self.flood.running:
                self.changed()

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
            {"type": "chart", "points": list(self._points)},
        ]

    def state(self) -> dict[str, Any]:
        """Everything, now."""
        self._number += 1
        world = self.world
        entrance = self.entrance
        return {
            "type": "state",
            "n": self._number,
            "at": round(self.clock(), 2),
            "ready": self.ready,
            "busy": self._busy,
            "adapter": world.adapter,
            "limits": world.limits,
            "parts": self._parts(),
            "links": state.links(
                door=entrance is not None and entrance.is_open,
                crowd=self.crowd.on,
                flood=self.flood.running,
            ),
            "windows": [w.told(w.user in self.banned) for w in self.windows.values()],
            "wires": {f"wire-{name}": wire.told() for name, wire in self.faults.items()},
            "flood": self._flood(),
            "crowd": {"on": self.crowd.on, "people": list(PEOPLE)},
            "door": None if entrance is None else entrance.told(),
            "record": {
                "since": round(self.checker.record.begun - self.began, 1),
                "events": len(self.checker.record),
            },
        }

    def _flood(self) -> dict[str, Any]:
        left = None if self.flood_ends is None else self.flood_ends - time.monotonic()
        return {
            "on": self.flood.running,
            "user": "mallory",
            "room": "flood",
            "server": "server-1",
            "left": None if left is None else max(0, round(left)),
            **self.watch.flooded,
        }

    def _parts(self) -> list[dict[str, Any]]:
        world, found = self.world, []
        for window in self.windows.values():
            found.append(state.window_part(window, window.user in self.banned))
            found.append(
                state.wire_part(window.id, self.faults[window.id], world.wires.get(window.id))
            )
        processes = world.parts
        for name in ("balancer", "server-1", "server-2", "valkey"):
            ended = self.ended.get(name, "starting" if not self.ready else "down")
            frozen = name in self.frozen
            found.append(state.part(name, processes.get(name), frozen=frozen, ended=ended))
        found.append(state.guest_part("crowd", "Crowd", self.crowd.on, "four people chat"))
        found.append(
            state.guest_part("flood", "Flood", self.flood.running, "mallory floods server 1")
        )
        if self.entrance is not None:
            words = f"{len(self.guests.all)} came in"
            found.append(state.guest_part("door", "Door", self.entrance.is_open, words))
        return found


async def _called(action: Callable[..., Coroutine[Any, Any, str]], given: dict[str, Any]) -> str:
    try:
        work = action(**given)
    except TypeError:
        raise Refused(f"“{action.__name__}” does not go with {_shown(given)}.") from None
    return await work


def _shown(given: dict[str, Any]) -> str:
    return json.dumps(given, ensure_ascii=False)[:80]


def _server_at(address: str) -> str:
    """The name that a server gives itself, or "" where none answers."""
    for _ in range(20):
        with (
            contextlib.suppress(urllib.error.URLError, OSError, ValueError),
            urllib.request.urlopen(address, timeout=1) as answer,  # noqa: S310
        ):
            return str(json.load(answer).get("server", ""))
        time.sleep(0.1)
    return ""
