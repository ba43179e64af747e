"""What a run of the load generator has seen, and the error that ends one.

Standard library only, as all of the generator's own modules.
"""

from __future__ import annotations

import asyncio

__all__ = ["Counts", "LoadError"]


class LoadError(RuntimeError):
    """The server cannot be measured: it is absent, refuses, or went away. The text says which."""


class Counts:
    """What all wires of a run have seen so far; it only grows, a window is a difference."""

    def __init__(self) -> None:
        self.sent = 0
        self.acks = 0
        self.deliveries = 0
        self.latencies: list[float] = []  # seconds, of acks or of deliveries
        self.refused = 0
        self.lost = 0  # connections that the server closed
        self.trouble = ""  # the first refusal or the first reason of a close
        self.wrong = asyncio.Event()  # there is trouble: waiting for the end is of no use

    def fault(self, reason: str) -> None:
        """Something went wrong: keep the first reason."""
        self.trouble = self.trouble or reason
        self.wrong.set()
