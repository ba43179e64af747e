"""Runs promises: side by side where they cannot disturb each other, the risky ones last and alone.

A promise whose precondition was not kept is not judged, so that one fault turns one verdict.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from chatlab.grade.pauses import Pauses, noticed_pauses
from chatlab.grade.promise import Broken, Level, NotJudged, Promise, Silent, Unready
from chatlab.grade.result import Report, Result, Verdict
from chatlab.grade.target import Place, Target, silence
from chatlab.grade.tokens import TokenError
from chatlab.grade.users import Users

__all__ = ["Unreachable", "probe", "run"]

_SHOWN: Final = 24  # packets of evidence a verdict
_FIRST: Final = 3  # times as long as any other may the first answer of a server take
_TRIES: Final = 3  # of a promise that is broken while the machine stands still, at most


class Unreachable(Exception):
    """Nobody answers as a Socket.IO server; the text says what was found instead."""


async def probe(place: Place, known: Sequence[str], *, timeout: float) -> Users:
    """Look whether there is a Socket.IO server, and which users it takes.

    Raises `Unreachable` where there is none, `TokenError` where no token can be made.
    """
    for number, url in enumerate(place.urls):
        # The server may be starting.
        if reason := await silence(place.session, url, _FIRST * timeout):
            raise Unreachable(f"nobody answers at {url}: {reason}")
        target = Target(place, ["nobody"], timeout=timeout)
        try:
            await target.socket(server=number)
        except NotJudged as error:
            raise Unreachable(f"{url} answers, but not as Socket.IO v5: {error}") from None
        finally:
            await target.close()
    users = Users(known)
    target = Target(place, [users.made_up()], timeout=timeout)
    try:
        token = await target.token()
        if known:
            return users
        client = await target.socket()
        await client.connect({"token": token})
        told = client.refusal.get("message") if isinstance(client.refusal, dict) else None
    except (Broken, NotJudged):
        return users
    finally:
        await target.close()
    if told == "User not found":
        return Users(closed="the server admits only users it knows: give --user ID")
    return users


async def run(
    promises: Iterable[Promise],
    place: Place,
    users: Users,
    *,
    timeout: float = 5.0,
    jobs: int = 8,
    level: Level = Level.HARDENED,
    told: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Try each promise once; more often what failed for want of an answer, or in a pause.

    `timeout` is how long an answer may take, in seconds; `jobs` how many are tried side by side;
    `told` hears each result as it comes.
    """
    began = time.monotonic()
    chosen = list(promises)
    try:
        async with noticed_pauses() as pauses:
            runner = _Runner(chosen, place, users, timeout, jobs, told, pauses)
            await runner.all()
    except BaseExceptionGroup as group:
        errors = group.subgroup(TokenError)
        if errors is not None:
            raise _first(errors) from None
        raise
    results = tuple(runner.results[promise.id] for promise in chosen)
    return Report(place.urls[0], level, results, time.monotonic() - began)


class _Runner:
    def __init__(
        self,
        chosen: Sequence[Promise],
        place: Place,
        users: Users,
        timeout: float,
        jobs: int,
        told: Callable[[Result], None],
        pauses: Pauses,
    ) -> None:
        self.results: dict[str, Result] = {}
        self._chosen = chosen
        self._done = {promise.id: asyncio.Event() for promise in chosen}
        self._place, self._users, self._timeout, self._told = place, users, timeout, told
        self._slots = asyncio.Semaphore(jobs)
        self._pauses = pauses
        self._promises = {promise.id: promise for promise in chosen}
        self._gone = ""

    async def all(self) -> None:
        # Level by level: what a higher one asks may upset a server that a lower one is meant for.
        for level in Level:
            async with asyncio.TaskGroup() as group:
                for promise in self._chosen:
                    if promise.level is level and not promise.alone:
                        group.create_task(self._one(promise))
        # In the order in which they were declared, what may bring the server down last of all.
        alone = [promise for promise in self._chosen if promise.alone]
        for promise in sorted(alone, key=lambda each: (each.risky, each.level)):
            await self._one(promise)
            await self._look_after(f"since {promise.id} was tried")

    async def _one(self, promise: Promise) -> None:
        began = time.monotonic()
        verdict, said, target = Verdict.KEPT, "", None
        try:
            await self._preconditions(promise)
            async with self._slots:
                began = time.monotonic()
                verdict, said, target = await self._patiently(promise)
        except NotJudged as error:
            verdict, said = Verdict.NOT_JUDGED, str(error)
        evidence = () if target is None else target.trace.packets(_SHOWN)
        said = self._place.redact(said)
        result = Result(promise, verdict, said, evidence, time.monotonic() - began)
        self.results[promise.id] = result
        self._done[promise.id].set()
        self._told(result)

    async def _preconditions(self, promise: Promise) -> None:
        if promise.servers > len(self._place.urls):
            more = "a second server" if promise.servers == 2 else f"{promise.servers} servers"
            raise NotJudged(f"needs {more} of the same cluster: give --also URL")
        control = self._place.control
        for word in promise.control:
            if control is None:
                raise NotJudged(f"needs --control {word}")
            if word in control.cannot:
                raise NotJudged(f"--control cannot {word}")
        for need in promise.needs:
            if need not in self._done or self._comes_later(need, promise):
                continue
            await self._done[need].wait()
            found = self.results[need].verdict
            if found is not Verdict.KEPT:
                raise NotJudged(f"needs {need}, which is {found.value}")

    def _comes_later(self, need: str, promise: Promise) -> bool:
        # Waiting for what is tried after this one would never end.
        if self._done[need].is_set():
            return False
        other = self._promises[need]
        return other.alone or other.level > promise.level

    async def _patiently(self, promise: Promise) -> tuple[Verdict, str, Target]:
        loop = asyncio.get_running_loop()
        for attempt in range(_TRIES):
            began = loop.time()
            patience = self._timeout if attempt == 0 else 2 * self._timeout
            verdict, said, target, slow = await self._try(promise, patience)
            # A busy machine is not a broken promise, and neither is one that stood still.
            paused = verdict is Verdict.BROKEN and self._pauses.since(began)
            if attempt == _TRIES - 1 or not (paused or (slow and attempt == 0)):
                break
            if not await self._look_after("and went away while promises were tried"):
                break
        if slow and self._gone and not promise.risky:
            raise NotJudged(self._gone)
        return verdict, said, target

    async def _try(self, promise: Promise, timeout: float) -> tuple[Verdict, str, Target, bool]:
        if self._gone and not promise.risky:
            raise NotJudged(self._gone)
        users = await self._users.borrow(promise.users, fresh=promise.floods)
        target = Target(self._place, users, timeout=timeout)
        try:
            async with asyncio.timeout(20 * timeout + 60):
                await promise.trial(target)
        except Broken as error:
            return Verdict.BROKEN, str(error), target, isinstance(error, Silent)
        except NotJudged as error:
            return Verdict.NOT_JUDGED, str(error), target, isinstance(error, Unready)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            return Verdict.BROKEN, f"an answer has not the promised shape ({what})", target, False
        except (TokenError, asyncio.CancelledError):
            raise
        except TimeoutError:
            return Verdict.NOT_JUDGED, "the trial did not come to an end", target, False
        except Exception as error:
            # A fault of the trial's own must not cost the verdicts of all the others.
            what = f"{type(error).__name__}: {error}"
            return Verdict.NOT_JUDGED, f"the trial itself failed ({what})", target, False
        finally:
            await target.close()
            await self._users.give_back(users, tired=promise.floods)
        return Verdict.KEPT, "", target, False

    async def _look_after(self, when: str) -> bool:
        """Whether the servers are still there; one that is not is started, where that can be."""
        for number, url in enumerate(self._place.urls):
            if not await silence(self._place.session, url, self._timeout):
                continue
            target = Target(self._place, ())
            try:
                await target.control("start", str(number))
            except NotJudged:
                self._gone = self._gone or f"the server is gone {when}"
                return False
        return True


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
