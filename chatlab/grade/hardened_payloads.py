"""Hardened: JSON as no careful client writes it, each piece answered or its socket closed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from chatlab.grade.hardened_peers import Gone
from chatlab.grade.hardened_trials import enter, hardened, joined, still_serves
from chatlab.grade.hardened_wire import Door
from chatlab.grade.judge import is_yes, must
from chatlab.grade.promise import ERRORS, Silent
from chatlab.grade.target import Target

_DEEP: Final = 20_000  # brackets: past the recursion of any parser that recurses

DEEP: Final = (
    ("lists in lists", "[" * _DEEP + "]" * _DEEP),
    ("objects in objects", '{"text":' * 4_000 + "1" + "}" * 4_000),
    ("lists in lists, never closed", "[" * _DEEP),
    ("lists in lists as a text", '{"text":' + "[" * _DEEP + "]" * _DEEP + "}"),
)

NUMBERS: Final = (
    ("a number of 5,000 digits", '{"text":"x","seq":' + "9" * 5_000 + "}"),
    ("a text that is a number of 5,000 digits", '{"text":' + "9" * 5_000 + "}"),
    ("a number that overflows", '{"text":1e999}'),
    ("NaN", '{"text":NaN}'),
    ("Infinity", '{"text":-Infinity}'),
    ("a number over 2**53", '{"text":"x","key":9007199254740993}'),
    ("zeros in front", '{"text":007}'),
)

TEXTS: Final = (
    ("half a surrogate pair", '{"text":"\\ud800"}'),
    ("half a surrogate pair as a key", '{"text":"x","key":"\\udfff"}'),
    ("half a surrogate pair as a field", '{"text":"x","\\ud800":1}'),
    ("a field twice", '{"text":"one","text":{}}'),
    ("NUL", '{"text":"a\\u0000b","room":"a\\u0000b"}'),
    ("__proto__", '{"text":"x","__proto__":{"room":"elsewhere"}}'),
    ("an unescaped control character", '{"text":"a\x01b"}'),
    ("an empty field", '{"":"x"}'),
)


async def answered_or_closed(target: Target, door: Door, pieces: Sequence[tuple[str, str]]) -> None:
    """Raise `Silent` unless each payload gets an ack or ends its socket, and others go on."""
    room = target.room()
    witness = await joined(target, door, room, 1)

    async def one(what: str, payload: str) -> None:
        peer = await joined(target, door, room, 0)
        await peer.send(f'42900["send-message",{payload}]')
        try:
            answer = await peer.ack(900)
        except Gone:
            return
        except TimeoutError:
            raise Silent(f"{what} should be answered or close the socket: neither came") from None
        must(
            isinstance(answer, dict) and "ok" in answer,
            f"{what} should be answered by an ack with `ok`, not by {str(answer)[:60]}",
        )
        peer.abort()

    for first in range(0, len(pieces), 3):
        await asyncio.gather(*(one(*each) for each in pieces[first : first + 3]))
    try:
        ack = await witness.call("join-room", room)
    except Gone:
        ack = None
    must(is_yes(ack), "what one member sends should not end the socket of another")
    await still_serves(target, door, 1, "payloads that no careful client sends")


@hardened(
    "deep-json",
    ERRORS,
    "JSON that is nested thousands deep is answered or closes its socket, and harms nobody.",
    needs=("send-acked",),
)
async def deep_json(target: Target, door: Door) -> None:
    await answered_or_closed(target, door, DEEP)


@hardened(
    "odd-numbers",
    ERRORS,
    "Numbers that are huge, overflow or are none are answered or close their socket.",
    needs=("send-acked",),
)
async def odd_numbers(target: Target, door: Door) -> None:
    await answered_or_closed(target, door, NUMBERS)


@hardened(
    "odd-texts",
    ERRORS,
    "Texts that are no Unicode, and fields that come twice, are answered or close their socket.",
    needs=("send-acked",),
)
async def odd_texts(target: Target, door: Door) -> None:
    await answered_or_closed(target, door, TEXTS)


@hardened(
    "odd-ack-ids",
    ERRORS,
    "An ack bears the number that was asked for, however great, or the socket is closed.",
    users=1,
    needs=("join-acked",),
)
async def odd_ack_ids(target: Target, door: Door) -> None:
    room = target.room()
    for number in ("0", "2147483648", "9007199254740991"):
        peer = await enter(target, door)
        await peer.send(f'42{number}["join-room","{room}"]')
        try:
            await peer.call("join-room", room)  # whose ack comes later
        except Gone:
            continue
        must(
            peer.answered(int(number)),
            f"an event with the ack number {number} should be answered with it or close its socket",
        )
        peer.abort()
