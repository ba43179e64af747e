"""Joining, catching up, leaving, and what members are served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.peer import Peer, Running, running
from tests.waiting import until


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages]


async def test_a_join_is_answered_with_the_room_and_announced_to_the_others(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    first = await alice.call("join-room", "general")
    second = await bob.call("join-room", {"room": "general"})
    epoch = first.pop("epoch")
    assert first == {
        "ok": True,
        "room": "general",
        "seq": 0,
        "users": ["alice"],
        "count": 1,
        "messages": [],
        "more": False,
        "lost": False,
        "read": 0,
    }
    assert second["epoch"] == epoch
    assert sorted(second["users"]) == ["alice", "bob"]
    assert await alice.got("user-joined") == [{"user": "bob", "room": "general"}]
    assert bob.of("user-joined") == []


async def test_a_message_reaches_every_member_but_the_socket_that_sent_it(chat: Running) -> None:
    phone, laptop = await chat.connect("alice"), await chat.connect("alice")
    bob, outsider = await chat.connect("bob"), await chat.connect("carol")
    for peer in (phone, laptop, bob):
        await peer.join("general")
    await outsider.join("elsewhere")
    ack = await phone.say("  hello  ")
    (message,) = await bob.got("new-message")
    assert message == {
        "id": ack["id"],
        "seq": 1,
        "room": "general",
        "user": "alice",
        "text": "hello",
        "timestamp": ack["timestamp"],
    }
    assert await laptop.got("new-message") == [message]
    assert ack["duplicate"] is False
    await outsider.call("who", {"room": "elsewhere"})
    assert phone.of("new-message") == outsider.of("new-message") == []


async def test_without_a_room_a_message_goes_to_the_room_joined_last(chat: Running) -> None:
    alice = await chat.connect("alice")
    assert (await alice.say("too early"))["code"] == "not_in_room"
    await alice.join("one")
    await alice.join("two")
    await alice.say("for two")
    await alice.say("for one", "one")
    assert texts((await alice.call("history", {"room": "two"}))["messages"]) == ["for two"]
    assert texts((await alice.call("history", {"room": "one"}))["messages"]) == ["for one"]
    await alice.call("leave-room", "two")
    assert (await alice.say("to nobody"))["code"] == "not_in_room"


async def test_the_same_key_is_the_same_message(chat: Running) -> None:
    phone, laptop, bob = [await chat.connect(user) for user in ("alice", "alice", "bob")]
    for peer in (phone, laptop, bob):
        await peer.join()
    first = await phone.say("hello", key="k1")
    again = await laptop.say("hello", key="k1")
    assert again == {**first, "duplicate": True}
    other_text = await phone.say("bye", key="k1")
    assert (other_text["code"], other_text["field"]) == ("invalid_payload", "key")
    await phone.join("other")
    assert (await phone.say("hello", "other", key="k1"))["duplicate"] is False
    assert (await bob.say("hello", "general", key="k1"))["duplicate"] is False
    assert texts((await bob.call("history", {"room": "general"}))["messages"]) == ["hello"] * 2
    assert len(await bob.got("new-message")) == 1


async def test_joining_again_with_after_catches_up_and_announces_nothing(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    joined = await alice.join()
    await bob.join()
    for number in range(1, 6):
        await bob.say(f"{number}")
    again = await alice.join(after=2, epoch=joined["epoch"])
    assert texts(again["messages"]) == ["3", "4", "5"]
    assert (again["seq"], again["more"], again["lost"]) == (5, False, False)
    newest = await alice.join()
    assert texts(newest["messages"]) == ["1", "2", "3", "4", "5"]
    await bob.call("who", {"room": "general"})
    assert bob.of("user-joined") == []


async def test_a_catch_up_is_cut_at_200_messages_and_history_goes_on(chat: Running) -> None:
    alice, log = await chat.connect("alice"), chat.server.log
    for number in range(1, 251):
        await log.append("general", "bob", f"{number}", None, "test")
    joined = await alice.join(after=0)
    assert texts(joined["messages"]) == [f"{number}" for number in range(1, 201)]
    assert joined["more"]
    page = await alice.call("history", {"room": "general", "after": 200})
    assert texts(page["messages"]) == [f"{number}" for number in range(201, 251)]
    assert not page["more"]
    before = await alice.call("history", {"room": "general", "before": 11, "limit": 5})
    assert texts(before["messages"]) == ["6", "7", "8", "9", "10"]
    assert before["more"]
    assert len((await alice.join("general"))["messages"]) == 50


async def test_a_catch_up_is_cut_at_256_kilobytes(chat: Running) -> None:
    alice, log = await chat.connect("alice"), chat.server.log
    for _ in range(100):
        await log.append("general", "bob", "x" * 4000, None, "test")
    joined = await alice.join(after=0)
    assert sum(len(text) for text in texts(joined["messages"])) <= 256 * 1024
    assert joined["more"]


@pytest.mark.parametrize("more", [{"after": 9}, {"after": 1, "epoch": "another"}, {"epoch": "x"}])
async def test_history_that_does_not_connect_is_said_to_be_lost(
    chat: Running, more: dict[str, Any]
) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    await alice.say("one")
    await alice.say("two")
    joined = await alice.join(**more)
    assert joined["lost"]
    assert texts(joined["messages"]) == ["one", "two"]


async def test_history_that_was_dropped_is_said_to_be_lost() -> None:
    async with running(history=3) as run:
        alice = await run.connect("alice")
        await alice.join()
        for number in range(1, 10):
            await alice.say(f"{number}")
        joined = await alice.join(after=1)
        assert joined["lost"]
        assert not (await alice.join(after=8))["lost"]


async def test_what_arrives_while_a_join_is_read_waits_for_its_ack(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    await bob.join()
    await bob.say("before")
    log, real = chat.server.log, chat.server.log.snapshot
    read, gate = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        snapshot = await real(*args, **options)
        read.set()
        await gate.wait()
        return snapshot

    log.snapshot = slow  # type: ignore[method-assign]
    joining = asyncio.ensure_future(alice.join())
    await read.wait()
    await bob.say("meanwhile")
    assert alice.of("new-message") == []
    gate.set()
    joined = await joining
    assert texts(joined["messages"]) == ["before"]
    assert texts(await alice.got("new-message")) == ["meanwhile"]


async def test_under_load_a_join_neither_misses_nor_repeats(chat: Running) -> None:
    log = chat.server.log
    stop = asyncio.Event()

    async def write() -> int:
        count = 0
        while not stop.is_set():
            count += 1
            await log.append("general", "bob", f"{count}", None, "test")
            await asyncio.sleep(0)
        return count

    writer = asyncio.create_task(write())
    peers: list[tuple[Peer, dict[str, Any]]] = []
    for _ in range(10):
        peer = await chat.connect("alice")
        peers.append((peer, await peer.join()))
    stop.set()
    total = await writer
    for peer, joined in peers:
        await until(lambda p=peer: p.of("new-message") and p.of("new-message")[-1]["seq"] == total)
        seqs = [message["seq"] for message in joined["messages"] + peer.of("new-message")]
        assert seqs == list(range(seqs[0], total + 1))


async def test_a_user_joins_and_leaves_once_however_many_sockets(chat: Running) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    phone, laptop = await chat.connect("alice"), await chat.connect("alice")
    await phone.join()
    await laptop.join()
    assert (await bob.call("who", {"room": "general"}))["count"] == 2
    await phone.call("leave-room", {"room": "general"})
    await laptop.sio.disconnect()
    assert await bob.got("user-left") == [{"user": "alice", "room": "general"}]
    assert bob.of("user-joined") == [{"user": "alice", "room": "general"}]
    assert await bob.call("who", {"room": "general"}) == {"ok": True, "users": ["bob"], "count": 1}
    assert phone.of("user-joined") == laptop.of("user-left") == []


async def test_who_shows_two_hundred_and_counts_everybody(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    for number in range(300):
        await chat.server.storage.presence.enter("general", f"user-{number}")
    who = await alice.call("who", {"room": "general"})
    assert (len(who["users"]), who["count"]) == (200, 301)


async def test_typing_reaches_the_room_but_not_the_one_who_types(chat: Running) -> None:
    alice, bob = await chat.connect("alice"), await chat.connect("bob")
    await alice.join()
    await bob.join()
    assert await alice.call("typing", {"room": "general", "typing": True}) == {"ok": True}
    assert await bob.got("typing") == [{"room": "general", "user": "alice", "typing": True}]
    assert alice.of("typing") == []


async def test_private_rooms_open_to_the_tokens_that_name_them(chat: Running) -> None:
    club = await chat.connect("alice", rooms=["private-club", "private-team-*"])
    for room, allowed in [
        ("private-club", True),
        ("private-team-red", True),
        ("private-clubs", False),
        ("private-other", False),
        ("public", True),
    ]:
        assert (await club.join(room))["ok"] is allowed, room


async def test_an_application_may_replace_the_policy() -> None:
    from aiohttp import web

    from chatlab.server import ChatServer
    from chatlab.settings import Settings

    server = ChatServer(
        Settings(dev=True), may_join=lambda claims, room: room.startswith(claims.sub)
    )
    runner = web.AppRunner(server.app(), handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer = Peer(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        token = server.admission.tokens.issue("alice")
        await peer.sio.connect(peer.url, auth={"token": token}, transports=["websocket"])
        assert (await peer.join("alice-home"))["ok"]
        assert (await peer.join("general"))["code"] == "forbidden"
    finally:
        await peer.sio.disconnect()
        await runner.cleanup()


async def test_a_room_named_like_a_socket_taps_nobody(chat: Running) -> None:
    alice, mallory = await chat.connect("alice"), await chat.connect("mallory")
    transport, sid = chat.server.transport, alice.sio.get_sid()
    assert (await mallory.join(sid))["ok"]
    await mallory.join("user:alice")
    assert [member for member, _ in transport.manager.get_participants("/", sid)] == [sid]
    with pytest.raises(ValueError, match="room:"):
        await transport.emit("private", "for alice", room=sid)
    transport.push_event(sid, "private", "for alice")
    await alice.got("private")
    await mallory.call("who", {"room": "user:alice"})
    assert mallory.of("private") == []


async def test_a_socket_is_in_so_many_rooms_and_no_more() -> None:
    async with running(max_rooms_per_socket=2) as run:
        alice = await run.connect("alice")
        await alice.join("one")
        await alice.join("two")
        assert (await alice.join("three"))["code"] == "forbidden"
        assert (await alice.join("two"))["ok"]
        await alice.call("leave-room", "one")
        assert (await alice.join("three"))["ok"]


async def test_a_join_that_storage_cannot_answer_leaves_nothing_behind() -> None:
    async with running(storage_timeout=0.05) as run:
        alice, bob = await run.connect("alice"), await run.connect("bob")
        await bob.join()
        real = run.server.log.snapshot

        async def hang(*_args: Any, **_options: Any) -> Any:
            await asyncio.sleep(0.2)
            return await real(*_args, **_options)

        run.server.log.snapshot = hang  # type: ignore[method-assign]
        assert (await alice.join())["code"] == "unavailable"
        assert (await bob.call("who", {"room": "general"}))["users"] == ["bob"]
        assert (await alice.say("hi", "general"))["code"] == "not_in_room"
        run.server.log.snapshot = real  # type: ignore[method-assign]
        assert (await alice.join())["ok"]


async def test_what_was_sent_just_before_leaving_is_stored(chat: Running) -> None:
    async with chat.raw() as raw:
        await raw.connect(chat.token("alice"))
        await raw.send('420["join-room","general"]')
        await raw.send('421["send-message",{"text":"last words"}]')
        await raw.send("41")
    bob = await chat.connect("bob")
    joined = await bob.join()
    messages = joined["messages"] or await bob.got("new-message")
    assert texts(messages) == ["last words"]
