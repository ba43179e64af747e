"""Draws who of a crowd saw which message, and when: on time, late, twice, or never.

It reads a history as it is and judges only what it draws; the verdict is the checker's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chatlab.lab import history_events as ev
from chatlab.lab.crowd import LAST, Crowd
from chatlab.lab.plots import COLOURS, INK, chart

__all__ = ["seen_chart"]

_LATE: Final = 0.25  # seconds after it was sent
_MARKS: Final[Mapping[str, tuple[str, str, bool]]] = {
    "at once": ("blue", ".", True),
    "late": ("blue", "o", False),
    "twice": ("purple", "D", True),
    "never": ("vermilion", "x", True),
}


def seen_chart(crowds: Mapping[str, Crowd]) -> None:
    """A panel for each crowd, a row for each of its people, a mark for each acked message.

    A mark stands at the time when the message was sent; the grey band is the fault. *Late* is more
    than a quarter of a second after that. End the cell with `plt.show()`.
    """
    panels = chart(x="the message was sent (s)", columns=len(crowds), height=2.7)
    used: dict[str, Any] = {}
    for axes, (title, crowd) in zip(_list(panels), crowds.items(), strict=True):
        names = [person.name for person in crowd.people]
        marks = seen(crowd)
        for what, (colour, marker, filled) in _MARKS.items():
            points = [(at, names.index(name)) for name, at, how in marks if how == what]
            if points:
                shape: dict[str, Any] = {"color": COLOURS[colour]}
                if not filled:
                    shape = {"facecolors": "none", "edgecolors": COLOURS[colour]}
                used[what] = axes.scatter(
                    *zip(*points, strict=True), marker=marker, s=26, linewidths=1.3, **shape
                )
        end = max((at for _, at, _ in marks), default=1.0) + 0.05
        axes.set_xlim(-0.05, end)
        for begun, over in crowd.faults:
            until = min(end, over - crowd.begun)
            axes.axvspan(begun - crowd.begun, until, color=INK, alpha=0.25, lw=0, zorder=0)
        axes.set_title(title)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="y")
    figure = _list(panels)[0].figure
    ordered = [what for what in _MARKS if what in used]
    figure.legend(
        [used[what] for what in ordered],
        [f"seen {what}" for what in ordered],
        loc="outside lower center",
        ncols=len(ordered),
    )


def seen(crowd: Crowd) -> list[tuple[str, float, str]]:
    """For each acked message and each other person: the name, when it was sent, and how it was
    seen (a key of the chart's legend). Times are seconds since the crowd began."""
    sent: dict[str, tuple[str, float]] = {}
    attempts: dict[tuple[str, int], str] = {}
    acked: dict[str, None] = {}
    shown: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in crowd.history.events:
        match event:
            case ev.Sent():
                sent.setdefault(event.text, (event.client, event.at))
                attempts[event.client, event.send] = event.text
            case ev.Acked(stored=True):
                acked[attempts[event.client, event.send]] = None
            case ev.Shown():
                shown[event.client, event.message.text].append(event.at)
    return [
        (person.name, sent[text][1] - crowd.begun, _how(shown[person.name, text], sent[text][1]))
        for text in acked
        for person in crowd.people
        if person.name != sent[text][0] and text != LAST
    ]


def _how(times: Sequence[float], sent: float) -> str:
    if len(times) > 1:
        return "twice"
    if not times:
        return "never"
    return "late" if times[0] > sent + _LATE else "at once"


def _list(panels: Any) -> list[Any]:
    return panels if isinstance(panels, list) else [panels]
