"""A small crowd talks through what breaks, and what it saw is drawn as it was."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import pytest

from chatlab.lab.background import Server, background
from chatlab.lab.calm import calm
from chatlab.lab.crowd import ChatPerson, Crowd, Person
from chatlab.lab.crowd_chart import seen, seen_chart
from chatlab.lab.history import Delivered, History
from chatlab.lab.stock import make_app
from chatlab.lab.tokens import mint
from chatlab.server.app import create_app
from chatlab.settings import Settings

SECRET = "a secret of this test: 32 bytes or more"
NAMES = ("alice", "bob", "carol")

mpl.use("agg")


def chat() -> Server:
    return background(create_app(Settings(dev=True, jwt_secret=SECRET)), name="chat")


def stock(name: str = "stock") -> Server:
    return background(make_app(secret=SECRET), name=name)


def target(server: Server) -> Any:
    token = partial(mint, secret=SECRET)
    return SimpleNamespace(url=server.url, name=server.name, token=token)


async def cut_through(crowd: Crowd) -> None:
    """Talk, and be cut off in the middle of it."""
    async with crowd:
        talking = asyncio.create_task(crowd.talk(0.8, rate=10))
        await asyncio.sleep(0.2)
        async with crowd.breaking():
            await asyncio.to_thread(crowd.wire.cut, seconds=0.2)
            await asyncio.sleep(0.2)
        await talking
        await crowd.rest()


async def test_people_of_chatlabs_own_client_see_everything_through_a_cut() -> None:
    async with chat() as server:
        crowd = Crowd(ChatPerson, target(server), names=NAMES)
        await cut_through(crowd)
    report = crowd.history.check()
    assert report.ok, report
    assert report.counts["acked"] == 3 * 8 + 1
    assert {how for _, _, how in seen(crowd)} <= {"at once", "late"}


@pytest.mark.parametrize("kind", [Person, ChatPerson])
@pytest.mark.parametrize("trouble", ["cut", "mute"])
async def test_a_scene_begins_although_nobody_is_let_in_at_first(kind: Any, trouble: str) -> None:
    async with chat() as server:
        crowd = Crowd(kind, target(server), names=NAMES)
        # Longer than anybody waits for an ack.
        await asyncio.to_thread(getattr(crowd.wire, trouble), seconds=1.2)
        async with crowd:
            await crowd.talk(0.2, rate=10)
            await crowd.rest()
    report = crowd.history.check()
    # A `Person` shows what comes when it comes, its own messages when they are acked.
    allowed = {"out of order"} if kind is Person else set()
    assert {fault.kind for fault in report.faults} <= allowed, report
    assert report.counts["acked"] == 3 * 2 + 1


async def test_people_who_do_not_ask_miss_what_was_said_while_they_were_away() -> None:
    async with stock() as server:
        crowd = Crowd(Person, target(server), names=NAMES)
        await cut_through(crowd)
    counts = crowd.history.check().counts
    assert counts["acked"] == 3 * 8 + 1
    # All are cut off together, so a message is missed by whoever comes back after it was sent.
    marks = seen(crowd)
    assert counts["lost"] == sum(how == "never" for _, _, how in marks)
    assert len(marks) == 2 * 3 * 8


async def test_a_chart_has_a_mark_for_each_way_of_seeing() -> None:
    history = History()
    got = [Delivered("general", "alice", f"message {n}", f"id {n}") for n in range(4)]
    for number, message in enumerate(got):
        history.sent("alice", number, "general", message.text, at=1.0 + number)
        history.acked("alice", number, id=message.id, at=1.1 + number)
    history.sent("alice", 9, "general", "never acked", at=9.0)
    history.shown("bob", got[0], at=1.1)
    history.shown("bob", got[1], at=2.9)
    history.shown("bob", got[2], at=3.1)
    history.shown("bob", got[2], at=3.2)
    people = [SimpleNamespace(name=name) for name in ("alice", "bob")]
    crowd: Any = SimpleNamespace(history=history, people=people, begun=1.0, faults=[(1.5, 2.0)])
    assert seen(crowd) == [
        ("bob", 0.0, "at once"),
        ("bob", 1.0, "late"),
        ("bob", 2.0, "twice"),
        ("bob", 3.0, "never"),
    ]
    seen_chart({"one": crowd, "two": crowd})
    figure = mpl.pyplot.gcf()
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["seen at once", "seen late", "seen twice", "seen never"]
    mpl.pyplot.close(figure)


async def test_servers_that_do_not_hear_each_other_are_not_calm() -> None:
    async with stock("one") as one, stock("two") as two:
        cluster = SimpleNamespace(servers=[one, two], token=partial(mint, secret=SECRET))
        with pytest.raises(TimeoutError):
            await calm(cluster, timeout=3.0)
        cluster.servers = [one, one]
        await calm(cluster)
