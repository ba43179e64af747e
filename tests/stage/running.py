"""A stage that runs, as a program sees it: its state, its packets, its verdict, and its switches.

What the stage should do stands in the tests; a browser is not needed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from chatlab.client import ChatClient

STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 20.0
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Demo:
    """`chatlab demo` as a process; `lines` is what it printed."""

    process: subprocess.Popen[str]
    lines: list[str]

    @property
    def url(self) -> str:
        """Its page's address, with the key."""
        return re.findall(r"http://\S+#key=\S+", self.lines[0])[0]

    @property
    def home(self) -> str:
        """The address alone, without a slash at its end."""
        return self.url.partition("/#")[0]

    @property
    def key(self) -> str:
        return self.url.partition("#key=")[2]

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(ENDS_WITHIN_S)


@contextlib.contextmanager
def demo(*arguments: str) -> Iterator[Demo]:
    """Run it until the block ends. Raises `AssertionError` with what it said when it does not."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "chatlab", "demo", "--no-browser", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=complaints,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        alarm = threading.Timer(STARTS_WITHIN_S, process.kill)
        alarm.start()
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            alarm.cancel()
            alarm.join()
            if not lines or "#key=" not in lines[0]:
                process.wait()
                complaints.seek(0)
                raise AssertionError(f"the stage did not start: {lines}\n{complaints.read()}")
            yield Demo(process, lines)
        finally:
            alarm.cancel()
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        complaints.seek(0)
        said = complaints.read()
        assert "Traceback" not in said, said


class OnStage:
    """A stage page without a page: it has heard everything since it came."""

    def __init__(self, running: Demo, http: aiohttp.ClientSession) -> None:
        self.home, self.key = running.home, running.key
        self.http = http
        self.messages: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.verdict: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def enter(self) -> OnStage:
        self._socket = await self.http.ws_connect(f"{self.home}/stage/events")
        await self._socket.send_json({"key": self.key})
        self._reading = asyncio.create_task(self._read(self._socket))
        await self.until(lambda: self.state.get("ready") is True and bool(self.verdict))
        return self

    async def leave(self) -> None:
        if self._socket is not None and self._reading is not None:
            await self._socket.close()
            await self._reading

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            told = json.loads(message.data)
            self.messages.append(told)
            if told["type"] == "state":
                self.state = told
            elif told["type"] == "verdict":
                self.verdict = told
            self._changed.set()

    async def until(self, what: Callable[[], Any], timeout: float = PATIENCE_S) -> Any:
        """Wait until something is true of what was heard; what it was."""
        async with asyncio.timeout(timeout):
            while not (found := what()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def ask(self, do: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Press a switch: the status and what was answered."""
        async with self.http.post(
            f"{self.home}/stage/do",
            json={"do": do, **more},
            headers={"Authorization": f"Bearer {self.key}"},
        ) as answer:
            status, told = answer.status, await answer.json()
        # The events come by another connection: with this one, so has everything before it.
        await self.until(
            lambda: any(
                m["type"] in ("done", "failed") and m["id"] == told["id"] for m in self.messages
            )
        )
        return status, told

    async def do(self, do: str, **more: Any) -> str:
        """Press a switch that works; in words what it did."""
        status, answer = await self.ask(do, **more)
        assert status == 200, answer
        return str(answer["words"])

    async def refused(self, do: str, **more: Any) -> str:
        """Press a switch that does not; the sentence."""
        status, answer = await self.ask(do, **more)
        assert status == 409, answer
        return str(answer["error"])

    # -- what it is told ---------------------------------------------------------------------------

    def window(self, name: str) -> dict[str, Any]:
        return next(w for w in self.state["windows"] if w["id"] == f"window-{name}")

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.state["parts"] if part["id"] == name)

    def now(self) -> float:
        """The stage's clock, as of the last word from it."""
        return max(m["at"] for m in self.messages if isinstance(m.get("at"), float | int))

    def packets(self, what: str, **fields: Any) -> list[dict[str, Any]]:
        """The packets of that name which have these fields."""
        return [
            packet
            for message in self.messages
            if message["type"] == "packets"
            for packet in message["packets"]
            if packet["what"] == what and all(packet.get(k) == v for k, v in fields.items())
        ]

    def hops(self, text: str) -> set[tuple[str, str, str]]:
        """Where packets with this text have been seen."""
        return {
            (packet["what"], packet["from"], packet["to"])
            for message in self.messages
            if message["type"] == "packets"
            for packet in message["packets"]
            if packet.get("text") == text
        }

    def points(self) -> list[dict[str, Any]]:
        """The charts."""
        return [p for m in self.messages if m["type"] == "chart" for p in m["points"]]

    def notices(self) -> list[str]:
        return [m["text"] for m in self.messages if m["type"] == "notice"]

    def count(self, rule: str) -> int:
        """A number of the verdict."""
        return next(int(row["count"]) for row in self.verdict["rows"] if row["rule"] == rule)

    def as_new(self) -> bool:
        """Whether everything is as at the start."""
        processes = ("balancer", "server-1", "server-2", "valkey", "wire-a", "wire-b")
        return (
            self.state["ready"]
            and all(self.part(name)["mood"] == "good" for name in processes)
            and self.state["adapter"] == "chatlab"
            and self.state["limits"]
            and not self.state["flood"]["on"]
            and not self.state["crowd"]["on"]
            and not any(w["banned"] or w["token"] != "good" for w in self.state["windows"])
            and (self.state["door"] is None or self.state["door"]["open"])
            and self.verdict["counts"]["sent"] == 0
        )

    def sitting(self, name: str) -> ChatClient:
        """Somebody in a window: chatlab's own client in place of the page."""
        url = urlsplit(self.window(name)["url"])
        given = parse_qs(url.fragment)
        return ChatClient(
            f"{url.scheme}://{url.netloc}/?{url.query}",
            given["token"][0],
            name=self.window(name)["user"],
            timeout=2.0,
            retries=20,
        )
