"""Chains around every connection attempt and around every event: Node's `io.use` and `socket.use`.

python-socketio has neither (its "middleware" is WSGI's). A middleware gets what passes and a
`proceed` that goes on to the next one; it may look, change, refuse by raising, or answer itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

__all__ = ["Chain", "Middleware", "Proceed"]

Subject = TypeVar("Subject")

Proceed = Callable[[], Awaitable[Any]]
Middleware = Callable[[Subject, Proceed], Awaitable[Any]]


class Chain(Generic[Subject]):
    """Middlewares in the order of their registration, the first one outermost."""

    def __init__(self) -> None:
        self._middlewares: list[Middleware[Subject]] = []
        self.empty = True

    def use(self, middleware: Middleware[Subject]) -> Middleware[Subject]:
        """Register `async def middleware(subject, proceed)`; usable as a decorator."""
        self._middlewares.append(middleware)
        self.empty = False
        return middleware

    async def run(self, subject: Subject, goal: Callable[[Subject], Awaitable[Any]]) -> Any:
        """Pass `subject` through every middleware to `goal`; returns what the first one returns.

        Raises what any of them raises, and `RuntimeError` when one proceeds twice.
        """
        return await self._step(0, subject, goal)

    async def _step(
        self, position: int, subject: Subject, goal: Callable[[Subject], Awaitable[Any]]
    ) -> Any:
        if position == len(self._middlewares):
            return await goal(subject)
        gone_on = False

        async def proceed() -> Any:
            nonlocal gone_on
            if gone_on:
                raise RuntimeError("a middleware called proceed() twice")
            gone_on = True
            return await self._step(position + 1, subject, goal)

        return await self._middlewares[position](subject, proceed)
