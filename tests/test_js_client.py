"""The official JavaScript client against a real server process, as the chat page uses it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatlab.server.auth import Tokens
from chatlab.settings import Settings
from tests.server.child import chatlab, child
from tests.server.peer import SECRET, running
from tests.waiting import until

JS = Path(__file__).parent / "js"
NODE = shutil.which("node")
HERE = NODE is not None and (JS / "node_modules" / "socket.io-client").is_dir()

pytestmark = pytest.mark.skipif(
    not HERE and not os.environ.get("CI"), reason="no Node or no `npm ci` in tests/js"
)

POLLING, WEBSOCKET, UPGRADE = ["polling"], ["websocket"], ["polling", "websocket"]
every_transport = pytest.mark.parametrize("transports", [POLLING, WEBSOCKET, UPGRADE], ids="+".join)


class Browser:
    """One official client in a Node process of its own."""

    def __init__(self) -> None:
        assert HERE, "Node or tests/js/node_modules is missing: run `npm ci` in tests/js"
        self.process = subprocess.Popen(
            [str(NODE), "client.mjs"],
            cwd=JS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def tell(self, do: str, **more: Any) -> int:
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "do": do, **more}) + "\n")
        self.process.stdin.flush()
        return number

    async def ask(self, do: str, **more: Any) -> Any:
        number = self.tell(do, **more)
        line = await self._line(lambda line: line.get("id") == number)
        return line["result"]

    async def emit(self, name: str, *args: Any, timeout: int | None = None) -> Any:
        return await self.ask("emit", name=name, args=args, timeout=timeout)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == event]

    async def got(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of this name."""
        await until(lambda: len(self.of(event)) >= count, timeout=15)
        return self.of(event)[count - 1]

    async def _line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        found: dict[str, Any] = await until(
            lambda: next((line for line in self.lines if wanted(line)), None), timeout=15
        )
        return found


@asynccontextmanager
async def browser(
    url: str, auth: Any, transports: list[str], **options: Any
) -> AsyncIterator[Browser]:
    client = Browser()
    try:
        client.tell("connect", url=url, auth=auth, transports=transports, options=options)
        yield client
    finally:
        await asyncio.to_thread(client.close)


def token(user: str, **more: Any) -> dict[str, str]:
    return {"token": Tokens(Settings(jwt_secret=SECRET)).issue(user, **more)}


@every_transport
async def test_the_lessons_client_joins_sends_and_hears_the_others(transports: list[str]) -> None:
    with child("--dev") as server:
        async with (
            browser(server.url, token("alice"), transports) as alice,
            browser(server.url, token("bob"), transports) as bob,
        ):
            await alice.got("connect")
            joined = await alice.emit("join-room", "general")
            assert joined["ok"]
            await bob.got("connect")
            assert (await bob.emit("join-room", "general"))["count"] == 2
            assert (await alice.got("user-joined"))["payload"]["user"] == "bob"
            ack = await alice.emit("send-message", {"text": "  Hello!  "})
            assert ack["ok"]
            assert isinstance(ack["id"], str)
            assert ack["timestamp"].endswith("Z")
            message = (await bob.got("new-message"))["payload"]
            assert message["id"] == ack["id"]
            assert (message["user"], message["text"], message["room"]) == (
                "alice",
                "Hello!",
                "general",
            )
            empty = await bob.emit("send-message", {"text": " "})
            assert (empty["ok"], empty["error"]) == (False, "Message cannot be empty")
            if transports == UPGRADE:
                assert (await alice.got("upgrade"))["transport"] == "websocket"
                again = await alice.emit("send-message", {"text": "after the upgrade"})
                assert again["seq"] == 2
            bob.tell("disconnect")
            assert (await alice.got("user-left"))["payload"]["user"] == "bob"
            assert alice.of("new-message") == []


@pytest.mark.parametrize(
    ("auth", "message", "code"),
    [
        ({}, "Authentication required", "authentication_required"),
        ({"token": "nonsense"}, "Invalid token", "invalid_token"),
        (token("alice", ttl=-10), "Invalid token", "token_expired"),
    ],
)
@every_transport
async def test_connect_error_says_why(
    auth: dict[str, str], message: str, code: str, transports: list[str]
) -> None:
    async with running(jwt_secret=SECRET) as run:
        async with browser(run.url, auth, transports) as client:
            error = await client.got("connect_error")
            assert error["message"] == message
            assert error["data"] == {"code": code, "retry": False}
            assert client.of("connect") == []


async def test_an_ack_that_does_not_come_is_an_error_after_the_timeout() -> None:
    with child("--dev") as server:
        async with browser(server.url, token("alice"), WEBSOCKET) as alice:
            await alice.got("connect")
            await alice.emit("join-room", "general")
            server.send(signal.SIGSTOP)
            late = await alice.emit("send-message", {"text": "Hello?"}, timeout=200)
            assert late == {"error": "operation has timed out", "response": None}
            server.send(signal.SIGCONT)
            good = await alice.emit("send-message", {"text": "Hello!"}, timeout=5000)
            assert good["error"] is None
            assert good["response"]["ok"]


@every_transport
async def test_clients_return_by_themselves_after_the_server_was_stopped(
    transports: list[str],
) -> None:
    with child("--dev") as server:
        port = server.url.rsplit(":", 1)[1]
        async with browser(server.url, token("alice"), transports) as alice:
            await alice.got("connect")
            if transports == UPGRADE:
                await alice.got("upgrade")
            await alice.emit("join-room", "general")
            server.send(signal.SIGTERM)
            assert (await alice.got("disconnect"))["reason"] in (
                "transport close",
                "transport error",
            )
            await alice.got("closing")
            assert await asyncio.to_thread(server.end) == 0
            with child("--dev", "--port", port):
                await alice.got("connect", 2)
                assert (await alice.emit("join-room", "general"))["ok"]


async def test_after_a_ban_the_client_stays_away(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/chat.db"
    with child("--dev", "--storage", storage) as server:
        async with browser(server.url, token("alice"), WEBSOCKET) as alice:
            await alice.got("connect")
            done = await asyncio.to_thread(chatlab, "user", "ban", "alice", "--storage", storage)
            assert done.returncode == 0, done.stderr
            await alice.got("banned")
            assert (await alice.got("disconnect"))["reason"] == "io server disconnect"


async def test_after_its_token_ended_the_client_returns_with_a_fresh_one() -> None:
    with child("--dev") as server:
        auth = [token("alice", ttl=1.5), token("alice")]
        async with browser(server.url, auth, WEBSOCKET) as alice:
            await alice.got("connect")
            await alice.got("token-expiring")
            await alice.got("token-expired")
            assert (await alice.got("disconnect"))["reason"] == "transport close"
            await alice.got("connect", 2)


async def test_forty_emits_in_one_turn_on_polling_are_forty_acks() -> None:
    with child("--dev", "--no-limits") as server:
        async with browser(server.url, token("alice"), POLLING) as alice:
            await alice.got("connect")
            await alice.emit("join-room", "general")
            acks = await alice.ask("burst", name="send-message", list=[
                [{"text": f"{number} " + "x" * 3000}] for number in range(40)
            ])  # fmt: skip
            assert [ack["seq"] for ack in acks] == list(range(1, 41))


async def test_an_event_without_a_callback_that_fails_is_told_by_an_error_event() -> None:
    async with running(jwt_secret=SECRET) as run:
        async with browser(run.url, token("alice"), WEBSOCKET) as alice:
            await alice.got("connect")
            alice.tell("fire", name="send-message", args=[{"text": "Hello!"}])
            assert (await alice.got("error"))["payload"] == {
                "message": "Join the room first",
                "code": "not_in_room",
            }
