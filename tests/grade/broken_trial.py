"""Grades servers that are broken on purpose: which verdicts turn, and whether any other does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from chatlab.grade.catalogue import catalogue
from chatlab.grade.control import Control
from chatlab.grade.evidence import Redactor, Trace
from chatlab.grade.promise import NotJudged, Promise
from chatlab.grade.result import Result, Verdict
from chatlab.grade.run import probe, run
from chatlab.grade.target import Place
from chatlab.grade.tokens import SecretTokens
from tests.grade.broken import SECRET, Mutation

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 3.0  # seconds for an answer; what fails for want of one is tried again with twice that
SAMPLE = 5  # promises of other concerns that are tried beside the named ones
SLOW = {
    "connect-timeout",
    "expiring-told",
    "expiry-closes",
    "pings-come",
    "refresh-prolongs",
    "silence-ends",
    "socket-burst",
    "unknown-user-refused",
    "code-unknown-user",
}


class Servers:
    """The process that forks broken servers (`broken.py`), and those it has forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.grade.broken"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._turn = threading.Lock()

    def order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            told = self._process.stdout.readline()
        if not told:
            raise RuntimeError(f"no servers are made any more (at {order})")
        answer: dict[str, Any] = json.loads(told)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the servers see that it is gone, and go too
            self._process.wait()
        self._process.stdout.close()


@dataclass
class Broken:
    """The servers of one mutation, while they are graded."""

    servers: Servers
    mutation: Mutation
    settings: dict[str, Any]
    pids: list[int] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        for number in range(self.mutation.servers):
            self.pids.append(0)
            self.ports.append(0)
            self.begin(number)

    def begin(self, number: int) -> None:
        settings = {**self.settings, "port": self.ports[number]}
        if self.pids[number]:
            self.servers.order(do="end", pid=self.pids[number])
        told = self.servers.order(
            do="start", name=self.mutation.name, number=number, settings=settings
        )
        self.pids[number] = told["pid"]
        if not told["port"]:
            raise RuntimeError(f"{self.mutation.name} does not start; BROKEN_LOG=1 says why")
        self.ports[number] = told["port"]

    def end(self) -> None:
        for pid in self.pids:
            self.servers.order(do="end", pid=pid)

    def do(self, words: Sequence[str]) -> int:
        """What `--control` would do."""
        word = words[0]
        if word == "kill":
            number = int(words[1])
            self.servers.order(do="end", pid=self.pids[number])
            self.pids[number] = 0
        elif word == "stop":
            self.servers.order(do="stop", pid=self.pids[int(words[1])])
        elif word == "start":
            with self.turn:
                self.begin(int(words[1]))
        else:
            return int(self.servers.order(do="tell", pid=self.pids[0], words=list(words))["code"])
        return 0


class _Hands(Control):
    """Control without a command."""

    def __init__(self, broken: Broken) -> None:
        super().__init__([])
        self._broken = broken

    async def run(self, trace: Trace, *words: str) -> None:
        trace.remark("control " + " ".join(words))
        if await asyncio.to_thread(self._broken.do, words):
            raise NotJudged(f"control {words[0]} failed")


def with_needs(chosen: Sequence[Promise], mutation: Mutation) -> list[Promise]:
    """The chosen ones and, where they need what the mutation breaks, all that they need: then they
    are not judged, as in a whole run."""
    by_id = {promise.id: promise for promise in catalogue()}
    wanted: dict[str, Promise] = {}
    for promise in chosen:
        left, path = list(promise.needs), {promise.id}
        while left:
            path.add(left[-1])
            left.extend(by_id[left.pop()].needs)
        some = path if path & set(mutation.turns) else {promise.id}
        wanted |= {id: by_id[id] for id in some}
    return [promise for promise in by_id.values() if promise.id in wanted]


def others(mutation: Mutation, promises: Sequence[Promise], *, all: bool = False) -> list[Promise]:
    """Promises of concerns that the mutation does not touch: a few cheap ones, or `all`."""
    concerns = {promise.concern for promise in promises if promise.id in mutation.turns}
    cheap = [
        promise
        for promise in promises
        if promise.concern not in concerns
        and promise.id not in (*mutation.besides, *SLOW)
        and promise.servers == 1
        and not (promise.control or promise.floods or promise.alone)
    ]
    if all or len(cheap) <= SAMPLE:
        return cheap
    first = zlib.crc32(mutation.name.encode()) % len(cheap)
    step = len(cheap) // SAMPLE
    return [cheap[(first + step * number) % len(cheap)] for number in range(SAMPLE)]


@contextlib.contextmanager
def serving(
    servers: Servers, mutation: Mutation, folder: Path, valkey_url: str
) -> Iterator[Broken]:
    """The servers of a mutation."""
    mark = secrets.token_hex(4)
    storage = {
        "memory": "memory://",
        "sqlite": f"sqlite:///{folder}/{mark}.db",
        "redis": f"{valkey_url}?prefix={mark}",
    }[mutation.storage]
    settings: dict[str, Any] = {"dev": True, "jwt_secret": SECRET, "storage": storage}
    if mutation.storage == "redis":
        settings["presence_ttl"] = 1.0
    broken = Broken(servers, mutation, {**settings, **mutation.settings})
    try:
        broken.start()
        yield broken
    finally:
        broken.end()


async def judge(
    broken: Broken, *rounds: Sequence[Promise], timeout: float = TIMEOUT
) -> list[dict[str, Result]]:
    """What comes of each round of promises, by id; one round after the other."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    redact = Redactor()
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        place = Place(
            urls=tuple(f"http://127.0.0.1:{port}" for port in broken.ports),
            tokens=SecretTokens(SECRET, redact),
            session=session,
            control=_Hands(broken),
            redact=redact,
        )
        users = await probe(place, broken.mutation.users, timeout=2 * timeout)
        found = []
        for promises in rounds:
            report = await run(promises, place, users, timeout=timeout)
            found.append({result.promise.id: result for result in report.results})
        return found


def complaints(
    mutation: Mutation, named: dict[str, Result], beside: dict[str, Result]
) -> list[str]:
    """What is wrong with the verdicts; the trials are to blame, or the mutation is."""
    concerns = {result.promise.concern for result in named.values()}
    beside = {
        id: result
        for id, result in beside.items()
        if result.promise.concern not in concerns and id not in mutation.besides
    }
    wrong = [
        f"{id} should be broken by {mutation.name}, and is {result.verdict.value}: {result.said}"
        for id, result in named.items()
        if result.verdict is not Verdict.BROKEN
    ]
    wrong += [
        f"{id} ({result.promise.concern}) is broken by {mutation.name} as well: {result.said}"
        for id, result in beside.items()
        if result.verdict is Verdict.BROKEN
    ]
    return wrong
