"""The whole state of a stage, as its pages are told it.

It reads and changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chatlab.stage import state
from chatlab.stage.crowd import PEOPLE

if TYPE_CHECKING:
    from chatlab.stage.stage import Stage

__all__ = ["title", "whole"]


def title(part: str) -> str:
    """A part's name for people: `Server 1`."""
    return part.replace("-", " ").capitalize()


def whole(stage: Stage) -> dict[str, Any]:
    """Everything, now; README.md beside this says what is in it."""
    entrance, record = stage.entrance, stage.checker.record
    return {
        "at": round(stage.clock(), 2),
        "ready": stage.ready,
        "busy": stage.busy,
        "adapter": stage.world.adapter,
        "limits": stage.world.limits,
        "parts": _parts(stage),
        "links": state.links(
            door=entrance is not None and entrance.is_open,
            crowd=stage.crowd.on,
            flood=stage.flood.running,
        ),
        "windows": [each.told(each.user in stage.banned) for each in stage.windows.values()],
        "wires": {f"wire-{name}": wire.told() for name, wire in stage.faults.items()},
        "flood": _flood(stage),
        "crowd": {"on": stage.crowd.on, "people": list(PEOPLE)},
        "door": None if entrance is None else entrance.told(),
        "record": {"since": round(stage.checker.begun - stage.began, 1), "events": len(record)},
    }


def _flood(stage: Stage) -> dict[str, Any]:
    left = None if stage.flood_ends is None else stage.flood_ends - time.monotonic()
    return {
        "on": stage.flood.running,
        "user": "mallory",
        "room": "flood",
        "server": "server-1",
        "left": None if left is None else max(0, round(left)),
        **stage.watch.flooded,
    }


def _parts(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, window in stage.windows.items():
        found.append(state.window_part(window, window.user in stage.banned))
        found.append(state.wire_part(name, stage.faults[name], stage.world.wires.get(name)))
    processes = stage.world.parts
    for name in ("balancer", "server-1", "server-2", "valkey"):
        ended = stage.ended.get(name, "down" if stage.ready else "starting")
        frozen = name in stage.frozen
        found.append(state.part(name, processes.get(name), frozen=frozen, ended=ended))
    found.append(state.guest_part("crowd", "Crowd", stage.crowd.on, "four people chat"))
    found.append(state.guest_part("flood", "Flood", stage.flood.running, "mallory floods server 1"))
    if stage.entrance is not None:
        words = f"{len(stage.guests.all)} came in"
        found.append(state.guest_part("door", "Door", stage.entrance.is_open, words))
    return found
