"""The serving process: stopped politely, killed, restarted on its file, and told of bans."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.server.child import Child, chatlab, child
from tests.server.peer import Peer
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")


async def connected(server: Child, user: str, **options: object) -> Peer:
    peer = Peer(server.url)
    token = server.token(user)
    await peer.sio.connect(server.url, auth={"token": token}, transports=["websocket"], **options)
    return peer


@contextlib.asynccontextmanager
async def served(server: Child, user: str):  # type: ignore[no-untyped-def]
    peer = await connected(server, user)
    try:
        yield peer
    finally:
        await peer.sio.disconnect()


async def test_after_a_sigterm_under_load_every_acked_message_is_stored(tmp_path: Path) -> None:
    with child("--dev", "--storage", f"sqlite:///{tmp_path}/chat.db", "--no-limits") as server:
        async with served(server, "alice") as alice:
            await alice.join()
            sends = [
                asyncio.create_task(alice.call("send-message", {"text": f"{number}"}, timeout=2.0))
                for number in range(200)
            ]
            await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
            server.send(signal.SIGTERM)
            # What arrives when the transport is closed already has no answer; the client knows.
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
            assert await asyncio.to_thread(server.end) == 0
            assert alice.of("closing") == [None]
        answers = [outcome for outcome in outcomes if isinstance(outcome, dict)]
        assert {answer.get("code", "ok") for answer in answers} <= {"ok", "closing"}
    with child("--dev", "--storage", f"sqlite:///{tmp_path}/chat.db") as server:
        async with served(server, "alice") as alice:
            stored = (await alice.join(after=0))["messages"]
    acked = {answer["id"] for answer in answers if answer["ok"]}
    assert acked <= {message["id"] for message in stored}
    assert acked


async def test_sigterm_does_not_wait_for_a_database_that_somebody_else_has_locked(
    tmp_path: Path,
) -> None:
    with child("--dev", "--storage", f"sqlite:///{tmp_path}/chat.db") as server:
        async with served(server, "alice") as alice:
            await alice.join()
            lock = sqlite3.connect(f"{tmp_path}/chat.db", isolation_level=None)
            with contextlib.closing(lock):
                lock.execute("BEGIN IMMEDIATE")
                assert (await alice.say("hello"))["code"] == "unavailable"
                server.send(signal.SIGTERM)
                await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
                assert await asyncio.to_thread(server.end) == 0


async def test_clients_return_by_themselves_after_a_sigterm(tmp_path: Path) -> None:
    with child("--dev") as server:
        peer = Peer(server.url)
        peer.sio.reconnection = True
        peer.sio.reconnection_delay = 0.1
        peer.sio.reconnection_delay_max = 0.2
        token = {"token": server.token("alice")}
        port = server.url.rsplit(":", 1)[1]
        await peer.sio.connect(server.url, auth=token, transports=["websocket"])
        server.send(signal.SIGTERM)
        assert await asyncio.to_thread(server.end) == 0
    with child("--dev", "--port", port):
        await until(lambda: peer.sio.connected and peer.gone.is_set(), timeout=10)
        assert (await peer.join())["ok"]
        await peer.sio.disconnect()


async def test_an_acked_message_survives_sigkill_twenty_times(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/chat.db"
    acked: list[dict[str, object]] = []
    for round_ in range(20):
        with child("--dev", "--storage", storage) as server:
            async with served(server, "alice") as alice:
                joined = await alice.join(after=max(0, len(acked) - 5))
                found = {message["id"]: message["seq"] for message in joined["messages"]}
                for ack in acked[-5:]:
                    assert found[ack["id"]] == ack["seq"]
                assert joined["seq"] == len(acked)
                ack = await alice.say(f"round {round_}", key=f"key {round_}")
                server.send(signal.SIGKILL)
                assert ack["ok"], ack
                acked.append(ack)
                await asyncio.to_thread(server.end)
    with child("--dev", "--storage", storage) as server:
        async with served(server, "alice") as alice:
            await alice.join()
            again = await alice.say("round 0", "general", key="key 0")
            assert again == {**acked[0], "duplicate": True}


async def test_a_ban_from_another_process_acts_within_a_second(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/chat.db"
    with child("--dev", "--storage", storage) as server:
        async with served(server, "alice") as alice, served(server, "bob") as bob:
            done = await asyncio.to_thread(chatlab, "user", "ban", "alice", "--storage", storage)
            assert done.returncode == 0, done.stderr
            await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
            assert alice.of("banned") == [None]
            assert bob.sio.connected
        listed = await asyncio.to_thread(chatlab, "user", "list", "--storage", storage)
        assert listed.stdout == "alice\talice\tbanned\n"


async def test_a_token_made_beside_the_server_gets_in() -> None:
    with child("--dev") as server:
        made = await asyncio.to_thread(chatlab, "token", "alice", "--rooms", "private-a")
        peer = Peer(server.url)
        await peer.sio.connect(server.url, auth={"token": made.stdout.strip()})
        assert (await peer.join("private-a"))["ok"]
        await peer.sio.disconnect()


async def test_nothing_secret_is_logged_and_every_line_is_one_line() -> None:
    with child("--dev", "--log-level", "debug") as server:
        async with served(server, "al\nice") as alice:
            token = server.token("al\nice")
            await alice.join()
            await alice.emit("send-message", {"text": "a private message"})
            await alice.call("refresh-token", {"token": token})
            engine_sid = alice.sio.eio.sid
        for bad in ({"token": token[:-3]}, {"token": "x"}):
            peer = Peer(server.url)
            with contextlib.suppress(Exception):
                await peer.sio.connect(server.url, auth=bad, transports=["websocket"])
            await peer.sio.disconnect()
        server.send(signal.SIGTERM)
        await asyncio.to_thread(server.end)
    for secret in (token, token.split(".")[1], engine_sid, "a private message", "long enough"):
        assert secret not in server.errors
    lines = server.errors.splitlines()
    assert any("al\\nice connected" in line for line in lines)
    assert any("refused a connection from 127.0.0.1: invalid_token" in line for line in lines)
    assert all(line[:4] == "2026" or line[:2] == "20" for line in lines)


async def test_log_lines_may_be_json() -> None:
    import json

    with child("--dev", "--log-format", "json") as server:
        async with served(server, "alice"):
            pass
        server.send(signal.SIGTERM)
        await asyncio.to_thread(server.end)
    lines = [json.loads(line) for line in server.errors.splitlines()]
    assert {"info"} == {line["level"] for line in lines}
    assert any("alice connected" in line["message"] for line in lines)


async def test_draining_serves_on_while_healthz_says_503() -> None:
    import aiohttp

    with child("--dev", "--drain", "0.5") as server:
        async with served(server, "alice") as alice, aiohttp.ClientSession() as http:
            server.send(signal.SIGTERM)

            async def status() -> int:
                async with http.get(server.url + "/healthz") as answer:
                    return answer.status

            async with asyncio.timeout(PATIENCE_S):
                while await status() != 503:
                    pass
            assert (await alice.join())["ok"]
            await asyncio.wait_for(alice.gone.wait(), PATIENCE_S)
        assert await asyncio.to_thread(server.end) == 0
