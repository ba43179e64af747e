"""A server that is slow for a moment is not judged by that: a pause is no refusal."""

from __future__ import annotations

import asyncio

import pytest

from chatlab.grade import Verdict, grade
from chatlab.lab import background
from notebooks.steps import step3

SECRET = "a-secret-of-the-slow-server-0123456789"


class Slow(step3.Store):
    """Every message is stored; one of them after a second."""

    async def append(self, user, room, text, key=None):
        if text == "flood 150":
            await asyncio.sleep(1.0)
        return await super().append(user, room, text, key)


@pytest.mark.parametrize(
    ("promise", "verdict"),
    [("flood-limited", Verdict.BROKEN), ("flood-acked", Verdict.KEPT)],
)
async def test_who_is_slow_once_in_a_flood_has_neither_limited_it_nor_kept_silent(
    promise: str, verdict: Verdict
) -> None:
    with background(step3.make_server(SECRET, Slow())) as server:
        report = await grade(server.url, secret=SECRET, only=[promise])
    assert [result.verdict for result in report.results] == [verdict]
