"""Lets a pasted script that calls `asyncio.run(main())` work inside a notebook.

Lessons themselves use `await`. This is for code from elsewhere, which was written to be a program.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from dataclasses import dataclass
from importlib import metadata

__all__ = ["NestedLoops", "allow_nested_loops"]


@dataclass(frozen=True, slots=True, repr=False)
class NestedLoops:
    """What `allow_nested_loops` did: which package it used, and why that one."""

    package: str
    reason: str

    def __repr__(self) -> str:
        return f"✓ asyncio.run works inside a running loop ({self.package}: {self.reason})"


def allow_nested_loops() -> NestedLoops:
    """Make `asyncio.run` and `run_until_complete` work where a loop is already running.

    Under ipykernel 7 and later the patch is nest_asyncio2's: nest_asyncio 1.6.0 makes Run All skip
    every later cell there without a word. Older kernels and plain Python get nest_asyncio. May be
    called again. Raises `RuntimeError` where the wrong one of the two was applied before, because
    a patch of asyncio cannot be taken back, and where the event loop cannot be patched.
    """
    kernel = _kernel_version()
    if kernel is not None and kernel >= 7:
        package, reason = "nest_asyncio2", f"this is ipykernel {kernel}"
    elif kernel is not None:
        package, reason = "nest_asyncio", f"this is ipykernel {kernel}"
    else:
        package, reason = "nest_asyncio", "this is plain Python"
    applied = _applied()
    if applied is not None and applied != package:
        if package == "nest_asyncio2":
            raise RuntimeError(
                "nest_asyncio.apply() was called before in this kernel, and under ipykernel 7 it "
                "makes Run All skip cells. Restart the kernel, remove that line, and call "
                "allow_nested_loops() instead."
            )
        return NestedLoops(applied, "it was already applied")
    module = importlib.import_module(package)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # Any loop will do: the patch is put on its class. Asking asyncio for one, as apply() does,
        # is deprecated from Python 3.12 on.
        loop = asyncio.new_event_loop()
        try:
            _apply(module, loop)
        finally:
            loop.close()
    else:
        _apply(module, loop)
    return NestedLoops(package, reason)


def _apply(module: object, loop: asyncio.AbstractEventLoop) -> None:
    try:
        module.apply(loop)  # type: ignore[attr-defined]
    except ValueError as error:
        raise RuntimeError(
            f"the event loop that runs here ({type(loop).__module__}) cannot be nested: {error}"
        ) from error


def _applied() -> str | None:
    """Which of the two packages has patched asyncio already."""
    if not hasattr(asyncio, "_nest_patched"):
        return None
    return "nest_asyncio2" if hasattr(asyncio, "_nest_asyncio2") else "nest_asyncio"


def _kernel_version() -> int | None:
    """The major version of the ipykernel that this code runs in; None outside a kernel."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    if getattr(get_ipython(), "kernel", None) is None:
        return None
    return int(metadata.version("ipykernel").split(".")[0])
