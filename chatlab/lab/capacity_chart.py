"""The pictures of lesson 07: what was measured, as bars with their figures; prices; users a core.

It measures nothing and knows no figure but those of others that it cites, with their sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chatlab.lab.plots import COLOURS, INK, chart

__all__ = ["CITED", "Cited", "bars", "beside", "prices_chart", "runs_chart", "tiles", "users_chart"]

_HATCHES: Final = ("", "///", "..", "xx", "\\\\")
_MARKERS: Final = ("o", "s", "^", "D", "v")


@dataclass(frozen=True, slots=True)
class Cited:
    """A figure of somebody else's, as they published it; `computed` says what was divided."""

    who: str
    value: float
    source: str
    computed: str = ""


CITED: Final[Mapping[str, Sequence[Cited]]] = {
    "KB a connection": (
        Cited("Phoenix 2015", 64, "The Road to 2 Million", "at most: all of 128 GB by 2 million"),
        Cited("Centrifugo 2020", 30, "Million connections with Centrifugo"),
    ),
    "deliveries a second and core": (
        Cited(
            "Centrifugo 2020",
            12_500,
            "Million connections with Centrifugo",
            "500,000 by 40 CPUs, on which a million people were connected",
        ),
        Cited("Redis pub/sub", 650_000, "one instance, 256 bytes"),
    ),
}
"""What lesson 07 puts beside the learner's own row. None of these was the other's limit."""


def bars(
    series: Mapping[str, Mapping[str, float | None]],
    unit: str,
    *,
    title: str = "",
    log: bool = False,
) -> Any:
    """Draw a group of bars for each key, one for each series, with the figure at its end.

    `series` maps a name ("" for a single one without legend) to key and value; all have the keys of
    the first. None is a figure that nothing came of: that is said instead of a bar. Returns the
    axes; end the cell with `plt.show()`.
    """
    keys = list(next(iter(series.values())))
    axes = chart(title, x=unit, height=0.9 + 0.3 * len(keys) * max(1.3, len(series)))
    _fill(axes, series, keys, log=log)
    if "" not in series:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def _fill(
    axes: Any, series: Mapping[str, Mapping[str, float | None]], keys: Sequence[str], *, log: bool
) -> None:
    height = 0.78 / len(series)
    looks = zip(COLOURS.values(), _HATCHES, strict=True)
    for row, ((name, values), (colour, hatch)) in enumerate(
        zip(series.items(), looks, strict=False)
    ):
        drawn = axes.barh(
            [place + (row - (len(series) - 1) / 2) * height for place in range(len(keys))],
            [values[key] or 0.0 for key in keys],
            height=height * 0.9,
            label=name,
            color=colour,
            edgecolor=INK,
            hatch=hatch,
            linewidth=0.5,
        )
        axes.bar_label(drawn, [figure(values[key]) for key in keys], padding=4)
    axes.set_yticks(range(len(keys)), keys)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.15)
    if log:
        axes.set_xscale("log")


def figure(value: float | None) -> str:
    """Two digits that count, as many as a short measurement has: 0.34, 8.1, 57, 1,200.

    A whole number, as others published it, is shown as it is.
    """
    if value is None:
        return "none came in time"
    if value >= 100 and value != int(value):
        size = 10 ** (len(str(int(value))) - 2)
        return f"{round(value / size) * size:,.0f}"
    if value >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def prices_chart(points: Mapping[int, float], message: float, delivery: float) -> Any:
    """Draw CPU seconds a message over the members of its room, and the line of two prices."""
    axes = chart(
        "What a message costs", x="members of the room", y="server CPU a message (µs)", height=3.0
    )
    sizes = sorted(points)
    axes.plot(
        [sizes[0], sizes[-1]],
        [(message + (size - 1) * delivery) * 1e6 for size in (sizes[0], sizes[-1])],
        marker="",
        color=COLOURS["blue"],
        label=f"{figure(message * 1e6)} µs + {figure(delivery * 1e6)} µs for each delivery",
    )
    axes.plot(
        sizes,
        [points[size] * 1e6 for size in sizes],
        linestyle="",
        marker="o",
        markersize=7,
        color=COLOURS["vermilion"],
        label="measured",
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return axes


def users_chart(
    sizes: Sequence[int], users: Mapping[str, Sequence[float]], most: float, memory: str
) -> Any:
    """Draw how many users a server holds over the size of their rooms, a line for each habit.

    `most` is how many fit into its memory, which `memory` words.
    """
    axes = chart("Users that one core holds", x="members of each room", y="users", height=3.6)
    for name, held in users.items():
        axes.plot(sizes, held, label=name)
    axes.axhline(most, color=INK, linestyle="-", linewidth=1)
    axes.text(sizes[-1], most * 1.15, memory, ha="right", va="bottom", fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def beside(yours: Mapping[str, float]) -> Any:
    """Draw the learner's figures, by the keys of `CITED`, beside those of others."""
    panels = chart("Your row, and others'", columns=len(yours), height=2.3)
    for axes, (unit, value) in zip(panels, yours.items(), strict=True):
        others = {each.who: each.value for each in CITED[unit]}
        _fill(axes, {"": {"yours": value, **others}}, ["yours", *others], log=False)
        for patch in axes.patches[1:]:
            patch.set_facecolor("none")
            patch.set_hatch("///")
        axes.set_title(unit, fontsize=10.5)
        if max(value, *others.values()) > 20 * min(value, *others.values()):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.margins(x=0.3)
    return panels


def runs_chart(runs: Mapping[str, Sequence[float]], unit: str, *, title: str = "") -> Any:
    """Draw each run as a mark, in a row for each server, and a line at the median."""
    axes = chart(title, x=unit, height=0.9 + 0.5 * len(runs))
    looks = zip(COLOURS.values(), _MARKERS, strict=True)
    for row, ((_, values), (colour, marker)) in enumerate(zip(runs.items(), looks, strict=False)):
        middle = sorted(values)[len(values) // 2] if len(values) % 2 else sum(values) / len(values)
        axes.vlines(middle, row - 0.3, row + 0.3, color=colour, linewidth=1.5)
        axes.plot(
            values, [row] * len(values), linestyle="", marker=marker, markersize=8, color=colour
        )
        axes.annotate(figure(middle), (middle, row), (8, 12), textcoords="offset points", color=INK)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(0, 1.2 * max(max(values) for values in runs.values()))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", visible=False)
    return axes


def tiles(facts: Mapping[str, float]) -> Any:
    """Show figures of different units side by side, each over what it counts."""
    panels = chart(columns=len(facts), height=1.3)
    for axes, (unit, value), colour in zip(
        panels if isinstance(panels, list) else [panels],
        facts.items(),
        COLOURS.values(),
        strict=False,
    ):
        axes.set_axis_off()
        middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.66, figure(value), fontsize=24, color=colour, **middle)
        axes.text(0.5, 0.2, unit, **middle)
    return panels
