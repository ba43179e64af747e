"""What a setting is made of: its default, its help text, what it may be, how it is read from text.

The settings themselves are in settings.py.
"""

from __future__ import annotations

import math
from dataclasses import Field, field
from pathlib import Path
from typing import Any, Final

from chatlab.errors import SettingsError

__all__ = ["UNCAPPED", "check", "from_file", "knob", "parse"]

UNCAPPED: Final = 10**9
"""What `--no-limits` raises a cap to, and the most that any whole number may be."""


def knob(
    default: Any,
    text: str,
    *,
    cap: bool = False,
    low: int | None = None,
    high: int = UNCAPPED,
    choices: tuple[str, ...] = (),
) -> Any:
    """A setting with its help text and what it may be; `cap` marks what `--no-limits` raises.

    A whole number runs from `low` (1) to `high`; another number is more than 0, or with a `low`
    of 0 that as well. A text is one of `choices`, where there are any.
    """
    if isinstance(default, (list, dict)):
        raise TypeError("a default must be immutable")
    metadata = {
        "help": text,
        "cap": cap,
        "low": low,
        "high": high,
        "choices": choices,
    }
    return field(default=default, metadata=metadata)


def parse(option: Field[Any], text: str) -> Any:
    """`text` as a value of the setting's type. Raises `ValueError` with a sentence."""
    kind: type = type(option.default)
    if kind is bool:
        lowered = text.strip().lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("", "0", "false", "no", "off"):
            return False
        raise ValueError(f"{text!r} is neither true nor false")
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{text!r} is not {what}") from None
    return text


def from_file(path: str) -> str:
    """The text of a file that holds one value, without white space around it.

    Raises `ValueError` with a sentence where there is none; what the file holds is never in it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def check(option: Field[Any], value: Any) -> None:
    """Raise `SettingsError` with a sentence unless the setting may have this value."""
    flag, known = "--" + option.name.replace("_", "-"), option.metadata
    if isinstance(option.default, bool):
        return
    if isinstance(option.default, int):
        low, high = 1 if known["low"] is None else known["low"], known["high"]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise SettingsError(f"{flag} must be a whole number from {low} to {high}")
    elif isinstance(option.default, float):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise SettingsError(f"{flag} must be a positive number, not {value!r}")
        if value == 0 and known["low"] != 0:
            raise SettingsError(f"{flag} must be more than 0")
    elif known["choices"] and value not in known["choices"]:
        raise SettingsError(f"{flag} must be one of {', '.join(known['choices'])}")
