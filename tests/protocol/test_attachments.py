"""Binary events and acks: the packet, its attachments, and every way in which they may not fit."""

from __future__ import annotations

import json

import pytest

from tests.protocol.peers import Gone, Way, connect, connected, every_way
from tests.protocol.world import World, strict
from tests.waiting import until

ONE, TWO = '{"_placeholder":true,"num":0}', '{"_placeholder":true,"num":1}'


@every_way
async def test_an_event_with_attachments_comes_back_with_them(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await peer.send(f'452-["message",{ONE},{TWO}]', b"\x01\x02\x03", b"\x04\x05\x06")
    assert await peer.packet() == f'452-["message-back",{ONE},{TWO}]'
    assert [await peer.packet(), await peer.packet()] == [b"\x01\x02\x03", b"\x04\x05\x06"]
    assert calm.suite.events == [("message", [b"\x01\x02\x03", b"\x04\x05\x06"])]


@every_way
async def test_an_ack_with_attachments_comes_with_them(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await peer.send(f'452-789["message-with-ack",{ONE},{TWO}]', b"\x01\x02\x03", b"\x04\x05\x06")
    assert await peer.packet() == f"462-789[{ONE},{TWO}]"
    assert [await peer.packet(), await peer.packet()] == [b"\x01\x02\x03", b"\x04\x05\x06"]


async def test_attachments_may_lie_deep_and_in_any_order(calm: World) -> None:
    peer = await connected(calm)
    await peer.send(f'452-["message",{{"a":[{TWO},{{"b":{ONE}}}]}},"text"]', b"first", b"second")
    answer = str(await peer.packet())
    assert answer.startswith("452-")
    assert calm.suite.events == [("message", [{"a": [b"second", {"b": b"first"}]}, "text"])]
    assert sorted([await peer.packet(), await peer.packet()], key=str) == [b"first", b"second"]
    assert json.loads(answer[4:])[0] == "message-back"


async def test_attachments_of_a_namespace_belong_to_it(calm: World) -> None:
    peer = await connected(calm)
    await connect(peer, "/custom")
    await peer.send(f'451-/custom,["message",{ONE}]', b"data")
    assert await peer.packet() == f'451-/custom,["message-back",{ONE}]'
    assert await peer.packet() == b"data"


@every_way
async def test_200_kilobytes_of_bytes_come_back(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    data = bytes(range(256)) * 800
    await peer.send(f'451-["message",{ONE}]', data)
    assert await peer.packet() == f'451-["message-back",{ONE}]'
    assert await peer.packet() == data


async def test_attachments_may_come_in_a_body_of_their_own(calm: World) -> None:
    peer = await connected(calm, "polling")
    await peer.send(f'452-["message",{ONE},{TWO}]')
    await peer.send(b"one")
    await peer.send(b"two")
    assert await peer.packet() == f'452-["message-back",{ONE},{TWO}]'


async def test_one_event_to_a_polling_and_a_websocket_client_reaches_each_in_its_form(
    calm: World,
) -> None:
    # The stock packet remembers how it was written first: base64, or not.
    peers = [await connected(calm, way) for way in ("polling", "websocket", "upgrade", "polling")]
    for sid in calm.suite.opened:
        await calm.transport.manager.enter_room(sid, "/", "everybody")
    await calm.transport.emit("picture", b"\x00\xff", to="everybody")
    for peer in peers:
        assert await peer.packet() == f'451-["picture",{ONE}]'
        assert await peer.packet() == b"\x00\xff"


@pytest.mark.parametrize(
    "packet",
    [
        '42["message","instead of the attachment"]',
        "41",
        "40",
        f'451-["message",{ONE}]',
    ],
)
@every_way
async def test_anything_else_where_an_attachment_belongs_closes_the_socket(
    calm: World, way: Way, packet: str
) -> None:
    peer = await connected(calm, way)
    with pytest.raises(Gone):
        await peer.send(f'452-["message",{ONE},{TWO}]', b"one", packet)
        await peer.packet()
    await until(lambda: len(calm.suite.closed) == 1)
    assert calm.suite.events == []


async def test_pings_are_answered_between_attachments() -> None:
    async with strict(ping_interval=0.05, ping_timeout=5.0) as world:
        peer = await connected(world)
        await peer.send(f'451-["message",{ONE}]')
        assert await peer.bare() == "2"
        await peer.send("3", b"data")
        assert await peer.packet() == f'451-["message-back",{ONE}]'


@pytest.mark.parametrize(
    "packet",
    [
        '451-["message",{"_placeholder":true,"num":1}]',
        '451-["message",{"_placeholder":true,"num":-1}]',
        '451-["message",{"_placeholder":true,"num":"0"}]',
        '451-["message",{"_placeholder":true,"num":0.5}]',
        '451-["message",{"_placeholder":true,"num":true}]',
        '451-["message",{"_placeholder":true,"num":null}]',
        '451-["message",{"_placeholder":true}]',
        '451-["message",{"_placeholder":true,"num":99999999999999999999}]',
    ],
)
async def test_a_placeholder_that_fits_no_attachment_closes_the_socket(
    calm: World, packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await connected(calm)
    await peer.send(packet, b"data")
    with pytest.raises(Gone):
        await peer.packet()
    assert calm.suite.events == []
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("placeholders", [f"{ONE}", f"{ONE},{ONE}", "", f"{ONE},{ONE},{TWO}"])
async def test_each_attachment_has_one_placeholder_or_the_socket_is_closed(
    calm: World, placeholders: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await connected(calm)
    arguments = "," + placeholders if placeholders else ""
    await peer.send(f'452-["message"{arguments}]', b"one", b"two")
    with pytest.raises(Gone):
        await peer.packet()
    assert calm.suite.events == []
    assert not [record for record in caplog.records if record.exc_info]


async def test_more_attachments_than_allowed_are_refused_before_they_come() -> None:
    async with strict(max_attachments=2) as world:
        peer = await connected(world)
        await peer.send(f'452-["message",{ONE},{TWO}]', b"one", b"two")
        assert await peer.packet() == f'452-["message-back",{ONE},{TWO}]'
        for count in (3, 10, 999, 999_999):
            peer = await connected(world)
            await peer.send(f'45{count}-["message",{ONE}]')
            with pytest.raises(Gone):
                while True:
                    await peer.packet()
        assert len(world.suite.events) == 1


async def test_without_binary_packets_every_one_closes_the_socket() -> None:
    async with strict(max_attachments=0) as world:
        for packet in (f'451-["message",{ONE}]', f"461-1[{ONE}]"):
            peer = await connected(world)
            await peer.send(packet)
            with pytest.raises(Gone):
                await peer.packet()


@every_way
async def test_a_client_that_leaves_between_attachments_leaves_nothing(
    calm: World, way: Way
) -> None:
    peer = await connected(calm, way)
    await peer.send(f'452-["message",{ONE},{TWO}]', b"one")
    await peer.close()
    await until(lambda: calm.suite.closed)
    assert calm.suite.events == []
    await until(lambda: not calm.remembered())


async def test_one_that_is_told_to_go_between_attachments_is_heard_no_more(
    calm: World, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await connected(calm)
    await connect(peer, "/custom")
    await peer.send(f'452-/custom,["message",{ONE},{TWO}]', b"one")
    await until(lambda: next(iter(calm.sessions().values())).peer.parts)
    await calm.transport.kick(calm.suite.opened[1], "banned")
    assert await peer.packet() == "41/custom,"
    await peer.send(b"two")
    with pytest.raises(Gone):
        await peer.packet()
    assert calm.suite.events == []
    assert not [record for record in caplog.records if record.exc_info]
