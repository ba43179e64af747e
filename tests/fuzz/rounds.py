"""A round of the fuzzer: some scripts against one server, and the first failing one made small.

Nothing is kept between rounds but the server; the same seed plays the same scripts.
"""

from __future__ import annotations

from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.script import Script, weight
from tests.fuzz.strategies import scripts
from tests.fuzz.target import Target

__all__ = ["OPTIONS", "Failure", "play_round"]

# Fuzzers send more than people do; what limits them is tested in test_bounds.py. A session that is
# left without a word has to be gone while the fuzzer waits.
TIMES: Final = {"ping_interval": 1.0, "ping_timeout": 2.0, "connect_timeout": 2.0}
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "chat": {
        "user_rate": 1000.0,
        "user_burst": 1000,
        "user_frame_rate": 500.0,
        "user_frame_burst": 10,
        "max_pending": 8,
        "history": 50,
        "key_ttl": 5.0,
        **TIMES,
    },
    "suite": {"max_http_buffer_size": 65_536, "max_unread": 1_048_576, **TIMES},
}
SETTLE: Final = 2 * sum(TIMES.values())
"""Seconds in which everything that a client left must have ended."""


class Failure(AssertionError):
    """A script that fails, as small as it could be made, and what it did."""

    def __init__(self, kind: str, script: Script, error: str, *, tidy: bool) -> None:
        steps = "".join(f"        {step!r},\n" for step in script)
        super().__init__(
            f"{error}\n\nPaste into tests/fuzz/test_found.py:\n\n"
            f"    FOUND[...] = (\n        {kind!r},  # tidy={tidy}\n{steps}    )\n"
        )
        self.script = script


def play_round(target: Target, count: int, *, seed: int | None = None, tidy: bool = True) -> int:
    """Play `count` scripts; returns how many frames they sent. Raises `Failure`.

    Without a seed the scripts are always the same. With `tidy` each script closes its sessions and
    is looked at by itself, else all of them together, when their time is over.
    """
    sent: list[Script] = []
    failed: list[tuple[Script, str]] = []

    def example(script: Script) -> None:
        sent.append(script)
        try:
            target.check(script, settle=SETTLE, tidy=tidy)
        except AssertionError as error:
            failed.append((script, str(error)))
            target.forgive()
            raise

    try:
        _each(example, count, seed)
        if not tidy:
            _look_at_all(target, sent)
    except (AssertionError, hypothesis.errors.Flaky, BaseExceptionGroup) as error:
        if not failed or isinstance(error, Failure):
            raise
        raise Failure(target.kind, *failed[-1], tidy=tidy) from error
    return sum(weight(script) for script in sent)


def _each(example: Any, count: int, seed: int | None) -> None:
    run = hypothesis.given(scripts)(example)
    run = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )(run)
    (run if seed is None else hypothesis.seed(seed)(run))()


def _look_at_all(target: Target, sent: list[Script]) -> None:
    """Raises `Failure` when something is left of the scripts, and finds out of which."""
    left = target.left(SETTLE)
    if not left:
        return
    target.forgive()
    for script in sent:
        target.play(script, tidy=False)
        if again := target.left(SETTLE):
            raise Failure(target.kind, script, "\n".join(again), tidy=False)
    raise Failure(target.kind, (), "only of all scripts together: " + "\n".join(left), tidy=False)
