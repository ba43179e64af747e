"""What lesson 04 measures and draws is what happened."""

from __future__ import annotations

import matplotlib as mpl
import pytest
import socketio

mpl.use("Agg")

from matplotlib import pyplot as plt

from chatlab.lab import background, raw_client
from chatlab.lab.races import (
    attempts_chart,
    busiest,
    flood,
    probe,
    race,
    race_chart,
    waits_chart,
)
from tests.waiting import PATIENCE_S


class EverySecondOne:
    """Lets through one, refuses one, and so on."""

    refused = True

    def take(self, now: float) -> float:
        self.refused = not self.refused
        return 0.5 if self.refused else 0.0


def test_a_race_notes_who_was_let_through() -> None:
    assert race(EverySecondOne(), [1.0, 2.0, 3.0]) == [(1.0, True), (2.0, False), (3.0, True)]


def test_the_busiest_span_counts_what_was_let_through_and_not_its_last_instant() -> None:
    through = [(at, True) for at in (0.0, 1.9, 1.95, 2.0, 2.05, 2.1)]
    assert busiest(through, 0.2) == 4
    assert busiest([*through, (2.11, False)], 0.2) == 4
    assert busiest(through, 0.21) == 5
    assert busiest([], 1.0) == 0


def test_charts_draw_every_limiter_and_every_refusal() -> None:
    rows = {"one": race(EverySecondOne(), [0.1, 0.2]), "two": race(EverySecondOne(), [0.3])}
    with mpl.rc_context():
        axes = attempts_chart("Attempts", rows, marks=(0, 1))
        assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
        assert axes.get_xlim() == (0, 1)
        axes = race_chart("Race", rows, rate=3)
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert names == ["one", "two", "3 a second"]
        axes = waits_chart("Waits", {"a": [(0.0, 1.0), (0.1, None)], "b": [(0.0, 5.0)]}, since=0.1)
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert names == ["a", "a: no ok", "b"]
        plt.close("all")


async def test_a_flood_arrives_whole_and_a_probe_notes_what_was_not_ok() -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp")

    @sio.event
    async def ask(sid: str) -> object:
        asked.append(sid)
        return {"ok": len(asked) % 2 == 1}

    asked: list[str] = []
    async with background(sio, name="probed") as server, raw_client(server, name="alice") as alice:
        flood(alice, "spam", {"text": "buy now"}, 300)
        await server.wait_for("spam", 300, timeout=PATIENCE_S)
        waits = await probe(alice, "ask", None, seconds=0.2, every=0.05)
        with pytest.raises(ValueError, match="too long"):
            flood(alice, "spam", "x" * 125, 1)
    assert len(waits) == 4
    assert [ms is None for _, ms in waits] == [False, True, False, True]
