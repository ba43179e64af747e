"""Brings what wires and lines record, each on a thread of its own, to the stage's loop.

A recorder of the lab keeps everything for a drawing; one whose entries are a `Relay` keeps nothing
and hands each entry on. What an entry means is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from typing import SupportsIndex

from chatlab.lab.recorder import Entry, Recorder

__all__ = ["Intake", "Relay"]

_MOST = 200_000  # entries that may wait: seconds of a flood without limits


class Intake:
    """Entries that wait for the loop, with the place where each was seen."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Entry, str]] = deque(maxlen=_MOST)

    def listen(self, recorder: Recorder, place: str) -> None:
        """From now on what `recorder` is told comes here, marked with `place`."""
        recorder.entries = Relay(self._waiting, place)

    def take(self) -> list[tuple[Entry, str]]:
        """What has come since the last call, in the order in which it happened."""
        waiting = self._waiting
        # Not until it is empty: under a flood that might never be.
        taken = [waiting.popleft() for _ in range(len(waiting))]
        taken.sort(key=lambda pair: pair[0].order)
        return taken


class Relay(list[Entry]):
    """The entries of a recorder, always empty: each goes on at once. Safe from any thread."""

    def __init__(self, waiting: deque[tuple[Entry, str]], place: str) -> None:
        super().__init__()
        self._waiting = waiting
        self._place = place

    def append(self, entry: Entry, /) -> None:
        """Hand the entry on."""
        self._waiting.append((entry, self._place))

    def insert(self, _index: SupportsIndex, entry: Entry, /) -> None:
        """Hand the entry on."""
        self.append(entry)
