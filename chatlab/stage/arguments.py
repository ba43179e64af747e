"""Holds what a page asks for against what an action takes.

An action's parameters are plain: texts, numbers, switches. What a value means is the action's.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Coroutine
from typing import Any

from chatlab.stage.turns import Refused

__all__ = ["fitting"]

Action = Callable[..., Coroutine[Any, Any, str]]


def fitting(action: Action, given: dict[str, Any]) -> Coroutine[Any, Any, str]:
    """The action with these arguments, not begun yet.

    Raises `Refused` where one is missing, unknown, or of another kind.
    """
    hints = typing.get_type_hints(action)
    try:
        inspect.signature(action).bind(**given)
    except TypeError:
        raise Refused(_sentence(action, given)) from None
    for name, value in given.items():
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if not any(_is(value, kind) for kind in kinds):
            raise Refused(_sentence(action, given))
    return action(**given)


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _sentence(action: Action, given: dict[str, Any]) -> str:
    return f"“{action.__name__}” does not go with {json.dumps(given, ensure_ascii=False)[:80]}."
