"""Where a chat server's CPU time went, by parts: kernel, transport, validation, limits, log, ….

It runs the server with `sampler.py`, which looks at it a thousand times a second, and sorts what
was seen by the files of the functions. It counts no calls: for that, take cProfile.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from chatlab.lab.capacity_chart import bars
from chatlab.lab.process import Process

__all__ = ["PARTS", "Profiled", "part_of", "profile_chart", "profiled"]

PARTS: Final = (
    "kernel",
    "event loop",
    "transport",
    "packets",
    "validation",
    "limits",
    "chat",
    "log",
    "counters",
    "other",
)
"""In the order in which a message meets them; `packets` is JSON above all, and `other` is what no
rule names."""

# The first rule that fits the innermost function, else the function that called it, decides. Each
# is a part of a path, and names of functions where only some of that file are meant.
_CALLS = ("write", "writelines", "_write_send", "_write_sendmsg", "_read_ready__data_received")
_RULES: Final[Sequence[tuple[str, str, tuple[str, ...]]]] = (
    ("kernel", "/selectors.py", ("select",)),
    ("kernel", "/asyncio/selector_events.py", (*_CALLS, "_read_ready__get_buffer")),
    ("kernel", "/asyncio/selector_events.py", ("_accept_connection", "_read_from_self")),
    ("event loop", "/asyncio/", ()),
    ("event loop", "/selectors.py", ()),
    ("packets", "/json/", ()),
    ("packets", "/chatlab/transport/codec.py", ()),
    ("packets", "/chatlab/transport/packet.py", ()),
    ("packets", "/socketio/packet.py", ()),
    ("packets", "/engineio/packet.py", ()),
    ("chat", "/chatlab/protocol.py", ("timestamp",)),
    ("validation", "/chatlab/protocol.py", ()),
    ("limits", "/chatlab/server/limits.py", ()),
    ("limits", "/chatlab/server/leases.py", ()),
    ("log", "/chatlab/storage/", ()),
    ("counters", "/prometheus_client/", ()),
    ("transport", "/chatlab/transport/", ()),
    ("transport", "/chatlab/server/stock.py", ()),
    ("transport", "/chatlab/server/manager.py", ()),
    ("transport", "/engineio/", ()),
    ("transport", "/socketio/", ()),
    ("transport", "/aiohttp/", ()),
    ("chat", "/chatlab/", ()),
)


def part_of(stack: Iterable[str]) -> str:
    """The part that a stack belongs to: `path:function` for each function, innermost first."""
    for entry in stack:
        path, _, function = entry.rpartition(":")
        path = path.replace("\\", "/")
        name = function.rpartition(".")[2]
        for part, where, names in _RULES:
            if where in path and (not names or name in names):
                return part
    return "other"


def profiled(
    *arguments: str, name: str = "server", env: Mapping[str, str] | None = None
) -> Profiled:
    """`process(*arguments)`, whose CPU time is being watched: see `Profiled.shares`.

    It runs on asyncio's own event loop, and a little slower for being watched. Raises
    `RuntimeError` as `process` does, and on Windows, which has no timer for it.
    """
    return Profiled(arguments, name=name, env=env)


class Profiled(Process):
    """A chat server in a process that is looked at. Made by `profiled`."""

    def __init__(self, arguments: Sequence[str] = (), **options: Any) -> None:
        self._found: dict[str, Any] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="chatlab-profile-"))
        try:
            super().__init__(arguments, **options)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _whole_command(self) -> list[str]:
        python, _, _, *rest = super()._whole_command()
        return [python, "-m", "chatlab.lab.sampler", str(self._notes), *rest]

    @property
    def _notes(self) -> Path:
        return (self._folder or Path()) / "looks.json"

    def stop(self) -> Self:
        """As for any process; what was seen is kept."""
        super().stop()
        if self._notes.exists():
            self._found = json.loads(self._notes.read_text(encoding="utf-8"))
        shutil.rmtree(self._folder or "", ignore_errors=True)
        return self

    def seconds(self, since: float = 0.0, until: float = float("inf")) -> dict[str, float]:
        """The CPU seconds of each of `PARTS` between two readings of `time.monotonic()`.

        What is seen is written down when the server ends, so stop it first. Raises `RuntimeError`
        where nothing was written.
        """
        if not self._found:
            raise RuntimeError(f"{self.name} wrote down nothing yet: stop it first")
        parts = [part_of(stack) for stack in self._found["stacks"]]
        spent: Counter[str] = Counter()
        for clock, seconds, stack in self._found["looks"]:
            if since <= clock <= until:
                spent[parts[stack]] += seconds
        return {part: spent[part] for part in PARTS}


def profile_chart(costs: Mapping[str, Mapping[str, float]], unit: str, *, title: str = "") -> Any:
    """Draw a bar for each part and each of the servers in `costs`; parts without any are left out.

    End the cell with `plt.show()`.
    """
    seen = [part for part in PARTS if any(parts.get(part) for parts in costs.values())]
    series = {name: {part: parts.get(part) for part in seen} for name, parts in costs.items()}
    return bars(series, unit, title=title)
