"""The server under test, in a process of its own, and what it remembers, complains of and holds.

`python -m tests.fuzz.server chat` or `suite` says on stdout which port it listens on, then answers
each line on its stdin with a line of JSON, and ends when its stdin does. It does not judge: whoever
started it compares.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import psutil
from aiohttp import web

from chatlab.server import ChatServer, logs
from chatlab.settings import Settings
from chatlab.transport import engine, websocket
from tests.protocol.suite_server import StrictSuite

__all__ = ["SECRET"]

SECRET: Final = "a secret of the fuzzer that is long enough"

# What may grow: what was said in the rooms, how often what happened, whose bucket is not full yet.
_MAY_GROW: Final = frozenset(("log", "storage", "directory", "metrics", "health", "settings"))
_OWN: Final = ("chatlab.", "engineio.", "socketio.", "tests.")
_CONTAINERS: Final = (dict, list, set)


class Complaints(io.TextIOBase):
    """Stands for stderr: keeps what nobody wants to read in a log at three in the morning.

    The server writes JSON there, a line for each record, just as `chatlab serve` would.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.messages: deque[str] = deque(maxlen=1000)
        self.lines = 0
        sys.unraisablehook = self._unraisable
        threading.excepthook = lambda lost: self._keep(
            f"in a thread: {traceback.format_exception(lost.exc_value)}"
        )

    def write(self, text: str) -> int:
        """One line, or what follows it."""
        if text.strip():
            self.lines += 1
            self._read(text)
        return len(text)

    def _read(self, text: str) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            self._keep(text)
            return
        self.messages.append(line["message"])
        library = line["logger"].startswith(("asyncio", "aiohttp"))
        bad = ("warning", "error", "critical") if library else ("error", "critical")
        if "error" in line or line["level"] in bad:
            told = f"{line['level']} {line['logger']}: {line['message']}"
            self._keep(f"{told}\n{line.get('error', '')}")

    def _unraisable(self, lost: Any) -> None:
        told = "".join(traceback.format_exception(lost.exc_value)[-6:])
        self._keep(f"{lost.err_msg}: {lost.object!r}\n{told}")

    def _keep(self, text: str) -> None:
        if len(self.kept) < 20:
            self.kept.append(text)


class Subject:
    """A running application: `root` is where the search for what it remembers begins."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self.suite: StrictSuite | None = None
        if kind == "chat":
            server = ChatServer(Settings(dev=True, port=0, jwt_secret=SECRET, **options))
            self.app, self.roots = server.app(), [server, server.storage.presence]
        else:
            self.suite = StrictSuite(**{"ping_interval": 25.0, "ping_timeout": 20.0, **options})
            self.app, self.roots = self.suite.app(), [self.suite.transport, self.suite.engine]
        self.runner = web.AppRunner(
            self.app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=0.2,
            # aiohttp 3.14.5 waits 10 s for the rest of a refused body, even if the client has left.
            lingering_time=0.2,
        )
        self._before: Counter[str] = Counter()

    async def start(self) -> int:
        """Serve; returns the port."""
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return int(self.runner.addresses[0][1])

    async def stop(self) -> None:
        if self.suite is not None:
            await self.suite.close()
        await self.runner.cleanup()

    def remember(self) -> None:
        """What there is now is what there may be."""
        self._before = self.residue()

    async def settled(self, seconds: float) -> dict[str, int]:
        """Wait until no more is there than was remembered; returns what is too much."""
        deadline = time.monotonic() + seconds
        while left := self.residue() - self._before:
            if time.monotonic() > deadline:
                return dict(left)
            await asyncio.sleep(0.002)
        return {}

    def residue(self) -> Counter[str]:
        """The lengths of all containers of the server, and what it has of the system's."""
        if self.suite is not None:
            for noted in (self.suite.opened, self.suite.closed, self.suite.events):
                noted.clear()
        found: Counter[str] = Counter()
        seen: set[int] = set()
        for root in self.roots:
            for name, length in _lengths(root, type(root).__name__, seen):
                found[name] += length
        loop = asyncio.get_running_loop()
        found["tasks"] = len(asyncio.all_tasks())
        found["timers"] = sum(not each.cancelled() for each in getattr(loop, "_scheduled", ()))
        found["descriptors"] = psutil.Process().num_fds()
        found["connections"] = len(self.runner.server.connections if self.runner.server else ())
        return found


def _lengths(thing: Any, name: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Every container that can be reached by attributes, with the number of things in it."""
    if id(thing) in seen or name.rpartition(".")[2].lstrip("_") in _MAY_GROW:
        return
    if isinstance(thing, _CONTAINERS) or type(thing).__name__ in ("deque", "OrderedDict"):
        seen.add(id(thing))
        if "bucket" not in name:
            yield name, len(thing)
        inside = list(thing.values()) if isinstance(thing, Mapping) else list(thing)
        for each in inside:
            yield from _lengths(each, f"{name}[]", seen)
    elif type(thing).__module__.startswith(_OWN) and not isinstance(thing, type):
        seen.add(id(thing))
        for attribute, value in _attributes(thing):
            yield from _lengths(value, f"{name}.{attribute}", seen)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = getattr(kind, "__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, slot):
                yield slot, getattr(thing, slot)


def _memory() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    return {"rss": psutil.Process().memory_info().rss, "objects": len(gc.get_objects())}


def _census() -> dict[str, int]:
    gc.collect()
    kinds = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    return dict(kinds.most_common(60))


async def serve(kind: str, options: Mapping[str, Any], *, debug: bool) -> None:
    """Serve, and answer commands, until stdin ends."""
    complaints = Complaints()
    # How long a server waits for the last words of clients who say none: thousands of times here.
    engine.LAST_POLL = websocket.CLOSE_WAIT = 0.05
    sys.stderr = complaints
    logs.set_up("info", "json", 0)
    loop = asyncio.get_running_loop()
    if debug:
        loop.set_debug(True)
        loop.slow_callback_duration = 60.0  # what the machine does otherwise is no fault
    subject = Subject(kind, options)
    port = await subject.start()
    commands: dict[str, Callable[..., Any]] = {
        "remember": subject.remember,
        "settled": subject.settled,
        "residue": subject.residue,
        "memory": _memory,
        "census": _census,
        "lines": lambda: complaints.lines,
        "logged": lambda: list(complaints.messages),
    }
    lines: asyncio.Queue[str] = asyncio.Queue()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=listen, daemon=True).start()
    _say(port)
    while line := await lines.get():
        name, *arguments = json.loads(line)
        answer = commands[name](*arguments)
        if asyncio.iscoroutine(answer):
            answer = await answer
        kept, complaints.kept = complaints.kept, []
        _say({"answer": answer, "complaints": kept})
    await subject.stop()


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    kind, options, debug, uvloop = json.loads(sys.argv[1])
    warnings.simplefilter("error")
    factory = None
    if uvloop:
        import uvloop as fast

        factory = fast.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(kind, options, debug=debug))


if __name__ == "__main__":
    main()
