"""Two servers, four people and a store: one chat or two, depending on what the servers run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import socketio

from chatlab import doctor
from chatlab.lab import pair, settled, timeline, valkey
from chatlab.lab.stock import make_app

pytestmark = pytest.mark.skipif(not doctor.has("valkey"), reason="this machine has no Valkey")
SECRET = "a secret of the tests, more than 32 bytes long"


@pytest.fixture
def store() -> Iterator[Any]:
    with valkey(persist=False) as store:
        yield store


async def test_everybody_is_in_the_room_and_nothing_of_the_greetings_is_left(store: Any) -> None:
    async with pair(lambda url: make_app(url, secret=SECRET), store, secret=SECRET) as two:
        assert [client.name for client in two.clients] == ["alice", "carol", "bob", "dave"]
        assert not any(part.recorder.entries for part in (*two.clients, *two.parts))
        await two.write("tea", "coffee")
        for reader in (two.carol, two.dave):
            await reader.wait_for("new-message", 2)
            assert sorted(reader.received_texts) == ["coffee", "tea"]
            assert {item.data["user"] for item in reader.received} == {"alice", "bob"}


async def test_what_one_server_is_told_by_the_other_is_drawn_after_what_led_to_it(
    store: Any,
) -> None:
    async with pair(make_app, store) as two:
        await two.alice.call("send-message", {"text": "Coffee?"}, timeout=2)
        await two.dave.wait_for("new-message")
        await settled(*two.clients, *two.parts)
        rows = repr(timeline(*two.parts)).splitlines()[1:]
    assert [" ".join(row.split()).partition(' "')[0] for row in rows] == [
        "server A → carol new-message",
        "server A → valkey publish",
        "valkey → server B message",
        "server B → dave new-message",
    ]


async def test_servers_that_do_not_hear_of_each_other_are_not_waited_for_for_ever(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `chatlab.lab.pair` is the function of that name.
    monkeypatch.setattr(sys.modules["chatlab.lab.pair"], "_PATIENCE", 2.0)
    before = len(asyncio.all_tasks())
    with pytest.raises(TimeoutError):
        async with pair(lambda url: make_app(), store):
            pass
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_servers_that_share_nothing_may_be_looked_at_too(store: Any) -> None:
    def alone(url: str) -> Any:
        sio = socketio.AsyncServer(async_mode="aiohttp")

        @sio.on("join-room")
        async def join_room(sid: str, room: str) -> Any:
            await sio.enter_room(sid, room)

        @sio.on("send-message")
        async def send_message(sid: str, data: Any) -> Any:
            await sio.emit("new-message", data, to="tea", skip_sid=sid)

        return sio

    async with pair(alone, store, room="tea", acquainted=False) as two:
        await two.write("one", "two")
        await settled(*two.clients)
        assert (two.carol.received_texts, two.dave.received_texts) == (["one"], ["two"])


async def test_each_reader_is_drawn_as_it_read_also_where_nothing_is_late_enough_to_be_seen(
    store: Any,
) -> None:
    async with pair(make_app, store) as two:
        two.line_a.delay(0.03)
        await two.write("one", "two")
        for reader in (two.carol, two.dave):
            await reader.wait_for("new-message", 2)
        await settled(*two.clients, *two.parts)
        rows = repr(timeline(*two.parts)).splitlines()
        for reader in (two.carol, two.dave):
            drawn = [row.split('"')[1] for row in rows if f"→ {reader.name}" in row]
            assert drawn == reader.received_texts
        assert two.carol.received_texts != two.dave.received_texts
