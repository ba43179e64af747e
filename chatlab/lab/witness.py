"""What a server and a client of a scene both offer: what was received, waiting for it, the log.

The two fill it in their own ways; reading it is the same.
"""

from __future__ import annotations

from typing import Any, Literal

from chatlab.lab.inbox import Condition, Inbox, ReceivedList
from chatlab.lab.logs import LogBook, LogLines
from chatlab.lab.recorder import Recorder

__all__ = ["Witness"]


class Witness:
    """An actor that receives events and keeps a log."""

    def _remember(self, name: str, role: Literal["client", "server"]) -> None:
        self.name = name
        self.recorder = Recorder(name, role)
        self._inbox = Inbox(name)
        self._book = LogBook()

    @property
    def received(self) -> ReceivedList:
        """The events that it was given, in order: a list of `Received`."""
        return self._inbox.items()

    @property
    def received_texts(self) -> list[Any]:
        """Only the texts of what was received, in order."""
        return self.received.texts

    async def wait_for(
        self, what: int | str | Condition, count: int = 1, *, timeout: float = 5.0
    ) -> None:
        """Wait for a number of events, for `count` events of one name, or for a condition.

        Counted from the start or from the last `clear`; the handlers of those events get a moment
        to finish. A condition is a function of `received`. Raises `TimeoutError`, which says what
        was received, after `timeout` seconds.
        """
        await self._inbox.wait_for(what, count, timeout=timeout)

    def clear(self) -> None:
        """Forget what was received and recorded, so that the next scene starts afresh."""
        self._inbox.clear()
        self.recorder.clear()

    def logs(self, *, full: bool = False) -> LogLines:
        """What would have been printed: log lines, and what went wrong; `full`: whole tracebacks.

        The newest 2,000 entries, oldest first.
        """
        return self._book.lines(full=full)

    async def wait_for_log(self, text: str, *, timeout: float = 5.0) -> None:
        """Wait until a log entry contains `text`. Raises `TimeoutError`, showing the log."""
        await self._book.wait_for(text, timeout)
