"""The Redis that the server talks to: which node has what, how scripts run, what is heard.

What a node is, redis_node.py says; which node has a key is the topology's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import Future
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from chatlab.errors import SettingsError, Unavailable
from chatlab.storage.base import fail
from chatlab.storage.redis_cluster import Cluster
from chatlab.storage.redis_connect import Connect
from chatlab.storage.redis_link import Link
from chatlab.storage.redis_node import Node
from chatlab.storage.redis_scripts import Script
from chatlab.storage.redis_sentinel import Sentinel
from chatlab.storage.redis_subscriber import Handler, Subscription
from chatlab.storage.redis_topology import Single, Topology
from chatlab.storage.redis_url import Location

__all__ = ["Node", "Nodes"]

log = logging.getLogger(__name__)

TOPOLOGIES: Final[dict[str, type[Topology]]] = {
    "single": Single,
    "sentinel": Sentinel,
    "cluster": Cluster,
}
SAY_AFTER: Final = 2.0  # seconds without Redis at the start until a word is said about it
REFUSALS: Final = 20  # of a command, until it is given up
REFUSAL_PAUSE: Final = 0.05  # seconds between them


class Nodes:
    """Every node of one Redis, be it a single one or a cluster of them.

    `stalled_after` is in seconds: silence for that long is an outage. These are called on the loop:
    `lost` with a node that went away, or took over from one that did; `back` with a node of which
    everything is heard (again); `moved` with a channel that is heard from another node now, where
    what was published in between has to be read.
    """

    def __init__(self, location: Location, *, stalled_after: float) -> None:
        self.lost: Callable[[Node], None] = lambda node: None
        self.back: Callable[[Node], None] = lambda node: None
        self.moved: Callable[[str], None] = self._look_at_everything
        self.location = location
        self._stalled_after = stalled_after
        self._nodes: dict[str, Node] = {}
        self._astray: dict[str, Subscription] = {}
        self._looked_at: set[Node] = set()
        self._changed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._topology = TOPOLOGIES[location.kind](location)
        self._topology.found = self._found
        self._topology.gone = self._gone
        self._topology.relocated = lambda name, why: self._nodes[name].reconnect(why)
        self._topology.changed = self._rehome
        self._topology.troubled = lambda: not self.up
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
        loop = asyncio.get_running_loop()
        waiting = loop.call_later(SAY_AFTER, self._say_that_it_waits, patience)
        try:
            async with asyncio.timeout(patience):
                await self._topology.open()
                while not self.up:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            why = self._why_not()
            await self.close()
            raise SettingsError(f"--storage {self.location.shown} cannot be used: {why}") from None
        finally:
            waiting.cancel()

    def _say_that_it_waits(self, patience: float) -> None:
        log.warning(
            "waiting up to %g s for Redis at %s: %s",
            patience,
            self.location.shown,
            self._why_not(),
        )

    def _why_not(self) -> object:
        reasons = [node.reason for node in self._nodes.values() if not node.up]
        return reasons[0] if reasons else self._topology.reason or "no answer"

    async def close(self) -> None:
        """Let go of everything; what was not answered fails with `Unavailable`."""
        await self._topology.close()
        for node in self._nodes.values():
            await node.close()
        self._nodes.clear()
        for _, confirmed in self._astray.values():
            fail(confirmed, Unavailable())
        self._astray.clear()
        await asyncio.gather(*self._closing)

    def of(self, name: str) -> Node:
        """The node that has a key or a channel. Raises `Unavailable` where none is known."""
        node = self._nodes.get(self._topology.node_of(name))
        if node is None:
            raise Unavailable
        return node

    # --- nodes that come, go, and have other keys than before ----------------------------------

    def _found(self, name: str, connect: Connect) -> None:
        node = self._nodes[name] = Node(
            name, connect, stalled_after=self._stalled_after, sharded=self._topology.sharded
        )

        def lost() -> None:
            self._topology.look()
            self.lost(node)

        def back() -> None:
            self._changed.set()
            self.back(node)

        def astray(channel: str) -> None:
            self._astray[channel] = node.ears.release(channel)
            self._topology.look()

        def adopted(channel: str) -> None:
            if node.up:  # else it is about to be `back` as a whole
                self.moved(channel)

        node.lost, node.back = lost, back
        node.ears.astray, node.ears.adopted = astray, adopted
        node.start()

    def _gone(self, name: str) -> None:
        node = self._nodes.pop(name)
        log.info("Redis at %s has no keys any more", name)
        for channel in node.ears.subscribed:
            self._astray[channel] = node.ears.release(channel)
        self._changed.set()
        closing = asyncio.get_running_loop().create_task(node.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _rehome(self) -> None:
        """Hear every channel from the node that has it by now."""
        for node in self._nodes.values():
            for channel in node.ears.subscribed:
                if self._topology.node_of(channel) != node.name:
                    self._astray[channel] = node.ears.release(channel)
        successors = set[Node]()
        for channel in list(self._astray):
            home = self._nodes.get(self._topology.node_of(channel))
            if home is not None:
                home.ears.adopt(channel, self._astray.pop(channel))
                if not home.up:
                    successors.add(home)
        for node in successors:  # whether it has all that its predecessor had is to be seen
            self.lost(node)

    def _look_at_everything(self, channel: str) -> None:
        """Where nobody cares to look at a single channel, all of its node is looked at, once."""
        with contextlib.suppress(Unavailable):
            node = self.of(channel)
            if node not in self._looked_at:
                self._looked_at.add(node)
                asyncio.get_running_loop().call_soon(self._look_at, node)

    def _look_at(self, node: Node) -> None:
        self._looked_at.discard(node)
        if node.up:
            self.lost(node)
            self.back(node)

    # --- commands ------------------------------------------------------------------------------

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
        loaded: Link | None = None
        for attempt in range(REFUSALS):
            link: Link = getattr(self.of(keys[0]), kind)
            try:
                reply: bytes = await link.call("EVALSHA", script.digest, len(keys), *keys, *args)
                return reply
            except NoScriptError:
                if loaded is link:
                    break
                loaded = link
                await self._load(link, script)
            except ResponseError as error:
                await self._heed("a script", error, attempt)
        raise Unavailable

    async def _heed(self, what: object, error: ResponseError, attempt: int) -> None:
        """Returns when it makes sense to send a refused command again. Raises `Unavailable`."""
        if not self._topology.moved(error) or attempt == REFUSALS - 1:
            log.warning("Redis refused %s: %s", what, error)
            raise Unavailable from None
        if attempt:
            await asyncio.sleep(REFUSAL_PAUSE)

    async def _load(self, link: Link, script: Script) -> None:
        try:
            await link.call("SCRIPT LOAD", script.source)
        except ResponseError as error:
            log.warning("Redis refused to load a script: %s", error)
            raise Unavailable from None

    async def command(self, key: str, *command: str | bytes | int) -> Any:
        """Run one command on the node that has `key`. Raises `Unavailable`."""
        for attempt in range(REFUSALS):
            try:
                return await self.of(key).others.call(*command)
            except ResponseError as error:
                await self._heed(command[0], error, attempt)
        raise Unavailable

    def publish(self, channel: str, message: bytes) -> None:
        """Publish a message that may be lost: while Redis is away it is, without a word."""
        try:
            published = self.of(channel).others.call(self.publish_command, channel, message)
        except Unavailable:
            return
        published.add_done_callback(self._heed_publishing)

    def _heed_publishing(self, published: Future[Any]) -> None:
        if not published.cancelled():
            error = published.exception()
            if isinstance(error, ResponseError):
                self._topology.moved(error)  # for the next one

    def subscribe(self, channel: str, handler: Handler) -> Future[None]:
        """Hear a channel; see `Subscriber.subscribe`. Raises `Unavailable`."""
        home = self.of(channel)
        astray = self._astray.pop(channel, None)
        if astray is not None:
            fail(astray[1], Unavailable())
        for node in self._nodes.values():
            if node is not home:  # it was to be heard there, and has not been moved yet
                node.ears.unsubscribe(channel)
        return home.ears.subscribe(channel, handler)

    def unsubscribe(self, channel: str) -> None:
        """Hear a channel no more."""
        astray = self._astray.pop(channel, None)
        if astray is not None:
            fail(astray[1], Unavailable())
        for node in self._nodes.values():
            node.ears.unsubscribe(channel)
