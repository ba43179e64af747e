"""From an exception in a learner's code to one sentence that names the line.

It words what happened; whether a task is solved is decided in `checks.py`.
"""

from __future__ import annotations

import linecache
import re
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import cast

__all__ = ["Advice", "NotWritten", "explain"]

_OURS = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple(
    {str(Path(p).resolve()) for k, p in sysconfig.get_paths().items() if k.endswith("lib")}
    | {p for k, p in sysconfig.get_paths().items() if k.endswith("lib")}
)
_VOLATILE = (
    (re.compile(r"0x[0-9a-fA-F]{6,16}"), "0x…"),
    (re.compile(r"\b(127\.0\.0\.1|localhost|\[::1\]):\d{2,5}"), r"\1:…"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "<token>"),
)
_LONGEST = 200


class Advice(Exception):
    """A check's own sentence about what to do next."""


class NotWritten(Exception):
    """A stub that the learner has not filled in yet; the argument names it."""


def explain(error: BaseException) -> str:
    """One sentence about `error`: the advice it carries, or what went wrong in which line."""
    error = _first_leaf(error)
    if isinstance(error, Advice):
        return str(error)
    if isinstance(error, NotWritten):
        return f"`{error}` gives nothing back yet — replace the `...`"
    place = _place(error.__traceback__)
    if isinstance(error, NotImplementedError):
        return f"not written yet — replace the `raise NotImplementedError`{place}"
    name = type(error).__name__
    if type(error).__module__ == "asyncio.exceptions" and name == "CancelledError":
        return f"your code was cancelled and did not come to its end{place}"
    said = _steady(str(error).strip().partition("\n")[0])
    if isinstance(error, TimeoutError):
        return f"a `{name}` was not caught — somebody waited for an answer that never came{place}"
    return f"your code raised `{name}{': ' + said if said else ''}`{place}"


def _first_leaf(error: BaseException) -> BaseException:
    """What a group of exceptions is about: its first advice, else its first exception."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_first_leaf(e) for e in cast("BaseExceptionGroup[BaseException]", error).exceptions]
    return next((e for e in leaves if isinstance(e, Advice)), leaves[0])


def _steady(text: str) -> str:
    """Without what differs from run to run (addresses, ports, tokens), and short."""
    for pattern, instead in _VOLATILE:
        text = pattern.sub(instead, text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _place(trace: TracebackType | None) -> str:
    """`, line 3 of `send`: `…`` for the innermost frame that is neither ours nor a library's."""
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if _is_learners(code.co_filename):
            source = linecache.getline(
                code.co_filename, trace.tb_lineno, trace.tb_frame.f_globals
            ).strip()
            where = f" of `{code.co_name}`" if code.co_name != "<module>" else ""
            line = trace.tb_lineno - code.co_firstlineno + 1 if where else trace.tb_lineno
            found = f", line {line}{where}" + (f": `{_steady(source)}`" if source else "")
        trace = trace.tb_next
    return found


def _is_learners(filename: str) -> bool:
    if filename.startswith("<") and not filename.startswith(("<ipython", "<string", "<stdin")):
        return False
    path = filename if filename.startswith("<") else str(Path(filename))
    return not path.startswith((_OURS, *_LIBRARIES)) and "site-packages" not in path
