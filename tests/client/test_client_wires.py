"""The client against the real server, through wires and restarts that break for real."""

import asyncio
import itertools

from chatlab.catchup import HistoryLost
from tests.client.helpers import take, token_for
from tests.client.running import serving, stored
from tests.waiting import until


async def test_everybody_gets_every_message_once_in_one_order(real, client_of):
    names = ("alice", "bob", "carol")
    clients = [await client_of(real.url, token_for(name)).connect() for name in names]
    for client in clients:
        await client.join("general")
    streams = [client.messages("general") for client in clients]
    await asyncio.gather(
        *(
            client.send(f"{name} {number}")
            for name, client in zip(names, clients, strict=True)
            for number in range(20)
        )
    )
    received = [await take(stream, 60) for stream in streams]
    assert received[0] == received[1] == received[2] == await stored(real)
    assert len(set(received[0])) == 60


async def test_an_ack_lost_on_the_wire_costs_a_retry_and_no_second_message(
    real, client_of, wire_to
):
    wire = wire_to(real, drop="ack", at=2)  # the first one is the join's
    alice = await client_of(wire, timeout=1.0).connect()
    await alice.join("general")
    sent = await alice.send("hello")
    assert (sent.duplicate, sent.seq) == (True, 1)
    assert await stored(real) == ["hello"]
    assert await take(alice.messages(), 1) == ["hello"]


async def test_a_message_lost_on_the_wire_is_sent_again(real, client_of, wire_to):
    wire = wire_to(real, drop="send-message", at=1)
    alice = await client_of(wire, timeout=1.0).connect()
    await alice.join("general")
    assert not (await alice.send("hello")).duplicate
    assert await stored(real) == ["hello"]


async def test_a_delivery_lost_on_the_wire_is_fetched(real, client_of, wire_to):
    wire = wire_to(real, drop="new-message", at=[2, 3])
    alice = await client_of(real.url).connect()
    bob = await client_of(wire, token_for("bob")).connect()
    await alice.join("general")
    await bob.join("general")
    for text in "abcd":
        await alice.send(text)
    assert await take(bob.messages(), 4) == list("abcd")


async def test_a_wire_that_goes_silent_is_left_for_a_new_one(real, client_of, wire_to):
    wire = wire_to(real)
    alice = await client_of(wire, timeout=3.0, retries=50).connect()
    await alice.join("general")
    wire.mute()
    sending = asyncio.create_task(alice.send("hello", timeout=0.5))
    await wire.wait_for("drop")
    await until(lambda: not alice.connected)
    wire.heal()
    await sending
    assert await stored(real) == ["hello"]
    assert await take(alice.messages(), 1) == ["hello"]


async def test_a_late_answer_is_not_taken_for_the_next_one(real, client_of, wire_to):
    wire = wire_to(real)
    alice = await client_of(wire, retries=50).connect()
    await alice.join("general")
    wire.delay(0.25, "to_client")
    wire.delay(0.25, "to_server")
    sending = asyncio.create_task(alice.send("hello", timeout=0.4))
    await until(lambda: real.chat.log and len(wire.passed) >= 3)
    wire.heal()
    await sending
    await alice.send("world")
    assert await stored(real) == ["hello", "world"]
    assert await take(alice.messages(), 2) == ["hello", "world"]


async def test_cuts_in_the_middle_of_everything_lose_and_repeat_nothing(real, client_of, wire_to):
    wires = [wire_to(real), wire_to(real)]
    alice = await client_of(wires[0], timeout=1, retries=100).connect()
    bob = await client_of(wires[1], token_for("bob"), timeout=1, retries=100).connect()
    for client in (alice, bob):
        await client.join("general")
    streams = [alice.messages(), bob.messages()]

    async def send_all(client, name):
        for number in range(30):
            await client.send(f"{name} {number}")
            await asyncio.sleep(0.01)

    sending = asyncio.gather(send_all(alice, "alice"), send_all(bob, "bob"))
    for number in itertools.count():
        if sending.done():
            break
        wires[number % 2].cut(seconds=0)
        await asyncio.sleep(0.07)
    await sending
    log = await stored(real)
    assert sorted(log) == sorted(f"{name} {n}" for name in ("alice", "bob") for n in range(30))
    for stream in streams:
        assert await take(stream, 60) == log


async def test_a_restart_with_an_empty_memory_is_lost_history(client_of):
    async with serving(no_limits=True) as server:
        alice = await client_of(server.url).connect()
        await alice.join("general")
        stream = alice.messages()
        await alice.send("before")
        assert await take(stream, 1) == ["before"]
        await server.stop()
        await server.start()
        await alice.send("after")
        hole, after = await take(stream, 2)
        assert isinstance(hole, HistoryLost)
        assert (hole.after, hole.resumes, hole.missing, after) == (1, 1, None, "after")


async def test_what_was_missed_beyond_the_server_s_history_is_said(client_of, wire_to):
    async with serving(no_limits=True, history=20) as server:
        wire = wire_to(server)
        alice = await client_of(server.url).connect()
        bob = await client_of(wire, token_for("bob")).connect()
        await alice.join("general")
        await bob.join("general")
        stream = bob.messages()
        await alice.send("0")
        assert await take(stream, 1) == ["0"]
        wire.cut()
        for number in range(1, 101):
            await alice.send(str(number))
        wire.heal()
        hole, *rest = await take(stream, 2)
        kept = await stored(server)
        assert (hole.after, hole.missing) == (1, 100 - len(kept))
        assert rest + await take(stream, len(kept) - 1) == kept
