"""Grading as one call: for the command, for tests, and for a notebook's cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import aiohttp

from chatlab.grade.catalogue import catalogue, chosen
from chatlab.grade.control import Control
from chatlab.grade.evidence import Redactor
from chatlab.grade.promise import Level, Promise
from chatlab.grade.result import Report, Result
from chatlab.grade.run import probe, run
from chatlab.grade.target import Place
from chatlab.grade.tokens import CommandTokens, SecretTokens, Tokens

__all__ = ["grade"]


async def grade(
    url: str,
    *,
    secret: str = "",
    token_command: Sequence[str] = (),
    users: Sequence[str] = (),
    claims: Mapping[str, str] | None = None,
    issuer: str = "chatlab",
    audience: str = "chatlab",
    algorithm: str = "HS256",
    also: Sequence[str] = (),
    control: Sequence[str] = (),
    path: str = "/socket.io/",
    level: Level | str = Level.HARDENED,
    concerns: Iterable[str] = (),
    only: Iterable[str] = (),
    timeout: float = 5.0,
    jobs: int = 8,
    promises: Sequence[Promise] | None = None,
    told: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Try the promises on the server at `url`; the report.

    Tokens are made with `secret` or by `token_command` (its words). `users` are ids that the server
    knows; without any, users are made up. `claims` maps the server's names of claims to the
    contract's. `also` are further servers of the same cluster; `control` is a command's words.
    `timeout` is in seconds. `promises` are those to choose from: all, where None.

    Raises `Unreachable`, or `TokenError` where the command makes no token.
    """
    asked = Level[level.upper()] if isinstance(level, str) else level
    redact = Redactor()
    tokens: Tokens
    if token_command:
        tokens = CommandTokens(tuple(token_command), redact)
    else:
        for part in secret.split(","):
            redact.hide(part.strip(), "<secret>")
        first = secret.split(",")[0].strip()
        tokens = SecretTokens(first, redact, issuer, audience, algorithm, claims)
    picked = chosen(
        catalogue() if promises is None else promises, level=asked, concerns=concerns, only=only
    )
    # Each client of a run has a connection of its own, however many there are.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        place = Place(
            urls=tuple(each.rstrip("/") for each in (url, *also)),
            tokens=tokens,
            session=session,
            control=Control(control) if control else None,
            path=path,
            redact=redact,
        )
        found = await probe(place, users, timeout=timeout)
        return await run(picked, place, found, timeout=timeout, jobs=jobs, level=asked, told=told)
