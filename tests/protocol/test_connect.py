"""CONNECT and DISCONNECT: who is let into which namespace, and what happens to the others.

tests/server/test_handshake.py holds the chat's refusals; here is what the transport does with any
application's.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chatlab.transport import Handshake
from tests.protocol.peers import (
    Gone,
    Way,
    connect,
    connected,
    every_way,
    session,
)
from tests.protocol.world import World, strict
from tests.waiting import until

every_namespace = pytest.mark.parametrize("namespace", ["/", "/custom"])


def prefix(namespace: str) -> str:
    return "" if namespace == "/" else namespace + ","


@every_way
@every_namespace
@pytest.mark.parametrize("auth", ["", "{}", '{"token":"123"}', '"word"', "[1]", "null"])
async def test_a_connect_is_answered_with_a_session_id_and_its_auth_is_handed_over(
    calm: World, way: Way, namespace: str, auth: str
) -> None:
    peer = await session(calm, way)
    await peer.send(f"40{prefix(namespace)}{auth}")
    answer = str(await peer.packet())
    assert answer.startswith(f"40{prefix(namespace)}{{")
    given = json.loads(answer.removeprefix(f"40{prefix(namespace)}"))
    assert set(given) == {"sid"}
    assert isinstance(given["sid"], str)
    assert given["sid"] != peer.sid  # which is a secret of this client's
    echoed = auth if auth not in ("", "null") else "{}"
    assert await peer.packet() == f'42{prefix(namespace)}["auth",{echoed}]'


@pytest.mark.parametrize("form", ["40/custom", "40/custom,", "40/custom?token=1,", "40/custom,{}"])
async def test_a_namespace_may_be_written_in_every_form_of_the_grammar(
    calm: World, form: str
) -> None:
    peer = await session(calm, "websocket")
    await peer.send(form)
    assert str(await peer.packet()).startswith("40/custom,{")


@every_way
@pytest.mark.parametrize("name", ["/random", "/custom2", "/Custom", "/custom/", "/\N{SNOWMAN}"])
async def test_an_unknown_namespace_is_invalid_and_the_socket_may_go_on(
    calm: World, way: Way, name: str
) -> None:
    peer = await session(calm, way)
    await peer.send(f"40{name}")
    assert await peer.packet() == f'44{name},{{"message":"Invalid namespace"}}'
    assert await connect(peer)


async def test_each_namespace_has_a_session_id_of_its_own(calm: World) -> None:
    peer = await session(calm, "websocket")
    first = await connect(peer)
    second = await connect(peer, "/custom", '{"token":"abc"}')
    assert first != second
    assert calm.suite.opened == [first, second]


@every_way
@every_namespace
async def test_a_second_connect_to_a_namespace_closes_the_socket(
    calm: World, way: Way, namespace: str
) -> None:
    peer = await connected(calm, way, namespace)
    with pytest.raises(Gone):
        await peer.send(f"40{prefix(namespace)}")
        await peer.packet()
    await until(lambda: len(calm.suite.closed) == 1)


@every_way
@pytest.mark.parametrize("packet", ["4abc", '42["message","too early"]', '43["ack"]', "41", "4"])
async def test_anything_but_a_connect_first_closes_the_socket(
    calm: World, way: Way, packet: str
) -> None:
    peer = await session(calm, way)
    with pytest.raises(Gone):
        await peer.send(packet)
        await peer.packet()
    await until(lambda: not calm.sessions())
    assert calm.suite.events == []


@every_way
async def test_a_socket_that_sends_no_connect_is_closed_though_it_answers_pings(way: Way) -> None:
    async with strict(connect_timeout=0.3, ping_interval=0.1) as world:
        peer = await session(world, way)
        with pytest.raises(Gone):
            await peer.packet()  # answers every ping
        await until(lambda: not world.sessions())


@every_way
async def test_leaving_the_last_namespace_starts_the_wait_for_a_connect_again(way: Way) -> None:
    async with strict(connect_timeout=1.5) as world:
        peer = await connected(world, way)
        await connect(peer, "/custom")
        await peer.send("41")
        await peer.send('42/custom,["message","here"]')
        assert await peer.packet() == '42/custom,["message-back","here"]'
        assert not world.transport.pending_connects  # one namespace is left: it may stay
        await peer.send("41/custom")
        with pytest.raises(Gone):
            await peer.packet()
        await until(lambda: not world.sessions())


@every_way
async def test_after_a_disconnect_the_socket_still_pings_and_may_connect_again(way: Way) -> None:
    async with strict(ping_interval=0.1, ping_timeout=5.0, connect_timeout=5.0) as world:
        peer = await connected(world, way)
        await peer.send("41")
        while (packet := await peer.bare()) != "2":
            assert packet != "41"
        await peer.send("3")
        await until(lambda: world.suite.closed == [(world.suite.opened[0], "client disconnect")])
        await connect(peer)
        assert len(world.suite.opened) == 2


@every_way
async def test_leaving_one_namespace_leaves_the_other_alone(calm: World, way: Way) -> None:
    peer = await connected(calm, way)
    await connect(peer, "/custom")
    await peer.send("41/custom,", '42["message","message to main namespace"]')
    assert await peer.packet() == '42["message-back","message to main namespace"]'
    assert calm.suite.closed == [(calm.suite.opened[1], "client disconnect")]


async def test_an_event_for_a_namespace_that_was_left_closes_the_socket(calm: World) -> None:
    peer = await connected(calm)
    await connect(peer, "/custom")
    await peer.send("41/custom", '42/custom,["message","hello?"]')
    assert await peer.ended() in (None, 1000)
    assert calm.suite.events == []


@every_way
async def test_the_end_of_a_socket_is_the_end_of_each_of_its_namespaces_once(way: Way) -> None:
    async with strict() as world:
        peer = await connected(world, way)
        await connect(peer, "/custom")
        await peer.send("1")
        await until(lambda: len(world.suite.closed) == 2)
        assert sorted(sid for sid, _ in world.suite.closed) == sorted(world.suite.opened)


class Door:
    """An `accept` that waits until the test says what to answer."""

    def __init__(self, world: World) -> None:
        self.asked: list[Handshake] = []
        self._answer: asyncio.Future[dict[str, Any] | None] = (
            asyncio.get_running_loop().create_future()
        )
        world.suite.connecting = self._accept

    async def _accept(self, handshake: Handshake) -> dict[str, Any] | None:
        self.asked.append(handshake)
        return await asyncio.shield(self._answer)

    def answer(self, refusal: dict[str, Any] | BaseException | None) -> None:
        if isinstance(refusal, BaseException):
            self._answer.set_exception(refusal)
        else:
            self._answer.set_result(refusal)


@every_way
async def test_a_refusal_is_told_in_the_applications_words_and_may_be_retried(way: Way) -> None:
    async with strict() as world:
        Door(world).answer({"message": "Not you", "data": {"code": "no"}})
        peer = await session(world, way)
        for _ in range(2):
            await peer.send("40")
            assert await peer.packet() == '44{"message":"Not you","data":{"code":"no"}}'
        assert world.suite.opened == []
        Door(world).answer(None)
        await connect(peer)


@every_way
async def test_before_it_is_accepted_a_socket_is_in_no_room_and_no_namespace(way: Way) -> None:
    async with strict() as world:
        door = Door(world)
        peer = await session(world, way)
        await peer.send("40") if way != "polling" else None
        sending = asyncio.create_task(peer.send("40")) if way == "polling" else None
        await until(lambda: door.asked)
        # Everybody of the namespace: nobody, so far.
        assert list(world.transport.manager.get_participants("/", None)) == []
        door.answer(None)
        if sending is not None:
            await sending
        assert str(await peer.packet()).startswith("40{")


async def test_what_is_sent_while_it_is_decided_on_waits(calm: World) -> None:
    async with strict() as world:
        door = Door(world)
        peer = await session(world, "websocket")
        await peer.send("40", '42["message",1]', '42["message",2]')
        await until(lambda: door.asked)
        assert world.suite.events == []
        door.answer(None)
        assert str(await peer.packet()).startswith("40{")
        rest = [await peer.packet() for _ in range(3)]
        assert sorted(map(str, rest)) == [
            '42["auth",{}]',
            '42["message-back",1]',
            '42["message-back",2]',
        ]


every_verdict = pytest.mark.parametrize("verdict", [None, {"message": "no"}])


@every_verdict
async def test_a_socket_that_leaves_while_it_is_decided_on_leaves_nothing(
    verdict: dict[str, Any] | None,
) -> None:
    async with strict() as world:
        door = Door(world)
        peer = await session(world, "websocket")
        await peer.send("40")
        await until(lambda: door.asked)
        await peer.close()
        door.answer(verdict)
        await until(lambda: not world.remembered())
        await until(lambda: len(world.suite.closed) == len(world.suite.opened))


@every_verdict
async def test_a_decision_that_takes_longer_than_the_wait_for_it_comes_too_late(
    verdict: dict[str, Any] | None,
) -> None:
    async with strict(connect_timeout=0.1) as world:
        door = Door(world)
        peer = await session(world, "websocket")
        await peer.send("40")
        with pytest.raises(Gone):
            await peer.packet()
        assert not world.sessions()
        door.answer(verdict)
        await until(lambda: not world.remembered())
        await until(lambda: len(world.suite.closed) == len(world.suite.opened))


@pytest.mark.parametrize("crash", [KeyError("token"), TypeError("list")])
@every_way
async def test_a_crash_while_it_decides_lets_nobody_in(crash: BaseException, way: Way) -> None:
    async with strict() as world:
        Door(world).answer(crash)
        peer = await session(world, way)
        with pytest.raises(Gone):
            await peer.send("40")
            while str(await peer.packet()).startswith("44"):
                raise Gone
        assert world.suite.opened == []
        assert list(world.transport.manager.get_participants("/", None)) == []


async def test_the_handshake_names_its_namespace_and_its_request(calm: World) -> None:
    async with strict() as world:
        door = Door(world)
        door.answer(None)
        peer = await session(world, "websocket")
        await connect(peer, "/custom", '{"token":"abc"}')
        (handshake,) = door.asked
        assert handshake.namespace == "/custom"
        assert handshake.auth == {"token": "abc"}
        assert handshake.request.remote == "127.0.0.1"
