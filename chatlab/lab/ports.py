"""Picks a port for a program that cannot pick one itself, and that must get it again later.

It is not for servers that take port 0 and start once: let the system choose for those.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

__all__ = ["IN_USE", "free_port", "has_ipv6"]

# What programs print when somebody else was quicker: start them again with another port.
IN_USE = "ddress already in use"

# Where outgoing connections get their ports. A restarted server must not find its own taken by
# one of those, nor must a client that knocks at a dead port be connected to itself, which TCP
# allows when both numbers happen to be equal.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 20_000, 32_000


def free_port() -> int:
    """A TCP port that nobody has now, outside the range that outgoing connections use.

    Somebody may take it before it is used: whoever asks starts again on `IN_USE`. Raises
    `RuntimeError` when none is found.
    """
    # Seeded by the system: two processes must not try the same numbers in the same order.
    chance = random.SystemRandom()
    lowest, highest = _range()
    for _ in range(200):
        port = chance.randint(lowest, highest)
        if _is_free(socket.AF_INET, "127.0.0.1", port) and (
            not has_ipv6() or _is_free(socket.AF_INET6, "::1", port)
        ):
            return port
    raise RuntimeError(f"no free port of 127.0.0.1 between {lowest} and {highest}")


def has_ipv6() -> bool:
    """Whether this machine can reach itself at ::1, which `localhost` may mean first."""
    return socket.has_ipv6 and _is_free(socket.AF_INET6, "::1", 0)


def _is_free(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as attempt:
            if os.name == "posix":
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
    except OSError:
        return False
    return True


def _range() -> tuple[int, int]:
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _LOWEST, _HIGHEST
    # A machine whose outgoing connections begin lower has its servers below that.
    highest = min(_HIGHEST, first - 1)
    return (min(_LOWEST, max(1024, highest // 2)), highest) if highest > 2048 else (1024, 65_000)
