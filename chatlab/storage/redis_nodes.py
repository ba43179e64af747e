"""The Redis that the server talks to: which node has what, how scripts run, what is heard.

A node is two links and a pair of ears: appends go out on a link of their own, so that they wait for
nobody's page of history. Which node has a key is the topology's business.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from chatlab.errors import SettingsError, Unavailable
from chatlab.storage.redis_link import Connect, Link
from chatlab.storage.redis_scripts import Script
from chatlab.storage.redis_subscriber import Handler, Subscriber
from chatlab.storage.redis_topology import Topology, topology_of
from chatlab.storage.redis_url import Location

__all__ = ["Node", "Nodes"]

log = logging.getLogger(__name__)


class Node:
    """One Redis: a link for what is stored, one for everything else, and what is heard of it.

    `lost` is called when a part of it goes away, `back` when all of it is there (again).
    """

    def __init__(self, name: str, connect: Connect, *, stalled_after: float, sharded: bool) -> None:
        self.name = name
        self.writes = Link(connect, stalled_after=stalled_after)
        self.others = Link(connect, stalled_after=stalled_after)
        self.ears = Subscriber(connect, stalled_after=stalled_after, sharded=sharded)
        self.lost: Callable[[], None] = lambda: None
        self.back: Callable[[], None] = lambda: None
        self._was_up = False
        for part in (self.writes, self.others, self.ears):
            part.changed = self._changed

    @property
    def up(self) -> bool:
        """Whether commands are answered and every channel is heard."""
        return self.writes.up and self.others.up and self.ears.up

    def start(self) -> None:
        """Begin to connect."""
        for part in (self.writes, self.others, self.ears):
            part.start()

    async def close(self) -> None:
        """Let go of the connections."""
        for part in (self.writes, self.others, self.ears):
            part.changed = lambda: None
            await part.close()

    def _changed(self) -> None:
        was_up, self._was_up = self._was_up, self.up
        if was_up and not self._was_up:
            log.warning("Redis at %s is away: %s", self.name, self.reason)
            for link in (self.writes, self.others):
                link.check()
            self.lost()
        elif self._was_up and not was_up:
            log.info("Redis at %s is there", self.name)
            self.back()

    @property
    def reason(self) -> object:
        """Why it is away."""
        return self.writes.reason or self.others.reason or "not listening"


class Nodes:
    """Every node of one Redis, be it a single one or a cluster of them.

    `stalled_after` is in seconds: silence for that long is an outage. `lost` and `back` are called
    on the loop with a node that went away or has come back; `moved` with a channel that has to be
    looked at again, because what was published on it may have been missed.
    """

    def __init__(self, location: Location, *, stalled_after: float) -> None:
        self.lost: Callable[[Node], None] = lambda node: None
        self.back: Callable[[Node], None] = lambda node: None
        self.location = location
        self._stalled_after = stalled_after
        self._topology: Topology = topology_of(location)
        self._nodes: dict[str, Node] = {}
        self._changed = asyncio.Event()
        self.publish_command = "SPUBLISH" if self._topology.sharded else "PUBLISH"

    @property
    def up(self) -> bool:
        """Whether every node answers and is heard."""
        return bool(self._nodes) and all(node.up for node in self._nodes.values())

    def all(self) -> Iterable[Node]:
        """The nodes."""
        return self._nodes.values()

    async def open(self, *, patience: float) -> None:
        """Connect. Raises `SettingsError` where Redis is not there within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._topology.open(self._node, patience)
                while not self.up:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            reasons = [node.reason for node in self._nodes.values() if not node.up]
            why = reasons[0] if reasons else self._topology.reason or "no answer"
            await self.close()
            raise SettingsError(f"--storage {self.location.shown} cannot be used: {why}") from None

    def _node(self, name: str, connect: Connect) -> Node:
        """The topology has found a node."""
        node = self._nodes[name] = Node(
            name, connect, stalled_after=self._stalled_after, sharded=self._topology.sharded
        )

        def lost() -> None:
            self.lost(node)

        def back() -> None:
            self._changed.set()
            self.back(node)

        node.lost, node.back = lost, back
        node.start()
        return node

    async def close(self) -> None:
        """Let go of everything; what was not answered fails with `Unavailable`."""
        await self._topology.close()
        for node in self._nodes.values():
            await node.close()
        self._nodes.clear()

    def of(self, name: str) -> Node:
        """The node that has a key or a channel. Raises `Unavailable` where none is known."""
        node = self._nodes.get(self._topology.node_of(name))
        if node is None:
            raise Unavailable
        return node

    async def run(self, script: Script, keys: list[str], *args: str | bytes | int) -> bytes:
        """Run a script; returns its packed reply. Raises `Unavailable`.

        It is sent again only where Redis has refused to run it: because it does not know the script
        (it was restarted), or because the keys belong to another node by now.
        """
        return await self._run("others", script, keys, args)

    async def store(self, script: Script, keys: list[str], *args: str | bytes | int) -> bytes:
        """As `run`, on the link of what is stored."""
        return await self._run("writes", script, keys, args)

    async def _run(
        self, kind: str, script: Script, keys: list[str], args: tuple[str | bytes | int, ...]
    ) -> bytes:
        for last in (False, False, True):
            link: Link = getattr(self.of(keys[0]), kind)
            try:
                reply: bytes = await link.call("EVALSHA", script.digest, len(keys), *keys, *args)
                return reply
            except NoScriptError:
                if last:
                    raise Unavailable from None
                await self._load(link, script)
            except ResponseError as error:
                if last or not await self._topology.moved(error):
                    log.warning("Redis refused a script: %s", error)
                    raise Unavailable from None
        raise AssertionError("unreachable")

    async def _load(self, link: Link, script: Script) -> None:
        try:
            await link.call("SCRIPT LOAD", script.source)
        except ResponseError as error:
            log.warning("Redis refused to load a script: %s", error)
            raise Unavailable from None

    async def command(self, key: str, *command: str | bytes | int) -> Any:
        """Run one command on the node that has `key`. Raises `Unavailable`."""
        for last in (False, True):
            try:
                return await self.of(key).others.call(*command)
            except ResponseError as error:
                if last or not await self._topology.moved(error):
                    log.warning("Redis refused %s: %s", command[0], error)
                    raise Unavailable from None
        raise AssertionError("unreachable")

    def publish(self, channel: str, message: bytes) -> None:
        """Publish a message that may be lost: while Redis is away it is, without a word."""
        try:
            self.of(channel).others.call(self.publish_command, channel, message).add_done_callback(
                _heed_not
            )
        except Unavailable:
            return

    def subscribe(self, channel: str, handler: Handler) -> Future[None]:
        """Hear a channel; see `Subscriber.subscribe`. Raises `Unavailable`."""
        return self.of(channel).ears.subscribe(channel, handler)

    def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        for node in self._nodes.values():
            node.ears.unsubscribe(channel)


def _heed_not(published: Future[Any]) -> None:
    if not published.cancelled():
        published.exception()
