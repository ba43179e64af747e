"""A line between one server and its Redis: it can be late, and it tells a timeline what is said.

What a server publishes or appends, and what it is told, is recorded as arrows between the server's
lane and the Redis's; everything else passes unread. It is no proxy for clients: that is `Proxy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import hiredis
import msgspec

from chatlab.lab.card import Card
from chatlab.lab.listening import stop_accepting
from chatlab.lab.part import Part
from chatlab.lab.portal import LoopThread
from chatlab.lab.recorder import Recorder
from chatlab.lab.wire import Outbox

__all__ = ["RedisLine", "url_of_store"]

_READ = 64 * 1024
_INCOMPLETE = object()
_PATIENCE = 1.0  # seconds for the calls to end when the line is taken down
_PUBLISHING = frozenset({"publish", "spublish"})
_SCRIPTS = frozenset({"eval", "evalsha", "fcall"})
_TOLD = frozenset({"message", "smessage", "pmessage"})


class RedisLine(Part):
    """A line from the server called `server` to `store`, a Valkey of the lab or a `redis://` URL.

    Give `line.url` to the server instead of the store's, and the line to `timeline` beside the
    store: `publish` and `append` (a script that is given a message) are arrows to the store,
    `message` is what the store tells its subscribers, but for the echo of what this very server
    published through python-socketio's manager, which drops it. `delay` is in seconds, in each
    direction; `heard` counts the messages that the server was told, echoes included. A second line
    for the same server stops the first. Raises `ValueError` for another kind of URL.
    """

    def __init__(self, store: object, *, server: str, delay: float = 0.0) -> None:
        where = urlsplit(url_of_store(store))
        self.name = f"line of {server}"
        self.server = server
        self.heard = 0
        self.recorder = Recorder(server, "server")
        self.late = delay
        self._target = (str(where.hostname), where.port or 6379)
        record = getattr(store, "recorder", None)
        self._store = record if isinstance(record, Recorder) else Recorder("redis", "server")
        self._sides: set[asyncio.StreamWriter] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._own: set[str] = set()  # how this server's python-socketio signs what it publishes
        self._stopped = False
        self._take_name()
        self._portal = LoopThread(self.name)
        try:
            port = self._portal.call(self._start)
        except BaseException:
            self.stop()
            raise
        login = where.netloc.rpartition("@")[0]
        place = f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"
        self.url = where._replace(netloc=place).geturl()

    def delay(self, seconds: float) -> Self:
        """From now on everything arrives `seconds` late, in order; 0 ends it."""
        self.late = seconds
        return self

    def clear(self) -> None:
        """Forget what was recorded and counted, at both ends: the next scene starts afresh."""
        self.heard = 0
        self.recorder.clear()
        self._store.clear()

    def stop(self) -> Self:
        """Close every connection and free the port. Returns the line."""
        if not self._stopped:
            self._stopped = True
            self._portal.close(self._shut_down)
            self._give_up_name()
        return self

    def card(self) -> Card:
        """Where it leads, and how late it is."""
        late = f"{self.late:g} s in each direction" if self.late else "no"
        rows = (("address", self.url), ("leads to", "{}:{}".format(*self._target)), ("late", late))
        if self._stopped:
            return Card(self.name, "stopped", "off", rows)
        return Card(
            self.name, "slow" if self.late else "works", "bad" if self.late else "good", rows
        )

    # -- carrying ----------------------------------------------------------------------------------

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _shut_down(self) -> None:
        if self._server is not None:
            await stop_accepting(self._server.sockets)
            self._server.close()
        for writer in list(self._sides):
            writer.transport.abort()
        if self._calls:  # they end with their connections
            await asyncio.wait(self._calls, timeout=_PATIENCE)
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        if call is not None:
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        self._sides.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._sides.discard(writer)
        sides = {writer, far_writer}
        self._sides |= sides
        ways = [
            asyncio.ensure_future(self._carry(reader, far_writer, to_store=True)),
            asyncio.ensure_future(self._carry(far_reader, writer, to_store=False)),
        ]
        try:
            # The end of one direction ends both: nobody half-closes a connection to Redis.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for side in sides:
                side.close()
            self._sides -= sides

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_store: bool
    ) -> None:
        outbox, said = Outbox(writer), hiredis.Reader(notEnoughData=_INCOMPLETE)
        readable = True
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                seen: list[dict[str, Any]] = []
                if readable:
                    try:
                        said.feed(data)
                        seen = list(self._seen(said, to_store))
                    except hiredis.HiredisError:
                        readable = False  # it passes all the same
                arriving = self._leaving(seen, to_store)
                await outbox.put(data, self.late, arriving)

    def _seen(self, said: hiredis.Reader, to_store: bool) -> Iterator[dict[str, Any]]:
        """What a stretch of the conversation says of messages: names and contents for a record."""
        while (item := said.gets()) is not _INCOMPLETE:
            words = item if isinstance(item, list) else []
            if len(words) < 3 or not isinstance(words[0], bytes):
                continue
            verb = words[0].decode("latin-1").lower()
            if to_store and verb in _SCRIPTS:
                yield from ({"name": "append", "data": each} for each in _appended(words))
            elif to_store and verb in _PUBLISHING:
                content = _json(words[-1])
                if isinstance(content, dict) and "host_id" in content:
                    self._own.add(content["host_id"])
                yield {"name": "publish", "data": _text_in(content)}
            elif not to_store and verb in _TOLD:
                self.heard += 1
                content = _json(words[-1])
                if not (isinstance(content, dict) and content.get("host_id") in self._own):
                    told = _chatlabs(words[-1])
                    yield from ({"name": "message", "data": each} for each in told)
                    if not told:
                        yield {"name": "message", "data": _text_in(content)}

    def _leaving(self, seen: list[dict[str, Any]], to_store: bool) -> Callable[[], None]:
        """Record that these leave now; what is returned records that they arrive."""
        source, target = (self.recorder, self._store) if to_store else (self._store, self.recorder)
        about = {"conn": self.recorder.name, "to_server": to_store, "packet": "event"}
        for fields in seen:
            source.add("send", **about, **fields)

        def arrive() -> None:
            for fields in seen:
                target.add("receive", **about, **fields)

        return arrive


def url_of_store(store: object) -> str:
    """The address of a Valkey of the lab, or the address itself. Raises `ValueError` otherwise."""
    url = str(getattr(store, "url", store))
    where = urlsplit(url)
    if where.scheme not in ("redis", "valkey") or where.hostname is None:
        raise ValueError(f"expected a Valkey or a redis:// address, not {where.scheme or url!r}")
    return url


def _appended(words: list[Any]) -> list[dict[str, Any]]:
    """The messages that a script is given: as JSON, or as chatlab's own script takes them."""
    given = [word for word in words[3:] if isinstance(word, bytes)]
    keys = int(words[2]) if isinstance(words[2], bytes) and words[2].isdigit() else 0
    ours = words[3 + keys :]
    if ours and isinstance(ours[0], bytes) and ours[0].lower() in (b"publish", b"spublish"):
        # storage/redis_scripts.py: after ten arguments seven for each message, the third its text.
        return [{"text": text.decode("utf-8", "replace")} for text in ours[12::7]]
    found = (_text_in(_json(word)) for word in given if b'"text"' in word)
    return [each for each in found if each is not None][:1]


def _chatlabs(word: Any) -> list[dict[str, Any]]:
    """The messages that chatlab's own script publishes; none where it is something else."""
    try:
        _, entries = msgspec.msgpack.decode(word, type=tuple[str, list[list[Any]]])
        return [{"text": entry[3], "seq": entry[0]} for entry in entries]
    except (msgspec.MsgspecError, TypeError, IndexError):
        return []


def _json(word: Any) -> Any:
    try:
        return json.loads(word)
    except (TypeError, ValueError):
        return None


def _text_in(value: Any) -> dict[str, Any] | None:
    """The text somewhere in a payload, python-socketio's envelope included."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return {name: value[name] for name in ("text", "seq") if name in value}
    inside = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inside, list):
        return None
    return next((found for each in inside if (found := _text_in(each)) is not None), None)
