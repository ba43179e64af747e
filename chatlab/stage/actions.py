"""What each switch of the stage does: one method an action, named as the page names it.

Each may be asked for in any state. It does what was asked, has nothing to do, or raises `Refused`
with a sentence; it says in words what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chatlab.errors import SettingsError
from chatlab.lab.process import Process
from chatlab.stage.seats import wait_for
from chatlab.stage.turns import Refused
from chatlab.stage.world import SERVERS, WINDOWS
from chatlab.storage import open_users
from chatlab.storage.base import User

if TYPE_CHECKING:
    from chatlab.stage.stage import Stage

__all__ = ["Actions"]

T = TypeVar("T")

_EXPIRING: Final = 20.0  # seconds
_LONGEST_DELAY: Final = 3.0
_FLOOD: Final = 45.0  # seconds, after which it ends by itself
_WAYS: Final = ("both", "to_server", "to_client")


class Actions:
    """Of one stage. Every public method is an action."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def named(self, name: str) -> Callable[..., Any]:
        """The action of that name. Raises `Refused` where there is none."""
        found = None if name.startswith("_") or name == "named" else getattr(self, name, None)
        if found is None:
            raise Refused(f"There is no action “{name[:40]}”.")
        action: Callable[..., Any] = found
        return action

    # -- wires -------------------------------------------------------------------------------------

    async def cut(self, window: str) -> str:
        wire = self._stage.faults[_one(window)]
        if wire.cut:
            return f"Wire {window.upper()} is cut already."
        await _blocking(self._stage.world.wires[window].cut)
        wire.cut = True
        return f"Wire {window.upper()} is cut."

    async def mute(self, window: str, direction: str = "both") -> str:
        wire = self._stage.faults[_one(window)]
        if direction not in _WAYS:
            raise Refused("A direction is both, to_server or to_client.")
        if wire.muted == direction:
            return f"Wire {window.upper()} is silent already."
        proxy = self._stage.world.wires[window]
        if wire.muted:  # from both ways to one, say
            await self._heal(window)
        await _blocking(lambda: proxy.mute(direction))  # type: ignore[arg-type]
        wire.muted = direction
        return f"Wire {window.upper()} is {wire.words()}."

    async def delay(self, window: str, seconds: float = 1.0) -> str:
        wire = self._stage.faults[_one(window)]
        if not 0 <= seconds <= _LONGEST_DELAY:
            raise Refused(f"A delay is 0 to {_LONGEST_DELAY:g} seconds.")
        await _blocking(lambda: self._stage.world.wires[window].delay(float(seconds)))
        wire.delay = float(seconds)
        return f"Wire {window.upper()}: {wire.words()}."

    async def heal(self, window: str = "all") -> str:
        for one in WINDOWS if window == "all" else (_one(window),):
            await self._heal(one)
        return "Every wire works." if window == "all" else f"Wire {window.upper()} works."

    async def _heal(self, window: str) -> None:
        wire = self._stage.faults[window]
        await _blocking(self._stage.world.wires[window].heal)
        wire.cut, wire.muted, wire.delay = False, None, 0.0
        self._stage.watch.healed(window)

    # -- tokens and users --------------------------------------------------------------------------

    async def token(self, window: str, kind: str = "good") -> str:
        one = self._stage.windows[_one(window)]
        words = {
            "good": "a good token",
            "forged": "a token that somebody else has signed",
            "expired": "a token that has expired",
            "expiring": f"a token that expires in {_EXPIRING:g} seconds",
        }
        if kind not in words:
            raise Refused("A token is good, forged, expired or expiring.")
        self._stage.load(one, kind, _EXPIRING)
        return f"{one.user} comes with {words[kind]}."

    async def reload(self, window: str = "all") -> str:
        for one in WINDOWS if window == "all" else (_one(window),):
            self._stage.load(self._stage.windows[one], "good")
        return "Loaded anew."

    async def ban(self, user: str) -> str:
        await self._set_banned(user, True)
        return f"{user} is banned."

    async def unban(self, user: str) -> str:
        await self._set_banned(user, False)
        for window in self._stage.windows.values():
            if window.user == user:
                self._stage.load(window, "good")
        return f"{user} may come again."

    async def _set_banned(self, user: str, banned: bool) -> None:
        stage = self._stage
        guest = stage.guests.all.get(user)
        if guest is None and user not in WINDOWS.values():
            raise Refused(f"There is nobody called “{user[:60]}”.")
        if stage.world.adapter == "stock":
            raise Refused("The stock servers know no bans: go back to chatlab's log first.")
        self._require_valkey("Who is banned stands in the Valkey, which is away")
        await _blocking(lambda: set_banned(stage.world.store_url, user, banned))
        if guest is not None:
            guest.banned = banned
        (stage.banned.add if banned else stage.banned.discard)(user)

    # -- the flood ---------------------------------------------------------------------------------

    async def flood(self, on: bool = True) -> str:
        stage = self._stage
        if not on:
            await stage.end_flood()
            return "The flood is over."
        if stage.flood.running:
            return "The flood is on already."
        server = stage.world.servers[0]
        if not server.running or "server-1" in stage.frozen:
            raise Refused("The flood goes to server 1, which does not run. Start it first.")
        token = stage.world.token("mallory", ttl=3_600)
        await _blocking(lambda: stage.flood.start(server.url, token))
        stage.watch.flooded.update(sent=0, ok=0, refused=0)
        stage.flood_ends = time.monotonic() + _FLOOD
        return f"mallory floods server 1, for {_FLOOD:g} seconds at most."

    async def limits(self, on: bool = True) -> str:
        stage = self._stage
        if stage.world.adapter == "stock":
            raise Refused("The stock servers have no limits to switch.")
        if stage.world.limits == bool(on):
            return f"The limits are {'on' if on else 'off'} already."
        self._require_valkey("A server does not start without its Valkey")
        await stage.rebuild("chatlab", limits=bool(on))
        return f"The limits are {'on' if on else 'off'}. The servers have started again."

    # -- processes ---------------------------------------------------------------------------------

    async def server(self, number: int, how: str) -> str:
        if number not in range(1, SERVERS + 1):
            raise Refused(f"There are servers 1 to {SERVERS}.")
        process = self._stage.world.servers[number - 1]
        if how == "restart":
            self._require_valkey("A server does not start without its Valkey")
        words = await self._process(f"server-{number}", f"Server {number}", process, how)
        if how == "restart":
            # Whoever is loaded now is to find it there.
            seat = list(self._stage.windows.values())[number - 1].seat
            await _blocking(lambda: wait_for(self._stage.world, number, seat))
            if number == 1:
                await self._stage.measure()
        return words

    def _require_valkey(self, why: str) -> None:
        store = self._stage.world.store
        if store is None or not store.running or "valkey" in self._stage.frozen:
            raise Refused(f"{why}. Start it or thaw it first.")

    async def valkey(self, how: str) -> str:
        store = self._stage.world.store
        if store is None:
            raise Refused("There is no Valkey: reset the stage.")
        how = "terminate" if how == "stop" else how
        return await self._process("valkey", "Valkey", store, how)

    async def _process(self, part: str, name: str, process: Process, how: str) -> str:
        stage = self._stage
        if how not in ("kill", "terminate", "freeze", "thaw", "restart"):
            raise Refused(f"What to do with {name}: kill, terminate, freeze, thaw or restart.")
        if how != "restart" and not process.running:
            return f"{name} does not run."
        stage.in_hand.add(part)
        try:
            return await self._signal(part, name, process, how)
        finally:
            if how == "restart" or process.running:
                stage.ended.pop(part, None)
            stage.in_hand.discard(part)

    async def _signal(self, part: str, name: str, process: Process, how: str) -> str:
        stage, frozen = self._stage, part in self._stage.frozen
        match how:
            case "restart":
                await _blocking(lambda: _restart(process))
                stage.frozen.discard(part)
                return f"{name} runs again."
            case "freeze":
                if not frozen:
                    await _blocking(process.freeze)
                    stage.frozen.add(part)
                return f"{name} is frozen."
            case "thaw":
                if frozen:
                    await _blocking(process.thaw)
                    stage.frozen.discard(part)
                return f"{name} goes on."
            case "kill":
                stage.ended[part] = "killed"
                await _blocking(process.kill)
                stage.frozen.discard(part)
                return f"{name} is killed."
        if frozen:
            raise Refused(f"{name} is frozen and hears nothing. Thaw or kill it.")
        stage.ended[part] = "finished"
        await _blocking(process.terminate)
        with contextlib.suppress(TimeoutError):
            await process.exited(6.0)
            return f"{name} has finished."
        raise Refused(f"{name} was told to finish and still runs.")

    # -- the rest ----------------------------------------------------------------------------------

    async def adapter(self, to: str) -> str:
        stage = self._stage
        if to not in ("chatlab", "stock"):
            raise Refused("The servers are chatlab or stock.")
        names = {"chatlab": "chatlab, with its log", "stock": "stock python-socketio"}
        if stage.world.adapter == to:
            return f"The servers are {names[to]} already."
        self._require_valkey("A server does not start without its Valkey")
        await stage.rebuild(to, limits=True)  # type: ignore[arg-type]
        return f"The servers are {names[to]} now."

    async def crowd(self, on: bool = True) -> str:
        if on:
            self._stage.crowd.start(stock=self._stage.world.adapter == "stock")
            return "Four people chat with the windows."
        await self._stage.crowd.stop()
        return "The crowd has gone."

    async def record(self) -> str:
        self._stage.checker.begin_anew()
        return "The checker begins a new record."

    async def door(self, open: bool | None = None, code: str | None = None) -> str:
        if self._stage.entrance is None:
            raise Refused("There is no door: start with --host to let other machines in.")
        if code is not None:
            self._stage.codes.renew()
            return "There is a new join code."
        entrance = self._stage.entrance
        await _blocking(entrance.open if open else entrance.close)
        return "The door is open." if open else "The door is closed: the audience is out."


async def _blocking(function: Callable[[], T]) -> T:
    """Run what blocks on a thread; its failure is a sentence."""
    try:
        return await asyncio.to_thread(function)
    except (RuntimeError, OSError, SettingsError, ValueError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise Refused(first[0]) from error


def _restart(process: Process) -> None:
    with contextlib.suppress(RuntimeError, OSError):
        process.kill()  # quicker than to ask, and one that is frozen hears nothing
    process.restart()


def _one(window: str) -> str:
    if window not in WINDOWS:
        raise Refused("A window is a or b.")
    return window


def set_banned(url: str, user: str, banned: bool) -> None:
    """Ban or unban, as `chatlab user` does. Raises `SettingsError` where Valkey is away."""
    with open_users(url, create=True) as users:
        known = users.get(user)
        if known is not None:
            users.put(replace(known, banned=banned))
        elif banned:
            users.put(User(user, user, banned=True))
