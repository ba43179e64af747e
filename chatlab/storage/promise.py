"""A future for what is completed by the hundred: it tells at once that it is done.

A backend that stores a batch completes many of them in one go. Who awaits one notices nothing.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Promise"]

T = TypeVar("T")


class Promise(Future[T]):
    """A future that can also tell at once that it is done.

    asyncio calls a future's callbacks in the loop's next pass, each by itself: for a batch of a
    thousand appends that is more work than the appends.
    """

    __slots__ = ("_then",)

    def __init__(self) -> None:
        super().__init__()
        self._then: Callable[[Future[T]], None] | None = None

    def then(self, callback: Callable[[Future[T]], None]) -> None:
        """Have the one `callback` called by whoever completes the promise. It is not done yet."""
        self._then = callback

    def set_result(self, result: T) -> None:
        super().set_result(result)
        self._tell()

    def set_exception(self, exception: type | BaseException) -> None:
        super().set_exception(exception)
        self._tell()

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._tell()
        return cancelled

    def _tell(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(self)
