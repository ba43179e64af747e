"""The rows of a timeline as plain text, one row a line.

It says what the picture says; it is what a screen reader, a terminal and a diff get.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatlab.lab.timeline_rows import Lane, Row

__all__ = ["draw_text", "when"]

_SIGNS = {"wall": "▒ ", "cut": "✂ ", "heal": "✓ ", "note": "· ", "off": "○ ", "on": "● "}


def draw_text(lanes: Sequence[Lane], rows: Sequence[Row], *, title: str | None, clock: bool) -> str:
    """The whole drawing as lines."""
    names = [lane.name + ("" if lane.recorded else " (not recorded)") for lane in lanes]
    lines = [title] if title else []
    lines.append(" │ ".join(names))
    start = rows[0].at if rows else 0.0
    who = [_who(lanes, row) for row in rows]
    width = max((len(text) for text in who), default=0)
    for row, text in zip(rows, who, strict=True):
        time = f"{when(row, start):>8}  " if clock else ""
        lines.append(f"{time}{text:<{width}}  {_what(lanes, row)}".rstrip())
    if not rows:
        lines.append("(nothing happened)")
    return "\n".join(lines)


def when(row: Row, start: float) -> str:
    """The time since the first row, for `clock=True`."""
    return f"+{row.at - start:.3f} s"


def _who(lanes: Sequence[Lane], row: Row) -> str:
    if row.lane is None:
        return ""
    source = lanes[row.lane].name
    if not row.legs:
        return " and ".join([source, *(lanes[n].name for n in row.also)])
    arrived = [lanes[leg.target].name for leg in row.legs if not leg.lost]
    stopped = [
        f"✗ {lanes[leg.stop].name}" if leg.stop is not None else f"✗ {lanes[leg.target].name}"
        for leg in row.legs
        if leg.lost
    ]
    return f"{source} → {', '.join(arrived + stopped)}"


def _what(lanes: Sequence[Lane], row: Row) -> str:
    if row.lane is None:
        return row.name
    said = f"{row.name} {row.words}".strip()
    if not row.legs:
        return _SIGNS.get(row.style, "") + said
    late = {"leaves": f" [{row.number}: on its way]", "arrives": f" [{row.number}: arrives]"}
    said += late.get(row.part, "")
    lost = [leg for leg in row.legs if leg.lost]
    if lost:
        several = len(row.legs) > 1
        for_whom = " for " + ", ".join(lanes[leg.target].name for leg in lost) if several else ""
        swallowed = all(leg.stop is not None for leg in lost)
        said += f" · {'swallowed' if swallowed else 'did not arrive'}{for_whom}"
    return said
