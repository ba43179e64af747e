"""All promises, in the order in which they are shown: by concern, then by level."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chatlab.grade.promise import CONCERNS, Level, Promise

__all__ = ["catalogue", "chosen"]

_PREFIXES: Final = ("lesson_", "contract_", "hardened")


def catalogue() -> tuple[Promise, ...]:
    """Every promise of the modules `lesson_*`, `contract_*` and `hardened*` of this package.

    Raises `ValueError` where two bear one id, or one needs another that does not exist.
    """
    here = str(Path(__file__).parent)
    names = [module.name for module in pkgutil.iter_modules([here])]
    modules = [
        importlib.import_module(f"chatlab.grade.{name}")
        for prefix in _PREFIXES
        for name in sorted(names)
        if name.startswith(prefix)
    ]
    found = [
        value for module in modules for value in vars(module).values() if isinstance(value, Promise)
    ]
    ids = [promise.id for promise in found]
    twice = {id for id in ids if ids.count(id) > 1}
    unknown = {need for promise in found for need in promise.needs} - set(ids)
    if twice or unknown:
        raise ValueError(f"promises declared twice: {twice}; needed but unknown: {unknown}")
    return tuple(sorted(found, key=lambda each: (CONCERNS.index(each.concern), each.level)))


def chosen(
    promises: Iterable[Promise],
    *,
    level: Level = Level.HARDENED,
    concerns: Iterable[str] = (),
    only: Iterable[str] = (),
) -> tuple[Promise, ...]:
    """Those up to `level`, of these concerns and with these ids (empty: all)."""
    concerns, only = tuple(concerns), tuple(only)
    return tuple(
        promise
        for promise in promises
        if (promise.level <= level or promise.id in only)
        and (not concerns or promise.concern in concerns)
        and (not only or promise.id in only)
    )
