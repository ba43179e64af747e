"""Random histories against a list: whatever is asked of a log, the list knows the answer."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatlab.errors import InvalidPayload
from chatlab.lab import valkey
from chatlab.protocol import Message
from chatlab.storage.base import Cursor, json_size
from tests.storage.rooms import Rooms, seqs
from tests.waiting import until

KEY_TTL = 60.0
KEY_MESSAGES = 6

names = st.sampled_from(["a", "b", "ä\0"])
keys = st.none() | st.sampled_from(["k1", "k2", "k3", "k\0"])
texts = st.sampled_from(["one", "two"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40
)
numbers = st.integers(0, 40)


@dataclass
class Model:
    """One room, as simply as it can be said. `messages` has every message there ever was."""

    messages: list[Message] = field(default_factory=list)
    keyed: dict[tuple[str, str], tuple[Message, int, float]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)

    def earlier(self, user: str, key: str | None, now: float) -> Message | None:
        if key is None or (user, key) not in self.keyed:
            return None
        message, number, at = self.keyed[user, key]
        forgotten = now - at >= KEY_TTL or self.sent[user] - number >= KEY_MESSAGES
        return None if forgotten else message


class Logs(RuleBasedStateMachine):
    """Every kind of log goes through the same events; `model` says what must come of them."""

    kind = "memory"

    @initialize(history=st.sampled_from([1, 3, 12, 10_000]))
    def begin(self, history: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.history = history
        self.model: dict[str, Model] = {name: Model() for name in ("a", "b", "ä\0")}
        self.rooms = Rooms(
            self.kind,
            self.where(),
            history=history,
            key_ttl=KEY_TTL,
            key_messages=KEY_MESSAGES,
        )
        self.run(self.open())
        self.epochs = {room: self.run(self.rooms.join(room)).epoch for room in self.model}

    def where(self) -> Path | str:
        return Path(self.folder.name) / "chat.db"

    async def open(self) -> None:
        await self.rooms.log.open()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run(awaitable)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.rooms.log.close())
            self.loop.close()
            self.folder.cleanup()

    @rule(sends=st.lists(st.tuples(names, names, texts, keys), min_size=1, max_size=12))
    def send_at_once(self, sends: list[tuple[str, str, str, str | None]]) -> None:
        async def send() -> list[Any]:
            return await asyncio.gather(
                *[self.rooms.log.append(*one, "") for one in sends], return_exceptions=True
            )

        for (room, user, text, key), result in zip(sends, self.run(send()), strict=True):
            model, now = self.model[room], self.rooms.clock.now
            earlier = model.earlier(user, key, now)
            if earlier is None:
                assert not result.duplicate
                message = result.message
                assert message.seq == len(model.messages) + 1
                assert (message.room, message.user, message.text) == (room, user, text)
                model.messages.append(message)
                model.sent[user] = model.sent.get(user, 0) + 1
                if key is not None:
                    model.keyed[user, key] = (message, model.sent[user], now)
            elif earlier.text == text:
                assert result.duplicate
                assert result.message == earlier
            else:
                assert isinstance(result, InvalidPayload)
                assert result.field == "key"

    @rule(room=names, user=names, delivered=numbers, read=numbers)
    def mark(self, room: str, user: str, delivered: int, read: int) -> None:
        model = self.model[room]
        before = model.cursors.get(user, Cursor())
        if max(delivered, read) > len(model.messages):
            with pytest.raises(InvalidPayload):
                self.run(self.rooms.mark(user, delivered=delivered, read=read, room=room))
            return
        after = Cursor(max(before.delivered, delivered, read), max(before.read, read))
        marked = self.run(self.rooms.mark(user, delivered=delivered, read=read, room=room))
        assert marked == (before, after)
        model.cursors[user] = after

    @rule(
        room=names,
        user=names,
        after=st.none() | numbers,
        known=st.sampled_from(["unknown", "right", "wrong", "empty"]),
        limit=st.integers(1, 9),
        max_bytes=st.integers(1, 200),
    )
    def join(
        self, room: str, user: str, after: int | None, known: str, limit: int, max_bytes: int
    ) -> None:
        model = self.model[room]
        kept = model.messages[-self.history :]
        seq, oldest = len(model.messages), len(model.messages) - len(kept) + 1
        epoch = {"unknown": None, "right": self.epochs[room], "wrong": "wrong", "empty": ""}[known]
        snapshot = self.run(
            self.rooms.join(
                room, user, after=after, epoch=epoch, newest=5, limit=limit, max_bytes=max_bytes
            )
        )
        assert (snapshot.seq, snapshot.epoch) == (seq, self.epochs[room])
        assert snapshot.cursor == model.cursors.get(user, Cursor())
        beyond = after is not None and not oldest - 1 <= after <= seq
        assert snapshot.lost == (known in ("wrong", "empty") or beyond)
        if after is None or snapshot.lost:
            assert snapshot.messages == kept[-5:]
            assert snapshot.more == (len(kept) > 5)
        else:
            expected = within([one for one in kept if one.seq > after][:limit], max_bytes)
            assert snapshot.messages == expected
            assert snapshot.more == (after + len(expected) < seq)

    @rule(
        room=names,
        start=st.none() | st.tuples(st.sampled_from(["after", "before"]), numbers),
        limit=st.integers(1, 9),
        max_bytes=st.integers(1, 200),
    )
    def page(self, room: str, start: tuple[str, int] | None, limit: int, max_bytes: int) -> None:
        kept = self.model[room].messages[-self.history :]
        where = {} if start is None else {start[0]: start[1]}
        page = self.run(self.rooms.page(room, **where, limit=limit, max_bytes=max_bytes))
        if "after" in where:
            wanted = [one for one in kept if one.seq > where["after"]]
            expected = within(wanted[:limit], max_bytes)
        else:
            wanted = [one for one in kept if one.seq < where.get("before", 10**9)]
            expected = within(wanted[-limit:][::-1], max_bytes)[::-1]
        assert page.messages == expected
        assert page.more == (len(expected) < len(wanted))

    @rule(seconds=st.sampled_from([1.0, 20.0, 59.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.rooms.clock.now += seconds

    @rule()
    def restart(self) -> None:
        self.run(self.rooms.again())

    @invariant()
    def the_feed_carried_every_message_once_and_in_order(self) -> None:
        if hasattr(self, "rooms"):
            for room, model in self.model.items():
                fed = [delivery.message for delivery in self.rooms.fed[room]]
                assert fed == model.messages
                assert seqs(fed) == list(range(1, len(fed) + 1))


def within(messages: list[Message], max_bytes: int) -> list[Message]:
    given: list[Message] = []
    for message in messages:
        max_bytes -= json_size(message.text)
        if given and max_bytes < 0:
            break
        given.append(message)
    return given


class StoredLogs(Logs):
    kind = "sqlite"


class SharedLogs(Logs):
    kind = "redis"
    address = ""

    def where(self) -> str:
        return f"{self.address}?prefix={secrets.token_hex(6)}"

    async def open(self) -> None:
        await super().open()
        await self.follow()

    async def follow(self) -> None:
        for room in self.model:
            await self.rooms.log.follow(room)

    @rule()
    def restart(self) -> None:
        super().restart()
        self.run(self.follow())

    @invariant()
    def the_feed_carried_every_message_once_and_in_order(self) -> None:
        if hasattr(self, "rooms"):
            for room, model in self.model.items():
                everything = len(model.messages)
                self.run(until(lambda room=room, n=everything: len(self.rooms.fed[room]) >= n))
        super().the_feed_carried_every_message_once_and_in_order()


@pytest.fixture(scope="module", autouse=True)
def _store() -> Iterator[None]:
    with valkey(name="model tests", persist=False) as store:
        SharedLogs.address = store.url
        yield


TestMemoryLog = Logs.TestCase
TestMemoryLog.settings = settings(max_examples=60, stateful_step_count=30)

TestRedisLog = SharedLogs.TestCase
TestRedisLog.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)

TestSqliteLog = StoredLogs.TestCase
TestSqliteLog.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
