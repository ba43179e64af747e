"""Some 2,000 fuzzed frames against both servers; `python -m tests.fuzz` is the long form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.rounds import OPTIONS, play_round
from tests.fuzz.target import Target

SCRIPTS = 45
"""In one round; that makes about 700 frames."""


@pytest.fixture(scope="module", params=["chat", "suite"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server in asyncio's debug mode, which has already served somebody."""
    kind = request.param
    with Target(kind, debug=True, **OPTIONS[kind]) as target:
        target.warm_up()
        yield target


def test_whatever_clients_send_no_traceback_and_no_residue_follow_and_others_are_served(
    target: Target,
) -> None:
    assert play_round(target, SCRIPTS) > 500


def test_what_clients_leave_without_a_word_is_gone_when_its_time_is_over(target: Target) -> None:
    assert play_round(target, SCRIPTS // 3, tidy=False) > 100
