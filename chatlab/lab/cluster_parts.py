"""The processes of a cluster, as `Cluster` starts and ends them.

They differ from what a lesson starts by itself in that their cluster, not their name, keeps track
of them.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chatlab.lab.balancer import Balancer as AnyBalancer
from chatlab.lab.process import Process
from chatlab.lab.valkey import Valkey

__all__ = ["Balancer", "Member", "Server", "Store"]

_STOCK = Path(__file__).with_name("stock.py")


class Member(Process):
    """A part that its cluster stops: it is not known by its name to the lab."""

    def _take_name(self) -> None:
        pass

    def _give_up_name(self) -> None:
        pass

    def ask_to_finish(self) -> None:
        """SIGTERM, where it could hear one; not a fault, so that no timeline shows it."""
        if self.running and not self._frozen and self._child is not None:
            self._stopped = True
            with contextlib.suppress(OSError):
                self._child.send(signal.SIGTERM)


class Store(Member, Valkey):
    """The Valkey of a cluster."""


class Balancer(Member, AnyBalancer):
    """What stands before a cluster's servers."""


class Server(Member):
    """One server, of chatlab or stock, whose tokens are the cluster's."""

    def __init__(
        self, arguments: Sequence[str], *, stock: bool, token: Callable[..., str], **options: Any
    ) -> None:
        self._token = token
        # By path and with -P: `-m` would import all of the lab first, and without -P the lab's
        # valkey.py would stand before the package of that name.
        command = [sys.executable, "-P", str(_STOCK)] if stock else None
        super().__init__(arguments, command=command, **options)

    def token(self, user: str, *, ttl: float = 900.0, **claims: Any) -> str:
        return self._token(user, ttl=ttl, **claims)
