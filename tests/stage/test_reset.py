"""One click puts everything back, whatever was done before and whatever is being done."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import psutil

from chatlab.stage.script import SCRIPT
from tests.stage.running import Demo, OnStage


async def _speaks(stage: OnStage) -> None:
    async with stage.sitting("a") as alice, stage.sitting("b") as bob:
        assert (await alice.join("stage")).seq == 0
        await bob.join("stage")
        await alice.send("as new", "stage")
        await stage.until(lambda: ("delivered", "balancer", "window-b") in stage.hops("as new"))


async def test_a_wrecked_stage_is_as_new_after_one_click(stage: OnStage) -> None:
    await stage.do("crowd")
    await stage.do("limits", on=False)
    await stage.do("flood")
    await stage.do("token", window="b", kind="forged")
    await stage.do("ban", user="alice")
    await stage.do("cut", window="a")
    await stage.do("mute", window="b")
    await stage.do("server", number=1, how="kill")
    await stage.do("server", number=2, how="freeze")
    await stage.do("valkey", how="freeze")
    await stage.do("reset")
    assert stage.as_new(), stage.state
    await _speaks(stage)


async def test_from_the_stock_servers_without_valkey_too(stage: OnStage) -> None:
    await stage.do("adapter", to="stock")
    await stage.do("valkey", how="kill")
    assert "Valkey" in await stage.refused("adapter", to="chatlab")
    await stage.do("reset")
    assert stage.as_new(), stage.state
    await _speaks(stage)


async def test_what_waits_is_thrown_away_and_many_resets_are_one(stage: OnStage) -> None:
    answers = await asyncio.gather(
        stage.ask("server", number=1, how="restart"),
        stage.ask("server", number=2, how="kill"),
        stage.ask("valkey", how="kill"),
        *(stage.ask("reset") for _ in range(5)),
    )
    statuses = [status for status, _ in answers]
    assert statuses[3:] == [200] * 5
    assert all(status in (200, 409) for status in statuses)
    assert sum(m["type"] == "state" and m["busy"] is not None for m in stage.messages) < 12
    await stage.until(stage.as_new)


async def test_everything_clicked_at_once_breaks_nothing(stage: OnStage) -> None:
    clicks: list[dict[str, Any]] = [
        {key: value for key, value in click.items() if key != "label"}
        for concern in SCRIPT
        for note in concern["notes"]
        for click in note["click"]
        if "do" in click
    ]
    answers = await asyncio.gather(*(stage.ask(**click) for click in clicks))
    assert {status for status, _ in answers} <= {200, 409}
    assert not any("did not work" in answer.get("error", "") for _, answer in answers)
    await stage.do("reset")
    await stage.until(stage.as_new)
    await _speaks(stage)


async def test_a_part_that_dies_by_itself_is_shown_and_can_be_put_back(
    stage: OnStage, running: Demo
) -> None:
    of_stage = psutil.Process(running.process.pid).children(recursive=True)
    # Not their watchdogs, which have the same words in their command lines.
    lines = {p: p.cmdline() for p in of_stage}
    programs = {p: line for p, line in lines.items() if not any("child.py" in w for w in line)}
    server = next(p for p, line in programs.items() if "serve" in line)
    caddy = next(p for p, line in programs.items() if "chatlab-balancer-" in " ".join(line))
    os.kill(server.pid, signal.SIGSEGV)
    os.kill(caddy.pid, signal.SIGKILL)
    await stage.until(lambda: len(stage.notices()) == 2)
    assert all("by itself" in notice for notice in stage.notices())
    await stage.until(lambda: stage.part("balancer")["mood"] == "bad")
    await stage.do("reset")
    await stage.until(stage.as_new)
    await _speaks(stage)
