"""The level Contract, scaling: what several servers share, beside the rooms themselves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from chatlab.grade.client import Client
from chatlab.grade.contract_auth import must_be_banned
from chatlab.grade.judge import is_yes, must, must_say_yes
from chatlab.grade.promise import SCALING, Level, Silent, promise
from chatlab.grade.target import Target

_CONTRACT = Level.CONTRACT


@promise(
    "one-seq-across-servers",
    SCALING,
    _CONTRACT,
    "A room's `seq` is the same on every server, without gap, and so is each message.",
    users=4,
    servers=2,
    needs=("rooms-span-servers", "seq-counts"),
)
async def one_seq_across_servers(target: Target) -> None:
    room = target.room()
    talkers = [(await target.joined(room, n, server=n))[0] for n in (0, 1)]
    listeners = [(await target.joined(room, n + 2, server=n))[0] for n in (0, 1)]
    for turn in range(5):
        for person in talkers:
            await person.begin("send-message", {"text": f"{person.name} {turn}"}, hurry=True)
    for person in listeners:
        if await person.wait(lambda p=person: len(p.of("new-message")) >= 10 or None) is None:  # type: ignore[misc]
            raise Silent(f"{person.name} did not receive every message")
        seqs = [message["seq"] for message in person.of("new-message")]
        must(seqs == list(range(1, 11)), f"{person.name} received the numbers {seqs}")
    first, second = (person.of("new-message") for person in listeners)
    must(first == second, "a message is not the same on both servers")


@promise(
    "who-across-servers",
    SCALING,
    _CONTRACT,
    "`who` and a join's `users` name the members on every server.",
    servers=2,
    needs=("who-is-the-truth", "rooms-span-servers"),
)
async def who_across_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    bob = await target.enter(1, server=1)
    wanted = sorted([alice.user, bob.user])
    ack = await bob.join(room)
    must(sorted(ack.get("users", [])) == wanted, f"the join's ack names {ack.get('users')!r}")
    ack = must_say_yes(await alice.ask("who", {"room": room}), "`who`")
    must(sorted(ack["users"]) == wanted, f"`who` on the other server names {ack['users']!r}")


@promise(
    "announced-once-across-servers",
    SCALING,
    _CONTRACT,
    "A user with sockets on two servers joins and leaves once.",
    servers=2,
    needs=("announced-across-servers", "rejoin-silent"),
)
async def announced_once_across_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    bobs = [(await target.joined(room, 1, server=server))[0] for server in (0, 1)]
    await bobs[0].close()
    await bobs[1].say("marker")
    await alice.expect_text("marker")
    await target.quiet()
    must(len(alice.of("user-joined")) == 1, "the second server announced them again")
    must(not alice.of("user-left"), "who is still on the other server was said to have left")
    await bobs[1].close()
    await alice.expect("user-left")


@promise(
    "key-across-servers",
    SCALING,
    _CONTRACT,
    "A retry with the same `key` is the same message on another server, too.",
    users=1,
    servers=2,
    needs=("key-outlives-socket", "rooms-span-servers"),
)
async def key_across_servers(target: Target) -> None:
    room = target.room()
    payload = {"text": "once", "room": room, "key": "k"}
    acks = []
    for server in (0, 1):
        (alice,) = await target.joined(room, 0, server=server)
        acks.append(must_say_yes(await alice.ask("send-message", payload), "a message with a key"))
    must(acks[0]["id"] == acks[1]["id"], "the second server stored it again")
    must(acks[1].get("duplicate") is True, "the second server did not call it a duplicate")


@promise(
    "history-across-servers",
    SCALING,
    _CONTRACT,
    "What one server stored, every server has: joining elsewhere catches up.",
    servers=2,
    needs=("join-catches-up", "rooms-span-servers"),
)
async def history_across_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    for turn in range(3):
        await alice.say(f"message {turn}", room=room)
    epoch = (await alice.join(room))["epoch"]
    bob = await target.enter(1, server=1)
    payload = {"room": room, "after": 1, "epoch": epoch}
    ack = must_say_yes(await bob.ask("join-room", payload), "joining on the other server")
    got = [message["seq"] for message in ack["messages"]]
    must(got == [2, 3] and ack["lost"] is False, f"after 1 of 3 it has {got}, lost {ack['lost']}")


@promise(
    "receipts-across-servers",
    SCALING,
    _CONTRACT,
    "`receipts` and `typing` reach the members on every server.",
    servers=2,
    needs=("read-receipts", "typing-told", "rooms-span-servers"),
)
async def receipts_across_servers(target: Target) -> None:
    room = target.room()
    (alice,) = await target.joined(room, 0, server=0)
    (bob,) = await target.joined(room, 1, server=1)
    await alice.say("hello")
    await bob.expect_text("hello")
    await bob.ask("mark-read", {"room": room, "seq": 1})
    await bob.ask("typing", {"room": room, "typing": True})

    def of_bob(data: Any) -> bool:
        return bool(data["users"].get(bob.user) == {"delivered": 1, "read": 1})

    await alice.expect("receipts", of_bob)
    await alice.expect("typing", lambda data: data["user"] == bob.user)


@promise(
    "limit-across-servers",
    SCALING,
    _CONTRACT,
    "The user's limit is one over all servers: 40 at once, and at most a lease of 10 more for "
    "each.",
    users=1,
    servers=2,
    needs=("user-burst", "rooms-span-servers"),
    floods=True,
)
async def limit_across_servers(target: Target) -> None:
    room = target.room()
    sockets = [(await target.joined(room, 0, server=n % 2))[0] for n in range(6)]
    await asyncio.sleep(1.0)  # joining counts as well
    began = time.monotonic()
    floods = await asyncio.gather(*(_flood(each) for each in sockets))
    seconds = time.monotonic() - began
    taken, most = sum(floods), 40 + 20 * seconds + 2 * 10
    must(taken <= most, f"{taken} events were taken in {seconds:.2f} s, at most {most:.0f} may be")


@promise(
    "ban-across-servers",
    SCALING,
    _CONTRACT,
    "A ban closes every socket of the user on every server.",
    users=1,
    servers=2,
    needs=("ban-closes",),
    control=("ban", "unban"),
)
async def ban_across_servers(target: Target) -> None:
    await must_be_banned(target, [await target.enter(0, server=server) for server in (0, 1)])


async def _flood(client: Client) -> int:
    numbers = [
        await client.begin("send-message", {"text": f"flood {number}"}, hurry=True)
        for number in range(40)
    ]
    return sum([is_yes(await client.answer(number)) for number in numbers])
