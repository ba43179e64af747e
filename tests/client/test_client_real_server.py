"""The client against the real server: tokens, bans, limits, presence."""

import asyncio

import pytest

from chatlab import events
from chatlab.backoff import Backoff
from chatlab.catchup import RoomClosed
from chatlab.errors import (
    Banned,
    Forbidden,
    MessageTooLong,
    NotInRoom,
    TokenExpired,
    TooManyConnections,
)
from chatlab.lab.recorder import Recorder
from chatlab.storage.base import User
from tests.client.helpers import take, token_for
from tests.client.running import serving, stored
from tests.waiting import PATIENCE_S, until


async def test_a_token_is_refreshed_for_as_long_as_the_client_lives(real, client_of):
    fetched = []

    async def fetch():
        fetched.append(token_for("alice", ttl=1.6))
        return fetched[-1]

    alice = await client_of(real.url, fetch).connect()
    await alice.join("general")
    heard = alice.events()
    await until(lambda: len(fetched) == 4)
    await alice.send("still here")
    await alice.close()
    assert {type(event) async for event in heard} == {events.TokenExpiring}


async def test_a_client_whose_token_expired_returns_with_a_fresh_one(real, client_of):
    tokens = [token_for("alice", ttl=2.0)] * 2 + [token_for("alice")]  # the refresh is no fresh one
    alice = await client_of(real.url, lambda: tokens.pop(0)).connect()
    bob = await client_of(real.url, token_for("bob")).connect()
    await alice.join("general")
    await bob.join("general")
    stream, heard = alice.messages(), alice.events()
    for number, event in enumerate(
        [events.TokenExpiring, events.SessionExpired, events.Disconnected, events.Connected]
    ):
        await bob.send(str(number))
        assert isinstance(await anext(heard), event)
    assert await take(stream, 4) == ["0", "1", "2", "3"]


async def test_a_client_with_one_token_ends_when_that_expires(real, client_of):
    alice = await client_of(real.url, token_for("alice", ttl=1.5)).connect()
    await alice.join("general")
    with pytest.raises(TokenExpired):
        await anext(alice.messages())
    with pytest.raises(TokenExpired):
        await client_of(real.url, token_for("alice", ttl=-1)).connect()


async def test_a_banned_user_is_out_and_stays_out(real, client_of):
    alice = await client_of(real.url).connect()
    await alice.join("general")
    stream, heard = alice.messages(), alice.events()
    await real.chat.directory.put(User("alice", "Alice", banned=True))
    with pytest.raises(Banned):
        await anext(stream)
    assert [type(event) for event in await take(heard, 2)] == [
        events.SessionBanned,
        events.Disconnected,
    ]
    with pytest.raises(Banned):
        await client_of(real.url).connect()


def retries_kept_waiting(record):
    """Hold each retry to the `retryAfter` that its key was told; returns those told."""
    keys, not_before = {}, {}
    for entry in record.entries:
        if entry.kind == "send" and entry.name == "send-message":
            keys[entry.id] = entry.data["key"]
            assert entry.at >= not_before.get(entry.data["key"], 0.0) - 0.005
        elif entry.packet == "ack" and not entry.data["ok"]:
            assert entry.data["code"] == "rate_limited"
            not_before[keys[entry.id]] = entry.at + entry.data["retryAfter"]
    return set(not_before)


async def test_a_client_over_its_rate_waits_as_it_is_told_and_gets_everything_through(client_of):
    async with serving(rate=20.0, rate_burst=5, user_rate=1000.0, user_burst=1000) as server:
        record = Recorder("alice", "client")
        alice = await client_of(server.url, recorder=record, retries=20).connect()
        await alice.join("general")
        await asyncio.gather(*(alice.send(str(number)) for number in range(15)))
        assert sorted(map(int, await stored(server))) == list(range(15))
        assert retries_kept_waiting(record)


async def test_a_room_that_a_narrower_token_no_longer_opens_is_closed(real, client_of):
    alice = await client_of(real.url, token_for("alice", rooms=["private-*"])).connect()
    await alice.join("private-club")
    stream = alice.messages()
    await alice.send("inside")
    await alice.refresh(token_for("alice", rooms=[]))
    with pytest.raises((NotInRoom, Forbidden)):
        await alice.send("still inside?")
    inside, closed = await take(stream, 2)
    assert inside == "inside"
    assert isinstance(closed, RoomClosed)
    assert isinstance(closed.error, Forbidden)


async def test_a_message_longer_than_a_frame_is_refused_and_not_sent_again(real, client_of):
    record = Recorder("alice", "client")
    alice = await client_of(real.url, recorder=record, backoff=Backoff(base=0.5)).connect()
    await alice.join("general")
    with pytest.raises(MessageTooLong, match="40000 characters"):
        await alice.send("x" * 40_000)
    long, short = await asyncio.gather(
        alice.send("x" * 70_000), alice.send("hello"), return_exceptions=True
    )
    assert isinstance(long, MessageTooLong)
    assert await stored(real) == ["hello"]
    assert short.seq == 1
    sent = [e.data["text"] for e in record.entries if (e.kind, e.name) == ("send", "send-message")]
    assert sorted(map(len, sent))[-2:] == [40_000, 70_000]


async def test_one_connection_too_many_is_told_when_to_try_again(client_of):
    async with serving(max_connections_per_user=1) as server:
        await client_of(server.url).connect()
        with pytest.raises(TooManyConnections) as caught:
            await client_of(server.url).connect()
        assert caught.value.retry_after > 0


async def test_presence_typing_and_receipts_reach_the_others(real, client_of):
    alice = await client_of(real.url).connect()
    await alice.join("general")
    heard = alice.events()
    bob = await client_of(real.url, token_for("bob")).connect()
    joined = await bob.join("general")
    assert joined.users == ["alice", "bob"]
    await alice.send("hello")
    await take(bob.messages(), 1)
    await bob.typing("general")
    await bob.mark_delivered("general", 0)
    await bob.mark_read("general", 1)
    assert (await alice.who("general")).users == ["alice", "bob"]
    await bob.leave("general")
    seen = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in heard:
            seen.append(event)
            if {type(event) for event in seen} >= {events.UserLeft, events.Receipts}:
                break
    assert seen[0] == events.UserJoined("bob", "general")
    assert seen[1] == events.UserTyping("general", "bob", True)
    assert events.Receipts("general", {"bob": events.Receipt(1, 1)}) in seen


async def test_polling_and_the_upgrade_carry_a_conversation(real, client_of):
    for transports in (["polling"], ["polling", "websocket"]):
        room = "-".join(transports)
        alice = await client_of(real.url, transports=transports).connect()
        bob = await client_of(real.url, token_for("bob")).connect()
        await alice.join(room)
        await bob.join(room)
        await asyncio.gather(*(bob.send(str(n)) for n in range(40)))
        await alice.send("done")
        assert await take(alice.messages(room), 41) == await stored(real, room)
        await alice.close()
