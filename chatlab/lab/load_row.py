"""What one measurement came to, and whose limit it shows.

It computes and words; measuring is done elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Bottleneck", "Row", "bottleneck", "quantile"]

Bottleneck: TypeAlias = Literal["server", "generator", "both", "neither"]

_FULL = 0.9  # of a core: what is above is taken for busy all the time
_WORDS: dict[Bottleneck, str] = {
    "server": "the server was the limit",
    "generator": "the generator was the limit, the server can do more",
    "both": "both were at their limit",
    "neither": "neither was at its limit",
}


def bottleneck(server_share: float, generator_share: float, *, cores: int = 1) -> Bottleneck:
    """Who was busy all the time, from the shares of one core that each used (1.0 is a core).

    `"generator"`: the figure is the generator's limit, and the server can do more. `"neither"`:
    the rate was given, or something else was waited for (a disk, the network, another process on
    the same core). `server_share` is that of all servers together, and `cores` how many they had.
    """
    server = server_share >= _FULL * cores
    generator = generator_share >= _FULL
    if server and generator:
        return "both"
    if server:
        return "server"
    return "generator" if generator else "neither"


def quantile(values: Sequence[float], part: float) -> float | None:
    """The value that `part` (0 to 1) of `values` do not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement. Shares are of one core: 1.0 is one core, all the time.

    - `count` of `unit` ("messages", "deliveries", "connections", "disconnects") in `seconds`.
    - `server_cpu_seconds`: what the servers' processes used in that time, all threads.
    - `p50_ms`, `p99_ms`: of acks, or (scenario `across`) of deliveries; None where none are timed.
    - `generator_cpu_share`: what this generator itself used of its core.
    - `memory_mb` at the end of it, `peak_mb` ever, of all servers; `kb_per_connection` for `idle`.
    - `other_cpu_seconds`: of other processes that were named, as a Valkey's.
    - `sent`: messages in all, those of the warm-up included.
    - `missing`: acks or deliveries that had not come 5 s after the last send.
    - `pinned`: servers and generator were kept on two CPUs apart.
    """

    scenario: str
    server: str
    unit: str
    clients: int
    count: int
    seconds: float
    server_cpu_seconds: float
    generator_cpu_share: float
    memory_mb: float
    peak_mb: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    kb_per_connection: float | None = None
    other_cpu_seconds: float = 0.0
    sent: int = 0
    missing: int = 0
    servers: int = 1
    cores: int = 1
    pinned: bool = False

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.count / self.seconds if self.seconds else 0.0

    @property
    def per_cpu_second(self) -> float:
        """How many a second of the servers' CPU time: other work on the machine moves it least."""
        return self.count / self.server_cpu_seconds if self.server_cpu_seconds else 0.0

    @property
    def server_cpu_share(self) -> float:
        """How much of one core the servers used, together."""
        return self.server_cpu_seconds / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> Bottleneck:
        """Whose limit this is; see the function of this name."""
        return bottleneck(self.server_cpu_share, self.generator_cpu_share, cores=self.cores)

    def __repr__(self) -> str:
        if self.scenario == "idle":
            first = (
                f"{self.count:,} connections: {self.kb_per_connection or 0:.1f} KB each, "
                f"{self.memory_mb:.0f} MB in all"
            )
        elif self.scenario == "disconnects":
            first = f"{self.count:,} disconnects took {self.server_cpu_seconds:.2f} s of CPU"
        else:
            first = (
                f"{self.count:,} {self.unit} in {self.seconds:.1f} s: {self.per_second:,.0f}/s, "
                f"{self.per_cpu_second:,.0f} a CPU-second"
            )
        said = [f"{self.scenario} on {self.server}: {first}"]
        if self.p50_ms is not None and self.p99_ms is not None:
            said.append(f"p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms")
        said.append(
            f"server {self.server_cpu_share:.0%} of a core, "
            f"generator {self.generator_cpu_share:.0%}: {_WORDS[self.bottleneck]}"
        )
        if self.missing:
            said.append(f"{self.missing:,} never came")
        return "; ".join(said)

    def as_dict(self) -> dict[str, Any]:
        """The fields, and what follows from them, for JSON."""
        return {
            **dataclasses.asdict(self),
            "per_second": self.per_second,
            "per_cpu_second": self.per_cpu_second,
            "server_cpu_share": self.server_cpu_share,
            "bottleneck": self.bottleneck,
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Row:
        """The opposite of `as_dict`."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in names})
