"""How a cluster shows itself: who stands behind whom, and in which state each part is.

Text and HTML say the same. It reads the parts' own cards and knows nothing of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from chatlab.lab.card import COLOURS, SIGNS, Card

__all__ = ["ClusterCard"]


@dataclass(frozen=True, slots=True)
class ClusterCard(Card):
    """`columns` are the parts' cards from the clients' side to the store's; empty ones are skipped.

    Of each card its title, state and first row (the address) are shown; `note` says what runs.
    """

    columns: tuple[tuple[Card, ...], ...] = ()
    note: str = ""

    def text(self) -> str:
        """The topology as a drawing in plain text, then one line a part."""
        # Not super(): a dataclass with slots is made anew, and the old class is what super() knows.
        head = Card.text(self)
        parts = [part for column in self.columns for part in column]
        width = max((len(part.title) for part in parts), default=0)
        states = max((len(part.state) for part in parts), default=0)
        lines = [
            f"  {SIGNS[part.mood]} {part.title:<{width}}  {part.state:<{states}}  {_address(part)}"
            for part in parts
        ]
        lines += [f"  {self.note}"] if self.note else []
        return "\n".join([head, *self._drawing(), *(line.rstrip() for line in lines)])

    def _drawing(self) -> list[str]:
        columns = [[part.title for part in column] for column in self.columns if column]
        columns.insert(0, ["clients"])
        height = max(len(column) for column in columns)
        lines = ["  "] * height
        for number, column in enumerate(columns):
            if number:
                before = len(columns[number - 1])
                joints = _joints(before, len(column), height)
                lines = [line + joint for line, joint in zip(lines, joints, strict=True)]
            wide = max(len(title) for title in column)
            line = " " if number in (0, len(columns) - 1) else "─"
            cells = [f"{title} ".ljust(wide, line)[:wide] for title in column]
            cells += [" " * wide] * (height - len(column))
            lines = [line + cell for line, cell in zip(lines, cells, strict=True)]
        return [line.rstrip() for line in lines]

    def html(self) -> str:
        """The topology as boxes from left to right, coloured and signed by state."""
        line = '<span style="align-self:center;color:var(--jp-ui-font-color2, #808080)">→</span>'
        columns = [
            '<div style="display:flex;flex-direction:column;justify-content:center;gap:6px">'
            + "".join(_box(part) for part in column)
            + "</div>"
            for column in self.columns
            if column
        ]
        inside = line.join(["<span style='align-self:center'>clients</span>", *columns])
        return (
            '<div style="display:inline-block;max-width:100%;overflow-x:auto;'
            'font-size:var(--jp-ui-font-size1, 13px)">'
            f'<div style="margin-bottom:6px"><span style="color:{COLOURS[self.mood]}">'
            f"{SIGNS[self.mood]}</span> <b>{escape(self.title)}</b> · "
            f'<span style="color:{COLOURS[self.mood]}">{escape(self.state)}</span></div>'
            f'<div style="display:flex;gap:8px">{inside}</div>'
            '<div style="margin-top:6px;color:var(--jp-ui-font-color2, #808080)">'
            f"{escape(self.note)}</div></div>"
        )


def _joints(before: int, after: int, height: int) -> list[str]:
    """The lines between a column of `before` parts and one of `after`."""
    if before == 1 and after == 1:
        found = [" ── "]
    elif before == 1:
        found = [" ─┬─ ", *[" " * 2 + "├─ "] * (after - 2), " " * 2 + "└─ "]
    else:
        found = [" ─┬─ ", *[" ─┤" + "  "] * (before - 2), " ─┘" + "  "]
    return found + [" " * len(found[0])] * (height - len(found))


def _box(part: Card) -> str:
    colour = COLOURS[part.mood]
    return (
        f'<div style="border:1px solid var(--jp-border-color1, #9e9e9e);'
        f'border-left:4px solid {colour};border-radius:3px;padding:4px 10px;white-space:nowrap">'
        f'<span style="color:{colour}">{SIGNS[part.mood]}</span> <b>{escape(part.title)}</b> · '
        f'<span style="color:{colour}">{escape(part.state)}</span>'
        f'<br><span style="color:var(--jp-ui-font-color2, #808080)">{escape(_address(part))}</span>'
        "</div>"
    )


def _address(part: Card) -> str:
    return part.rows[0][1] if part.rows else ""
