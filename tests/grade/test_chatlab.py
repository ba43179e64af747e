"""chatlab keeps every promise, and what is not judged is what was not given."""

from __future__ import annotations

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
        report = await grade(
            stage.url,
            secret=stage.secret,
            users=stage.users,
            also=stage.also,
            control=CONTROL,
            level=Level.CONTRACT,
        )
    assert set(report.verdicts.values()) == {"kept"}, told(report)
    assert report.earned(Level.LESSON)
    assert report.earned(Level.CONTRACT)


async def test_one_server_with_sqlite_is_judged_but_for_its_storage_and_a_second_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stage(tmp_path, count=1) as stage:
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        report = await grade(
            stage.url,
            secret=stage.secret,
            users=stage.users,
            control=CONTROL,
            level=Level.CONTRACT,
        )
    assert not report.broken, told(report)
    not_judged = {result.promise.id for result in report.of(Verdict.NOT_JUDGED)}
    expected = {
        promise.id
        for promise in catalogue()
        if promise.level <= Level.CONTRACT
        and (promise.servers > 1 or "stop-storage" in promise.control)
    }
    assert not_judged == expected, told(report)


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
