"""The script of the talk."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SCRIPT"]

SCRIPT: Final[list[dict[str, Any]]] = []
