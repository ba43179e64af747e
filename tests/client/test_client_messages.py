"""What `ChatClient.messages` gives when connections end, messages vanish and logs begin anew."""

import asyncio

import pytest

from chatlab.catchup import HistoryLost, RoomClosed
from chatlab.errors import AckTimeout, Banned, Forbidden, NotConnected, NotInRoom
from tests.client.helpers import take
from tests.client.scripted import NEVER
from tests.waiting import until


def refused(code, *, retry=False, **more):
    return {"ok": False, "code": code, "retry": retry, "error": code, **more}


async def test_messages_begin_behind_the_join_and_are_not_missed_before_anybody_reads(
    server, client_of
):
    await server.say("before")
    client = await client_of(server.url).connect()
    joined = await client.join("general")
    await server.say("between")
    stream = client.messages("general")
    await server.say("after")
    assert [message.text for message in joined.messages] == ["before"]
    assert await take(stream, 2) == ["between", "after"]
    assert server.payloads("history") == []


async def test_a_join_behind_a_known_message_gives_all_that_followed(server, client_of):
    await server.say(*"abcdefgh")
    client = await client_of(server.url).connect()
    await client.join("general", after=2, epoch="e1")
    assert await take(client.messages(), 6) == list("cdefgh")


async def test_a_join_with_another_epoch_begins_with_lost_history(server, client_of):
    await server.say(*"abcdefgh")
    client = await client_of(server.url).connect()
    await client.join("general", after=2, epoch="e0")
    hole, *rest = await take(client.messages(), 4)
    assert hole == HistoryLost("general", 2, 6, None, "e1")
    assert rest == ["f", "g", "h"]


async def test_own_messages_come_at_their_place(alice, server):
    stream = alice.messages()
    await server.say("one")
    await alice.send("  two ")
    await server.say("three")
    assert await take(stream, 3) == ["one", "two", "three"]
    assert server.payloads("history") == []


async def test_the_author_of_an_own_message_is_the_token_s_user(alice):
    await alice.send("hello")
    message = await anext(alice.messages())
    assert (message.user, message.seq, message.room) == ("alice", 1, "general")


async def test_with_a_token_that_cannot_be_read_own_messages_come_from_history(server, client_of):
    client = await client_of(server.url, "opaque").connect()
    await client.join("general")
    await client.send("hello")
    message = await anext(client.messages())
    assert (message.user, message.text) == ("alice", "hello")


async def test_a_gap_waits_for_a_pending_ack_and_asks_nobody(alice, server):
    stream = alice.messages()
    server.answers["send-message"].append(NEVER)
    sending = asyncio.create_task(alice.send("mine", timeout=0.5))
    await until(lambda: server.log)
    await server.say("theirs")
    await sending  # the second attempt is answered
    assert await take(stream, 2) == ["mine", "theirs"]
    assert server.payloads("history") == []


async def test_a_message_that_never_came_is_fetched(alice, server):
    stream = alice.messages()
    server.skip = {2, 3}
    await server.say(*"abcd")
    assert await take(stream, 4) == list("abcd")
    assert [data["after"] for data in server.payloads("history")] == [1]


async def test_a_refused_request_for_history_is_repeated_as_the_server_asks(alice, server):
    server.answers["history"].extend(
        [refused("rate_limited", retry=True, retryAfter=0.05), refused("unavailable", retry=True)]
    )
    server.skip = {1}
    await server.say(*"ab")
    assert await take(alice.messages(), 2) == ["a", "b"]
    assert len(server.payloads("history")) == 3


async def test_after_a_cut_the_stream_goes_on_where_it_stopped(alice, server):
    stream = alice.messages()
    await server.say("a")
    assert await take(stream, 1) == ["a"]
    await server.cut_and_keep_out()
    await server.say(*"bcdefgh")  # more than one answer holds
    server.door.set()
    assert await take(stream, 7) == list("bcdefgh")
    rejoin = server.payloads("join-room")[-1]
    assert rejoin == {"room": "general", "after": 1, "epoch": "e1"}


async def test_what_arrives_while_history_is_fetched_is_kept(alice, server):
    stream = alice.messages()
    await server.cut_and_keep_out()
    await server.say(*"abcdefgh")
    server.door.set()
    for _ in range(2):
        server.before["history"].append(lambda: server.say("meanwhile"))
    assert await take(stream, 10) == [*"abcdefgh", "meanwhile", "meanwhile"]


async def test_a_server_that_closes_its_transports_gets_its_clients_back(alice, server):
    stream = alice.messages()
    events = alice.events()
    await server.tell("closing")
    await server.close_transports()
    await until(lambda: len(server.members) == 1 and len(server.auths) == 2)
    await server.say("again")
    assert await take(stream, 1) == ["again"]
    assert [type(event).__name__ for event in await take(events, 3)] == [
        "ServerClosing",
        "Disconnected",
        "Connected",
    ]


async def test_another_epoch_after_a_return_is_reported_in_the_stream(alice, server):
    stream = alice.messages()
    await server.say(*"abc")
    assert await take(stream, 3) == ["a", "b", "c"]
    await server.cut_and_keep_out()
    server.begin_anew("x", "y")
    server.door.set()
    hole, first, second = await take(stream, 3)
    assert hole == HistoryLost("general", 3, 1, None, "e1'")
    assert [first, second] == ["x", "y"]


async def test_another_epoch_behind_a_living_connection_is_noticed(alice, server):
    stream = alice.messages()
    await server.say(*"abc")
    server.begin_anew("x", "y")
    await server.say("z")  # number 3 again, and not the same
    *_, hole, x, y, z = await take(stream, 7)
    assert hole.missing is None
    assert [x, y, z] == ["x", "y", "z"]


async def test_history_that_no_longer_reaches_back_is_reported_with_what_is_missing(alice, server):
    stream = alice.messages()
    await server.cut_and_keep_out()
    await server.say(*"abcdefgh")
    gone, server.log = server.log[:4], server.log[4:]

    async def rejoin(sid, data):
        server.members.add(sid)
        return {
            "ok": True,
            "room": "general",
            "seq": 8,
            "epoch": "e1",
            "users": [],
            "count": 0,
            "messages": server.log[-1:],
            "more": True,
            "lost": True,
            "read": 0,
        }

    async def history(sid, data):
        return {"ok": True, "messages": server.log, "more": False, "epoch": "e1"}

    server.sio.on("join-room", rejoin)
    server.sio.on("history", history)
    server.door.set()
    hole, *rest = await take(stream, 5)
    assert hole == HistoryLost("general", 0, 5, len(gone), "e1")
    assert rest == list("efgh")


async def test_a_ban_ends_the_iterators_with_the_ban_after_what_had_come(alice, server):
    stream = alice.messages()
    await server.say("last")
    await server.tell("banned")
    await server.dismiss()
    await until(lambda: not alice.connected)
    assert await take(stream, 1) == ["last"]
    with pytest.raises(Banned):
        await anext(stream)
    with pytest.raises(Banned):
        await alice.who("general")
    assert len(server.auths) == 1


async def test_a_dismissal_without_a_reason_is_not_answered_by_coming_back(alice, server):
    await server.dismiss()
    with pytest.raises(NotConnected, match="ended the session"):
        await anext(alice.messages())
    assert len(server.auths) == 1


async def test_iterators_end_when_the_client_is_closed(alice, server):
    async def collect(stream):
        return [entry async for entry in stream]

    reading = asyncio.create_task(collect(alice.messages()))
    hearing = asyncio.create_task(collect(alice.events()))
    await server.say("last")
    await alice.who("general")  # what was said before has arrived
    await alice.close()
    assert [message.text for message in await reading] == ["last"]
    assert await hearing == []


async def test_an_iterator_can_be_closed_on_its_own(alice):
    stream = alice.messages()
    waiting = asyncio.create_task(anext(stream, "the end"))
    await asyncio.sleep(0)
    await stream.aclose()
    assert await waiting == "the end"
    assert alice.connected


async def test_leaving_a_room_ends_its_iterator_and_not_the_one_over_all(alice, server):
    one, every = alice.messages("general"), alice.messages()
    await server.say("last")
    await alice.leave("general")
    assert await take(one, 1) == ["last"]
    assert await anext(one, "the end") == "the end"
    assert await take(every, 1) == ["last"]
    await alice.join("general", after=0)
    assert await take(every, 1) == ["last"]


async def test_a_client_that_leaves_while_it_is_coming_back_is_not_in_the_room_afterwards(
    alice, server
):
    server.answers["join-room"].extend(refused("unavailable", retry=True) for _ in range(500))
    joins = len(server.payloads("join-room"))
    server.cut()
    await until(lambda: len(server.payloads("join-room")) > joins + 1)

    async def slowly():
        await asyncio.sleep(0.2)  # time for a join that should not come

    server.before["leave-room"].append(slowly)
    leaving = asyncio.create_task(alice.leave("general"))
    await until(lambda: server.payloads("leave-room"))
    server.answers["join-room"].clear()
    await leaving
    events = [event for event, _ in server.seen if event in ("join-room", "leave-room")]
    assert events[-1] == "leave-room"
    assert alice.rooms == ()
    assert server.members == set()


async def test_a_client_whose_leaving_failed_is_in_the_room_on_both_sides(server, client_of):
    alice = await client_of(server.url, timeout=1.0).connect()
    await alice.join("general")
    stream = alice.messages("general")
    server.answers["leave-room"].append(NEVER)
    with pytest.raises(AckTimeout):
        await alice.leave("general")
    assert alice.rooms == ("general",)
    await until(lambda: server.members)
    await server.say("still here")
    assert await take(stream, 1) == ["still here"]


async def test_a_room_that_refuses_the_return_is_closed(alice, server):
    one, every = alice.messages("general"), alice.messages()
    server.answers["join-room"].append(refused("forbidden"))
    server.cut()
    entry = await anext(every)
    assert isinstance(entry, RoomClosed)
    assert isinstance(entry.error, Forbidden)
    with pytest.raises(Forbidden):
        await anext(one)
    assert alice.rooms == ()


async def test_messages_of_a_room_that_was_not_joined_are_refused(alice):
    with pytest.raises(NotInRoom):
        alice.messages("elsewhere")


async def test_a_new_iterator_goes_on_where_the_last_one_stopped(alice, server):
    await server.say(*"abcd")
    assert await take(alice.messages(), 2) == ["a", "b"]
    assert await take(alice.messages(), 2) == ["c", "d"]


async def test_iterators_side_by_side_each_get_everything(alice, server):
    first, second = alice.messages(), alice.messages()
    await server.say(*"abc")
    assert await take(first, 3) == list("abc")
    assert await take(second, 3) == list("abc")


async def test_nobody_reading_costs_no_memory_and_loses_nothing(server, client_of):
    server.most = 200
    client = await client_of(server.url, buffer=10).connect()
    await client.join("general")
    for number in range(100):
        await server.say(str(number))
    await client.who("general")  # everything before it has arrived
    assert server.payloads("history") == []
    assert await take(client.messages(), 100) == [str(number) for number in range(100)]
    assert {data["limit"] for data in server.payloads("history")} <= set(range(1, 11))


async def test_a_reader_left_behind_by_a_quicker_one_still_gets_everything(server, client_of):
    server.most = 200
    client = await client_of(server.url, buffer=10).connect()
    await client.join("general")
    slow, quick = client.messages(), client.messages()
    expected = [str(number) for number in range(100)]
    for text in expected:
        await server.say(text)
        assert await take(quick, 1) == [text]
    assert await take(slow, 100) == expected
    await server.say("more")
    assert await take(slow, 1) == await take(quick, 1) == ["more"]


async def test_a_reader_left_behind_in_another_epoch_is_told_what_it_lost(server, client_of):
    server.most = 200
    client = await client_of(server.url, buffer=5).connect()
    await client.join("general")
    slow, quick = client.messages(), client.messages()
    await server.say("a")
    assert await take(slow, 1) == ["a"]
    for text in "abcdefgh":
        await server.say(text)
    await take(quick, 9)
    await server.cut_and_keep_out()
    server.begin_anew(*"stuvwxyz")
    server.door.set()
    assert await take(quick, 9) == [HistoryLost("general", 9, 1, None, "e1'"), *"stuvwxyz"]
    hole, *rest = await take(slow, 6)
    assert (hole.after, hole.missing, hole.epoch) == (1, None, "e1'")
    assert rest == list("vwxyz")


async def test_messages_of_several_rooms_come_in_the_order_of_their_arrival(server, client_of):
    client = await client_of(server.url).connect()
    await client.join("general")
    await client.join("other")
    stream = client.messages()
    await server.say("a")
    other = dict(server.log[-1], room="other", text="b", id="o1")
    await server.tell("new-message", other)
    await server.say("c")
    assert await take(stream, 3) == ["a", "b", "c"]


async def test_what_is_not_a_message_does_not_end_the_stream(alice, server, caplog):
    stream = alice.messages()
    await server.tell("new-message", {"seq": "one"})
    await server.tell("new-message", None)
    await server.tell("typing", {"room": 3})
    await server.tell("an-event-of-the-future", {"x": 1})
    await server.say("a")
    assert await take(stream, 1) == ["a"]
    assert len(caplog.records) == 3
