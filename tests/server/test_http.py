"""HTTP around the sockets: health, metrics, origins, proxies, and polling done right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.server.peer import Running, running
from tests.waiting import PATIENCE_S, until


async def open_polling(run: Running, **headers: str) -> tuple[str, dict[str, Any]]:
    url = run.url + "/socket.io/?EIO=4&transport=polling"
    async with run.http.get(url, headers=headers) as answer:
        body = await answer.text()
        assert answer.status == 200, body
    handshake = json.loads(body[1:])
    return f"{url}&sid={handshake['sid']}", handshake


async def post(run: Running, url: str, body: Any) -> int:
    async with run.http.post(url, data=body) as answer:
        return answer.status


async def poll(run: Running, url: str) -> list[str]:
    async with run.http.get(url) as answer:
        assert answer.status == 200
        return (await answer.text()).split("\x1e")


async def test_healthz_says_what_the_server_is(chat: Running) -> None:
    async with chat.http.get(chat.url + "/healthz") as answer:
        assert answer.status == 200
        body = await answer.json()
    assert body == {"ok": True, "storage": "memory", "server": body["server"]}


async def test_healthz_is_503_while_storage_is_away_and_while_draining(chat: Running) -> None:
    chat.server.log.healthy = False
    async with chat.http.get(chat.url + "/healthz") as answer:
        assert answer.status == 503
    chat.server.log.healthy = True
    await chat.server.drain()
    async with chat.http.get(chat.url + "/healthz") as answer:
        assert answer.status == 503


async def test_metrics_are_prometheus_text_and_take_no_names_from_clients(chat: Running) -> None:
    alice = await chat.connect("alice")
    await alice.join()
    await alice.call("made-up-name-1", {})
    await chat.attempt({"token": "nonsense"})
    async with chat.http.get(chat.url + "/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert 'chatlab_events_total{code="ok",event="join-room"} 1.0' in text
    assert 'chatlab_events_total{code="unknown_event",event="unknown"} 1.0' in text
    assert 'chatlab_refusals_total{code="invalid_token"} 1.0' in text
    assert "chatlab_sockets 1.0" in text
    assert "made-up" not in text


async def test_metrics_are_for_this_machine_unless_public() -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    async with running(trusted_proxy=("127.0.0.1",)) as run:
        async with run.http.get(run.url + "/metrics", headers=forwarded) as answer:
            assert answer.status == 403
        async with run.http.get(run.url + "/metrics") as answer:
            assert answer.status == 200
    async with running() as run:  # a proxy that nobody told us of
        async with run.http.get(run.url + "/metrics", headers=forwarded) as answer:
            assert answer.status == 403
    async with running(metrics_public=True, trusted_proxy=("127.0.0.1",)) as run:
        async with run.http.get(run.url + "/metrics", headers=forwarded) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("settings", "headers", "allowed"),
    [
        ({}, {"Origin": "https://elsewhere.example"}, False),
        ({}, {"Origin": "null"}, False),
        ({}, {"Origin": "http://HOST"}, True),
        ({}, {"Origin": "https://HOST"}, False),
        ({}, {}, True),
        (
            {},
            {"Origin": "https://a.example", "X-Forwarded-Host": "a.example",
             "X-Forwarded-Proto": "https"},
            False,
        ),
        (
            {"trusted_proxy": ("127.0.0.0/8",)},
            {"Origin": "https://a.example", "X-Forwarded-Host": "a.example",
             "X-Forwarded-Proto": "https"},
            True,
        ),
        ({"origins": ("https://a.example",)}, {"Origin": "https://a.example"}, True),
        ({"origins": ("https://a.example",)}, {"Origin": "https://b.example"}, False),
        ({"origins": ("*",)}, {"Origin": "https://b.example"}, True),
    ],
)  # fmt: skip
async def test_browsers_of_other_origins_stay_outside(
    settings: dict[str, Any], headers: dict[str, str], allowed: bool
) -> None:
    async with running(**settings) as run:
        host = run.url.removeprefix("http://")
        sent = {name: value.replace("HOST", host) for name, value in headers.items()}
        url = run.url + "/socket.io/?EIO=4&transport=polling"
        async with run.http.get(url, headers=sent) as answer:
            assert (answer.status == 200) is allowed
            if allowed and "Origin" in sent:
                assert answer.headers["Access-Control-Allow-Origin"] == sent["Origin"]


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.1",), "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (("127.0.0.1", "10.0.0.0/8"), "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (("127.0.0.1",), "not an address", "127.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_says_where_a_client_comes_from(
    trusted: tuple[str, ...], forwarded: str, expected: str
) -> None:
    async with running(trusted_proxy=trusted) as run:
        async with run.raw(**{"X-Forwarded-For": forwarded}) as raw:
            await raw.connect(run.token("alice"))
            (session,) = run.server.sessions
            assert session.address == expected


async def test_the_handshake_announces_what_the_server_does() -> None:
    async with running(ping_interval=0.3, ping_timeout=0.25) as run:
        url, handshake = await open_polling(run)
        assert handshake["pingInterval"] == 300
        assert handshake["pingTimeout"] == 250
        assert handshake["maxPayload"] == 65_536
        assert handshake["upgrades"] == ["websocket"]
        assert await post(run, url, "1") == 200


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("EIO=4", 0),
        ("EIO=4&transport=carrier-pigeon", 0),
        ("EIO=3&transport=polling", 5),
        ("transport=polling", 5),
        ("EIO=4&transport=polling&sid=unknown", 1),
        ("EIO=4&transport=websocket", 3),
    ],
)
async def test_a_bad_request_is_refused_with_the_protocols_code(
    chat: Running, query: str, code: int
) -> None:
    async with chat.http.get(f"{chat.url}/socket.io/?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == code


async def test_websocket_only_refuses_polling() -> None:
    async with running(polling=False) as run:
        async with run.http.get(run.url + "/socket.io/?EIO=4&transport=polling") as answer:
            assert answer.status == 400
        await run.connect("alice")


async def test_forty_events_in_one_polling_body_are_forty_acks() -> None:
    async with running(rate_burst=100, user_burst=100) as run:
        url, _ = await open_polling(run)
        await post(run, url, "40" + json.dumps({"token": run.token("alice")}))
        assert (await poll(run, url))[0].startswith("40")
        events = ['420["join-room","general"]'] + [
            f'42{number}["send-message",{{"text":"{number}"}}]' for number in range(1, 41)
        ]
        assert await post(run, url, "\x1e".join("4" + event[1:] for event in events)) == 200
        acks: list[str] = []
        while len(acks) < 41:
            acks += [packet for packet in await poll(run, url) if packet.startswith("43")]
        assert [int(ack[2 : ack.index("[")]) for ack in acks] == list(range(41))
        assert all('"ok":true' in ack for ack in acks)
        await post(run, url, "1")


async def test_a_body_that_arrives_in_pieces_is_read_whole(chat: Running) -> None:
    url, _ = await open_polling(chat)
    await post(chat, url, "40" + json.dumps({"token": chat.token("alice")}))
    await poll(chat, url)

    async def pieces() -> AsyncIterator[bytes]:
        text = ('420["join-room","general"]\x1e421["send-message",{"text":"é' + "x" * 3000).encode()
        for start in range(0, len(text), 700):
            yield text[start : start + 700]
            await asyncio.sleep(0.001)
        yield b'"}]'

    assert await post(chat, url, pieces()) == 200
    acks = [packet for packet in await poll(chat, url) if packet.startswith("43")]
    while len(acks) < 2:
        acks += [packet for packet in await poll(chat, url) if packet.startswith("43")]
    assert all('"ok":true' in ack for ack in acks)
    await post(chat, url, "1")


@pytest.mark.parametrize("body", ["zzz", "42", "4[", "", "b!", b"\xff\xfe"])
async def test_a_malformed_polling_body_ends_the_session(chat: Running, body: Any) -> None:
    url, _ = await open_polling(chat)
    assert await post(chat, url, body) == 400
    async with chat.http.get(url) as answer:
        assert answer.status == 400


async def test_a_second_poll_at_a_time_ends_the_session(chat: Running) -> None:
    url, _ = await open_polling(chat)
    first = asyncio.create_task(poll(chat, url))
    (session,) = chat.server.transport.eio.sockets.values()
    await until(lambda: session.polling)
    async with chat.http.get(url) as answer:
        assert answer.status == 400
    assert await first == ["1"]


async def test_a_waiting_poll_is_answered_when_the_session_is_closed(chat: Running) -> None:
    alice = await chat.connect("alice", transports=["polling"])
    (session,) = chat.server.sessions
    await chat.server.transport.close_transport(session.sid, "test")
    await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)


async def test_an_upgrade_loses_nothing_that_is_sent_meanwhile(chat: Running) -> None:
    bob = await chat.connect("bob")
    await bob.join()
    url, _ = await open_polling(chat)
    await post(chat, url, "40" + json.dumps({"token": chat.token("alice")}))
    await poll(chat, url)
    await post(chat, url, '420["join-room","general"]')
    received = await poll(chat, url)
    await bob.say("while polling")
    ws_url = url.replace("transport=polling", "transport=websocket")
    async with chat.http.ws_connect(ws_url) as ws:
        received += [packet for packet in await poll(chat, url) if packet != "6"]
        waiting = asyncio.create_task(poll(chat, url))
        await ws.send_str("2probe")
        assert (await ws.receive_str()) == "3probe"
        assert await waiting == ["6"]
        await bob.say("in between")
        await ws.send_str("5")
        await bob.say("afterwards")
        while not any("afterwards" in packet for packet in received):
            received.append(await ws.receive_str(timeout=5))
        async with chat.http.get(url) as answer:
            assert answer.status == 400
    said = [packet for packet in received if "new-message" in packet]
    for number, text in enumerate(("while polling", "in between", "afterwards")):
        assert text in said[number]
    assert len(said) == 3


async def test_an_upgrade_that_fails_leaves_the_session_polling(chat: Running) -> None:
    url, _ = await open_polling(chat)
    ws_url = url.replace("transport=polling", "transport=websocket")
    for first, second in [("nonsense", None), ("2probe", "4nonsense")]:
        async with chat.http.ws_connect(ws_url) as ws:
            await ws.send_str(first)
            if second:
                assert (await ws.receive_str()) == "3probe"
                await ws.send_str(second)
            assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
    assert await post(chat, url, "40" + json.dumps({"token": chat.token("alice")})) == 200
    assert (await poll(chat, url))[0].startswith("40")
    assert await post(chat, url, "1") == 200


async def test_a_python_client_on_polling_survives_a_burst(chat: Running) -> None:
    bob = await chat.connect("bob", transports=["polling"])
    await bob.join()
    for number in range(100):
        await chat.server.log.append("general", "alice", f"{number}", None, "test")
    received = await bob.got("new-message", 100)
    assert [message["text"] for message in received] == [f"{number}" for number in range(100)]
