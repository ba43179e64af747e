"""One look for all of the workshop's plots: legible on white and on black, and without colour.

Backgrounds are transparent and inks are mid-tones, since a stored PNG cannot follow a theme; every
series differs in colour, dash and marker. What is measured and why is the lesson's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler

__all__ = ["COLOURS", "INK", "STYLE", "chart"]

INK = "#767676"
"""Text, axes and grid: 4.5 to 1 on white, 4.2 to 1 on JupyterLab's dark page."""

COLOURS: Mapping[str, str] = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#009e73",
    "purple": "#b8639a",
    "ochre": "#a87800",
}
"""Okabe and Ito's palette without its two light colours; each 3 to 1 on white and on black."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 2)))
_MARKERS = ("o", "s", "^", "D", "v")

STYLE: Mapping[str, Any] = {
    "figure.figsize": (7.6, 3.3),
    "figure.dpi": 110,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=list(COLOURS.values()))
    + cycler(linestyle=_DASHES)
    + cycler(marker=_MARKERS),
    "grid.color": INK,
    "grid.alpha": 0.25,
    "xtick.color": INK,
    "ytick.color": INK,
    # matplotlib-inline 0.2 puts a white (or black) box behind a transparent figure whose tick
    # labels are all dark (or all light); these count as light, the others as dark.
    "ytick.labelcolor": "#808080",
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "svg.hashsalt": "chatlab",
    "svg.fonttype": "none",
}


def chart(
    title: str = "",
    *,
    x: str = "",
    y: str = "",
    height: float = 3.3,
    columns: int = 1,
) -> Any:
    """Begin a figure at a notebook's width and return its axes (a list of them for `columns`).

    `x` and `y` label the axes, with units; `height` is in inches. Sets matplotlib's defaults, so
    that legends and text added later look alike. End the cell with `plt.show()`.
    """
    settings: Any = STYLE  # matplotlib types every key
    plt.rcParams.update(settings)
    figure, axes = plt.subplots(1, columns, figsize=(7.6, height), squeeze=False)
    row = list(axes[0])
    for each in row:
        each.set_xlabel(x)
    row[0].set_ylabel(y)
    if columns == 1:
        row[0].set_title(title)
        return row[0]
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return row
