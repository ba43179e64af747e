"""Junk from clients: every event gets a code of the contract, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatlab.errors import ChatError
from chatlab.protocol import CLIENT_EVENTS, decode
from chatlab.transport.packet import MalformedPacket, Packet
from tests.server.peer import Running, running

CODES = {
    "invalid_payload",
    "empty_message",
    "message_too_long",
    "invalid_room",
    "not_in_room",
    "forbidden",
    "rate_limited",
    "unknown_event",
    "invalid_token",
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=80),
    st.text(alphabet=st.characters(codec=None), max_size=20),
    st.sampled_from(["", " ", "general", "private-x", "\ud800", "x" * 5000, "\ufeff", "a\x00b"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = st.sampled_from(
    ["text", "room", "key", "after", "before", "epoch", "limit", "seq", "typing", "token", "extra"]
)
payloads = st.one_of(values, st.dictionaries(fields, values, max_size=5))
names = st.one_of(
    st.sampled_from([*CLIENT_EVENTS, "nonsense", "*", "message"]), st.text(max_size=9)
)


@given(names, st.lists(payloads, max_size=2))
def test_decoding_raises_nothing_but_codes_of_the_contract(name: str, args: list[Any]) -> None:
    try:
        decode(name, args)
    except ChatError as error:
        assert error.code in CODES
        json.dumps(error.to_ack()).encode()
        if error.field is not None:
            assert len(error.field) <= 64


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[0-6]([0-9]{0,3}-)?(/[a-z]*,)?[0-9]*.*")))
def test_parsing_a_packet_raises_nothing_but_malformed(text: str) -> None:
    try:
        packet = Packet.parse(text)
    except MalformedPacket:
        return
    assert packet.kind in range(7)


def spelled(value: Any) -> str:
    """JSON as a careless client writes it: NaN, Infinity and half surrogate pairs included."""
    return json.dumps(value, ensure_ascii=True)


async def play(run: Running, events: list[tuple[str, Any]]) -> None:
    async with run.raw() as raw:
        await raw.connect(run.token("mallory"))
        for number, (name, payload) in enumerate(events):
            await raw.send(f"42{number}" + spelled([name, payload]))
        for number in range(len(events)):
            answer = await raw.ack(number)
            assert answer["ok"] or answer["code"] in CODES | {"ok"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.tuples(st.sampled_from([*CLIENT_EVENTS, "nonsense"]), payloads), max_size=12)
)
def test_junk_over_a_socket_is_answered_logged_without_traceback_and_forgotten(
    events: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running() as run:  # checks at its end that no registry remembers anybody
            await play(run, events)
            bob = await run.connect("bob")
            assert (await bob.join())["ok"]

    caplog.clear()
    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert not [record for record in caplog.records if record.exc_info]


@settings(max_examples=40)
@given(frames=st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=30)), max_size=10))
def test_junk_frames_leave_nothing_behind_and_the_server_answering(
    frames: list[str | bytes],
) -> None:
    async def scenario() -> None:
        async with running() as run:
            async with run.raw() as raw:
                await raw.connect(run.token("mallory"))
                for frame in frames:
                    if raw.ws.closed:
                        break
                    try:
                        if isinstance(frame, str):
                            await raw.send(frame)
                        else:
                            await raw.ws.send_bytes(frame)
                    except (ConnectionError, UnicodeEncodeError):
                        break
            bob = await run.connect("bob")
            assert (await bob.join())["ok"]

    asyncio.run(scenario())
