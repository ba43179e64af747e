"""The chaos run in its short form: every kind of fault once, and nothing may come of it."""

from __future__ import annotations

import os
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlab import doctor
from chatlab.lab import chaos as driver
from chatlab.lab.chaos import Run, chaos
from chatlab.lab.chaos_crowd import ROOMS, may_enter, rooms_of
from chatlab.lab.chaos_plan import KINDS, Strike, draw, one_of_each
from chatlab.lab.history import History

CI = os.environ.get("CI", "").lower() in {"1", "true"}
MISSING = [part for part in ("valkey", "balancer") if not doctor.has(part)]
whole = pytest.mark.skipif(
    bool(MISSING) and not CI, reason=f"this machine has no {' and no '.join(MISSING)}"
)
SEEDS = st.integers(0, 10_000)


@whole
@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_every_kind_of_fault_once_and_nothing_is_lost_doubled_disordered_or_leaked(
    tmp_path: Path,
):
    outcome = await chaos(Run(seed=random.randrange(10_000), save=tmp_path))
    assert outcome.ok, "\n".join(
        [outcome.line(), *outcome.problems, *map(repr, outcome.report.faults)]
    )
    assert outcome.faults == dict.fromkeys(KINDS, 1)
    assert outcome.report.counts["acked"] > 1000
    # What was saved can be judged again by whoever gets the file.
    (saved,) = tmp_path.glob("*.jsonl.gz")
    assert History.load(saved).check() == outcome.report


@whole
@pytest.mark.slow
@pytest.mark.timeout(100)
async def test_of_stock_servers_the_same_run_finds_what_they_lose(monkeypatch: pytest.MonkeyPatch):
    plan = [Strike(1.0, "kill valkey", 0, 2.0), Strike(3.5, "cut wire", 0, 1.0)]
    monkeypatch.setattr(Run, "plan", lambda self, wires: plan)
    outcome = await chaos(Run(seed=1, stock=True, servers=2, clients=12, rate=80.0))
    assert not outcome.ok
    assert outcome.report.counts["lost"]
    assert outcome.report.of("lost")[0].trace


def test_a_missing_part_is_named_and_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def missing(run: Run) -> None:
        raise RuntimeError("this machine has no Valkey")

    monkeypatch.setattr(driver, "_stage", missing)
    assert driver.main(["--seed", "7"]) == 2
    assert capsys.readouterr().out == "seed 7\nnot run: this machine has no Valkey\n"


def test_being_told_that_history_is_lost_is_no_excuse_where_nothing_may_be_lost():
    history = History()
    assert driver._told_lost(history) == []
    history.missing("u01", "room-1", 5, 1, epoch="another", at=1.0)
    (problem,) = driver._told_lost(history)
    assert "u01 is told that room-1 goes on from #5 at #1" in problem


# --- the plan ------------------------------------------------------------------------------------


def stands_in_its_own_way(one: Strike, other: Strike) -> bool:
    return (
        (one.part, one.target) == (other.part, other.target)
        and one.at < other.at + other.seconds
        and other.at < one.at + one.seconds
    )


@given(SEEDS)
def test_a_seed_gives_the_same_plan_again(seed: int):
    run = Run(seed=seed, seconds=60.0)
    assert run.plan(6) == run.plan(6)


@given(SEEDS)
def test_nothing_is_struck_that_is_down_and_one_server_always_runs(seed: int):
    plan = draw(random.Random(seed), seconds=120.0, servers=3, wires=6)
    assert len(plan) > 20
    assert not any(stands_in_its_own_way(*pair) for pair in combinations(plan, 2))
    for moment in {strike.at for strike in plan}:
        down = [
            strike
            for strike in plan
            if strike.part == "server" and strike.at <= moment < strike.at + strike.seconds
        ]
        assert len(down) <= 2


@given(SEEDS)
def test_the_short_plan_has_every_fault_once_within_half_a_minute(seed: int):
    plan = one_of_each(random.Random(seed), servers=3, wires=6)
    assert Counter(strike.kind for strike in plan) == Counter(list(KINDS))
    assert max(strike.at + strike.seconds for strike in plan) < 40.0
    assert not any(stands_in_its_own_way(*pair) for pair in combinations(plan, 2))


@given(st.integers(0, 29), SEEDS)
def test_everybody_begins_in_two_or_three_rooms_that_are_open_to_them(number: int, seed: int):
    home = rooms_of(number, random.Random(seed))
    assert len(set(home)) == len(home) == 2 + number % 2
    assert all(may_enter(number, room) for room in home)
    assert any(not may_enter(number, room) for room in ROOMS)
