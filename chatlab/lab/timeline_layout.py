"""Where everything stands in a timeline's picture: lanes, rows, ends of arrows, room for words.

Pixels only; `timeline_svg.py` draws what stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatlab.lab.timeline_rows import Lane, Leg, Row
from chatlab.lab.timeline_style import shortened, text_width

__all__ = ["HALF_WALL", "SIGN", "TITLE", "Box", "Label", "Late", "Layout", "Line"]

HALF_WALL = 9
SIGN = 7  # radius of a mark
TITLE = 1.16  # size of the title's letters, in those of the rest

_MARGIN = 66
_CLOCK = 74
_WIDEST = 860  # a notebook's column
_GAPS = {2: 430, 3: 330, 4: 236, 5: 180}


@dataclass(frozen=True, slots=True)
class Box:
    """The room that words take."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """A slanting arrow's line, from the upper to the lower end."""

    x: float
    y: float
    to_x: float
    to_y: float

    def crosses(self, box: Box) -> bool:
        """Whether a part of it is in the box."""
        top, bottom = max(self.y, box.top), min(self.to_y, box.top + box.height)
        if top > bottom:
            return False
        left, right = sorted((self._x_at(top), self._x_at(bottom)))
        return left <= box.left + box.width and right >= box.left

    def _x_at(self, y: float) -> float:
        return self.x + (self.to_x - self.x) * (y - self.y) / (self.to_y - self.y)


@dataclass(frozen=True, slots=True)
class Late:
    """What is said where a late packet arrives: beyond the line it reaches, or below the arrow."""

    x: float
    anchor: str
    words: str
    is_below: bool


@dataclass(frozen=True, slots=True)
class Label:
    """Where a row's words stand: beside its source, above the arrow and, if long, below it too.

    The row in which a late packet arrives has `late` instead.
    """

    x: float
    anchor: str
    above: str
    above_rest: str
    below: str
    late: tuple[Late, ...] = ()

    @property
    def is_deep(self) -> bool:
        """Whether something stands below the arrow."""
        return bool(self.below) or any(late.is_below for late in self.late)


class Layout:
    """The places of one drawing: `x` by lane, `y` and `labels` by row, and its size."""

    def __init__(
        self, lanes: Sequence[Lane], rows: Sequence[Row], title: str | None, clock: bool
    ) -> None:
        self._rows = rows
        gap = _GAPS.get(len(lanes), max(128, 720 // max(1, len(lanes) - 1)))
        self._edge = 6 + (_CLOCK if clock else 0)
        left = _MARGIN + (_CLOCK if clock else 0)
        self.x = [left + n * gap for n in range(len(lanes))]
        heading = text_width(title or "", bold=True) * TITLE + 32
        self.width = min(max(self.x[-1] + _MARGIN, heading), max(self.x[-1] + _MARGIN, _WIDEST))
        self.top = 34 if title else 10
        self.labels = [self._label(row) if row.legs else None for row in rows]
        self.y: list[float] = []
        y = self.top + 26.0
        for row, label in zip(rows, self.labels, strict=True):
            y += 36 if row.legs else 32
            self.y.append(y)
            y += 13 if label is not None and label.is_deep else 0
        self.bottom = y + 20
        self.height = self.bottom + 8

    def end(self, leg: Leg, side: int) -> float:
        """Where an arrow that goes to the right (`side` 1) or left (-1) ends."""
        if leg.stop is not None:
            return self.x[leg.stop] - side * (HALF_WALL + SIGN + 2)
        if leg.between is not None:
            here, beyond = leg.between
            return (self.x[here] + self.x[beyond]) / 2
        return self.x[leg.target]

    def arrival(self, row: Row, y: float) -> float:
        """The height at which the arrow ends: lower where the packet was late."""
        if row.part != "leaves":
            return y
        return next(
            (
                other_y
                for other, other_y in zip(self._rows, self.y, strict=True)
                if other.part == "arrives" and other.number == row.number
            ),
            y,
        )

    def _label(self, row: Row) -> Label:
        source = self.x[row.lane or 0]
        right = [g for g in row.legs if self.x[g.target] > source]
        side = 1 if right else -1
        ends = [self.end(g, side) for g in (right or row.legs)]
        room = max(abs(e - source) for e in ends) - 22
        x = source + side * 10
        anchor = "start" if side > 0 else "end"
        if row.part == "arrives":
            return Label(x, anchor, "", "", "", tuple(self._late(row, g) for g in row.legs))
        name, words = row.name, row.words
        whole = text_width(name, bold=True) + text_width(" " + words)
        if not words or whole <= room:
            return Label(x, anchor, shortened(name, room, bold=True), words, "")
        return Label(x, anchor, shortened(name, room, bold=True), "", shortened(words, room))

    def _late(self, row: Row, leg: Leg) -> Late:
        here, source = self.x[leg.target], self.x[row.lane or 0]
        side = 1 if here > source else -1
        anchor, opposite = ("start", "end") if side > 0 else ("end", "start")
        words = f"late: {row.text}" if row.text else "late"
        beyond = [x for x in self.x if (x - here) * side > 0]
        edge = self.width - 6 if side > 0 else self._edge
        end = min(beyond, key=lambda x: abs(x - here)) - side * HALF_WALL if beyond else edge
        room = abs(end - here) - 12
        if beyond or text_width(words) <= room:
            return Late(here + side * 8, anchor, shortened(words, room), is_below=False)
        room = abs(here - source) - 22
        return Late(here - side * 10, opposite, shortened(words, room), is_below=True)
