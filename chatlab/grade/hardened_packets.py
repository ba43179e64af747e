"""Hardened: Socket.IO packets that the protocol does not allow, and what it does to a sender."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from chatlab.grade.hardened_peers import Gone
from chatlab.grade.hardened_trials import (
    closed,
    enter,
    gone_from,
    hardened,
    joined,
    must_close,
    still_serves,
)
from chatlab.grade.hardened_wire import Door
from chatlab.grade.judge import must
from chatlab.grade.promise import AUTHENTICATION, ERRORS, Broken
from chatlab.grade.target import Target

RESERVED: Final = (
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
)


async def each_must_close(target: Target, door: Door, packets: Sequence[str], what: str) -> None:
    """Raise `Broken` unless each of these packets ends the session that sends it."""

    async def one(packet: str) -> None:
        peer = await enter(target, door)
        await peer.send(packet)
        shown = packet if len(packet) < 60 else packet[:60] + "…"
        await must_close(peer, f"{what} ({shown})")
        peer.abort()

    for first in range(0, len(packets), 4):
        await asyncio.gather(*map(one, packets[first : first + 4]))


@hardened(
    "garbage-closes",
    ERRORS,
    "A packet that does not parse closes its socket.",
    users=1,
    needs=("join-acked",),
)
async def garbage_closes(target: Target, door: Door) -> None:
    packets = ["zzz", "9", "4", "4zzz", "42{}", "42[", '42["who"', '42"who"', "42[]", "43{}"]
    await each_must_close(target, door, packets, "a packet that does not parse")
    await still_serves(target, door, 0, "packets that do not parse")


@hardened(
    "event-name-is-text",
    ERRORS,
    "An event whose name is not a string closes its socket.",
    users=1,
)
async def event_name_is_text(target: Target, door: Door) -> None:
    packets = ["42", "42[{}]", "42[null]", "42[7]", '42[["who"]]', "42[true]"]
    await each_must_close(target, door, packets, "an event whose name is no string")


@hardened(
    "reserved-names-close",
    ERRORS,
    "An event that bears a name of the library's own closes its socket.",
    users=1,
)
async def reserved_names_close(target: Target, door: Door) -> None:
    packets = ["42" + json.dumps([name, "x"]) for name in RESERVED]
    await each_must_close(target, door, packets, "an event under a name of the library's own")


@hardened(
    "binary-closes",
    ERRORS,
    "A binary packet, which a chat has no use for, closes its socket.",
    users=1,
)
async def binary_closes(target: Target, door: Door) -> None:
    head = '451-82["send-message",{"_placeholder":true,"num":0}]'
    for packets, what in (
        ([head, b"data"], "an event with an attachment"),
        ([b"data"], "binary data that no packet has announced"),
    ):
        peer = await enter(target, door)
        await peer.send(*packets)
        await must_close(peer, what)


@hardened(
    "attachments-bounded",
    ERRORS,
    "An event that claims more attachments than anybody needs is not waited for.",
    users=1,
)
async def attachments_bounded(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    try:
        await peer.send('45999999-82["send-message",{"_placeholder":true,"num":0}]')
        await peer.send(*[b"x"] * 300)
    except Gone:
        return
    await must_close(peer, "an event that claims 999,999 attachments")


@hardened(
    "presence-ends-with-a-fault",
    ERRORS,
    "Who was closed for a broken packet is no longer in the room, at once.",
    needs=("join-acked",),
)
async def presence_ends_with_a_fault(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    faulty = await joined(target, door, room, 1)
    await faulty.send("4zzz")
    patience = target.timeout
    must(
        await gone_from(witness, room, target.users[1], patience=patience),
        f"whose packet does not parse should leave the room at once, not after {patience:g} s",
    )


@hardened(
    "left-is-left",
    AUTHENTICATION,
    "After a DISCONNECT of the client it hears nothing of its rooms and is in none.",
    needs=("delivered",),
)
async def left_is_left(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    leaver = await joined(target, door, room, 1)
    await leaver.send("41")
    must(
        await gone_from(witness, room, target.users[1], patience=target.timeout),
        "who has sent DISCONNECT should leave the room at once",
    )
    before = len(leaver.events)
    await witness.call("send-message", {"text": "behind your back"})
    # The answer to another CONNECT comes behind whatever was sent to it before.
    try:
        await leaver.ask_in({"token": await target.token(1)})
    except Gone:
        return
    must(
        "behind your back" not in leaver.texts(),
        f"who has left should hear nothing of the room, and heard {leaver.events[before:]}",
    )


@hardened(
    "one-identity",
    AUTHENTICATION,
    "A second CONNECT on a connected socket changes nobody's identity.",
    users=3,
    needs=("delivered",),
)
async def one_identity(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    peer = await joined(target, door, room, 1)
    try:
        answer = await peer.ask_in({"token": await target.token(2)})
    except (Gone, TimeoutError):
        return
    if answer.startswith("44"):
        return
    try:
        await peer.call("join-room", room)
        await peer.call("send-message", {"text": "who am I?"})
    except (Gone, TimeoutError):
        return
    event = await witness.hear(lambda event: event[0] == "new-message")
    if event[1].get("user") == target.users[2]:
        raise Broken("a second CONNECT with another token should not make a socket somebody else")
    raise Broken("a second CONNECT should close the socket or be refused, and was accepted")


@hardened(
    "unknown-namespace",
    ERRORS,
    "A namespace that does not exist is refused by CONNECT_ERROR, and the socket may go on.",
    users=1,
    needs=("join-acked",),
)
async def unknown_namespace(target: Target, door: Door) -> None:
    peer = await enter(target, door)
    answer = await peer.ask_in({}, namespace="/no-such-namespace,")
    must(
        answer.startswith("44/no-such-namespace,"),
        f"an unknown namespace should be refused by CONNECT_ERROR, not by {answer[:60]}",
    )
    told = json.loads(answer.partition(",")[2] or "null")
    must(
        isinstance(told, dict) and told.get("message") == "Invalid namespace",
        f"an unknown namespace should be refused as `Invalid namespace`, not as {told!r}",
    )
    await peer.call("join-room", target.room())


@hardened(
    "nobodys-mouth",
    AUTHENTICATION,
    "A client cannot speak as the server: its `new-message` or `banned` reaches nobody.",
    needs=("delivered",),
)
async def nobodys_mouth(target: Target, door: Door) -> None:
    room = target.room()
    witness = await joined(target, door, room, 0)
    forger = await joined(target, door, room, 1)
    user = target.users[0]
    forged = {"id": "0", "seq": 1, "room": room, "user": user, "text": "forged"}
    for name in ("new-message", "banned", "token-expired", "user-left"):
        await forger.emit(name, forged)
        await asyncio.sleep(0)
    ended, _ = await closed(forger, patience=0.2)
    if not ended:
        await forger.call("send-message", {"text": "mine"})
        await witness.hear(
            lambda event: event[0] == "new-message" and event[1].get("text") == "mine"
        )
    for event in witness.events:
        text = json.dumps(event)
        must("forged" not in text, f"what a client forged should reach nobody: {text[:80]}")
        must(event[0] not in ("banned", "token-expired"), f"{event[0]} should be the server's")
