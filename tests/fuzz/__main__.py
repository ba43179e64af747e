"""The long form: `python -m tests.fuzz --frames 100000 [--seed N] [--target chat|suite|both]`.

It plays scripts until that many frames have been sent, then says what the server held and
kept. A script that fails is shrunk and printed so that it can be pasted into test_found.py.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass

from tests.fuzz.rounds import OPTIONS, Failure, play_round
from tests.fuzz.target import Target

__all__ = ["main"]

SCRIPTS = 100
"""In a round; after each the memory is looked at."""

UNTIDY_EVERY = 5
"""Rounds; in one of so many clients leave without a word, and time has to end their sessions."""

WARM_UP = 0.25
"""The part of a run after which memory has to be flat."""

JUDGED_FROM = 20_000
"""Frames; before that an allocator's unrest is all that is seen."""

BYTES_PER_10K = 1_000_000
OBJECTS_PER_10K = 1_000
"""What a server may grow by in 10,000 frames: the allocator's unrest, no more."""


@dataclass
class Look:
    """What the server holds after so many frames."""

    frames: int
    rss: int
    objects: int


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--frames", type=int, default=100_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run")
    parser.add_argument("--target", choices=["chat", "suite", "both"], default="both")
    parser.add_argument("--uvloop", action="store_true", help="the server runs on uvloop")
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode in the server")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    loop = "uvloop" if given.uvloop else "asyncio"
    say(f"seed {seed}, Python {sys.version.split()[0]}, {loop}\n")
    kinds = ["chat", "suite"] if given.target == "both" else [given.target]
    how = {"uvloop": given.uvloop, "debug": given.debug}
    clean = [run(kind, given.frames // len(kinds), seed, **how) for kind in kinds]
    return 0 if all(clean) else 1


def run(kind: str, frames: int, seed: int, **how: bool) -> bool:
    """Fuzz one kind of server; whether nothing was found."""
    began, looks, rounds = time.monotonic(), list[Look](), 0
    with Target(kind, **how, **OPTIONS[kind]) as target:
        target.warm_up(100)
        while not looks or looks[-1].frames < frames:
            tidy = rounds % UNTIDY_EVERY != UNTIDY_EVERY - 1
            try:
                sent = play_round(target, SCRIPTS, seed=seed + rounds, tidy=tidy)
            except Failure as failure:
                say(f"\n{failure}\n")
                return False
            rounds += 1
            sent += looks[-1].frames if looks else 0
            looks.append(Look(sent, **target.ask("memory")))
            say(f"\r{_line(kind, looks[-1], time.monotonic() - began)}")
        say("\n")
        lines = target.ask("lines")
    grown = _growth(looks)
    flat = grown.rss <= BYTES_PER_10K and grown.objects <= OBJECTS_PER_10K
    judged = looks[-1].frames >= JUDGED_FROM
    memory = (
        f"{grown.rss / 1e3:+.0f} KB and {grown.objects:+} objects per 10,000 frames"
        if judged
        else "too few frames to say anything of memory"
    )
    good = flat or not judged
    say(f"{'✓' if good else '✗'} {kind}: no complaint in {lines} log lines, no residue, {memory}\n")
    return good


def _line(kind: str, look: Look, seconds: float) -> str:
    return (
        f"{kind}: {look.frames:>7} frames, {look.frames / seconds:.0f} a second, "
        f"{look.rss / 1e6:.1f} MB, {look.objects} objects  "
    )


def _growth(looks: list[Look]) -> Look:
    """How much more there is per 10,000 frames, once the server is warm."""
    warm = next(look for look in looks if look.frames >= WARM_UP * looks[-1].frames)
    last = looks[-1]
    parts = max(last.frames - warm.frames, 1) / 10_000
    return Look(
        last.frames,
        round((last.rss - warm.rss) / parts),
        round((last.objects - warm.objects) / parts),
    )


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
