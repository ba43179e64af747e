"""Opening an Engine.IO session, and every request that opens none."""

from __future__ import annotations

import json

import pytest

from tests.protocol.peers import (
    ENGINE,
    SOCKET,
    Polling,
    Socket,
    ask,
    both_endpoints,
    every_way,
    session,
    target,
)
from tests.protocol.wire import Refused, WebSocket
from tests.protocol.world import World, strict

KEYS = {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}


@both_endpoints
async def test_polling_opens_a_session_and_announces_what_will_happen(
    world: World, path: str
) -> None:
    answer = await ask(world, "GET", target(path, "polling"))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("0")
    handshake = json.loads(answer.text[1:])
    assert set(handshake) == KEYS
    assert isinstance(handshake.pop("sid"), str)
    assert handshake == {
        "upgrades": ["websocket"],
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000,
    }


@both_endpoints
async def test_a_websocket_opens_a_session_that_has_nothing_to_upgrade_to(
    world: World, path: str
) -> None:
    peer = await Socket.open(world, path)
    handshake = dict(peer.handshake)
    assert set(handshake) == KEYS
    assert isinstance(handshake.pop("sid"), str)
    assert handshake == {
        "upgrades": [],
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000,
    }


async def test_no_two_sessions_share_an_id(calm: World) -> None:
    peers = [await session(calm, "websocket") for _ in range(50)]
    assert len({peer.sid for peer in peers}) == 50


UNKNOWN_TRANSPORT, BAD_METHOD, BAD_VERSION = 0, 2, 5


@both_endpoints
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("transport=polling", BAD_VERSION),
        ("EIO=abc&transport=polling", BAD_VERSION),
        ("EIO=3&transport=polling", BAD_VERSION),
        ("EIO=44&transport=polling", BAD_VERSION),
        ("EIO=4", UNKNOWN_TRANSPORT),
        ("EIO=4&transport=abc", UNKNOWN_TRANSPORT),
        ("EIO=4&transport=", UNKNOWN_TRANSPORT),
        ("", None),
    ],
)
async def test_a_query_that_the_protocol_does_not_know_opens_nothing(
    world: World, path: str, query: str, code: int | None
) -> None:
    answer = await ask(world, "GET", f"{path}?{query}")
    assert answer.status == 400
    if code is not None:
        assert answer.json()["code"] == code
    assert not world.sessions()


@both_endpoints
@pytest.mark.parametrize(
    "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
)
async def test_a_websocket_with_such_a_query_is_refused(
    world: World, path: str, query: str
) -> None:
    with pytest.raises(Refused) as refused:
        await WebSocket.open(world, f"{path}?{query}")
    assert refused.value.answer.status == 400
    assert not world.sessions()


@both_endpoints
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_only_get_opens_a_session(world: World, path: str, method: str) -> None:
    answer = await ask(world, method, target(path, "polling"), b"" if method == "POST" else None)
    assert answer.status == 400
    if method != "HEAD":
        assert answer.json() == {"code": BAD_METHOD, "message": "Bad handshake method"}
    assert not world.sessions()


@both_endpoints
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_a_session_is_served_by_get_and_post_only(
    calm: World, path: str, method: str
) -> None:
    peer = await Polling.open(calm, path)
    assert (await ask(calm, method, peer.url)).status == 400


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_an_unknown_session_id_is_refused_with_its_own_code(
    world: World, transport: str
) -> None:
    where = target(SOCKET, transport, "nobody")
    if transport == "polling":
        answers = [await ask(world, "GET", where), await ask(world, "POST", where, "4hello")]
    else:
        with pytest.raises(Refused) as refused:
            await WebSocket.open(world, where)
        answers = [refused.value.answer]
    for answer in answers:
        assert (answer.status, answer.json()["code"]) == (400, 1)


@pytest.mark.parametrize("sid", ["", "%00", "a" * 4000, "..%2f..", "sid&sid=other"])
async def test_a_strange_session_id_is_just_unknown(world: World, sid: str) -> None:
    assert (await ask(world, "GET", target(SOCKET, "polling") + f"&sid={sid}")).status == 400


async def test_an_endpoint_knows_only_its_own_sessions(calm: World) -> None:
    peer = await Polling.open(calm, ENGINE)
    assert (await ask(calm, "GET", target(SOCKET, "polling", peer.sid))).status == 400


async def test_polling_headers_do_not_pass_for_a_websocket(calm: World) -> None:
    assert (await ask(calm, "GET", target(SOCKET, "websocket"))).status == 400
    with pytest.raises(Refused) as refused:
        await WebSocket.open(calm, target(SOCKET, "polling"))
    assert refused.value.answer.status == 400


@pytest.mark.parametrize("way", ["polling", "websocket"])
async def test_a_transport_that_is_switched_off_is_unknown(way: str) -> None:
    other = {"polling": "websocket", "websocket": "polling"}[way]
    async with strict(transports=[other]) as world:
        if way == "polling":
            answer = await ask(world, "GET", target(SOCKET, "polling"))
        else:
            with pytest.raises(Refused) as refused:
                await WebSocket.open(world, target(SOCKET, "websocket"))
            answer = refused.value.answer
        assert (answer.status, answer.json()["code"]) == (400, UNKNOWN_TRANSPORT)
        peer = await (Socket if way == "polling" else Polling).open(world)
        assert peer.handshake["upgrades"] == []


async def test_a_browser_of_a_foreign_origin_is_refused_on_both_transports() -> None:
    async with strict(allow_origin=lambda _request, origin: origin == "http://a.example") as world:
        for headers in ({"Origin": "http://b.example"}, {"Origin": "null"}):
            answer = await ask(world, "GET", target(SOCKET, "polling"), **headers)
            assert (answer.status, answer.json()["code"]) == (403, 4)
            with pytest.raises(Refused) as refused:
                await WebSocket.open(world, target(SOCKET, "websocket"), headers.items())
            assert refused.value.answer.status == 403
        assert not world.sessions()
        answer = await ask(world, "GET", target(SOCKET, "polling"), Origin="http://a.example")
        assert answer.headers["access-control-allow-origin"] == "http://a.example"


async def test_a_preflight_request_opens_nothing_and_names_the_methods(world: World) -> None:
    answer = await ask(world, "OPTIONS", target(SOCKET, "polling"), Origin="http://a.example")
    assert answer.status == 204
    assert answer.headers["access-control-allow-methods"] == "GET,POST"
    assert not world.sessions()


@every_way
async def test_a_session_is_a_session_whichever_way_it_came(calm: World, way: str) -> None:
    peer = await session(calm, way, ENGINE)  # type: ignore[arg-type]
    await peer.send("4hello")
    assert await peer.packet() == "4hello"
