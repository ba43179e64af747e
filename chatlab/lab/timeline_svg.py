"""The rows of a timeline as an SVG that stands alone.

Light and dark are both inside; shape tells what colour tells (dashes, crosses, hatching), so that
it can be read without colours. What to show was decided before: this is geometry only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from html import escape

from chatlab.lab.timeline_layout import HALF_WALL, SIGN, TITLE, Box, Label, Layout, Line
from chatlab.lab.timeline_rows import Lane, Leg, Row
from chatlab.lab.timeline_style import STYLE, shortened, text_width
from chatlab.lab.timeline_text import when

__all__ = ["draw_svg"]

_HEAD = 9  # length of an arrow's head


def draw_svg(
    lanes: Sequence[Lane],
    rows: Sequence[Row],
    *,
    title: str | None,
    clock: bool,
    description: str,
) -> str:
    """The drawing as one SVG document. `description` is the text that says the same."""
    return _Drawing(lanes, rows, title, clock).document(description)


class _Drawing:
    def __init__(
        self, lanes: Sequence[Lane], rows: Sequence[Row], title: str | None, clock: bool
    ) -> None:
        self._lanes, self._rows, self._title, self._clock = lanes, rows, title, clock
        self._at = Layout(lanes, rows, title=title, clock=clock)
        self._parts: list[str] = []
        self._walled: list[tuple[int, float, float]] = []
        self._slanting: list[Line] = []

    def document(self, description: str) -> str:
        name = "tl-" + hashlib.sha256(description.encode()).hexdigest()[:10]
        self._lane_lines()
        self._walls(name)
        for row, y, label in zip(self._rows, self._at.y, self._at.labels, strict=True):
            self._row(row, y, label)
        self._headers()
        heading = escape(self._title or "Timeline")
        width, height = round(self._at.width), round(self._at.height)
        style = STYLE.replace("#root", f"#{name}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" role="img" '
            f'aria-labelledby="{name}-t {name}-d" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">\n'
            f'<title id="{name}-t">{heading}</title>\n'
            f'<desc id="{name}-d">{escape(description)}</desc>\n'
            f"<style>{style}</style>\n"
            f'<defs><pattern id="{name}-h" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="6" height="6" class="wallback"/>'
            '<path d="M0 0V6" class="hatch"/></pattern></defs>\n'
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="6"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    # -- lanes -------------------------------------------------------------------------------------

    def _headers(self) -> None:
        if self._title:
            title = shortened(self._title, (self._at.width - 32) / TITLE, bold=True)
            self._text(16, 25, title, "title", "start")
        for x, lane in zip(self._at.x, self._lanes, strict=True):
            name = shortened(lane.name, 116, bold=True)
            half = max(34.0, text_width(name, bold=True) / 2 + 12)
            round_ = 12 if lane.role == "client" else 3
            kind = lane.role + ("" if lane.recorded else " unseen")
            self._add(
                f'<rect class="head {kind}" x="{x - half:.0f}" y="{self._at.top}" '
                f'width="{2 * half:.0f}" height="24" rx="{round_}"/>'
            )
            self._text(x, self._at.top + 16.5, name, "name", "middle")

    def _lane_lines(self) -> None:
        for number, (x, lane) in enumerate(zip(self._at.x, self._lanes, strict=True)):
            start, open_ = self._at.top + 24.0, lane.recorded and not self._comes_later(number)
            for row, y in zip(self._rows, self._at.y, strict=True):
                change = self._change(row, number)
                if change is None or change == open_:
                    continue
                self._lane_line(x, start, y, open_)
                start, open_ = y, change
            self._lane_line(x, start, self._at.bottom, open_)

    def _comes_later(self, lane: int) -> bool:
        """Whether the drawing shows this lane's client connecting for the first time."""
        own = (r for r in self._rows if r.lane == lane or any(g.target == lane for g in r.legs))
        return self._lanes[lane].role == "client" and next((r.style for r in own), "") == "connect"

    def _change(self, row: Row, lane: int) -> bool | None:
        """Whether a row opens or closes the connection of this lane; None: neither."""
        if self._lanes[lane].role == "server":
            return None
        ends_here = any(g.target == lane and not g.lost for g in row.legs)
        if row.closes and (row.lane == lane or lane in row.also or ends_here):
            return False
        if row.lane == lane and row.style in ("on", "connect", "heal"):
            return True
        return None

    def _lane_line(self, x: float, start: float, end: float, is_open: bool) -> None:
        kind = "lane" if is_open else "lane closed"
        self._add(f'<path class="{kind}" d="M{x} {start:.0f}V{end:.0f}"/>')

    # -- walls -------------------------------------------------------------------------------------

    def _walls(self, name: str) -> None:
        self._hatching = f'fill="url(#{name}-h)"'
        for n, (row, y) in enumerate(zip(self._rows, self._at.y, strict=True)):
            if row.style != "wall" or row.lane is None:
                continue
            end = next(
                (
                    self._at.y[m] - 12
                    for m in range(n + 1, len(self._rows))
                    if self._rows[m].lane == row.lane and self._rows[m].style in ("heal", "cut")
                ),
                self._at.bottom,
            )
            self._wall(row.lane, y + 9, end, row.one_way)

    def _wall(self, lane: int, top: float, bottom: float, one_way: bool | None) -> None:
        x, width = self._at.x[lane] - HALF_WALL, 2 * HALF_WALL
        if one_way is not None:
            # Only the side from which nothing gets through.
            server_is_right = any(other.role == "server" for other in self._lanes[lane + 1 :])
            width = HALF_WALL
            x += 0 if one_way == server_is_right else HALF_WALL
        self._add(
            f'<rect class="wall" {self._hatching} x="{x}" y="{top:.0f}" width="{width}" '
            f'height="{bottom - top:.0f}" rx="2"/>'
        )
        self._walled.append((lane, top, bottom))

    # -- rows --------------------------------------------------------------------------------------

    def _row(self, row: Row, y: float, label: Label | None) -> None:
        if self._clock:
            self._text(12, y + 4, when(row, self._rows[0].at), "clock", "start")
        if row.lane is None:
            middle = (self._at.x[0] + self._at.x[-1]) / 2
            self._add(f'<path class="fold" d="M{self._at.x[0]} {y:.0f}H{self._at.x[-1]}"/>')
            self._text(middle, y + 4, row.name, "small halo", "middle")
        elif label is not None:
            self._arrows(row, y)
            self._words(row, label, y)
        else:
            for lane in (row.lane, *row.also):
                self._mark(row, lane, y, with_words=lane == row.lane)

    def _arrows(self, row: Row, y: float) -> None:
        source = self._at.x[row.lane or 0]
        kind = f"line {row.style}"
        end = self._at.arrival(row, y)
        if row.part == "arrives":
            return
        for side in (-1, 1):
            legs = [g for g in row.legs if (self._at.x[g.target] - source) * side > 0]
            if not legs:
                continue
            ends = [self._at.end(leg, side) for leg in legs]
            far = max(ends, key=lambda e: abs(e - source))
            short = 0 if any(g.lost for g in legs) else _HEAD - 2
            # Level arrows lie on one another; slanting ones part where they leave.
            for x in [far] if end == y else ends:
                along, down = _direction(x - source, end - y)
                to = f"{x - short * along:.0f} {end - short * down:.0f}"
                self._add(f'<path class="{kind}" d="M{source} {y:.0f}L{to}"/>')
                if end > y:
                    self._slanting.append(Line(source, y, x, end))
            for leg, x in zip(legs, ends, strict=True):
                if leg.lost:
                    self._stop(leg, x, side, y)
                else:
                    self._head(x, end, side, row.style, _direction(x - source, end - y))
        self._add(f'<circle class="dot {row.style}" cx="{source}" cy="{y:.0f}" r="2.6"/>')

    def _head(
        self, x: float, y: float, side: int, style: str, direction: tuple[float, float]
    ) -> None:
        along, down = direction
        back_x, back_y = x - _HEAD * along, y - _HEAD * down
        half = side * _HEAD / 2
        self._add(
            f'<path class="tip {style}" d="M{x:.0f} {y:.0f}'
            f"L{back_x + half * down:.1f} {back_y - half * along:.1f}"
            f'L{back_x - half * down:.1f} {back_y + half * along:.1f}Z"/>'
        )

    def _stop(self, leg: Leg, x: float, side: int, y: float) -> None:
        if leg.stop is not None and not any(
            lane == leg.stop and top <= y <= bottom for lane, top, bottom in self._walled
        ):
            self._wall(leg.stop, y - 11, y + 11, None)
            self._walled.pop()
        self._cross(x, y)

    def _cross(self, x: float, y: float, style: str = "bad") -> None:
        self._add(
            f'<circle class="sign {style}" cx="{x:.0f}" cy="{y:.0f}" r="{SIGN}"/>'
            f'<path class="cross {style}" d="M{x - 3:.0f} {y - 3:.0f}l6 6m0 -6l-6 6"/>'
        )

    # -- words -------------------------------------------------------------------------------------

    def _words(self, row: Row, label: Label, y: float) -> None:
        if label.above:
            rest = f'<tspan class="rest" dx="4"> {escape(label.above_rest)}</tspan>'
            width = text_width(label.above, bold=True)
            width += text_width(" " + label.above_rest) + 4 if label.above_rest else 0
            self._ground(label.x, y - 7, width, label.anchor)
            self._add(
                f'<text class="what halo {row.style}" x="{label.x:.0f}" y="{y - 7:.0f}" '
                f'text-anchor="{label.anchor}">{escape(label.above)}'
                f"{rest if label.above_rest else ''}</text>"
            )
        if label.below:
            self._text(label.x, y + 15, label.below, "rest halo", label.anchor)
        for late in label.late:
            down = 15 if late.is_below else 4
            self._text(late.x, y + down, late.words, "small halo", late.anchor)

    def _mark(self, row: Row, lane: int, y: float, *, with_words: bool) -> None:
        x = self._at.x[lane]
        self._sign(row, x, y)
        if not with_words:
            return
        name = row.name.removeprefix("✗ ")
        if row.style in ("wall", "heal"):
            self._text(x, y + 3, name, "small halo strong", "middle")
            return
        whole = text_width(name, bold=True) + text_width(" " + row.words) + 30
        left, right = x, self._at.width - x
        side = 1 if whole <= right or left <= right else -1
        room = max(left, right) - 30 if whole > right else whole
        name = shortened(name, room, bold=True)
        start: float = x + side * 13
        anchor = "start" if side > 0 else "end"
        rest = f'<tspan class="rest" dx="4"> {escape(row.words)}</tspan>' if row.words else ""
        if row.style == "note":
            width = text_width(name) + 16
            corner = start - (0 if side > 0 else width)
            self._add(
                f'<rect class="note" x="{corner:.0f}" y="{y - 10:.0f}" width="{width:.0f}" '
                'height="20" rx="3"/>'
            )
            start, anchor = corner + width / 2, "middle"
        else:
            self._ground(start, y + 4, whole - 30, anchor)
        self._add(
            f'<text class="what halo {row.style}" x="{start:.0f}" y="{y + 4:.0f}" '
            f'text-anchor="{anchor}">{escape(name)}{rest}</text>'
        )

    def _sign(self, row: Row, x: float, y: float) -> None:
        if row.style in ("timeout", "bad"):
            self._cross(x, y)
        elif row.style == "cut":
            self._add(
                f'<rect class="gap" x="{x - 9}" y="{y - 4:.0f}" width="18" height="8"/>'
                f'<path class="cross bad" d="M{x - 9} {y - 1:.0f}l18 -6m-18 14l18 -6"/>'
            )
        elif row.style == "off":
            self._add(f'<circle class="sign off" cx="{x}" cy="{y:.0f}" r="5"/>')
        elif row.style in ("on", "note"):
            self._add(f'<circle class="dot {row.style}" cx="{x}" cy="{y:.0f}" r="4"/>')

    # -- small parts -------------------------------------------------------------------------------

    def _ground(self, x: float, y: float, width: float, anchor: str) -> None:
        """Put the page's colour under words (on the line `y`) that a slanting arrow crosses."""
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = Box(left - 3, y - 12, width + 6, 16)
        if any(line.crosses(box) for line in self._slanting):
            self._add(
                f'<rect class="gap" x="{box.left:.0f}" y="{box.top:.0f}" '
                f'width="{box.width:.0f}" height="{box.height}" rx="3"/>'
            )

    def _text(self, x: float, y: float, text: str, kind: str, anchor: str) -> None:
        if "halo" in kind:
            self._ground(x, y, text_width(text), anchor)
        self._add(
            f'<text class="{kind}" x="{x:.0f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def _add(self, *parts: str) -> None:
        self._parts.extend(parts)


def _direction(right: float, down: float) -> tuple[float, float]:
    """The way from an arrow's source to its end, one pixel long."""
    length = math.hypot(right, down)
    return right / length, down / length
