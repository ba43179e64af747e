"""What a promise is: an id, a concern, a level, the contract's sentence, and a function that tries.

The function returns where the promise was kept and raises `Broken` or `NotJudged` otherwise. How
it is run, and in what order, is `run`'s business.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from chatlab.grade.target import Target

__all__ = [
    "ACKNOWLEDGEMENTS",
    "AUTHENTICATION",
    "CONCERNS",
    "ERRORS",
    "RATE_LIMITING",
    "SCALING",
    "Broken",
    "Level",
    "NotJudged",
    "Promise",
    "Silent",
    "Unready",
    "promise",
]

ACKNOWLEDGEMENTS: Final = "acknowledgements"
AUTHENTICATION: Final = "authentication"
ERRORS: Final = "errors"
RATE_LIMITING: Final = "rate limiting"
SCALING: Final = "scaling"
CONCERNS: Final = (ACKNOWLEDGEMENTS, AUTHENTICATION, ERRORS, RATE_LIMITING, SCALING)


class Level(enum.IntEnum):
    """How much is asked of a server; each level holds the ones before it."""

    LESSON = 1
    CONTRACT = 2
    HARDENED = 3

    @property
    def title(self) -> str:
        """The level's name, for people."""
        return self.name.capitalize()


class Broken(Exception):
    """The promise was broken; the text says how, for a person, in one sentence."""


class Silent(Broken):
    """Broken because nothing came in time: tried once more with twice the patience."""


class NotJudged(Exception):
    """The promise could not be tried; the text says what was missing."""


class Unready(NotJudged):
    """What has to come before the trial failed: tried once more before it counts."""


Trial = Callable[["Target"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One promise and how to try it. Made by `promise`."""

    id: str
    concern: str
    level: Level
    sentence: str
    trial: Trial
    users: int = 2
    servers: int = 1
    needs: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    floods: bool = False
    alone: bool = False
    risky: bool = False


def promise(
    id: str,
    concern: str,
    level: Level,
    sentence: str,
    *,
    users: int = 2,
    servers: int = 1,
    needs: tuple[str, ...] = (),
    control: tuple[str, ...] = (),
    floods: bool = False,
    alone: bool = False,
    risky: bool = False,
) -> Callable[[Trial], Promise]:
    """Make a promise of the coroutine function below it.

    - `sentence`: the promise as the contract says it.
    - `users`: how many users of its own it takes (`target.users`); `servers`: over 1, it needs
      `--also`.
    - `needs`: ids of promises without which this one cannot be judged. Where one of them was not
      kept, this one is not judged.
    - `control`: the commands of `--control` that it uses; without them it is not judged.
    - `floods`: leaves its users' limits used up. `alone`: nothing else may run beside it.
      `risky`: may bring a bad server down; run last, alone.
    """

    def make(trial: Trial) -> Promise:
        return Promise(
            id=id,
            concern=concern,
            level=level,
            sentence=sentence,
            trial=trial,
            users=users,
            servers=servers,
            needs=needs,
            control=control,
            floods=floods,
            alone=alone or risky,
            risky=risky,
        )

    return make
