"""The rows of a whole run, kept by scenario, peer and round; ratios and their spread.

It is also what bench/results.json holds, from which the report and the plot can be made again.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scenarios import FIGURES, Goal, Scenario
from chatlab.lab.load import Row

__all__ = ["Results", "Spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the least and the greatest of them."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(slots=True)
class Results:
    """`rows[scenario][peer][round]` are the rows of one run; `failures` the runs that failed."""

    about: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, dict[int, list[Row]]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, scenario: str, peer: str, number: int, rows: list[Row]) -> None:
        """Keep the rows of one run."""
        self.rows.setdefault(scenario, {}).setdefault(peer, {})[number] = rows

    def fail(self, scenario: str, peer: str, reason: str) -> None:
        """Keep why a run gave no rows: the last reason of each peer."""
        self.failures.setdefault(scenario, {})[peer] = reason

    def of(self, scenario: str, peer: str) -> list[Row]:
        """All rows of a peer, in the order of rounds."""
        rounds = self.rows.get(scenario, {}).get(peer, {})
        return [row for number in sorted(rounds) for row in rounds[number]]

    def value(self, scenario: str, peer: str, number: int, figure: str) -> float | None:
        """A figure of one run; None where it was not measured."""
        rows = self.rows.get(scenario, {}).get(peer, {}).get(number, [])
        found = (FIGURES[figure].of(row) for row in rows)
        return next((value for value in found if value is not None), None)

    def figure(self, scenario: str, peer: str, figure: str) -> Spread | None:
        """A figure of a peer over all rounds."""
        rounds = self.rows.get(scenario, {}).get(peer, {})
        values = [self.value(scenario, peer, number, figure) for number in rounds]
        return Spread.of([value for value in values if value is not None])

    def ratio(self, scenario: str, peer: str, base: str, figure: str) -> Spread | None:
        """The peer's figure over the base's, round by round: each round's own pair."""
        ratios = []
        for number in self.rows.get(scenario, {}).get(peer, {}):
            mine = self.value(scenario, peer, number, figure)
            theirs = self.value(scenario, base, number, figure)
            if mine is not None and theirs:
                ratios.append(mine / theirs)
        return Spread.of(ratios)

    def judged(self, scenario: Scenario, goal: Goal) -> tuple[Spread | None, bool | None]:
        """The ratio that a goal is about, and whether its median reaches it (None: unknown)."""
        found = self.ratio(scenario.name, goal.peer, scenario.peers[0], goal.figure)
        return found, None if found is None else goal.met(found.median)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        content = {
            "about": self.about,
            "failures": self.failures,
            "rows": {
                scenario: {
                    peer: {
                        str(number): [row.as_dict() for row in rows]
                        for number, rows in rounds.items()
                    }
                    for peer, rounds in peers.items()
                }
                for scenario, peers in self.rows.items()
            },
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """The opposite of `save`."""
        content = json.loads(path.read_text(encoding="utf-8"))
        found = cls(content["about"], {}, content["failures"])
        for scenario, peers in content["rows"].items():
            for peer, rounds in peers.items():
                for number, rows in rounds.items():
                    found.add(scenario, peer, int(number), [Row.from_dict(row) for row in rows])
        return found
