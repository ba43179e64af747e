"""Checks of the capstone: the learner's own program, run as a process and graded from outside.

What is promised, and how it is tried, is `chatlab.grade`'s business; here a broken promise becomes
advice. What to do about each stands in `ex08_remedies.py`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chatlab.grade import Level, Promise, Report, Result, Unreachable, Verdict, grade
from chatlab.grade.catalogue import catalogue, chosen
from chatlab.grade.promise import (
    ACKNOWLEDGEMENTS,
    AUTHENTICATION,
    ERRORS,
    RATE_LIMITING,
    SCALING,
)
from chatlab.lab.checks import advice, check, expect
from chatlab.lab.exercises.ex08_remedies import REMEDIES
from chatlab.lab.process import Process
from chatlab.lab.valkey import valkey

__all__ = [
    "MOST_LINES",
    "acknowledges",
    "answers_whatever_happens",
    "earns_the_level",
    "is_one_chat_on_two_servers",
    "keeps_to_a_limit",
    "knows_who_it_is",
]

MOST_LINES: Final = 150
_SECRET: Final = secrets.token_hex(32)
_PATIENCE: Final = 0.7  # seconds for an answer; most take a hundredth of one
_SHARED: Final = 20.0  # seconds for which the next check may use what the last one found
_AFTERWORD: Final = 1.0  # seconds for what a program writes of its failure after it has answered
_LIMIT: Final = 60.0  # seconds for a check: one that answers nothing is asked often
_DIRECTORY: Final = "unknown-user-refused"  # this server admits whoever a token names
_ERROR: Final = re.compile(r"\b[A-Z]\w*(Error|Exception)\b")


@check("what is sent is acknowledged, and reaches the others", task=1, lesson="08", limit=_LIMIT)
async def acknowledges(program: str) -> None:
    """`program` is the file's path, here and below."""
    await _expect_kept(program, ACKNOWLEDGEMENTS)


@check("nobody gets in, or is called, by anything but a token", task=2, lesson="08", limit=_LIMIT)
async def knows_who_it_is(program: str) -> None:
    await _expect_kept(program, AUTHENTICATION)


@check("whatever breaks is answered, and breaks nothing else", task=3, lesson="08", limit=_LIMIT)
async def answers_whatever_happens(program: str) -> None:
    await _expect_kept(program, ERRORS)


@check("who floods harms nobody else", task=4, lesson="08", limit=_LIMIT)
async def keeps_to_a_limit(program: str) -> None:
    await _expect_kept(program, RATE_LIMITING)


@check("two servers are one chat", task=5, lesson="08", limit=_LIMIT)
async def is_one_chat_on_two_servers(program: str) -> None:
    source = _source(program)
    scaling = [each for each in _lesson(servers=2) if each.concern == SCALING]
    with valkey(persist=False, name="check 08 valkey") as store:
        async with contextlib.AsyncExitStack() as ending:
            starting = [
                ending.enter_async_context(_running(source, "--redis", store.url, name=name))
                for name in ("check 08", "check 08, second")
            ]
            first, second = await asyncio.gather(*starting)
            report = await _grade(first, scaling, also=[second.url])
            _judge(_Graded(report, _errors(first) + _errors(second)), SCALING)


@check(
    f"the level Lesson in full, in at most {MOST_LINES} lines", task=6, lesson="08", limit=_LIMIT
)
async def earns_the_level(program: str) -> None:
    for concern in (ACKNOWLEDGEMENTS, AUTHENTICATION, ERRORS, RATE_LIMITING, SCALING):
        await _expect_kept(program, concern)
    text = _text(_source(program))
    imported = {name.partition(".")[0] for name in _imports(text)}
    expect(
        "chatlab" not in imported,
        "it keeps every promise, and imports chatlab — write it yourself: this one shall be yours",
    )
    count = len(text.splitlines())
    expect(
        count <= MOST_LINES,
        f"it keeps every promise, in {count} lines — bring it down to {MOST_LINES}: "
        "what is there twice is a function, and what no promise asks for can wait",
    )


# -- grading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Graded:
    """What was found: a report, and what the program wrote of its own failures."""

    report: Report
    errors: Sequence[str]


class _Alone:
    """The grade of a program that runs alone, kept for the checks that come right after."""

    def __init__(self) -> None:
        self._program, self._until = "", 0.0
        self._graded: _Graded | None = None

    async def graded(self, source: Path) -> _Graded:
        program = f"{source}\n{_text(source)}"
        if self._graded is None or program != self._program or time.monotonic() > self._until:
            self._graded = None
            self._graded = await self._grade(source)
            self._program, self._until = program, time.monotonic() + _SHARED
        return self._graded

    async def _grade(self, source: Path) -> _Graded:
        async with _running(source) as server:
            report = await _grade(server, [each for each in _lesson() if not each.risky])
            if all(each.verdict is Verdict.KEPT for each in _of(report, ERRORS)):
                # It takes longest, and says nothing new about a server that fails already.
                risky = await _grade(server, [each for each in _lesson() if each.risky])
                report = Report(report.url, report.level, (*report.results, *risky.results))
            if report.of(Verdict.BROKEN):
                await _said(server)
            return _Graded(report, _errors(server))


_alone = _Alone()


async def _expect_kept(program: str, concern: str) -> None:
    _judge(await _alone.graded(_source(program)), concern)


def _judge(graded: _Graded, concern: str) -> None:
    """End the check with advice on the first promise of this concern that was broken."""
    results = _of(graded.report, concern)
    kept = sum(each.verdict is Verdict.KEPT for each in results)
    for each in results:
        if each.verdict is Verdict.BROKEN:
            remedy = REMEDIES.get(each.promise.id, each.promise.sentence)
            told = f" (your program said `{graded.errors[-1]}`)" if graded.errors else ""
            advice(
                f"{kept} of {len(results)} kept; `{each.promise.id}`: {each.said}{told} — {remedy}"
            )
    if len(results) > kept:
        first = graded.report.of(Verdict.BROKEN)
        before = f" before `{first[0].promise.id}` is kept" if first else ""
        advice(
            f"{len(results) - kept} of {len(results)} could not be tried{before} — "
            "make the checks above it say ✓ first"
        )


def _of(report: Report, concern: str) -> list[Result]:
    return [each for each in report.results if each.promise.concern == concern]


def _lesson(servers: int = 1) -> list[Promise]:
    """The promises that can be tried on so many servers of which only the address is known."""
    return [
        promise
        for promise in chosen(catalogue(), level=Level.LESSON)
        if promise.servers <= servers and not promise.control and promise.id != _DIRECTORY
    ]


async def _grade(
    server: Process, promises: Sequence[Promise], *, also: Sequence[str] = ()
) -> Report:
    try:
        return await grade(
            server.url, secret=_SECRET, promises=promises, also=also, timeout=_PATIENCE
        )
    except Unreachable as error:
        advice(f"{error} — attach the Socket.IO server to the application that is run")


# -- the program -----------------------------------------------------------------------------------


def _source(program: str) -> Path:
    source = Path(program)
    if not source.is_file():
        advice(f"there is no file `{program}` beside this notebook — `make lab` puts it there")
    return source


def _text(source: Path) -> str:
    return source.read_text(encoding="utf-8")


@contextlib.asynccontextmanager
async def _running(source: Path, *options: str, name: str = "check 08") -> AsyncIterator[Process]:
    """The program as a process, on a free port."""
    start = functools.partial(
        Process,
        ["--port", "0", *options],
        name=name,
        command=[sys.executable, str(source)],
        env={"CHATLAB_JWT_SECRET": _SECRET},
        timeout=10.0,
    )
    try:
        server = await asyncio.to_thread(start)
    except RuntimeError as error:
        said = str(error).strip().splitlines()
        what = "was not ready in 10 s" if "not ready within" in said[0] else "ended"
        advice(
            f"your program {what} before it said that it listens; the last that it said was "
            f"`{said[-1]}` — keep the lines at its end, and try it in a terminal"
        )
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def _said(server: Process) -> None:
    """Give the program a moment to write down why it failed: it answers, or not, before that."""
    until = time.monotonic() + _AFTERWORD
    while not _errors(server) and time.monotonic() < until:  # noqa: ASYNC110 - has no event
        await asyncio.sleep(0.02)


def _errors(server: Process) -> list[str]:
    """The lines in which an exception of the program's is named."""
    return [line.strip() for line in server.logs() if _ERROR.search(line)]


def _imports(text: str) -> Iterator[str]:
    """The modules that a source imports. What is no Python has none."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
