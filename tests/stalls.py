"""A pytest plugin that finds races: event loops stand still now and then, as on a busy machine.

`python -m pytest -p tests.stalls tests/lab` stops each loop of the run's own process at random, in
one pass of a hundred, for up to 0.4 seconds. What then fails counts on the machine's haste. It is
no part of `make test`; servers in processes of their own are not stopped.
"""

from __future__ import annotations

import random
import time
from asyncio import BaseEventLoop
from typing import Any

import pytest

SHORTEST_S = 0.05


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stalls")
    group.addoption("--stall-chance", type=float, default=0.01, help="of a pass of a loop: 0 to 1")
    group.addoption("--stall-longest", type=float, default=0.4, help="seconds")


def pytest_configure(config: pytest.Config) -> None:
    chance, longest = config.getoption("stall_chance"), config.getoption("stall_longest")
    run_once = BaseEventLoop._run_once  # type: ignore[attr-defined]

    def late(loop: Any) -> None:
        if random.random() < chance:
            time.sleep(random.uniform(SHORTEST_S, longest))
        run_once(loop)

    BaseEventLoop._run_once = late  # type: ignore[attr-defined]
    config.add_cleanup(lambda: setattr(BaseEventLoop, "_run_once", run_once))
