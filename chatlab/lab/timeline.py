"""Draws a recorded run as a sequence diagram: who sent what, what arrived, what did not.

It works from the actors' records alone, so it can show only what really happened. The same rows
give a picture and a text of equal content; judging them is `verdict`'s work.
"""

from __future__ import annotations

import asyncio
import base64
import html
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatlab.lab.portal import turned
from chatlab.lab.recorder import Recorder
from chatlab.lab.timeline_flights import Episodes, find_flights
from chatlab.lab.timeline_order import arrange
from chatlab.lab.timeline_rows import Lane, Row, fold, make_rows
from chatlab.lab.timeline_svg import draw_svg
from chatlab.lab.timeline_text import draw_text

__all__ = ["Timeline", "settled", "timeline"]

_MOST_GUESSED = 6  # lanes made for clients that only a server or a wire tells of

# The picture follows `color-scheme`. JupyterLab 4.6 sets it with its theme; earlier ones and
# VS Code do not.
_FOLLOW_THEME = (
    "<style>.chatlab-timeline{color-scheme:light}"
    '[data-jp-theme-light="false"] .chatlab-timeline,.vscode-dark .chatlab-timeline'
    "{color-scheme:dark}</style>"
)


@dataclass(frozen=True, repr=False)
class Timeline:
    """A drawing. It shows what was recorded up to the call that made it."""

    lanes: tuple[Lane, ...]
    rows: tuple[Row, ...]
    title: str | None = None
    clock: bool = False

    def __repr__(self) -> str:
        return draw_text(self.lanes, self.rows, title=self.title, clock=self.clock)

    @property
    def text(self) -> str:
        """The text form, as `repr` shows it."""
        return repr(self)

    def svg(self) -> str:
        """The picture as an SVG document that stands alone, light or dark as its reader prefers."""
        return draw_svg(
            self.lanes, self.rows, title=self.title, clock=self.clock, description=repr(self)
        )

    def save(self, path: str | Path) -> Path:
        """Write the SVG to a file."""
        path = Path(path)
        path.write_text(self.svg(), encoding="utf-8")
        return path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # An image in HTML is the one form that JupyterLab also shows before a notebook is trusted
        # and that GitHub does not take apart: both remove SVG that stands in HTML, and JupyterLab
        # 4.6 shows `image/svg+xml` of a trusted notebook only (as an image, too).
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.svg().encode()).decode()
        return (
            f'{_FOLLOW_THEME}<img class="chatlab-timeline" style="max-width:100%" '
            f'src="data:image/svg+xml;base64,{picture}" alt="{html.escape(repr(self))}">'
        )


def timeline(
    *actors: object,
    title: str | None = None,
    clock: bool = False,
    only: str | Collection[str] | None = None,
    hide: str | Collection[str] = (),
) -> Timeline:
    """Draw what `actors` (clients, wires, servers, `Refused`s, or recorders) did and saw.

    Lanes: clients, wires, servers, then the other clients; a client that is given after a server
    stands where it is given. `only` and `hide` choose by event name (with its acks) or by kind:
    `"ack"`, `"connect"`, `"disconnect"`, `"timeout"`, `"note"`. Connecting is left out while it is
    dull (everybody came once and got in). `clock=True` adds seconds, which differ in every run.

    Draw when the run has come to rest: what is still under way counts as not arrived (`settled`).
    """
    recorders = _recorders(actors)
    lanes = _lanes(recorders, _stand_as_given(recorders))
    episodes = Episodes(recorders)
    flights = find_flights(recorders, episodes)
    items = arrange(recorders, flights, episodes, [lane.name for lane in lanes])
    rows = make_rows(
        items,
        lanes,
        recorders,
        only=None if only is None else _names(only),
        hide=_names(hide),
    )
    return Timeline(tuple(lanes), tuple(fold(rows)), title, clock)


async def settled(*actors: object, quiet: float = 0.05, limit: float = 2.0) -> None:
    """Wait until nothing new was recorded for `quiet` seconds, at most `limit` seconds.

    That a thread was not let run by the machine is no quiet: each has had its turn.
    """
    recorders = _live(actors)
    deadline = time.monotonic() + limit
    seen = -1
    while (left := deadline - time.monotonic()) > 0:
        now = sum(len(r.entries) for r in recorders)
        if now == seen:
            return
        seen = now
        await asyncio.sleep(min(quiet, left))
        await turned(deadline - time.monotonic())


def _names(names: str | Collection[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _live(actors: Sequence[object]) -> list[Recorder]:
    found = []
    for actor in actors:
        # A client that was refused is at hand only as `client` of the exception.
        owner = actor if hasattr(actor, "recorder") else getattr(actor, "client", actor)
        recorder = getattr(owner, "recorder", owner)
        if not isinstance(recorder, Recorder):
            raise TypeError(
                f"timeline draws clients, wires and servers, not {type(actor).__name__}"
            )
        found.append(recorder)
    return found


def _recorders(actors: Sequence[object]) -> list[Recorder]:
    """A copy of each record, since other threads go on writing; records of one name as one."""
    found: dict[str, Recorder] = {}
    for recorder in _live(actors):
        known = found.setdefault(recorder.name, Recorder(recorder.name, recorder.role))
        if known.role != recorder.role:
            raise ValueError(
                f"a {known.role} and a {recorder.role} are both called {recorder.name!r}: "
                "give one of them another name"
            )
        entries = {e.order: e for e in [*known.entries, *list(recorder.entries)]}
        known.entries[:] = [entries[order] for order in sorted(entries)]
    return list(found.values())


def _stand_as_given(recorders: Sequence[Recorder]) -> bool:
    roles = [r.role for r in recorders]
    return "server" in roles and "client" in roles[roles.index("server") :]


def _lanes(recorders: Sequence[Recorder], as_given: bool) -> list[Lane]:
    lanes = {r.name: Lane(r.name, r.role, bool(r.entries)) for r in recorders}
    clients = [r.name for r in recorders if r.role == "client"]
    wires = [r for r in recorders if r.role == "wire"]
    servers = [r for r in recorders if r.role == "server"]
    if not clients:
        told = dict.fromkeys(e.conn for r in recorders for e in r.entries if e.conn is not None)
        clients = [name for name in told if name not in lanes][:_MOST_GUESSED]
        lanes |= {name: Lane(name, "client", recorded=False) for name in clients}
    if as_given:
        return list(lanes.values())
    middle = [r.name for r in servers]
    if not middle:
        middle = ["server"]
        lanes["server"] = Lane("server", "server", recorded=False)
    left: list[str] = []
    right: list[str] = []
    for name in clients:
        wire = next((r for r in wires if any(e.conn == name for e in r.entries)), None)
        home = _home(name, servers)
        first_wire = wire is not None and wire is wires[0]
        is_left = home in (None, middle[0]) and (first_wire or (not wires and not left))
        (left if is_left else right).append(name)
    if not left and right:
        left.append(right.pop(0))
    near = [r.name for r in wires if r is wires[0] or _carries(r, left)]
    far = [r.name for r in wires if r.name not in near]
    return [lanes[name] for name in (*left, *near, *middle, *far, *right)]


def _carries(wire: Recorder, names: Collection[str]) -> bool:
    return any(e.conn in names for e in wire.entries)


def _home(name: str, servers: Sequence[Recorder]) -> str | None:
    """The server that saw most of this client."""
    counts = Counter({r.name: sum(e.conn == name for e in r.entries) for r in servers})
    best = counts.most_common(1)
    return best[0][0] if best and best[0][1] else None
