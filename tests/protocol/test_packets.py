"""Events and acks, and every packet that is neither: it closes the socket.

tests/server/test_closing.py tries such packets on the chat; here they are tried over polling and
after an upgrade as well, and what comes back is compared to the byte.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.protocol.peers import Gone, Way, connect, connected, every_way
from tests.protocol.world import Gate, World, strict
from tests.waiting import until


@every_way
@pytest.mark.parametrize("namespace", ["", "/custom,"])
async def test_an_events_arguments_come_back_as_they_were_sent(
    calm: World, way: Way, namespace: str
) -> None:
    peer = await connected(calm, way, namespace.rstrip(",") or "/")
    for args in (
        '1,"2",{"3":[true]}',
        "null,false,1.5,-3",
        '"Grüße \N{SNOWMAN} \N{GRINNING FACE}"',
        '"\\u0000\\\\\\"\\n"',
        '{"_placeholder":true,"num":0}',
        "[[],{}]",
    ):
        await peer.send(f'42{namespace}["message",{args}]')
        assert await peer.packet() == f'42{namespace}["message-back",{args}]'


async def test_an_event_without_arguments_has_none_in_its_answer(calm: World) -> None:
    peer = await connected(calm)
    await peer.send('42["message"]', '421["message-with-ack"]')
    assert await peer.packet() == '42["message-back"]'
    assert await peer.packet() == "431[]"


@every_way
@pytest.mark.parametrize("ack_id", ["0", "1", "456", "999999999999999"])
async def test_an_ack_carries_the_id_and_every_argument(calm: World, way: Way, ack_id: str) -> None:
    peer = await connected(calm, way)
    await peer.send(f'42{ack_id}["message-with-ack",1,"2",{{"3":[false]}}]')
    assert await peer.packet() == f'43{ack_id}[1,"2",{{"3":[false]}}]'


async def test_an_ack_of_a_namespace_names_it(calm: World) -> None:
    peer = await connected(calm, namespace="/custom")
    await peer.send('42/custom,7["message-with-ack","x"]')
    assert await peer.packet() == '43/custom,7["x"]'


async def test_an_event_without_an_id_is_not_acked(calm: World) -> None:
    peer = await connected(calm)
    await peer.send('42["message-with-ack",1]', '42["message",2]')
    assert await peer.packet() == '42["message-back",2]'


@every_way
async def test_a_hundred_events_are_answered_in_order(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await peer.send(*(f'42{number}["message-with-ack",{number}]' for number in range(100)))
    assert [await peer.packet() for _ in range(100)] == [f"43{n}[{n}]" for n in range(100)]


@every_way
async def test_an_event_is_not_handled_before_the_one_that_the_application_waits_for(
    way: Way,
) -> None:
    async with strict() as world:
        gate = Gate(world)
        peer = await connected(world, way)
        sending = asyncio.create_task(peer.send(*(f'42["message",{n}]' for n in range(1, 6))))
        await gate.reached.wait()
        other = await connected(world)
        await other.send('42["message","others go on"]')
        assert await other.packet() == '42["message-back","others go on"]'
        assert [args for _, args in world.suite.events] == [["others go on"]]
        gate.open()
        await sending
        assert [await peer.packet() for _ in range(5)] == [
            f'42["message-back",{n}]' for n in range(1, 6)
        ]


MALFORMED = [
    "",
    "abc",
    "4",
    "7",
    "9",
    "42",
    "2",
    "2{}",
    "2[]",
    "2[1]",
    "2[null]",
    "2[[]]",
    '2"word"',
    '2["unfinished"',
    '2["message"]x',
    '2abc["message-with-ack",1,"2",{"3":[false]}]',
    '2-1["message"]',
    '21.5["message"]',
    '2+1["message"]',
    '2 1["message"]',
    '21234567890123456["message"]',
    '2\N{FULLWIDTH DIGIT ONE}["message"]',
    '2["connect"]',
    '2["connect_error"]',
    '2["disconnect","client namespace disconnect"]',
    '2["disconnecting"]',
    '2["newListener"]',
    '2["removeListener"]',
    '2/custom,["message","not connected there"]',
    '2/unknown,["message"]',
    "2/custom",
    "3[]",
    "31",
    "31{}",
    "3abc[]",
    '1{"reason":1}',
    '4{"message":"no"}',
    "5[]",
    '5["message"]',
    '5-["message"]',
    '50-["message"]',
    '5x-["message"]',
    '51["message",{"_placeholder":true,"num":0}]',
    '21-["message",{"_placeholder":true,"num":0}]',
    '51-["message",{"_placeholder":true,"num":0}',
    "6",
    "61-[]",
    "0",
    "0{}",
    "0{",
    "40",
]


@pytest.mark.parametrize("packet", MALFORMED)
async def test_a_packet_that_the_protocol_does_not_know_closes_the_socket(
    calm: World, packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    for way in ("websocket", "polling", "upgrade"):
        peer = await connected(calm, way)
        with pytest.raises(Gone):
            await peer.send("4" + packet)
            await peer.packet()
        await until(lambda: not calm.sessions())
    assert calm.suite.events == []
    reasons = {reason for _, reason in calm.suite.closed}
    assert reasons == {"parse error"}
    assert len(calm.suite.closed) == 3
    assert not [record for record in caplog.records if record.exc_info]


async def test_deep_json_closes_the_socket_and_wide_json_is_read(calm: World) -> None:
    peer = await connected(calm)
    wide = "[" + ",".join("[]" for _ in range(10_000)) + "]"
    await peer.send(f'42["message",{wide}]')
    assert await peer.packet() == f'42["message-back",{wide}]'
    await peer.send('42["message",' + "[" * 50_000 + "]" * 50_000 + "]")
    with pytest.raises(Gone):
        await peer.packet()


async def test_a_binary_frame_that_no_packet_announced_closes_the_socket(calm: World) -> None:
    for way in ("websocket", "polling", "upgrade"):
        peer = await connected(calm, way)
        with pytest.raises(Gone):
            await peer.send(b"\x01\x02")
            await peer.packet()
    await until(lambda: len(calm.suite.closed) == 3)


async def test_what_comes_before_a_malformed_packet_is_handled_and_nothing_after_it(
    calm: World,
) -> None:
    for way in ("websocket", "polling"):
        calm.suite.events.clear()
        peer = await connected(calm, way)
        with pytest.raises(Gone):
            await peer.send('42["message","before"]', "42{}", '42["message","after"]')
            while True:
                await peer.packet()
        assert calm.suite.events == [("message", ["before"])]


async def test_a_crash_of_the_application_ends_that_socket_only(calm: World) -> None:
    def crash(_name: str, args: list[Any]) -> None:
        if args == ["crash"]:
            raise RuntimeError("a bug of the application")

    calm.suite.handling = crash
    other = await connected(calm)
    peer = await connected(calm)
    await peer.send('42["message","crash"]')
    with pytest.raises(Gone):
        await peer.packet()
    await until(lambda: len(calm.suite.closed) == 1)
    await other.send('42["message","fine"]')
    assert await other.packet() == '42["message-back","fine"]'


async def test_a_question_to_a_client_is_refused_since_its_answer_may_never_come(
    calm: World,
) -> None:
    await connected(calm)
    with pytest.raises(ValueError, match="cannot ask for an ack"):
        await calm.transport.emit(
            "question", 1, to=calm.suite.opened[0], callback=lambda *args: None
        )


@every_way
async def test_an_ack_that_nobody_waits_for_changes_nothing(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await peer.send("4399[1]", "4399[1]", '42["message","fine"]')
    assert await peer.packet() == '42["message-back","fine"]'


async def test_two_namespaces_have_acks_of_their_own(calm: World) -> None:
    peer = await connected(calm)
    await connect(peer, "/custom")
    await peer.send('421["message-with-ack","main"]', '42/custom,1["message-with-ack","custom"]')
    assert await peer.packet() == '431["main"]'
    assert await peer.packet() == '43/custom,1["custom"]'
