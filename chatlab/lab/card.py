"""How a part of a scene (a server, a process, a wire) shows itself as the last line of a cell.

One `Card` holds the content; its HTML and its text say the same. It is not for results: those are
drawn by `timeline` and `verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

__all__ = ["COLOURS", "SIGNS", "Card", "State"]

State = Literal["good", "bad", "off"]

# JupyterLab's own colours where they exist, so that a card follows the theme; the fallbacks are
# mid-tones that can be read on white and on black.
COLOURS: dict[State, str] = {
    "good": "var(--jp-success-color1, #2e8540)",
    "bad": "var(--jp-error-color1, #c0392b)",
    "off": "var(--jp-ui-font-color2, #808080)",
}
# The state is also a sign, for those who cannot tell the colours apart.
SIGNS: dict[State, str] = {"good": "✓", "bad": "✗", "off": "○"}


@dataclass(frozen=True, slots=True)
class Card:
    """A title, a state and rows of name and value.

    `mood` chooses sign and colour: `"good"` works, `"bad"` is broken (on purpose or not),
    `"off"` was stopped.
    """

    title: str
    state: str
    mood: State
    rows: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The card as lines of plain text."""
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [f"{SIGNS[self.mood]} {self.title} · {self.state}"]
        lines += [f"  {name:<{width}}  {value}" for name, value in self.rows]
        return "\n".join(lines)

    def html(self) -> str:
        """The card as HTML with inline styles only, so that it survives in a stored notebook."""
        colour = COLOURS[self.mood]
        # Whoever renders it may style tables in its own way: say what must not differ.
        cell = "text-align:left;vertical-align:top;background:none;border:none;padding:1px"
        grey = f"{cell} 14px 1px 0;white-space:nowrap;color:var(--jp-ui-font-color2, #808080)"
        rows = "".join(
            f'<tr style="background:none"><td style="{grey}">{escape(name)}</td>'
            f'<td style="{cell} 0">{escape(value)}</td></tr>'
            for name, value in self.rows
        )
        return (
            '<div style="display:inline-block;padding:6px 14px;'
            f"border:1px solid var(--jp-border-color1, #9e9e9e);border-left:4px solid {colour};"
            'border-radius:3px;font-size:var(--jp-ui-font-size1, 13px)">'
            f'<div><span style="color:{colour}">{SIGNS[self.mood]}</span> '
            f"<b>{escape(self.title)}</b> · "
            f'<span style="color:{colour}">{escape(self.state)}</span></div>'
            '<table style="border:none;margin:4px 0 0 0;color:inherit;font:inherit">'
            f"{rows}</table></div>"
        )
