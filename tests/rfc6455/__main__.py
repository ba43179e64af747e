"""All cases of the Autobahn test suite against both echoes: `python -m tests.rfc6455`.

`--compression` adds those of permessage-deflate, which take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.rfc6455.cases import COMPRESSION, judge
from tests.rfc6455.echo import ECHOES

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each echo, and one for each case that it failed.

    The exit code is 1 when chatlab's fails a case that aiohttp's passes.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.rfc6455")
    parser.add_argument("--compression", action="store_true", help="permessage-deflate too")
    given = parser.parse_args(arguments)
    failed = {}
    for name in ECHOES:
        began = time.monotonic()
        verdicts = asyncio.run(judge(name, without=() if given.compression else COMPRESSION))
        failed[name] = verdicts.failed
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdicts.kinds.items()))
        seconds = time.monotonic() - began
        say(f"{name}: {verdicts.passed} of {len(verdicts)} pass ({kinds}; {seconds:.0f} s)")
        for case, why in verdicts.failed.items():
            say(f"  ✗ {case} {why}")
    worse = set(failed["chatlab"]) - set(failed["aiohttp"])
    return 1 if worse else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
