"""The state of a wire: what is silent, cut or late now, and which connections it carries.

It lives on the wire's own loop; `Proxy` is what a lesson sees of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any
from urllib.parse import urlsplit

from chatlab.lab.faults import Direction, Rule, ways, words
from chatlab.lab.inbox import Inbox
from chatlab.lab.listening import stop_accepting
from chatlab.lab.packets import Seen
from chatlab.lab.part import url_of
from chatlab.lab.recorder import Recorder
from chatlab.lab.wire import Fate, Link

__all__ = ["Switch"]


class Switch:
    """Accepts connections for `target` and judges what passes."""

    def __init__(self, target: object, recorder: Recorder, inbox: Inbox) -> None:
        self._target = target
        self._recorder = recorder
        self._inbox = inbox
        self.rules: list[Rule] = []
        self.muted: set[bool] = set()
        self.cut_off = False
        self.late: dict[bool, float] = {True: 0.0, False: 0.0}
        self._links: dict[Link, asyncio.Task[Any]] = {}
        self._names: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._healing: asyncio.TimerHandle | None = None
        self._announced: Rule | None = None
        self._server: asyncio.Server | None = None

    # -- connections -------------------------------------------------------------------------------

    async def start(self, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._healing is not None:
            self._healing.cancel()
        self.cut_off = True
        if self._server is not None:
            await stop_accepting(self._server.sockets)  # who is just being accepted is turned away
            self._server.close()
        tasks = list(self._links.values())
        for link in list(self._links):
            link.cut(rst=True)
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        await asyncio.sleep(0)  # the aborted transports say goodbye to the loop

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut_off:
            writer.transport.abort()
            return
        link = Link(self, reader, writer)
        task = asyncio.current_task()
        if task is not None:
            self._links[link] = task
        try:
            await link.run(self._connect)
        finally:
            self._links.pop(link, None)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(url_of(self._target))
        return await asyncio.open_connection(where.hostname, where.port or 80)

    def names(self) -> dict[str, bool]:
        """Whose connections are open now: neither side has hung up. From any thread."""
        links = [link for link in tuple(self._links) if link.name is not None and link.whole]
        # The websockets last: whoever has one has not only polled.
        links.sort(key=lambda link: link.websocket)
        return {str(link.name): link.websocket for link in links}

    # -- what a link asks --------------------------------------------------------------------------

    def name_for(self, given: str | None, session: str | None) -> str:
        """The client's name: as given, as known by the session, or the next free one."""
        if given is None and session is not None:
            given = self._names.get(session)
        return given or f"user-{next(self._numbers)}"

    def learn(self, session: str, name: str) -> None:
        """Remember whose session it is: polling makes several connections."""
        self._names[session] = name

    def silent(self, to_server: bool) -> bool:
        """Whether this direction drops everything."""
        return to_server in self.muted

    def lateness(self, to_server: bool) -> float:
        """Seconds by which this direction is late."""
        return self.late[to_server]

    def passed(self, link: Link, packet: Seen, to_server: bool) -> None:
        """Record what goes through."""
        self.note("pass", link, to_server=to_server, **packet.fields())

    def fate(self, link: Link, packet: Seen, to_server: bool) -> Fate:
        """Let the rules look at a packet; record what they do."""
        dropping = False
        if not self.silent(to_server):
            for rule in self.rules:
                if not rule.strikes(packet, to_server):
                    continue
                if rule.action == "drop":
                    dropping = True
                elif rule.action == "mute":
                    self.mute(rule, link)
                elif rule.action == "delay":
                    self.delay(rule, link)
                else:
                    self._announced = rule
        if self._announced is not None or dropping or self.silent(to_server):
            self.note("drop", link, to_server=to_server, **packet.fields())
            return "cut" if self._announced is not None else "drop"
        return "pass"

    async def sever(self, link: Link) -> None:
        """Do the cut that a rule has announced."""
        rule, self._announced = self._announced, None
        if rule is not None:
            await self.cut(rule, link)

    # -- faults ------------------------------------------------------------------------------------

    async def apply(self, rule: Rule) -> None:
        """Let a fault strike now."""
        if rule.action == "mute":
            self.mute(rule, None)
        elif rule.action == "cut":
            await self.cut(rule, None)
        elif rule.action == "delay":
            self.delay(rule, None)

    def mute(self, rule: Rule, link: Link | None) -> None:
        """Go silent."""
        new = ways(rule.direction) - self.muted
        self.muted |= new
        if new:
            self.note("mute", link, to_server=_one_way(rule.direction), text=_fault_text(rule))
        self._heal_after(rule.seconds)

    async def cut(self, rule: Rule, link: Link | None) -> None:
        """Close both sides of every connection, or one direction of them."""
        self.note("cut", link, to_server=_one_way(rule.direction), text=_fault_text(rule))
        links = list(self._links)
        if rule.direction == "both":
            self.cut_off = True
            for each in links:
                each.cut(rst=rule.rst)
            self._heal_after(rule.seconds)
            return
        for each in links:
            with contextlib.suppress(OSError):
                await each.shut(rule.direction == "to_server")

    def delay(self, rule: Rule, link: Link | None) -> None:
        """Be late from now on."""
        for way in ways(rule.direction):
            self.late[way] = rule.late
        self.note("note", link, to_server=_one_way(rule.direction), text=_fault_text(rule))

    async def heal(self) -> None:
        """End every fault."""
        if self._healing is not None:
            self._healing.cancel()
            self._healing = None
        self.rules.clear()
        self.muted.clear()
        self.cut_off = False
        self.late = {True: 0.0, False: 0.0}
        self.note("heal", None)
        for link in list(self._links):
            link.heal()

    def _heal_after(self, seconds: float | None) -> None:
        if seconds is None:
            return
        loop = asyncio.get_running_loop()
        if self._healing is not None:
            self._healing.cancel()
        self._healing = loop.call_later(seconds, lambda: loop.create_task(self.heal()))

    def note(self, kind: Any, link: Link | None, **fields: Any) -> None:
        """Record an entry and wake whoever waits for one of its kind."""
        self._recorder.add(kind, conn=link.name if link is not None else None, **fields)
        self._inbox.add(kind)


def _one_way(direction: Direction) -> bool | None:
    return None if direction == "both" else direction == "to_server"


def _fault_text(rule: Rule) -> str:
    verb = {"mute": "silent", "cut": "cut"}.get(rule.action, f"{rule.late:g} s late")
    ending = "" if rule.direction == "both" else f" {words(rule.direction)}"
    length = "" if rule.seconds is None else f" for {rule.seconds:g} s"
    return verb + ending + length
