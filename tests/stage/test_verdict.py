"""The running verdict: a message on its way is not lost, and what was found is not forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatlab.stage import verdict
from chatlab.stage.record import Record
from chatlab.stage.verdict import Checker
from tests.stage.test_record import Wire


class Told(list[dict[str, Any]]):
    """What the checker has told, and a way to wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def take(self, message: dict[str, Any]) -> None:
        self.append(message)
        self._more.set()

    async def until(self, **counts: int) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while not (self and all(_number(self[-1], k) == n for k, n in counts.items())):
                self._more.clear()
                await self._more.wait()
        return self[-1]


def _number(message: dict[str, Any], name: str) -> int:
    rows = {row["rule"]: row["count"] for row in message["rows"]}
    return int({**rows, **message["counts"]}[name])


@contextlib.asynccontextmanager
async def checking(record: Record) -> AsyncIterator[tuple[Checker, Told]]:
    told = Told()
    checker = Checker(record, since=record.begun, lateness=lambda: 0.0, tell=told.take)
    task = asyncio.create_task(checker.run())
    try:
        yield checker, told
    finally:
        task.cancel()
        await asyncio.wait({task})


def two() -> tuple[Record, Wire, Wire]:
    record = Record()
    alice, bob = Wire(record, "alice"), Wire(record, "bob")
    alice.enter()
    bob.enter()
    return record, alice, bob


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "_OFTEN", 0.02)
    monkeypatch.setattr(verdict, "_SETTLED", 0.3)


async def test_what_is_on_its_way_waits_and_is_lost_only_when_it_stays_away() -> None:
    record, alice, bob = two()
    async with checking(record) as (_, told):
        alice.send("one", 1)
        said = await told.until(waiting=1)
        assert said["ok"]
        assert said["counts"]["acked"] == 1
        bob.hear("one", 1, "alice")
        await told.until(waiting=0, delivered=1)
        alice.send("two", 2)
        said = await told.until(lost=1)
        assert said["words"] == "Broken: 1 lost."
        row = said["rows"][0]
        assert "'two'" in row["example"]
        assert any("is answered ok" in line for line in row["evidence"])


async def test_what_was_found_is_counted_and_shown_after_the_record_began_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdict, "_MOST", 30)
    record, alice, bob = two()
    async with checking(record) as (checker, told):
        alice.send("gone", 1)
        example = (await told.until(lost=1))["rows"][0]["example"]
        for seq in range(2, 20):
            alice.send(f"text {seq}", seq)
            bob.hear(f"text {seq}", seq, "alice")
        async with asyncio.timeout(20):
            while len(record) > 30:
                await asyncio.sleep(0.01)
        alice.send("after", 20)
        bob.hear("after", 20, "alice")
        said = await told.until(acked=20, lost=1)
        assert said["rows"][0]["example"] == example
        assert said["since"] == 0
        checker.begin_anew()
        assert (await told.until(acked=0))["ok"]


async def test_guests_are_not_counted_as_unanswered() -> None:
    record, alice, bob = two()
    async with checking(record) as (_, told):
        for each in (alice, bob):
            each.hear("hi", 1, "guest-anna-1")
        said = await told.until(delivered=2)
        assert said["counts"]["sent"] == said["counts"]["unknown"] == 0
