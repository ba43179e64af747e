"""Every switch of the stage does what it says, as its state, its packets and its verdict show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from chatlab.client import ChatClient
from chatlab.errors import ChatError, InvalidToken, TokenExpired
from tests.stage.running import OnStage


@contextlib.asynccontextmanager
async def both(stage: OnStage) -> AsyncIterator[tuple[ChatClient, ChatClient]]:
    """Alice and Bob in their windows, in the room."""
    async with stage.sitting("a") as alice, stage.sitting("b") as bob:
        await alice.join("stage")
        await bob.join("stage")
        await stage.until(lambda: stage.window("a")["online"] and stage.window("b")["online"])
        yield alice, bob


async def test_a_message_passes_every_part_from_window_to_window(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        assert stage.window("a")["server"] == "server-1"
        assert stage.window("b")["server"] == "server-2"
        await alice.send("hello", "stage")
        ways = {
            ("sent", "window-a", "balancer"),
            ("sent", "balancer", "server-1"),
            ("append", "server-1", "valkey"),
            ("stored", "valkey", "valkey"),
            ("published", "valkey", "server-1"),
            ("published", "valkey", "server-2"),
            ("delivered", "server-2", "balancer"),
            ("delivered", "balancer", "window-b"),
            ("acked", "server-1", "balancer"),
            ("acked", "balancer", "window-a"),
        }
        await stage.until(lambda: ways <= stage.hops("hello"))
        assert stage.hops("hello") == ways
        await stage.until(lambda: stage.verdict["counts"]["delivered"] == 1)
        assert stage.verdict["counts"]["acked"] == 1
        assert stage.verdict["ok"]


async def test_a_cut_wire_disconnects_one_window_and_healing_brings_it_back(
    stage: OnStage,
) -> None:
    async with both(stage) as (alice, _):
        await stage.do("cut", window="a")
        assert await stage.do("cut", window="a") == "Wire A is cut already."
        await stage.until(lambda: not stage.window("a")["online"])
        assert stage.state["wires"]["wire-a"]["cut"]
        assert stage.part("wire-a")["words"] == "cut"
        await stage.until(lambda: stage.window("b")["online"])
        await stage.do("heal", window="a")
        await stage.until(lambda: stage.window("a")["server"] == "server-1")
        await alice.send("back", "stage")


async def test_a_lost_answer_is_shown_and_the_retry_is_one_message(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        await stage.do("mute", window="a", direction="to_client")
        sending = asyncio.create_task(alice.send("once", "stage"))
        await stage.until(lambda: stage.packets("acked", text="once", lost=True))
        await stage.until(lambda: ("delivered", "balancer", "window-b") in stage.hops("once"))
        await stage.do("heal", window="a")
        assert (await sending).duplicate
        assert len(stage.packets("stored", text="once")) == 1
        await stage.until(lambda: stage.verdict["counts"]["acked"] == 1)
        assert stage.verdict["ok"]


async def test_a_silent_wire_is_noticed_within_seconds(stage: OnStage) -> None:
    async with both(stage):
        await stage.do("mute", window="b")
        assert stage.state["wires"]["wire-b"]["muted"] == "both"
        await stage.until(lambda: not stage.window("b")["online"])
        await stage.do("heal")
        await stage.until(lambda: stage.window("b")["online"])


async def test_a_delayed_wire_is_late_in_both_directions(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        await stage.do("delay", window="a", seconds=0.4)
        await alice.send("late", "stage")
        await stage.until(lambda: stage.packets("acked", text="late", to="window-a"))
        sent = stage.packets("sent", text="late", to="server-1")[0]["at"]
        acked = stage.packets("acked", text="late", to="window-a")[0]["at"]
        assert acked - sent >= 0.4
        await stage.do("delay", window="a", seconds=0)
        assert stage.part("wire-a")["words"] == "works"


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [("forged", InvalidToken, "invalid_token"), ("expired", TokenExpired, "token_expired")],
)
async def test_a_bad_token_is_refused_where_everybody_sees_it(
    stage: OnStage, kind: str, error: type[ChatError], code: str
) -> None:
    before = stage.window("a")["url"]
    await stage.do("token", window="a", kind=kind)
    await stage.until(lambda: stage.window("a")["url"] != before)
    with pytest.raises(error):
        await stage.sitting("a").connect()
    await stage.until(lambda: stage.packets("refused", to="window-a", code=code))
    await stage.until(lambda: any(code in point["rejects"] for point in stage.points()))
    await stage.do("token", window="a", kind="good")
    await stage.until(lambda: stage.window("a")["token"] == "good")
    async with stage.sitting("a"):
        await stage.until(lambda: stage.window("a")["online"])


@pytest.mark.slow
async def test_an_expiring_token_warns_while_connected(stage: OnStage) -> None:
    await stage.do("token", window="a", kind="expiring")
    await stage.until(lambda: stage.window("a")["expires"])
    async with stage.sitting("a"):
        await stage.until(lambda: stage.packets("event", label="token-expiring", to="window-a"))


async def test_a_banned_user_is_out_at_once_and_may_come_back_after(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        await stage.do("ban", user="alice")
        await stage.until(lambda: not stage.window("a")["online"])
        assert stage.window("a")["banned"]
        with pytest.raises(ChatError, match=r"banned|connect"):
            await alice.send("still here?", "stage")
    await stage.do("unban", user="alice")
    async with stage.sitting("a"):
        await stage.until(lambda: stage.window("a")["online"])
    assert "nobody called" in await stage.refused("ban", user="eve")


async def test_whoever_was_on_a_killed_server_is_back_on_the_other(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        await stage.do("server", number=1, how="kill")
        assert await stage.do("server", number=1, how="kill") == "Server 1 does not run."
        await stage.until(lambda: stage.part("server-1")["words"] == "killed")
        assert stage.part("server-1")["can"] == ["restart"]
        await stage.until(lambda: stage.window("a")["server"] == "server-2")
        await alice.send("from the other one", "stage")
        await stage.do("server", number=1, how="restart")
        await stage.until(lambda: stage.part("server-1")["mood"] == "good")
        assert stage.notices() == []


async def test_a_frozen_server_is_left_by_its_clients_and_can_be_thawed(stage: OnStage) -> None:
    async with both(stage):
        await stage.do("server", number=2, how="freeze")
        assert stage.part("server-2")["words"] == "frozen"
        assert "hears nothing" in await stage.refused("server", number=2, how="terminate")
        await stage.until(lambda: stage.window("b")["server"] == "server-1")
        await stage.do("server", number=2, how="thaw")
        await stage.until(lambda: stage.part("server-2")["words"] == "running")
        assert await stage.do("server", number=2, how="terminate") == "Server 2 has finished."


async def test_without_valkey_everybody_is_told_and_nothing_is_lost(stage: OnStage) -> None:
    async with both(stage) as (alice, _):
        await stage.do("valkey", how="kill")
        sending = asyncio.create_task(alice.send("later", "stage"))
        await stage.until(lambda: stage.packets("acked", text="later", code="unavailable"))
        await stage.do("valkey", how="restart")
        await sending
        await stage.until(lambda: ("delivered", "balancer", "window-b") in stage.hops("later"))
        await stage.until(lambda: stage.verdict["counts"]["acked"] == 1)
        assert stage.verdict["ok"]


async def test_limits_refuse_the_flood_and_the_victim_is_measured(stage: OnStage) -> None:
    await stage.do("flood")
    assert await stage.do("flood", on=True) == "The flood is on already."
    await stage.until(lambda: any("rate_limited" in p["rejects"] for p in stage.points()))
    await stage.until(lambda: any(point["victim_p50"] for point in stage.points()))
    await stage.until(lambda: stage.state["flood"]["refused"] > 0)
    assert stage.part("flood")["mood"] == "good"
    await stage.do("flood", on=False)
    await stage.until(lambda: not stage.state["flood"]["on"])


async def test_without_limits_the_flood_gets_through(stage: OnStage) -> None:
    await stage.do("limits", on=False)
    await stage.do("flood")
    await stage.until(lambda: stage.state["flood"]["ok"] > 200)
    assert stage.state["flood"]["refused"] == 0
    assert not stage.state["limits"]


async def test_the_crowd_gives_the_checker_work(stage: OnStage) -> None:
    await stage.do("crowd")
    for server in ("server-1", "server-2"):  # whoever is alone on one would never miss anything
        await stage.until(lambda server=server: stage.packets("sent", who="crowd", to=server))
    await stage.until(lambda: stage.verdict["counts"]["delivered"] > 8)
    assert stage.verdict["ok"]
    await stage.do("record")
    await stage.until(lambda: stage.verdict["counts"]["sent"] < 4)
    await stage.do("crowd", on=False)
    await stage.until(lambda: not stage.state["crowd"]["on"])


@pytest.mark.slow
async def test_stock_servers_lose_what_they_have_acked_and_the_evidence_is_shown(
    stage: OnStage,
) -> None:
    await stage.do("adapter", to="stock")
    await stage.do("crowd")
    assert "know no bans" in await stage.refused("ban", user="alice")
    await stage.until(lambda: stage.verdict["counts"]["acked"] > 3)
    await stage.do("valkey", how="kill")
    for _ in range(2):  # the second one was begun now: it knows of all acks before this
        earlier = stage.verdict["at"]
        await stage.until(lambda earlier=earlier: stage.verdict["at"] > earlier)
    acked = stage.verdict["counts"]["acked"]
    await stage.until(lambda: stage.verdict["counts"]["acked"] > acked + 2)
    await stage.do("valkey", how="restart")
    await stage.until(lambda: stage.count("lost"))
    row = next(row for row in stage.verdict["rows"] if row["rule"] == "lost")
    assert row["example"]
    assert any("is answered ok" in line for line in row["evidence"])
    assert stage.verdict["words"].startswith("Broken: ")


async def test_what_nobody_understands_is_a_sentence_and_changes_nothing(stage: OnStage) -> None:
    assert "no action" in await stage.refused("explode")
    assert "no action" in await stage.refused("_process")
    assert "no action" in await stage.refused("named", name="cut")
    assert "a or b" in await stage.refused("cut", window="z")
    assert "servers 1 to 2" in await stage.refused("server", number=3, how="kill")
    assert "seconds" in await stage.refused("delay", window="a", seconds=1e9)
    assert "direction" in await stage.refused("mute", window="a", direction="up")
    for strange in ({"wire": "a"}, {}, {"window": {"a": 1}}, {"window": ["a"]}, {"window": None}):
        assert "does not go with" in await stage.refused("cut", **strange)
    for number in (True, "1", 1.0, None):
        assert "does not go with" in await stage.refused("server", number=number, how="kill")
    assert all(part["mood"] in ("good", "off") for part in stage.state["parts"][4:])
