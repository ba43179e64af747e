"""The colours of the pages: what stands on what can be read, in light and in dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import chatlab

THEME = Path(chatlab.__file__).parent / "page" / "web" / "theme.css"
GROUNDS = ("ground", "surface", "raised", "hover", "accent-soft", "good-soft", "warn-soft",
           "bad-soft")  # fmt: skip
PAIRS = [
    *(("text", ground, 4.5) for ground in GROUNDS),
    *(("muted", ground, 4.5) for ground in GROUNDS),
    *(("accent", ground, 4.5) for ground in GROUNDS[:5]),
    *((kind, ground, 4.5) for kind in ("good", "warn", "bad") for ground in GROUNDS[:4]),
    *((kind, f"{kind}-soft", 4.5) for kind in ("good", "warn", "bad")),
    *(("edge", ground, 3.0) for ground in GROUNDS[:4]),
    ("on-accent", "accent-ground", 4.5),
    ("on-accent", "accent-hover", 4.5),
    *((f"hue-{number}", "surface", 3.0) for number in range(1, 9)),
]


def colours(scheme: str) -> dict[str, str]:
    light, _, dark = THEME.read_text("utf-8").partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", light))
    if scheme == "dark":
        found |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", dark))
    return found


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_what_stands_on_a_ground_can_be_read(
    scheme: str, front: str, ground: str, least: float
) -> None:
    known = colours(scheme)
    assert contrast(known[front], known[ground]) >= least
