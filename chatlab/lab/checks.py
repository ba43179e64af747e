"""Exercise checks: a function that probes a learner's code becomes one line, `✓ …` or `○ advice`.

A check never raises, so an unsolved exercise runs to its end. It knows no exercise: those are in
`chatlab/lab/exercises`, and what has been solved is remembered by `progress.py`.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import html
import inspect
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload

from chatlab.lab.progress import remember
from chatlab.lab.trouble import Advice, NotWritten, explain

__all__ = ["Check", "CheckResult", "Pending", "advice", "check", "expect", "written"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_GRACE = 0.5  # seconds that a probe gets to clean up after its time is over


def advice(text: str) -> NoReturn:
    """End the check here as not solved; `text` says what was seen and, after a dash, what to do."""
    raise Advice(text)


def expect(condition: object, text: str) -> None:
    """End the check as not solved, with `text` as advice, unless `condition` is true."""
    if not condition:
        raise Advice(text)


def written(value: T | None, what: str) -> T:
    """Give `value` back, or end the check where it is what an unfinished stub returns.

    `what` names the learner's function in the advice. Use it where None is never a right answer.
    """
    if value is None or value is Ellipsis:
        raise NotWritten(what)
    return value


@dataclass(frozen=True)
class CheckResult:
    """What a check found. `done` says whether the task is solved; `advice` is None when it is."""

    goal: str
    lesson: str
    task: int
    done: bool
    advice: str | None = None
    hints: tuple[str, ...] = ()
    stretch: bool = False

    def __bool__(self) -> bool:
        return self.done

    def __repr__(self) -> str:
        return f"✓ {self.goal}" if self.done else f"○ {self.advice}"

    def hint(self, level: int = 1) -> str:
        """The author's hint of that level, 1 being the gentlest; a sentence where there is none."""
        if self.done:
            return "This task is solved."
        if not 1 <= level <= len(self.hints):
            return "There is no further hint here: the solution is linked below the task."
        return self.hints[level - 1]

    def _repr_html_(self) -> str:
        colour = (
            "var(--jp-success-color1, #2e7d32)" if self.done else "var(--jp-warn-color1, #b26a00)"
        )
        name = f"Task {self.task}" + (" (stretch)" if self.stretch else "")
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:.3em .8em;'
            'margin:.3em 0;color:var(--jp-content-font-color1, inherit)">'
            f'<small style="opacity:.75">{name}</small><br>{_inline(repr(self))}</div>'
        )


def _inline(text: str) -> str:
    """HTML of one line in which `backticks` mark code."""
    parts = html.escape(text, quote=False).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(parts))


class Pending:
    """The result of an asynchronous check, once awaited. Shown as it is, it says so."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, CheckResult]], name: str) -> None:
        self._run, self._name = run, name

    def __await__(self) -> Generator[Any, None, CheckResult]:
        return self._run().__await__()

    def __repr__(self) -> str:
        return f"○ nothing was checked yet — write `await {self._name}(…)`"


class Check(Generic[P, R]):
    """A check function with its goal. Calling it gives a `CheckResult`, or what awaits to one."""

    def __init__(
        self,
        probe: Callable[P, Any],
        *,
        goal: str,
        lesson: str,
        task: int,
        limit: float,
        hints: tuple[str, ...],
        stretch: bool,
    ) -> None:
        self.probe, self.goal, self.lesson, self.task = probe, goal, lesson, task
        self.limit, self.hints, self.stretch = limit, hints, stretch
        functools.update_wrapper(self, probe)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the probe. Raises nothing but CancelledError, KeyboardInterrupt and SystemExit."""
        if inspect.iscoroutinefunction(self.probe):
            run = functools.partial(self._run_async, *args, **kwargs)
            return Pending(run, self.probe.__name__)  # type: ignore[return-value]
        return self._run_sync(*args, **kwargs)  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"<check {self.lesson}.{self.task}: {self.goal}>"

    async def _run_async(self, *args: Any, **kwargs: Any) -> CheckResult:
        trouble: list[BaseException | None] = []

        async def guarded() -> None:
            # Nothing may leave the task as an exception: KeyboardInterrupt and SystemExit would
            # go through the event loop and end the kernel instead of the cell.
            try:
                await self.probe(*args, **kwargs)
                trouble.append(None)
            except BaseException as error:
                trouble.append(error)

        task = asyncio.ensure_future(guarded())
        try:
            await asyncio.wait({task}, timeout=self.limit)
            if not task.done():
                task.cancel()  # not awaited without a limit: the learner's code may swallow it
                await asyncio.wait({task}, timeout=_GRACE)
                return self._open(self._too_slow())
        except asyncio.CancelledError:
            task.cancel()
            raise
        return self._judge(trouble[0] if trouble else asyncio.CancelledError())

    def _run_sync(self, *args: Any, **kwargs: Any) -> CheckResult:
        trouble: list[BaseException | None] = []

        def guarded() -> None:
            try:
                self.probe(*args, **kwargs)
                trouble.append(None)
            except BaseException as error:
                trouble.append(error)

        # On a thread of its own, because only there can an endless loop be left behind.
        thread = threading.Thread(target=guarded, daemon=True, name=f"check {self.goal}")
        thread.start()
        thread.join(self.limit)
        if thread.is_alive():
            _stop(thread)
            return self._open(self._too_slow())
        return self._judge(trouble[0])

    def _judge(self, error: BaseException | None) -> CheckResult:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        if error is not None:
            return self._open(explain(error))
        remember(self.lesson, self.task)
        return CheckResult(self.goal, self.lesson, self.task, True, None, self.hints, self.stretch)

    def _open(self, text: str) -> CheckResult:
        return CheckResult(self.goal, self.lesson, self.task, False, text, self.hints, self.stretch)

    def _too_slow(self) -> str:
        return (
            f"your code was not finished after {self.limit:g} s — "
            "look for a wait or a loop that never ends"
        )


def _stop(thread: threading.Thread) -> None:
    """Ask a thread that runs Python code to end, so that an endless loop does not heat the room."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )


class _Decorator:
    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    @overload
    def __call__(self, probe: Callable[P, Coroutine[Any, Any, None]]) -> Check[P, Pending]: ...
    @overload
    def __call__(self, probe: Callable[P, None]) -> Check[P, CheckResult]: ...
    def __call__(self, probe: Callable[P, Any]) -> Check[P, Any]:
        return Check(probe, **self._fields)


def check(
    goal: str,
    *,
    task: int,
    lesson: str,
    limit: float = 15.0,
    hints: tuple[str, ...] = (),
    stretch: bool = False,
) -> _Decorator:
    """Turn a function of probes, plain or `async`, into a check.

    The function calls `expect`, `advice` and `written` and returns nothing; whatever it raises
    becomes advice that names the learner's line. `goal` is shown after ✓ when it gets to its end.
    `limit` is in seconds, `lesson` is two digits as in the file's name, `task` counts from 1.
    """
    return _Decorator(
        goal=goal, task=task, lesson=lesson, limit=limit, hints=tuple(hints), stretch=stretch
    )
