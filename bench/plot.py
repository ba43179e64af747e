"""bench/results.svg: how many times better than Node each figure is, with its spread and target.

Right of the line is better than Node, whatever the unit: where less is better, the ratio is turned
round. Transparent, in mid-tones, so that it reads on white and on black.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.peers import PEERS
from bench.results import Results, Spread
from bench.scenarios import FIGURES, SCENARIOS, Goal, Scenario
from chatlab.lab.plots import COLOURS, INK, STYLE

__all__ = ["draw"]


def draw(results: Results, path: Path) -> None:
    """Write the picture. Nothing is written where no goal was measured."""
    rows = [
        (scenario, goal, spread)
        for scenario in SCENARIOS.values()
        for goal in scenario.goals
        if (spread := results.judged(scenario, goal)[0]) is not None
    ]
    if not rows:
        return
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = dict(STYLE)  # matplotlib types every key
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(9.2, 0.42 * len(rows) + 1.5))
        for place, (scenario, goal, spread) in enumerate(rows):
            _row(axes, place, results, scenario, goal, spread)
        axes.axvline(1, color=INK, linewidth=1.2)
        axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), [_label(scenario, goal) for scenario, goal, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        ticks = [
            t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if _within(t, axes.get_xlim())
        ]
        axes.set_xticks(ticks, [f"x{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("times better than Node (log scale)")
        _legend(axes)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _label(scenario: Scenario, goal: Goal) -> str:
    extra = "" if goal.peer in ("chatlab", "chatlab-redis") else f", {PEERS[goal.peer].label[9:]}"
    figure = "" if goal.figure == "per_cpu" else f", {FIGURES[goal.figure].label}"
    return f"{scenario.name}{extra}{figure}"


def _better(value: float, goal: Goal) -> float:
    return value if FIGURES[goal.figure].more else 1 / max(value, 1e-9)


def _row(
    axes: Any, place: int, results: Results, scenario: Scenario, goal: Goal, spread: Spread
) -> None:
    ends = sorted((_better(spread.least, goal), _better(spread.most, goal)))
    axes.plot(ends, [place, place], color=COLOURS["blue"], linestyle="-", marker="", linewidth=3)
    median = _better(spread.median, goal)
    axes.plot([median], [place], color=COLOURS["blue"], marker="o", linestyle="", markersize=7)
    target = _better(goal.at, goal)
    axes.plot(
        [target, target],
        [place - 0.3, place + 0.3],
        color=COLOURS["vermilion"],
        linestyle="-",
        marker="",
    )
    stock = "stock-redis" if "stock-redis" in scenario.peers else "stock"
    other = results.ratio(scenario.name, stock, scenario.peers[0], goal.figure)
    if other is not None:
        value = _better(other.median, goal)
        axes.plot([value], [place], color=INK, marker="x", linestyle="", markersize=6)


def _legend(axes: Any) -> None:
    axes.plot(
        [], [], color=COLOURS["blue"], marker="o", linestyle="-", label="chatlab: median, min-max"
    )
    axes.plot(
        [], [], color=COLOURS["vermilion"], marker="|", markersize=11, linestyle="", label="target"
    )
    axes.plot([], [], color=INK, marker="x", linestyle="", label="stock python-socketio")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
