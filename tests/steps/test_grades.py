"""Each step of the lessons' own server earns the promises of what it has taught, and no others.

The grade is `chatlab grade`'s at the level Lesson, from outside, each step as a process.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatlab import doctor
from chatlab.grade import Level, Report, Verdict, grade
from chatlab.grade.promise import (
    ACKNOWLEDGEMENTS,
    AUTHENTICATION,
    CONCERNS,
    ERRORS,
    RATE_LIMITING,
    SCALING,
)
from chatlab.lab import process, valkey

SECRET = "a secret of the tests that is more than 32 bytes long"
ROOT = Path(__file__).resolve().parents[2]

# What the steps cannot be asked for: they have no directory of users, and nobody stops their store.
NEVER = {"unknown-user-refused", "storage-failure-acked"}

ALL = "all"
# Of each concern: the promises that are kept, where it is not all that can be tried on one server.
EARNED: dict[str, dict[str, Any]] = {
    # It lets everybody in, and answers nothing.
    "step0": {
        ACKNOWLEDGEMENTS: set(),
        AUTHENTICATION: {"admits"},
        ERRORS: {"stays-up"},
        RATE_LIMITING: set(),
        SCALING: set(),
    },
    # It acks, and calls everybody as they like.
    "step1": {
        ACKNOWLEDGEMENTS: ALL,
        AUTHENTICATION: {"admits", "stranger-deaf"},
        ERRORS: {"goes-on", "stays-up"},
        RATE_LIMITING: set(),
        SCALING: ALL,
    },
    "step2": {
        ACKNOWLEDGEMENTS: ALL,
        AUTHENTICATION: ALL,
        ERRORS: {"goes-on", "stays-up"},
        RATE_LIMITING: set(),
        SCALING: ALL,
    },
    "step3": {
        ACKNOWLEDGEMENTS: ALL,
        AUTHENTICATION: ALL,
        ERRORS: ALL,
        RATE_LIMITING: set(),
        SCALING: ALL,
    },
    "step4": dict.fromkeys(CONCERNS, ALL),
    "step5": dict.fromkeys(CONCERNS, ALL),
}


def kept(report: Report, concern: str) -> set[str] | str:
    """The ids that were kept of one concern, or ALL."""
    mine = [each for each in report.results if each.promise.concern == concern]
    tried = {
        each.promise.id
        for each in mine
        if each.promise.servers == 1 and each.promise.id not in NEVER
    }
    found = {each.promise.id for each in mine if each.verdict is Verdict.KEPT}
    return ALL if found == tried else found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", EARNED)
async def test_a_step_keeps_what_has_been_taught_so_far(
    step: str, run_step: Callable[..., str]
) -> None:
    url = run_step(step, CHATLAB_JWT_SECRET=SECRET)
    # A step that leaves events unanswered lets the grade wait for each of them.
    patience = 5.0 if EARNED[step][ERRORS] == ALL else 2.0
    report = await grade(url, secret=SECRET, level=Level.LESSON, timeout=patience)
    assert {concern: kept(report, concern) for concern in CONCERNS} == EARNED[step]


def test_no_step_keeps_less_than_the_one_before() -> None:
    steps = list(EARNED.values())
    for before, after in itertools.pairwise(steps):
        for concern in CONCERNS:
            assert after[concern] == ALL or before[concern] <= after[concern]


@pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", ["notebooks/steps/step5.py", "solutions/my_chat.py"])
async def test_two_servers_keep_the_promises_of_one_chat(program: str) -> None:
    command = [sys.executable, str(ROOT / program), "--port", "0"]
    environment = {"CHATLAB_JWT_SECRET": SECRET}
    with valkey(persist=False, name="grades valkey") as store:
        options = ("--redis", store.url)
        with (
            process(*options, command=command, env=environment, name="first") as first,
            process(*options, command=command, env=environment, name="second") as second,
        ):
            report = await grade(first.url, secret=SECRET, also=[second.url], level=Level.LESSON)
    assert {each.promise.id for each in report.of(Verdict.NOT_JUDGED)} == NEVER
    assert report.earned(Level.LESSON), report.of(Verdict.BROKEN)
