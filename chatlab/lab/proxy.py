"""A wire between clients and a server that breaks on purpose, at a chosen event.

It stands in front of any Socket.IO server, in any language, and needs no hook inside. `mute` drops
what comes and closes nothing, as when a phone loses its signal; `cut` closes; `drop` swallows
single packets; `delay` is late; `heal` ends all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self

from chatlab.lab.card import Card
from chatlab.lab.faults import Action, Direction, Rule, make_rule, words
from chatlab.lab.inbox import Inbox, Received, ReceivedList
from chatlab.lab.logs import LogBook, LogLines
from chatlab.lab.part import Part, url_of
from chatlab.lab.portal import LoopThread
from chatlab.lab.recorder import Kind, Recorder
from chatlab.lab.switch import Switch

__all__ = ["Proxy"]


class Proxy(Part):
    """A wire in front of `target` (a server of the lab, another wire, or an address).

    The faults given here are as those of the methods; packets are counted from the start:

    - `mute_after=3`: three events reach the server; from the fourth on all is silence.
    - `cut_after=3`: three events reach the server; at the fourth the connection is closed.
    - `drop="ack", at=1`: only the first ack is swallowed; without `at`, every ack.
    - `delay=0.2`: everything is 0.2 seconds late; with `delay_after=3`, from the fourth event on.

    `only` says what is counted: `"event"` (the default), `"ack"`, or the name of an event; `count`
    in which direction (acks: `"to_client"`, others: `"to_server"`); `direction` which way goes
    silent, is closed or late (`"to_server"`, `"to_client"`, by default `"both"`). A silence or a
    cut lasts `seconds`, or until `heal`; `rst=True` cuts with a TCP reset. A second wire of the
    same `name` stops the first.
    """

    def __init__(
        self,
        target: object,
        *,
        name: str = "wire",
        mute_after: int | None = None,
        cut_after: int | None = None,
        drop: str | None = None,
        at: int | Iterable[int] | None = None,
        delay: float = 0.0,
        delay_after: int | None = None,
        direction: Direction | None = None,
        only: str | None = None,
        count: Direction | None = None,
        seconds: float | None = None,
        rst: bool = False,
        port: int = 0,
    ) -> None:
        url_of(target)
        if at is not None and drop is None:
            raise ValueError("at= says which packets drop= swallows: give drop= too")
        self.name = name
        self.port = 0
        self.recorder = Recorder(name, "wire")
        self._target = target
        self._happened = Inbox(name)
        self._book = LogBook()
        self._stopped = False
        self._switch = Switch(target, self.recorder, self._happened)
        rule: dict[str, Any] = {"direction": direction, "count": count}
        if mute_after is not None:
            self._add_rule("mute", **rule, only=only, after=mute_after, seconds=seconds)
        if cut_after is not None:
            self._add_rule("cut", **rule, only=only, after=cut_after, seconds=seconds, rst=rst)
        if drop is not None:
            self._add_rule("drop", **rule, only=drop, at=at)
        if delay_after is not None:
            self._add_rule("delay", **rule, only=only, after=delay_after, late=delay)
        elif delay:
            self._switch.delay(make_rule("delay", direction=direction, late=delay), None)
        self._take_name()
        self._portal = LoopThread(name)
        try:
            self.port = self._portal.call(self._start, port)
        except BaseException:
            self.stop()
            raise

    def _add_rule(self, action: Action, **options: Any) -> None:
        self._switch.rules.append(make_rule(action, **options))

    async def _start(self, port: int) -> int:
        asyncio.get_running_loop().set_exception_handler(self._book.loop_failed)
        return await self._switch.start(port)

    # -- faults ------------------------------------------------------------------------------------

    def mute(
        self,
        direction: Direction = "both",
        *,
        after: int | None = None,
        only: str | None = None,
        count: Direction | None = None,
        seconds: float | None = None,
    ) -> Self:
        """Go silent: nothing passes, nothing is closed, and nobody is told.

        At once, or when `after` more packets (of `only`, in direction `count`) have passed; for
        `seconds`, or until `heal`.
        """
        options: dict[str, Any] = {"direction": direction, "only": only, "count": count}
        return self._arm(make_rule("mute", **options, after=after or 0, seconds=seconds), after)

    def cut(
        self,
        direction: Direction = "both",
        *,
        after: int | None = None,
        only: str | None = None,
        count: Direction | None = None,
        seconds: float | None = None,
        rst: bool = False,
    ) -> Self:
        """Close the connections, and refuse new ones until `heal` or for `seconds`.

        `seconds=0` closes only those that are open now. One direction alone is half-closed: that
        side is told that nothing more will come. `rst=True` resets instead of closing.
        """
        options: dict[str, Any] = {"direction": direction, "only": only, "count": count}
        rule = make_rule("cut", **options, after=after or 0, seconds=seconds, rst=rst)
        return self._arm(rule, after)

    def drop(
        self,
        only: str = "event",
        *,
        at: int | Iterable[int] | None = None,
        direction: Direction | None = None,
    ) -> Self:
        """Swallow packets of one kind and let the rest pass; counted from now.

        `only` is `"event"`, `"ack"` or an event's name; `at` is one number or several, counted
        from 1; None swallows every one.
        """
        return self._arm(make_rule("drop", direction=direction, only=only, at=at), 0)

    def delay(
        self,
        seconds: float,
        direction: Direction = "both",
        *,
        after: int | None = None,
        only: str | None = None,
        count: Direction | None = None,
    ) -> Self:
        """Let everything arrive `seconds` late, in order: at once, or after a number of packets.

        0 ends it.
        """
        options: dict[str, Any] = {"direction": direction, "only": only, "count": count}
        return self._arm(make_rule("delay", **options, after=after or 0, late=seconds), after)

    def heal(self) -> Self:
        """Be a plain cable again: every fault ends, those that have not struck yet among them.

        New connections work. A websocket that was silenced goes on without what was lost; a
        connection that one side has hung up meanwhile is closed now.
        """
        return self._do(self._switch.heal)

    def _arm(self, rule: Rule, after: int | None) -> Self:
        if after is None:
            return self._do(self._switch.apply, rule)

        async def add() -> None:
            self._switch.rules.append(rule)

        return self._do(add)

    def _do(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Self:
        self._portal.call(function, *args)
        return self

    # -- what it saw -------------------------------------------------------------------------------

    @property
    def clients(self) -> dict[str, bool]:
        """The names of those whose connections are open now, and whether by a websocket.

        One that polls may have gone, and its connection be kept for another.
        """
        return self._switch.names()

    @property
    def url(self) -> str:
        """The address that clients connect to instead of the server's."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def passed(self) -> ReceivedList:
        """The events and acks that went through, in order."""
        return self._carried("pass")

    @property
    def dropped(self) -> ReceivedList:
        """The events and acks that were swallowed, in order."""
        return self._carried("drop")

    def _carried(self, kind: Kind) -> ReceivedList:
        return ReceivedList(
            Received(entry.name or str(entry.packet), entry.data, entry.conn)
            for entry in list(self.recorder.entries)
            if entry.kind == kind and entry.packet in ("event", "ack")
        )

    async def wait_for(self, kind: Kind, count: int = 1, *, timeout: float = 5.0) -> None:
        """Wait until something has happened: `"mute"`, `"cut"`, `"drop"`, `"pass"` or `"heal"`.

        Raises `TimeoutError` after `timeout` seconds.
        """
        await self._happened.wait_for(kind, count, timeout=timeout)

    def clear(self) -> None:
        """Forget what was recorded, so that the next scene starts afresh. Faults stay."""
        self._happened.clear()
        self.recorder.clear()

    def logs(self, *, full: bool = False) -> LogLines:
        """What went wrong in the wire itself, which should be nothing."""
        return self._book.lines(full=full)

    def stop(self) -> Self:
        """Close every connection, free the port, end the thread. Returns the wire."""
        if self._stopped:
            return self
        self._portal.check_caller()
        self._stopped = True
        self._portal.close(self._switch.stop)
        self._give_up_name()
        return self

    def card(self) -> Card:
        """Address, what it stands in front of, what is broken and what will break."""
        switch = self._switch
        rows = [("address", self.url), ("in front of", url_of(self._target))]
        rows += [("will happen", rule.describe()) for rule in switch.rules if not rule.done]
        for way, direction in ((True, "to the server"), (False, "to the client")):
            if switch.late[way]:
                rows.append(("late", f"{switch.late[way]:g} s {direction}"))
        if self._stopped:
            return Card(self.name, "stopped", "off", tuple(rows))
        if switch.cut_off:
            return Card(self.name, "cut", "bad", tuple(rows))
        if switch.muted:
            which: Direction = (
                "both"
                if len(switch.muted) == 2
                else "to_server"
                if True in switch.muted
                else "to_client"
            )
            return Card(self.name, f"silent {words(which)}", "bad", tuple(rows))
        return Card(self.name, "works", "good", tuple(rows))
