"""What a client can make the server log is bounded, and a line is a line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from chatlab.server import logs
from chatlab.server.logs import Budget
from tests.server.child import child
from tests.server.peer import Raw

WORDS = "refused a connection from %s: %s"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def line(client: str = "", text: str = WORDS, *args: Any) -> logging.LogRecord:
    made = {"name": "chatlab.test", "levelno": logging.INFO, "levelname": "INFO"}
    return logging.makeLogRecord(
        {**made, "msg": text, "args": args or (client, "x"), "client": client}
    )


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The package's logger, which is put back as it was afterwards."""
    loggers = [logging.getLogger(name) for name in ("chatlab", "aiohttp", "asyncio")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield logging.getLogger("chatlab.test")
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_client_gets_a_few_lines_a_minute_and_the_rest_is_counted() -> None:
    clock = Clock()
    budget = Budget(5, clock=clock)
    written = [budget.take(line("203.0.113.9")) for _ in range(1_000)]
    assert (written.count(True), written[:5]) == (5, [True] * 5)
    assert not list(budget.told())
    clock.now += 60.0
    (summary,) = budget.told()
    assert summary.getMessage() == (
        "… and 995 more about 203.0.113.9 within a minute, "
        "like: refused a connection from 203.0.113.9: x"
    )
    assert (summary.name, summary.levelname) == ("chatlab.test", "INFO")
    assert not list(budget.told())
    assert budget.take(line("203.0.113.9"))


def test_another_client_and_another_kind_of_line_have_budgets_of_their_own() -> None:
    budget = Budget(1, clock=Clock())
    assert budget.take(line("a"))
    assert not budget.take(line("a"))
    assert budget.take(line("b"))
    assert budget.take(line("a", "%s broke the protocol: %s"))


def test_a_minute_in_which_nothing_was_left_out_is_not_spoken_of() -> None:
    clock = Clock()
    budget = Budget(5, clock=clock)
    for _ in range(5):
        budget.take(line("a"))
    clock.now += 60.0
    assert not list(budget.told())
    assert len(budget) == 0


def test_lines_that_name_no_client_are_bounded_too() -> None:
    budget = Budget(5, clock=Clock())
    # asyncio logs one text whose first line is the same and whose second names the task.
    written = [budget.take(line("", f"Task failed\n%s of {number}", "")) for number in range(500)]
    assert written.count(True) == Budget.COMMON


def test_many_clients_are_remembered_only_so_far_and_nothing_is_left_uncounted() -> None:
    clock = Clock()
    budget = Budget(1, clock=clock)
    told: list[logging.LogRecord] = []
    for number in range(3 * Budget.REMEMBERED):
        for _ in range(3):
            told += budget.told()
            budget.take(line(f"client {number}"))
        assert len(budget) <= Budget.REMEMBERED
    told += budget.told(all_of_them=True)
    assert len(told) == 3 * Budget.REMEMBERED
    assert all("and 2 more" in summary.getMessage() for summary in told)


def test_a_limit_of_zero_lets_everything_through() -> None:
    budget = Budget(0, clock=Clock())
    assert all(budget.take(line("a")) for _ in range(1_000))
    assert len(budget) == 0


def test_what_was_left_out_is_told_at_the_end(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", "text", lines=2)
    for _ in range(7):
        log.info("%s broke the protocol", "mallory", extra={"client": "mallory"})
    (handler,) = logging.getLogger("chatlab").handlers
    assert len(capsys.readouterr().err.splitlines()) == 2
    handler.close()
    assert "and 5 more about mallory" in capsys.readouterr().err


def test_a_line_break_of_a_client_makes_no_line_and_a_token_is_cut_out(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", "text")
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    log.info("%s connected with %s", "eve\n2026-01-01 00:00:00,000 INFO forged", token)
    (shown,) = capsys.readouterr().err.splitlines()
    assert "INFO    eve\\n2026-01-01" in shown
    assert shown.endswith("connected with <token>")


def test_a_traceback_is_one_line_and_no_line_is_longer_than_the_bound(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", "text")
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        log.exception("the handler of %s failed", "send-message")
    (shown,) = capsys.readouterr().err.splitlines()
    assert "ERROR   the handler of send-message failed\\nTraceback" in shown
    assert len(shown) < logs.LONGEST + 1_000


def test_json_lines_name_the_client(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", "json", lines=1)
    for _ in range(3):
        log.warning("slow\nreader", extra={"client": "192.0.2.1"})
    logging.getLogger("chatlab").handlers[0].close()
    first, last = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "slow\nreader"
    assert (first["level"], first["logger"]) == ("warning", "chatlab.test")
    assert first["client"] == last["client"] == "192.0.2.1"
    assert "and 2 more about 192.0.2.1" in last["message"]


def test_what_is_below_the_level_is_not_logged(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("warning", "text")
    log.info("nothing")
    logging.getLogger("aiohttp.server").warning("something")
    assert capsys.readouterr().err.split("WARNING ")[1] == "something\n"


async def misbehave(url: str, token: str | None, frames: list[str]) -> None:
    """One connection that is refused, or breaks the protocol once it is accepted."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url + "/socket.io/?EIO=4&transport=websocket") as ws,
    ):
        raw = Raw(ws)
        await raw.frame()
        await raw.connect(token)
        for frame in frames:
            await raw.send(frame)


async def test_a_client_that_comes_again_and_again_gets_a_few_lines_of_the_servers_log() -> None:
    with child("--dev") as server:
        for _ in range(60):
            await misbehave(server.url, None, [])
            await misbehave(server.url, "nonsense", [])
            await misbehave(server.url, server.token("mallory"), ["42[5]", "zzz"])
        server.process.terminate()
        assert await asyncio.to_thread(server.end) == 0
    lines = server.errors.splitlines()
    told = [line for line in lines if " more about " in line]
    assert len(lines) <= 4 * (5 + 1) + 2  # four kinds; who started and stopped the server
    assert len([line for line in lines if "refused a connection from 127.0.0.1" in line]) == 6
    assert len([line for line in told if "and 115 more about 127.0.0.1" in line]) == 1
    assert len([line for line in told if "and 55 more about mallory" in line]) == 2
    assert "Traceback" not in server.errors
