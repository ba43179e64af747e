"""Colours of the timeline's picture, and how wide words are in it.

The colours are told apart by people who see no red or no green (after Okabe and Ito's palette),
and have a contrast of at least 4.5 to 1 on their background. No geometry here.
"""

from __future__ import annotations

__all__ = ["STYLE", "shortened", "text_width"]

_LIGHT = {
    "page": "#ffffff", "edge": "#d0d7de", "ink": "#1f2328", "soft": "#59636e", "lane": "#8c959f",
    "event": "#0a5ea8", "ack": "#00705a", "bad": "#b8420a", "head": "#eef2f6",
    "wall": "#6e7781", "wallback": "#e4e8ec", "note": "#fff3cf", "noteedge": "#c9a227",
}  # fmt: skip
_DARK = {
    "page": "#15181d", "edge": "#3d444d", "ink": "#e8ecf1", "soft": "#a5afbb", "lane": "#6b7683",
    "event": "#6cb8f5", "ack": "#3fcaa2", "bad": "#ff9056", "head": "#262c34",
    "wall": "#8b949e", "wallback": "#2b3038", "note": "#3b3216", "noteedge": "#a98a2c",
}  # fmt: skip

_RULES = """
#root text{font-family:system-ui,-apple-system,"Segoe UI","Noto Sans",Arial,sans-serif;\
font-size:12.5px;fill:INK}
#root .page{fill:PAGE;stroke:EDGE}
#root .title{font-size:14.5px;font-weight:600}
#root .name,#root .what{font-weight:600}
#root .rest{font-weight:400;fill:INK}
#root .small,#root .clock{font-size:11.5px;fill:SOFT}
#root .strong{font-weight:600}
#root .halo{paint-order:stroke;stroke:PAGE;stroke-width:4px;stroke-linejoin:round}
#root .lane{stroke:LANE;stroke-width:1.5;fill:none}
#root .closed{stroke-dasharray:1.5 5}
#root .head{fill:HEAD;stroke:LANE}
#root .wire{stroke-dasharray:4 3}
#root .unseen{stroke-dasharray:1.5 3}
#root .line,#root .cross{fill:none;stroke:EVENT;stroke-width:1.6}
#root .line.ack{stroke:ACK;stroke-dasharray:6 4}
#root .line.bad{stroke:BAD;stroke-dasharray:6 4}
#root .line.connect,#root .line.off{stroke:SOFT}
#root .tip,#root .dot{fill:EVENT}
#root .tip.ack,#root .dot.ack,#root .dot.on{fill:ACK}
#root .tip.bad,#root .dot.bad{fill:BAD}
#root .tip.connect,#root .dot.connect,#root .tip.off,#root .dot.off,#root .dot.note{fill:SOFT}
#root text.event{fill:EVENT}
#root text.ack,#root text.on{fill:ACK}
#root text.bad,#root text.timeout,#root text.cut{fill:BAD}
#root text.connect,#root text.off{fill:SOFT}
#root text.note{fill:INK;font-weight:400;stroke:none}
#root .sign{fill:PAGE;stroke:BAD;stroke-width:1.5}
#root .sign.off{stroke:SOFT}
#root .cross{stroke:BAD;stroke-width:1.8;stroke-linecap:round}
#root .gap{fill:PAGE}
#root .wall{stroke:WALL;stroke-width:1}
#root .wallback{fill:WALLBACK}
#root .hatch{stroke:WALL;stroke-width:2.2}
#root rect.note{fill:NOTE;stroke:NOTEEDGE}
#root .fold{stroke:LANE;stroke-dasharray:2 4;fill:none}
"""


def _rules(colours: dict[str, str]) -> str:
    rules = _RULES
    for name in sorted(colours, key=len, reverse=True):
        rules = rules.replace(name.upper(), colours[name])
    return rules.replace("\n", "")


def _only_colours(colours: dict[str, str]) -> str:
    """The rules that set a colour: all that the dark form has to say again."""
    kept = []
    for rule in _RULES.strip().split("}"):
        selector, _, body = rule.strip().partition("{")
        set_ = [d for d in body.split(";") if any(name.upper() in d for name in colours)]
        if set_:
            kept.append(selector + "{" + ";".join(set_) + "}")
    text = "".join(kept)
    for name in sorted(colours, key=len, reverse=True):
        text = text.replace(name.upper(), colours[name])
    return text


STYLE = _rules(_LIGHT) + "@media (prefers-color-scheme:dark){" + _only_colours(_DARK) + "}"
"""The style sheet; `#root` stands for the drawing's own id."""

_EM = 12.5
_NARROW, _WIDE = frozenset("ijlI.,:;'|!()[]{}`"), frozenset("mwMW@%—…")


def text_width(text: str, *, bold: bool = False) -> float:
    """About how many pixels `text` takes, on the safe side for the usual fonts."""
    ems = sum(
        0.31 if c in _NARROW or c == " "
        else 0.4 if c in "frt\"-/"
        else 0.88 if c in _WIDE
        else 0.69 if c.isupper()
        else 1.0 if ord(c) > 0x2E80
        else 0.58
        for c in text
    )  # fmt: skip
    return ems * _EM * (1.06 if bold else 1.0)


def shortened(text: str, room: float, *, bold: bool = False) -> str:
    """`text`, cut with an ellipsis where it is wider than `room` pixels."""
    if text_width(text, bold=bold) <= room:
        return text
    while text and text_width(text + "…", bold=bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"
