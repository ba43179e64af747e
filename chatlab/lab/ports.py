"""Picks a port for a program that cannot pick one itself, and that must get it again later.

It is not for servers that take port 0 and start once: let the system choose for those.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

__all__ = ["IN_USE", "free_port"]

# What programs print when somebody else was quicker: start them again with another port.
IN_USE = "ddress already in use"

# Where outgoing connections get their ports. A restarted server must not find its own taken by
# one of those, nor must a client that knocks at a dead port be connected to itself, which TCP
# allows when both numbers happen to be equal.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 20_000, 32_000


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now, outside the range of outgoing connections.

    Somebody may take it before it is used: whoever asks starts again on `IN_USE`. Raises
    `RuntimeError` when none is found.
    """
    # Seeded by the system: two processes must not try the same numbers in the same order.
    chance = random.SystemRandom()
    lowest, highest = _range()
    for _ in range(200):
        port = chance.randint(lowest, highest)
        with socket.socket() as attempt:
            if os.name == "posix":
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port of 127.0.0.1 between {lowest} and {highest}")


def _range() -> tuple[int, int]:
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LOWEST, _HIGHEST
    # A machine whose outgoing connections begin lower has its servers below that.
    highest = min(_HIGHEST, first - 1)
    return (min(_LOWEST, max(1024, highest // 2)), highest) if highest > 2048 else (1024, 65_000)
