"""chatlab keeps every promise, and what is not judged is what was not given."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from chatlab.grade import Level, Report, Verdict, grade
from chatlab.grade.catalogue import catalogue
from chatlab.lab import process
from tests.grade.stage import CONTROL, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# The level Hardened waits for pings, for the 10 s of CONNECT, and so on: these shorten its waits.
QUICK = ("--ping-interval", "2", "--ping-timeout", "2")


def told(report: Report) -> str:
    """What was not kept, with its evidence, for a failing test."""
    lines = []
    for result in report.results:
        if result.verdict is not Verdict.KEPT:
            lines += [f"{result.verdict.sign} {result.promise.id}: {result.said}"]
            lines += [f"    {packet}" for packet in result.evidence]
    return "\n".join(lines)


async def test_two_servers_with_every_means_keep_lesson_and_contract_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stage(tmp_path, count=2) as stage:
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        whole = functools.partial(
            grade,
            stage.url,
            secret=stage.secret,
            users=stage.users,
            also=stage.also,
            control=CONTROL,
            level=Level.CONTRACT,
        )
        report = await whole()
        assert not report.broken, told(report)
        left = report.of(Verdict.NOT_JUDGED)
        if left:  # what a busy machine kept from being judged is judged one by one
            again = await whole(only=[result.promise.id for result in left], jobs=1)
            assert set(again.verdicts.values()) == {"kept"}, told(report) + told(again)
    assert report.earned(Level.LESSON)
    assert report.earned(Level.CONTRACT)


async def test_one_server_with_sqlite_survives_its_death_and_only_its_storage_cannot_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What needs a directory or a control; the rest is judged on two servers.
    chosen = [
        promise
        for promise in catalogue()
        if promise.level <= Level.CONTRACT
        and promise.servers == 1
        and (promise.control or "unknown" in promise.id)
    ]
    with Stage(tmp_path, count=1) as stage:
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        report = await grade(
            stage.url,
            secret=stage.secret,
            users=stage.users,
            control=CONTROL,
            only=[promise.id for promise in chosen],
        )
    not_judged = {result.promise.id: result.said for result in report.of(Verdict.NOT_JUDGED)}
    storage = {promise.id for promise in chosen if "stop-storage" in promise.control}
    assert not report.broken, told(report)
    assert set(not_judged) == storage, told(report)
    assert "--control cannot stop-storage" in not_judged.values()


async def test_a_development_server_alone_keeps_all_that_can_be_judged_at_every_level() -> None:
    server = process(*QUICK, name="graded alone", env={"CHATLAB_JWT_SECRET": "s" * 32})
    try:
        report = await grade(server.url, secret="s" * 32)
    finally:
        server.stop()
    assert not report.broken, told(report)
    reasons = {result.said for result in report.of(Verdict.NOT_JUDGED)}
    assert all(
        reason.startswith(("needs --control", "needs a second server", "needs unknown-user"))
        or reason == "the server admits any user whom a valid token names"
        for reason in reasons
    ), told(report)
